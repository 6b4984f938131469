"""The checks that block, on rows that somebody touched after the writer and on days that cannot be trusted; and what was refused."""

from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from tft_pipeline import config
from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, QUALITY
from tft_pipeline.errors import ConfigError, PipelineError
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.checks import contract_kept, floor_kept
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.refusals import refusals
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.settling import settle
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.world import claim_world
from tft_pipeline_tests.storage.frames import frame

DAYS = [date(2024, 1, 31), date(2024, 2, 1)]
WINDOW = Window(datetime(2024, 1, 31, tzinfo=UTC), *[datetime(2024, 2, 2, tzinfo=UTC)] * 3)


@pytest.fixture
def written(database: Database) -> pd.DataFrame:
    rows = frame(BARS, DAYS, hours=(14, 15))
    write(database, {BARS: rows, ACTIONS: ACTIONS.empty()}, DAYS, run_id="r", code_version="1")
    return rows


@pytest.mark.usefixtures("written")
def test_what_the_writer_left_passes_with_its_figures(database: Database) -> None:
    check = contract_kept(database, [BARS, ACTIONS], WINDOW)
    assert check.passed
    assert check.description == "4 rows, as the ledger says, all within the contract"
    assert {name: value.value for name, value in check.metadata.items()} == {"rows_held": 4, "rows_promised": 4}


@pytest.mark.usefixtures("written")
def test_rows_that_vanished_fail_with_both_numbers(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("DELETE FROM market.bars WHERE bar_start < '2024-02-01'")
    check = contract_kept(database, [BARS], WINDOW)
    assert not check.passed
    assert check.description == "the ledger promises 4 rows of market.bars, PostgreSQL holds 2"


@pytest.mark.usefixtures("written")
def test_a_value_that_the_contract_forbids_fails_with_its_name(database: Database) -> None:
    with database.connect() as connection:
        found = connection.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'market.bars'::regclass AND contype = 'c'"
        ).fetchall()
        for (name,) in found:
            connection.execute(f'ALTER TABLE market.bars DROP CONSTRAINT "{name}"')
        connection.execute("UPDATE market.bars SET low = high + 1 WHERE bar_start = '2024-01-31 14:00+00'")
    check = contract_kept(database, [BARS], WINDOW)
    assert not check.passed
    assert "market.bars: a row breaks the rule" in str(check.description)
    assert "in 1 row(s), first at ticker=AAPL, bar_start=2024-01-31 14:00:00+00:00" in str(check.description)


def scored(*rows: tuple[str, int, float, int, int]) -> pd.DataFrame:
    """QUALITY of (ticker, day of January, score, bars, quarantined bars) rows; seven bars are expected."""
    tickers, days, scores, bars, quarantined = zip(*rows, strict=True)
    return QUALITY.empty().reindex(range(len(rows))).assign(
        ticker=tickers, day_start=[pd.Timestamp(2024, 1, day, tz="UTC") for day in days], score=scores, bars=bars, expected_bars=7,
        missing_bars=0, quarantined_bars=quarantined, stale_bars=0, zero_volume_bars=0, outlier_bars=0,
    )  # fmt: skip


def test_one_bad_ticker_does_not_reach_the_floor_and_a_bad_day_of_all_does() -> None:
    one_bad = scored(("AAPL", 30, 0.0, 0, 7), ("MSFT", 30, 1.0, 7, 0), ("NVDA", 30, 1.0, 7, 0))
    assert floor_kept(one_bad, 0.5).passed  # two thirds
    all_bad = scored(("AAPL", 30, 0.0, 0, 7), ("MSFT", 30, 0.8, 7, 0), ("AAPL", 31, 1.0, 7, 0))
    check = floor_kept(all_bad, 0.5)
    assert not check.passed
    assert str(check.description).startswith(
        "1 day(s) score below 0.5 on average, the worst 2024-01-30 with 0.40: AAPL on 2024-01-30 0.00 (of 7 bars: 7 quarantined), MSFT"
    )
    assert "TFT_QUALITY_FLOOR" in str(check.description)
    assert floor_kept(all_bad, 0.4).passed
    assert floor_kept(all_bad, 0.0).passed


