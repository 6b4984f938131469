"""A ticker that comes and one that goes, in the simulated world: what is past stays bit for bit, and is rebuilt as it was issued."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from tft_pipeline import config
from tft_pipeline.contracts import BARS, FEATURES, ISSUES, MENTIONS, QUALITY, TABLES
from tft_pipeline.errors import ConfigError, PipelineError
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.membership import TICKERS_TAG
from tft_pipeline.orchestration.replay import replay_in
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage import universe
from tft_pipeline.storage.audit import rows_written_by
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.read import read
from tft_pipeline.storage.universe import BEGINNING, Interval
from tft_pipeline.storage.world import claim_world
from tft_pipeline_tests.e2e.conftest import clean_environment, command_line

# Hourly bars of Monday to Friday from 13:00 to 20:00 UTC. The model knows Friday, 29 May.
START, TRAINED, FRIDAY = date(2026, 3, 2), date(2026, 5, 29), date(2026, 6, 12)
MONDAY, TUESDAY = FRIDAY + timedelta(days=3), FRIDAY + timedelta(days=4)
SATURDAY = datetime(2026, 6, 13, 10, tzinfo=UTC)
MOMENTS = [datetime(2026, 5, 28, 15, tzinfo=UTC), datetime(2026, 6, 10, 17, 30, tzinfo=UTC), SATURDAY]
OF_SOME = ("corporate_actions", "market_bars", "bar_quality", "ticker_mentions", "sentiment_hourly", "features_hourly")
VALUES: dict[str, Any] = {
    "tickers": ("SIMA", "SIMC"), "start": START, "end": TUESDAY, "simulation": {"tickers": 3, "days": 110},
    "sentiment": {"scorer": "vader"},
    "training": {
        "encoder_bars": 8, "horizon_hours": 3, "hidden_size": 4, "attention_heads": 1, "max_epochs": 1, "windows_per_epoch": 256, "device": "cpu",
    },
}  # fmt: skip


class World:
    """A database and the runs that fill it."""

    def __init__(self, database: Database, home: Path) -> None:
        self.database, self.settings = database, config.load(home=home, **VALUES)
        claim_world(database, self.settings)

    def run(self, job: str, first: date, last: date, *, until: datetime, tickers: tuple[str, ...] = (), **more: Any) -> dict[str, int]:  # fmt: skip
        """Rows that the run wrote, by table; tables of which it wrote none are left out."""
        pipeline = Pipeline(self.settings, database=self.database, until=until)
        tags = {TICKERS_TAG: ",".join(tickers)} if tickers else None
        more = {"assets": OF_SOME, **more} if tickers else more
        with dg.DagsterInstance.ephemeral() as instance:
            run_id = launch.run(build(self.settings, pipeline), job, instance, first, last, tags=tags, **more)
        return {name: rows for name, rows in rows_written_by(self.database, [run_id]).items() if rows}

    def lying(self, but: str) -> dict[str, list[Any]]:
        """Every row of other tickers, with its place on disk and who put it there."""
        found = {}
        with self.database.connect() as connection:
            for table in TABLES:
                whose = "WHERE ticker <> %(but)s" if "ticker" in table.names else ""
                query = (
                    f"SELECT tableoid::regclass::text, ctid::text, xmin::text FROM {table.name} {whose} ORDER BY 1, 2"
                )
                found[table.name] = connection.execute(query, {"but": but}).fetchall()
        return found

    def replayed(self, *moments: datetime) -> list[dict[str, Any]]:
        """The reports, all of which say equal."""
        reports = [replay_in(self.database, self.settings, moment) for moment in moments]
        assert [report["equal"] for report in reports] == [True] * len(reports), reports
        return reports

    def tickers_at(self, moment: datetime) -> set[int]:
        (report,) = self.replayed(moment)
        return {issue["tickers"]["issued"] for issue in report["issues"]}


def midnight(day: date) -> datetime:
    """The end of a day."""
    return config.day_start(day + timedelta(days=1))


@pytest.fixture(scope="module")
def world(postgres_template: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two of three tickers, a model, and what it has said up to Friday."""
    world = World(Database(postgres_template()), tmp_path_factory.mktemp("home"))
    world.run("history", START, FRIDAY, until=midnight(FRIDAY))
    world.run("retrain", TRAINED, TRAINED, until=midnight(FRIDAY))
    world.run("outcome", TRAINED - timedelta(days=3), FRIDAY, until=midnight(FRIDAY))
    return world


