"""What was issued can be rebuilt bit for bit, whatever arrives afterwards; and whoever changes the past in place is found out."""

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, ISSUES, MENTIONS, POSTS, QUANTILES
from tft_pipeline.errors import ConfigError, PipelineError, StorageError
from tft_pipeline.forecasts.baselines import BASELINE_ID
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.replay import first_difference, replay, replay_in
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.sentiment.cleaning import clean, text_hash
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import row_counts
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.world import claim_world
from tft_pipeline_tests.storage.frames import frame

# New York's hours: bars of Monday to Friday from 13:00 to 20:00 UTC in summer. The model knows Friday, 29 May.
START, TRAINED, FRIDAY = date(2026, 3, 2), date(2026, 5, 29), date(2026, 6, 12)
MONDAY, TUESDAY, WEDNESDAY = (FRIDAY + timedelta(days=days) for days in (3, 4, 5))
MOMENTS = [
    datetime(2026, 5, 28, 15, tzinfo=UTC),  # before there was a model
    datetime(2026, 6, 1, 14, tzinfo=UTC),  # the model's first bar
    datetime(2026, 6, 10, 17, 30, tzinfo=UTC),  # between two bars
    datetime(2026, 6, 13, 12, tzinfo=UTC),  # a Saturday
]
BY = {"run_id": "test", "code_version": "0"}
VALUES = {
    "start": START, "end": WEDNESDAY, "simulation": {"tickers": 3, "days": 110}, "sentiment": {"scorer": "vader"},
    "training": {
        "encoder_bars": 8, "horizon_hours": 3, "hidden_size": 4, "attention_heads": 1, "max_epochs": 1, "windows_per_epoch": 256, "device": "cpu",
    },
}  # fmt: skip

Run = Callable[..., None]


def runner(database: Database, home: Path) -> Run:
    """Runs a job over days of the simulated world, as it was at a moment; assets: only these."""

    def run(job: str, first: date, last: date, *, until: datetime, assets: tuple[str, ...] = ()) -> None:
        settings = config.load(home=home, **VALUES)
        definitions = build(settings, Pipeline(settings, database=database, until=until))
        with dg.DagsterInstance.ephemeral() as instance:
            if not assets:
                launch.run(definitions, job, instance, first, last)
                return
            span = {"range_start": first.isoformat(), "range_end": last.isoformat()}
            done = definitions.resolve_job_def(job).execute_in_process(
                instance=instance, asset_selection=[dg.AssetKey(asset) for asset in assets],
                tags={f"dagster/asset_partition_{name}": day for name, day in span.items()},
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )  # fmt: skip
            assert done.success

    return run


def midnight(day: date) -> datetime:
    """The end of a day."""
    return config.day_start(day + timedelta(days=1))