def test_who_is_silent_does_not_count_toward_the_floor() -> None:
    silent = scored(("AAPL", 30, 0.0, 0, 0), ("MSFT", 30, 0.0, 0, 0), ("NVDA", 30, 1.0, 7, 0))
    assert floor_kept(silent, 0.9).passed
    nobody = floor_kept(silent.iloc[:2], 0.9)
    assert nobody.passed
    assert nobody.metadata["lowest"].value == 1.0


def bars_files(folder: Path, *, last_day_crossed: bool) -> None:
    starts = pd.DatetimeIndex(
        [f"2026-01-{day:02} {hour}:30" for day in (5, 6, 7) for hour in range(14, 21)], tz="UTC"
    ).as_unit("us")
    rows = pd.DataFrame(
        {"bar_start": starts, "bar_end": starts + pd.Timedelta(hours=1), "open": 10.0, "high": 11.0, "low": 9.0}
    )
    rows["close"] = [10 + number / 100 for number in range(len(rows))]  # no bar repeats the one before
    rows["volume"] = 100.0
    if last_day_crossed:
        rows.loc[rows["bar_start"] >= "2026-01-07", "high"] = 8.0
    pd.concat([rows.assign(ticker=ticker) for ticker in ("AAA", "BBB")]).to_parquet(
        folder / "bars.parquet", index=False
    )


def test_a_day_below_the_floor_stops_what_is_built_on_it_and_shows_what_was_refused(
    database: Database, tmp_path: Path
) -> None:
    bars_files(tmp_path, last_day_crossed=True)
    chosen = settle(
        config.load(home=tmp_path / "home", market=f"files:{tmp_path}", posts="none", sentiment={"scorer": "vader"})
    )
    pipeline = Pipeline(chosen, database=database)
    definitions = build(chosen, pipeline)
    first, last = date(2026, 1, 6), date(2026, 1, 7)
    with dg.DagsterInstance.ephemeral() as instance:
        good = launch.run(definitions, "history", instance, first, first)
        assert instance.get_run_by_id(good).is_success
        with pytest.raises(
            PipelineError, match=r"bar_quality: its check 'floor' failed: 1 day\(s\) score below 0.25 .* 7 quarantined"
        ):
            launch.run(definitions, "history", instance, last, last)
        event = instance.get_latest_materialization_event(dg.AssetKey("market_bars"))
        metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
        assert metadata["refused: high is below low"] == 14
        assert "| 2026-01-07 | AAA | `high is below low` |" in metadata["quarantine of market.bars"]
        assert metadata["rows_quarantined"] == 14
        quality = instance.get_latest_materialization_event(dg.AssetKey("bar_quality")).asset_materialization.metadata
        assert quality["quarantined bars"].value == 14
        assert slice_status(database, FEATURES)["day"].tolist() == [first]  # nothing was built on it


def test_refusals_are_found_by_rule_ticker_and_day(database: Database, tmp_path: Path) -> None:
    chosen = config.load(home=tmp_path, postgres_dsn=database.dsn, sentiment={"scorer": "vader"})
    claim_world(database, chosen)
    rows = frame(BARS, DAYS, hours=(14, 15))
    write(database, {BARS: rows.assign(volume=-1.0)}, DAYS, run_id="r", code_version="1")
    report = refusals(chosen, "market.bars", "AAPL", DAYS[1], None, limit=1)
    assert [(rule["reason"], rule["rows"]) for rule in report["rules"]] == [("volume is below #", 2)]
    assert [(row["day"], row["row"]["volume"]) for row in report["rows"]] == [(DAYS[1], -1)]
    assert refusals(chosen, None, "MSFT", None, None, limit=1)["rules"] == []
    with pytest.raises(ConfigError, match=r"--table 'bars' is no table; choose one of market.bars, "):
        refusals(chosen, "bars", None, None, None, limit=1)