def test_a_ticker_comes_and_another_goes_and_what_is_past_stays(world: World) -> None:
    database = world.database
    world.replayed(*MOMENTS)
    before, reaches = world.lying("SIMB"), {t.name: slice_status(database, t)[["day", "reaches_to"]] for t in TABLES}

    # It is added on Saturday: nothing moves, and it does not count before its history is there.
    current = lambda: ("SIMA", "SIMC")  # noqa: E731
    universe.add(database, ["SIMB"], at=SATURDAY, current=current)
    world.replayed(*MOMENTS)
    assert world.run("history", FRIDAY, FRIDAY, until=SATURDAY, tickers=("SIMB",))
    waiting = universe.intervals(database)[-1]
    assert waiting == Interval("SIMB", SATURDAY, None, None)  # a day is no history

    # Its history is loaded: no other row is touched, no post fetched, no slice reaches further.
    loaded = SATURDAY + timedelta(hours=1)
    assert world.run("history", START, FRIDAY, until=loaded, tickers=("SIMB",))
    assert world.lying("SIMB") == before
    for table in TABLES:
        pd.testing.assert_frame_equal(slice_status(database, table)[["day", "reaches_to"]], reaches[table.name])
    assert len(read(database, BARS, tickers=["SIMB"])) > 500
    assert len(read(database, FEATURES, tickers=["SIMB"])) > 300
    assert len(read(database, MENTIONS, tickers=["SIMB"])) > 50
    days = [read(database, QUALITY, tickers=[ticker])["day_start"].tolist() for ticker in ("SIMA", "SIMB")]
    assert days[0] == days[1]
    assert universe.intervals(database)[-1] == Interval("SIMB", SATURDAY, loaded, None)
    world.replayed(*MOMENTS)
    assert world.run("history", START, FRIDAY, until=loaded, tickers=("SIMB",)) == {}

    # The past made once more, whole: the same rows, and nothing is issued anew.
    issues = read(database, ISSUES)
    assert world.run("history", START, FRIDAY, until=loaded) == {}
    assert world.run("outcome", TRAINED - timedelta(days=3), FRIDAY, until=loaded) == {}
    pd.testing.assert_frame_equal(read(database, ISSUES), issues)

    # From Monday on it is one of three.
    world.run("refresh", FRIDAY + timedelta(days=1), MONDAY, until=midnight(MONDAY))
    assert world.tickers_at(SATURDAY) == {2}
    assert world.tickers_at(midnight(MONDAY)) == {3}
    of_monday = read(database, FEATURES, config.day_start(MONDAY), midnight(MONDAY))
    market = of_monday.groupby("bar_start")["return_1h"].mean()
    assert of_monday["market_return_1h"].to_numpy() == pytest.approx(market[of_monday["bar_start"]].to_numpy(), abs=1e-12)  # fmt: skip

    # And one goes: it stays in what was, and Tuesday is without it.
    universe.remove(database, ["SIMA"], at=midnight(MONDAY) + timedelta(hours=1), current=current)
    world.run("refresh", TUESDAY, TUESDAY, until=midnight(TUESDAY))
    assert world.tickers_at(midnight(TUESDAY)) == {2}
    assert world.tickers_at(midnight(MONDAY)) == {3}
    assert set(read(database, BARS, config.day_start(TUESDAY))["ticker"]) == {"SIMB", "SIMC"}
    assert world.run("history", START, MONDAY, until=midnight(TUESDAY)) == {}
    assert world.run("outcome", MONDAY, MONDAY, until=midnight(TUESDAY), assets=("forecasts",)) == {}
    world.replayed(*MOMENTS, midnight(MONDAY))


def test_a_run_about_some_tickers_is_refused_where_it_makes_no_sense(world: World) -> None:
    for tickers, more, said in (
        (("SIMX",), {}, r"'SIMX' is not in the universe.*run `tft-pipeline universe add SIMX` first"),
        (("SIMC",), {"assets": ("social_posts",)}, r"social_posts: has no part of its own for some tickers \(tag tft/tickers=SIMC\)"),
        (("SIMC",), {"assets": ("forecasts",), "job": "outcome"}, r"forecasts: has no part of its own for some tickers"),
    ):  # fmt: skip
        given: dict[str, Any] = {"job": "history", **more}
        with pytest.raises(PipelineError, match=said):
            world.run(given.pop("job"), FRIDAY, FRIDAY, until=midnight(FRIDAY), tickers=tickers, **given)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="tft-u-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)


