"""A range gives each day what it would have got alone; an earlier day that is rewritten carries through to the last mark."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from tft_pipeline import config
from tft_pipeline.contracts import ACTIONS, BARS, DECISIONS, EQUITY, FEATURES, POSITIONS, QUALITY, TRADES
from tft_pipeline.errors import PipelineError
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import Table
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write

FIRST, LAST = date(2026, 1, 5), date(2026, 3, 13)
DAYS = [LAST - timedelta(days=back) for back in range(4, -1, -1)]  # Monday to Friday
BY = {"run_id": "test", "code_version": "0"}
Run = Callable[[str, date, date], None]


def at(day: date, hour: int) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC").as_unit("us") + pd.Timedelta(hours=hour)


@pytest.fixture
def run(tmp_path: Path, database: Database) -> Iterator[Run]:
    """Runs one asset over days of a small folder of files, whose bars up to the last day are loaded."""
    grid = Calendar("XNYS").bar_grid(FIRST, LAST + timedelta(days=1), phase_minutes=0)
    random = np.random.default_rng(3)
    parts = []
    for ticker in ("AAA", "BBB"):
        close = 50 * np.exp(random.normal(0, 0.01, len(grid)).cumsum())
        prices = pd.DataFrame(
            {"open": close * 0.999, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 1e5}
        )
        parts.append(pd.concat([grid[["bar_start", "bar_end"]], prices], axis=1).assign(ticker=ticker))
    pd.concat(parts).to_parquet(tmp_path / "bars.parquet", index=False)
    settings = config.load(
        home=tmp_path / "home",
        market=f"files:{tmp_path}",
        posts="none",
        start=FIRST,
        end=LAST + timedelta(days=9),
        sentiment={"scorer": "vader"},
    )
    pipeline = Pipeline(settings, database=database, until=at(LAST, 24).to_pydatetime())
    definitions = build(settings, pipeline)

    def run_asset(asset: str, first: date, last: date) -> None:
        job = "outcome" if asset in ("portfolio", "model_drift") else "history"
        days: dict[str, Any] = {"partition_key": first.isoformat()}
        if first != last:
            days = {
                "tags": {
                    "dagster/asset_partition_range_start": first.isoformat(),
                    "dagster/asset_partition_range_end": last.isoformat(),
                }
            }
        done = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(asset)], run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            **days,
        )  # fmt: skip
        assert done.success

    with dg.DagsterInstance.ephemeral() as instance:
        for asset in ("corporate_actions", "market_bars", "bar_quality"):
            run_asset(asset, FIRST, LAST)
        yield run_asset


def hashes(database: Database, *tables: Table) -> dict[tuple[str, date], str]:
    return {
        (table.name, row.day): row.content_hash
        for table in tables
        for row in slice_status(database, table).itertuples()
        if row.day in DAYS
    }


def correct(database: Database, day: date, known_at: pd.Timestamp) -> None:
    """The first bar of the day turns out to have closed lower."""
    bars = read(database, BARS, at(day, 0).to_pydatetime(), at(day, 24).to_pydatetime())
    row = bars[bars["ticker"] == "AAA"].head(1)
    changed = row.assign(close=row["close"] * 0.995, known_at=known_at)
    assert write(database, {BARS: changed}, [day], **BY)[BARS.name].rows_revised == 1


def test_a_correction_enters_no_day_before_it_was_known(run: Run, database: Database) -> None:
    run("features_hourly", *[DAYS[0], DAYS[-1]])
    before = read(database, FEATURES)
    correct(database, DAYS[1], at(DAYS[3], 12))
    for day in DAYS:
        run("bar_quality", day, day)
        run("features_hourly", day, day)
    alone = hashes(database, FEATURES, QUALITY)
    after = read(database, FEATURES)
    assert not after.equals(before)
    early = before["bar_end"] <= at(DAYS[3], 0)
    pd.testing.assert_frame_equal(after[early.to_numpy()], before[early])
    run("bar_quality", DAYS[0], DAYS[-1])
    run("features_hourly", DAYS[0], DAYS[-1])
    assert hashes(database, FEATURES, QUALITY) == alone


def decide(database: Database, day: date, weight: float) -> None:
    rows = pd.DataFrame(
        {
            "ticker": ["AAA", "BBB"], "issued_at": at(day, 15), "model_id": "m", "action": "BUY" if weight > 0 else "HOLD", "confidence": 0.6,
            "weight": [weight, weight / 2], "reason": "a test says so", "horizon_hours": 6, "p10": -0.01, "p50": 0.0, "p90": 0.01,
        }
    )  # fmt: skip
    write(database, {DECISIONS: rows.astype(DECISIONS.empty().dtypes.to_dict())}, [day], **BY)


def test_a_day_rewritten_in_the_middle_carries_through_to_the_last_mark(run: Run, database: Database) -> None:
    ledger = (EQUITY, TRADES, POSITIONS)
    for day in DAYS:
        decide(database, day, 0.1)
    run("portfolio", DAYS[0], DAYS[-1])
    first = hashes(database, *ledger)
    decide(database, DAYS[1], 0.2)
    run("portfolio", DAYS[1], DAYS[1])
    middle = hashes(database, *ledger)
    assert {day for (_, day), content in middle.items() if content != first[_, day]} == set(DAYS[1:])
    run("portfolio", DAYS[0], DAYS[-1])
    assert hashes(database, *ledger) == middle
    decide(database, DAYS[1], 0.1)
    run("portfolio", DAYS[1], DAYS[1])
    assert hashes(database, *ledger) == first


def test_a_fill_keeps_the_price_that_was_known_when_it_was_made(run: Run, database: Database) -> None:
    for day in DAYS:
        decide(database, day, 0.1)
    run("portfolio", DAYS[0], DAYS[-1])
    first = hashes(database, EQUITY)
    correct(database, DAYS[1], at(DAYS[3], 12))
    run("portfolio", DAYS[0], DAYS[-1])
    assert hashes(database, EQUITY) == first  # a close that is long past is no later mark's


def test_a_split_that_was_heard_of_late_is_in_the_books_from_its_own_day_on(run: Run, database: Database) -> None:
    for day in DAYS[:2]:
        decide(database, day, 0.1)
    run("portfolio", DAYS[0], DAYS[-1])
    before = read(database, POSITIONS)
    split = pd.DataFrame({
        "ticker": ["AAA"], "effective_at": at(DAYS[2], 14), "kind": "split", "value": 2.0, "source": "files", "known_at": at(DAYS[4], 12),
    })  # fmt: skip
    for column in set(ACTIONS.names) - set(split.columns):
        split[column] = pd.Series([None], dtype="str")
    write(database, {ACTIONS: split.astype(ACTIONS.empty().dtypes.to_dict())}, [DAYS[2]], **BY)
    run("portfolio", DAYS[2], DAYS[2])
    after = read(database, POSITIONS)
    held = [rows[rows["ticker"] == "AAA"].set_index("marked_at")["quantity"] for rows in (before, after)]
    ratio = (held[1] / held[0]).groupby(lambda moment: moment.date()).last()
    assert ratio.loc[DAYS[2] :].tolist() == [2.0, 2.0, 2.0]
    assert (ratio.loc[: DAYS[1]] == 1.0).all()
    alone = hashes(database, EQUITY, TRADES, POSITIONS)
    run("portfolio", DAYS[0], DAYS[-1])
    assert hashes(database, EQUITY, TRADES, POSITIONS) == alone


def test_a_day_that_has_not_begun_is_refused(run: Run) -> None:
    later = LAST + timedelta(days=3)
    with pytest.raises(Exception, match=rf"partition '{later}' has not begun"):
        run("features_hourly", later, later)


def test_no_model_is_trained_where_features_were_never_made(tmp_path: Path, run: Run, database: Database) -> None:
    settings = config.load(home=tmp_path / "home", market=f"files:{tmp_path}", posts="none", start=FIRST, end=LAST)
    pipeline = Pipeline(settings, database=database, until=datetime(2026, 3, 14, tzinfo=UTC))
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(PipelineError) as raised:
        launch.run(build(settings, pipeline), "retrain", instance, LAST, LAST)
    assert f"features.hourly was never made for {LAST}" in str(raised.value)