@pytest.fixture(scope="module")
def template(postgres_template: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Database:
    """History up to Friday, a model trained two weeks before, and what it has said since."""
    database = Database(postgres_template())
    claim_world(database, config.load(home=tmp_path_factory.mktemp("claim"), **VALUES))
    run = runner(database, tmp_path_factory.mktemp("home"))
    now = midnight(FRIDAY)
    run("history", START, FRIDAY, until=now)
    run("retrain", TRAINED, TRAINED, until=now)
    run("outcome", TRAINED - timedelta(days=3), FRIDAY, until=now)
    return database


@pytest.fixture
def world(template: Database) -> Iterator[Database]:
    """A copy of that database, to do anything to."""
    name = f"r_{secrets.token_hex(6)}"
    original = str(psycopg.conninfo.conninfo_to_dict(template.dsn)["dbname"])
    admin = template.dsn.replace(f"/{original}", "/postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(original))
        )
    yield Database(template.dsn.replace(f"/{original}", f"/{name}"))
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return config.load(home=tmp_path, **VALUES)


@pytest.fixture
def run(world: Database, tmp_path: Path) -> Run:
    return runner(world, tmp_path)


def stamp(day: date, hour: int, minute: int = 0) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC").as_unit("us") + pd.Timedelta(hours=hour, minutes=minute)


def correct(database: Database, ticker: str, bar_start: pd.Timestamp, known_at: pd.Timestamp) -> None:
    """A bar turns out to have closed lower, and traded more."""
    row = read(database, BARS, bar_start.to_pydatetime(), (bar_start + pd.Timedelta(hours=1)).to_pydatetime(), tickers=[ticker])  # fmt: skip
    changed = row.assign(close=(row["low"] + row["close"]) / 2, volume=row["volume"] + 7, known_at=known_at)
    assert write(database, {BARS: changed}, [bar_start.date()], **BY)[BARS.name].rows_revised == 1


def split(database: Database, ticker: str, effective_at: pd.Timestamp, known_at: pd.Timestamp) -> None:
    rows = pd.DataFrame({"ticker": [ticker], "effective_at": effective_at, "kind": "split", "value": 2.0, "source": "test", "known_at": known_at, "former": None})  # fmt: skip
    rows = rows.astype(ACTIONS.empty().dtypes.to_dict())
    assert write(database, {ACTIONS: rows}, [effective_at.date()], **BY)[ACTIONS.name].rows_written == 1


def delete_posts(database: Database, day: date, known_at: pd.Timestamp) -> int:
    """The day's posts that spoke of a ticker are taken back by their authors."""
    spoken = read(database, MENTIONS, config.day_start(day), midnight(day))["post_id"]
    posts = read(database, POSTS, config.day_start(day), midnight(day))
    gone = posts[posts["post_id"].isin(spoken)]
    gone = gone.assign(text="[deleted]", text_hash=text_hash(clean("[deleted]")), known_at=known_at)
    return write(database, {POSTS: gone}, [day], **BY)[POSTS.name].rows_revised


def equal(database: Database, settings: Settings, moments: list[datetime]) -> list[dict[str, Any]]:
    """The reports, all of which say equal."""
    reports = [replay_in(database, settings, moment) for moment in moments]
    assert [report["equal"] for report in reports] == [True] * len(reports), reports
    return reports


def test_every_moment_is_rebuilt_as_it_was_issued(world: Database, settings: Settings) -> None:
    before = row_counts(world)
    reports = equal(world, settings, MOMENTS)
    assert [report["issued_at"] for report in reports] == [
        "2026-05-28T15:00:00+00:00", "2026-06-01T14:00:00+00:00", "2026-06-10T17:00:00+00:00", "2026-06-12T20:00:00+00:00",
    ]  # fmt: skip
    (alone,) = reports[0]["issues"]
    assert alone["model_id"] == BASELINE_ID
    model, baseline = reports[2]["issues"]
    assert (model["model_id"][:3], baseline["model_id"]) == ("tft", BASELINE_ID)
    assert model["features"] == baseline["features"]
    assert model["features"]["issued"] == model["features"]["rebuilt"]
    assert model["forecast"]["issued"] != baseline["forecast"]["issued"]
    assert model["tickers"] == {"issued": 3, "rebuilt": 3}
    assert model["code_version"]["issued"] == model["code_version"]["rebuilt"]
    assert model["known_at"] == reports[2]["issued_at"]
    assert reports[2]["simulated"] is True
    assert (reports[2]["arrived_since"], reports[2]["damaged"]) == (dict.fromkeys((BARS.name, ACTIONS.name, POSTS.name), 0), [])  # fmt: skip
    assert row_counts(world) == before


def test_what_arrives_later_changes_no_past_moment_and_new_ones_know_it(
    world: Database, settings: Settings, run: Run
) -> None:
    issued = read(world, ISSUES)
    thursday = FRIDAY - timedelta(days=1)
    told = stamp(MONDAY, 12)
    correct(world, "SIMA", stamp(thursday, 15), told)
    split(world, "SIMB", stamp(FRIDAY, 13), told)
    assert delete_posts(world, date(2026, 6, 10), told) > 3
    reports = equal(world, settings, MOMENTS)
    assert reports[-1]["arrived_since"][BARS.name] == 1
    assert reports[-1]["arrived_since"][ACTIONS.name] == 1
    assert reports[-1]["arrived_since"][POSTS.name] > 3
    run("refresh", MONDAY, TUESDAY, until=midnight(TUESDAY))
    run("refresh", FRIDAY, FRIDAY, until=midnight(TUESDAY))  # nobody said so then: it stays as it was
    equal(world, settings, MOMENTS)
    newest = [stamp(MONDAY, 14).to_pydatetime(), stamp(MONDAY, 20).to_pydatetime(), midnight(TUESDAY)]
    assert [r["issued_at"][:13] for r in equal(world, settings, newest)] == [
        "2026-06-15T14",
        "2026-06-15T20",
        "2026-06-16T20",
    ]
    after = read(world, ISSUES)
    pd.testing.assert_frame_equal(after[after["issued_at"] <= issued["issued_at"].max()].reset_index(drop=True), issued)
    # The correction and the split did reach Monday: as of noon they are in, a moment before they are not.
    near = "SELECT count(*) FROM features.hourly WHERE ticker = 'SIMB' AND bar_start = %s AND abs(log_price - %s) < 0.5"
    with world.connect() as connection:
        level = connection.execute("SELECT max(log_price) FROM features.hourly WHERE ticker = 'SIMB' AND bar_start < '2026-06-12'").fetchone()[0]  # fmt: skip
        counts = [connection.execute(near, (stamp(day, 15), level)).fetchone()[0] for day in (FRIDAY, MONDAY)]
    assert counts == [1, 0]


def test_a_correction_of_the_same_day_moves_the_moment_from_which_its_hours_are_known(
    world: Database, settings: Settings, run: Run
) -> None:
    run("history", MONDAY, MONDAY, until=midnight(MONDAY))
    correct(world, "SIMA", stamp(MONDAY, 14), stamp(MONDAY, 17, 30))
    run("history", MONDAY, MONDAY, until=midnight(MONDAY), assets=("features_hourly",))
    run("outcome", MONDAY, MONDAY, until=midnight(MONDAY), assets=("forecasts",))
    found = read(world, ISSUES, config.day_start(MONDAY), midnight(MONDAY), where={"model_id": BASELINE_ID})
    known = found.set_index("issued_at")["known_at"]
    # The bar from 13:00 does not hold the corrected one; those from 15:00 to 17:00 do, and are known from the correction on.
    assert known[stamp(MONDAY, 14)] == stamp(MONDAY, 14)
    assert set(known[stamp(MONDAY, 15) : stamp(MONDAY, 17)]) == {stamp(MONDAY, 17, 30)}
    assert known[stamp(MONDAY, 18)] == stamp(MONDAY, 18)
    reports = equal(world, settings, [stamp(MONDAY, hour, 45).to_pydatetime() for hour in (16, 17, 19)])
    assert [report["issued_at"][11:13] for report in reports] == ["14", "17", "19"]


def test_each_hour_of_a_day_that_goes_on_is_issued_when_it_is_run_and_again_only_where_it_differs(
    world: Database, settings: Settings, run: Run
) -> None:
    at_15, at_17 = stamp(MONDAY, 15, 2), stamp(MONDAY, 17, 1)
    run("refresh", MONDAY, MONDAY, until=at_15.to_pydatetime())
    first = read(world, ISSUES, config.day_start(MONDAY), midnight(MONDAY), where={"model_id": BASELINE_ID})
    assert first["issued_at"].tolist() == [stamp(MONDAY, 14), stamp(MONDAY, 15)]
    assert set(first["known_at"]) == {at_15}
    correct(world, "SIMC", stamp(MONDAY, 14), stamp(MONDAY, 16, 20))
    run("history", MONDAY, MONDAY, until=at_17.to_pydatetime(), assets=("features_hourly",))
    run("outcome", MONDAY, MONDAY, until=at_17.to_pydatetime(), assets=("forecasts",))
    second = read(world, ISSUES, config.day_start(MONDAY), midnight(MONDAY), where={"model_id": BASELINE_ID})
    known = second.set_index("issued_at")["known_at"]
    assert known.tolist() == [at_15, at_17]  # the bar that was corrected speaks anew, the one before it stands
    assert (
        read(world, ISSUES, as_of=at_15.to_pydatetime(), where={"issued_at": stamp(MONDAY, 15)})["known_at"].max()
        == at_15
    )
    moments = [(at_15 - pd.Timedelta(minutes=1)).to_pydatetime(), at_15.to_pydatetime(), at_17.to_pydatetime()]
    reports = equal(world, settings, moments)
    assert [report["issued_at"][8:13] for report in reports] == ["12T20", "15T15", "15T15"]
    hashes = [report["issues"][0]["features"]["issued"] for report in reports]
    assert hashes[1] != hashes[2]
    run("outcome", MONDAY, MONDAY, until=stamp(MONDAY, 17, 30).to_pydatetime(), assets=("forecasts",))
    pd.testing.assert_frame_equal(
        read(world, ISSUES, config.day_start(MONDAY), midnight(MONDAY), where={"model_id": BASELINE_ID}), second
    )


def test_raw_rows_that_were_changed_in_place_are_found_and_named(world: Database, settings: Settings) -> None:
    with world.connect() as connection:
        connection.execute(
            "UPDATE market.bars SET close = high WHERE ticker = 'SIMB' AND bar_start = '2026-06-10 15:00+00'"
        )
    report = replay_in(world, settings, MOMENTS[2])
    assert report["equal"] is False
    for issue in report["issues"]:
        first = issue["features"]["difference"]
        assert (first["table"], first["ticker"], first["bar_start"]) == (
            FEATURES.name,
            "SIMA",
            "2026-06-10T16:00:00+00:00",
        )
        assert first["column"] == "market_return_1h"  # SIMA's own bars are as they were; the market around it is not
        assert first["issued"] != first["rebuilt"]
    model, baseline = (issue["forecast"] for issue in report["issues"])
    assert model["difference"]["table"] == QUANTILES.name
    assert model["difference"]["column"] in ("p10", "p50", "p90")
    assert (baseline["difference"]["ticker"], baseline["difference"]["column"]) == ("SIMB", "p10")
    assert [sentence.split(":")[0] for sentence in report["damaged"]] == ["market.bars on 2026-06-10"]
    equal(world, settings, MOMENTS[:2])


def test_a_bar_that_was_taken_away_is_a_row_that_is_missing(world: Database, settings: Settings) -> None:
    with world.connect() as connection:
        connection.execute("DELETE FROM market.bars WHERE ticker = 'SIMC' AND bar_start = '2026-06-10 16:00+00'")
    report = replay_in(world, settings, MOMENTS[2])
    model = report["issues"][0]
    assert model["tickers"] == {"issued": 3, "rebuilt": 2}
    assert model["features"]["difference"]["ticker"] == "SIMC"
    difference = model["forecast"]["difference"]
    assert (difference["ticker"], difference["horizon_hours"], difference["column"]) == ("SIMC", 1, None)
    assert (difference["issued"], difference["rebuilt"]) == ("a row", "no row")


def test_a_row_too_many_comes_first_and_a_zero_that_changed_its_sign_is_a_difference() -> None:
    issued = frame(QUANTILES, [FRIDAY]).assign(ticker="AAPL", p50=0.0)
    more = pd.concat([issued.assign(p10=-1.0), issued.assign(horizon_hours=2)])
    found = first_difference(QUANTILES, issued, more)
    assert (found["horizon_hours"], found["column"], found["issued"], found["rebuilt"]) == (2, None, "no row", "a row")
    found = first_difference(QUANTILES, issued, issued.assign(p50=-0.0))
    assert (found["ticker"], found["column"], found["issued"]) == ("AAPL", "p50", 0.0)
    with pytest.raises(PipelineError, match=r"hashes differ though no value does"):
        first_difference(QUANTILES, issued, issued)


def test_where_the_issued_rows_are_gone_the_difference_is_told_but_not_named(
    world: Database, settings: Settings
) -> None:
    with world.connect() as connection:
        connection.execute("UPDATE market.bars SET close = high WHERE bar_start = '2026-06-10 16:00+00'")
        connection.execute("DELETE FROM features.hourly WHERE bar_start = '2026-06-10 16:00+00'")
    features = replay_in(world, settings, MOMENTS[2])["issues"][0]["features"]
    assert (features["equal"], features["difference"]) == (False, None)
    assert features["why_not_named"] == "features.hourly no longer holds the rows that were issued"


def test_moments_that_cannot_be_replayed_are_refused(world: Database, database: Database, settings: Settings) -> None:
    early = datetime(2026, 3, 3, tzinfo=UTC)
    with pytest.raises(PipelineError, match=r"nothing had been issued by 2026-03-03 00:00 UTC; the first forecasts were known at 2026-05-26 14:00"):  # fmt: skip
        replay_in(world, settings, early)
    with pytest.raises(PipelineError, match=r"nothing was ever issued here.*tft-pipeline demo"):
        replay_in(database, settings, early)
    with pytest.raises(ConfigError, match=r"2026-03-03T00:00:00 has no time zone; say 2026-03-03T00:00Z for UTC"):
        replay(settings, early.replace(tzinfo=None))
    with pytest.raises(ConfigError, match=r"is still to come"):
        replay(settings, datetime.now(UTC) + timedelta(hours=1))


def test_it_opens_the_installation_s_own_database(world: Database, tmp_path: Path) -> None:
    told: list[str] = []
    settings = config.load(home=tmp_path, postgres_dsn=world.dsn, **VALUES)
    report = replay(settings, MOMENTS[1], progress=lambda stage, *_: told.append(stage))
    assert report["equal"] is True
    assert set(told) == {"rebuilding mood", "rebuilding features", "forecasting"}


def test_it_needs_no_right_to_write(world: Database, tmp_path: Path) -> None:
    with world.connect() as connection:
        connection.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(
                sql.Identifier(str(conninfo_to_dict(world.dsn)["dbname"]))
            )
        )
    settings = config.load(home=tmp_path, postgres_dsn=world.dsn, **VALUES)
    assert replay(settings, MOMENTS[1])["equal"] is True
    assert not settings.settings_file.exists()


def test_where_nothing_was_ever_filled_it_says_so(database: Database, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"holds no world yet; fill it first, with `tft-pipeline demo`"):
        replay(config.load(home=tmp_path, postgres_dsn=database.dsn, **VALUES), MOMENTS[1])


def test_forecasts_run_again_write_no_issue(world: Database, run: Run) -> None:
    before = read(world, ISSUES)
    run("outcome", FRIDAY, FRIDAY, until=midnight(FRIDAY) + timedelta(hours=5), assets=("forecasts",))
    pd.testing.assert_frame_equal(read(world, ISSUES), before)
    with world.connect() as connection:
        assert connection.execute("SELECT count(*) FROM forecasts.issues_revisions").fetchone() == (0,)