def test_the_commands_as_their_user_runs_them(home: Path) -> None:
    days = config.today() - timedelta(days=60), config.today() - timedelta(days=1)
    environment = clean_environment(
        home, TFT_SIMULATION_TICKERS="3", TFT_SIMULATION_DAYS="60", TFT_TICKERS="SIMA,SIMB", TFT_SENTIMENT_SCORER="vader",
        TFT_TRAINING_ENCODER_BARS="8", TFT_START=str(days[0]),
    )  # fmt: skip

    def tft(*arguments: str, ends: int = 0) -> Any:
        found = command_line(*arguments, environment=environment, check=False)
        assert found.returncode == ends, found.stderr[-2000:]
        said = found.stdout if ends == 0 else found.stderr
        assert "Traceback" not in said
        return json.loads(said) if "--json" in arguments and ends == 0 else " ".join(said.split())

    first, last = (str(day) for day in days)
    tft("backfill", "--from", first, "--to", last, "--json")
    listed = tft("universe", "list", "--json")
    assert (listed["decided_by"], listed["note"], listed["simulated"]) == ("TFT_TICKERS", None, True)
    assert [(row["ticker"], row["state"]) for row in listed["tickers"]] == [("SIMA", "member"), ("SIMB", "member")]
    assert "'../../x' is no ticker" in tft("universe", "add", "../../x", ends=1)
    assert "simulated has no 'NVDA'; it offers SIMA, SIMB, SIMC." in tft("universe", "add", "SIMC", "NVDA", ends=1)
    assert "'SIMC' is not in the universe" in tft("backfill", "--from", first, "--to", last, "--ticker", "SIMC", ends=1)
    added = tft("universe", "add", "SIMC", "SIMA", "--json")
    assert (added["done"], added["already"], added["universe"]) == (["SIMC"], ["SIMA"], ["SIMA", "SIMB", "SIMC"])
    assert added["next"] == f"tft-pipeline backfill --ticker SIMC --from {first} --to {config.today()}"
    assert added["note"].startswith("TFT_TICKERS names SIMA, SIMB; since the universe was first changed")
    loaded = tft("backfill", "--from", first, "--to", last, "--ticker", "SIMC", "--json")
    assert (loaded["job"], loaded["tickers"], loaded["waiting"]) == ("history", ["SIMC"], [])
    assert loaded["rows_written"]["market.bars"] > 250
    assert "SIMB: followed no longer; no row of the past is deleted" in tft("universe", "remove", "SIMB")
    rows = tft("universe", "list", "--json")["tickers"]
    assert [(row["ticker"], row["state"]) for row in rows] == [("SIMA", "member"), ("SIMB", "removed"), ("SIMC", "member")]  # fmt: skip
    assert min(row["bars"] for row in rows) > 250
    assert rows[1]["removed_at"] > rows[2]["member_from"] > rows[2]["added_at"]


def test_the_pipeline_sees_a_change_at_once_and_asks_only_for_whom_it_is_about(
    database: Database, tmp_path: Path
) -> None:
    pipeline = Pipeline(config.load(home=tmp_path, **VALUES), database=database, until=SATURDAY)
    assert pipeline.tickers == pipeline.ever_followed == ("SIMA", "SIMC")
    universe.remove(database, ["SIMA"], at=SATURDAY, current=lambda: pipeline.universe)
    assert [*pipeline.tickers, "of", *pipeline.ever_followed] == ["SIMC", "of", "SIMA", "SIMC"]
    assert universe.intervals(database)[0] == Interval("SIMA", BEGINNING, BEGINNING, SATURDAY)
    pipeline.about(["SIMC"])
    assert [*pipeline.tickers, *pipeline.universe] == ["SIMC", "SIMC"]
    with pytest.raises(ConfigError, match=r"'SIMA' is not in the universe, which holds SIMC; run"):
        pipeline.about(["SIMA"])
    pipeline.about(None)
    assert pipeline.only is None
