"""What was refused, by table and day, as the quality score reads it."""

from datetime import date

import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.schema import UTC
from tft_pipeline.storage.quarantine import between
from tft_pipeline.storage.slices import write

DAYS = [date(2024, 1, 30), date(2024, 1, 31), date(2024, 2, 1)]


def refused(*rows: tuple[date, str | None, str]) -> pd.DataFrame:
    days = pd.Series([pd.Timestamp(day, tz="UTC") for day, _, _ in rows], dtype=UTC)
    return pd.DataFrame(
        {
            "day": days,
            "ticker": [row[1] for row in rows],
            "reason": [row[2] for row in rows],
            "row": ['{"close": -1}'] * len(rows),
        }
    )


def test_refusals_of_a_table_are_found_by_day_both_ends_included(database):
    by = {"run_id": "r", "code_version": "1"}
    of_bars = refused((DAYS[0], "AAPL", "early"), (DAYS[1], "MSFT", "middle"), (DAYS[2], "AAPL", "late"))
    write(database, {BARS: BARS.empty()}, DAYS, quarantined=of_bars, **by)
    write(database, {ACTIONS: ACTIONS.empty()}, DAYS, quarantined=refused((DAYS[1], "AAPL", "no split")), **by)
    found = between(database, "market.bars", DAYS[1], DAYS[2])
    assert found[["ticker", "reason"]].to_numpy().tolist() == [["MSFT", "middle"], ["AAPL", "late"]]
    assert found["day"].tolist() == [pd.Timestamp(day, tz="UTC") for day in DAYS[1:]]


def test_where_nothing_was_refused_the_frame_keeps_its_types(database):
    found = between(database, "market.bars", DAYS[0], DAYS[2])
    assert found.empty
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {"day": UTC, "ticker": "str", "reason": "str"}
