"""What was refused, by table and day, as the quality score reads it."""

import datetime as dt
import json
from datetime import date, timedelta

import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.schema import UTC
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.quarantine import Sought, between, counted, listed
from tft_pipeline.storage.slices import write

LATER = dt.datetime.now(dt.UTC) + timedelta(days=1)
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
    found = between(database, "market.bars", DAYS[1], DAYS[2], as_of=LATER)
    assert found[["ticker", "reason"]].to_numpy().tolist() == [["MSFT", "middle"], ["AAPL", "late"]]
    assert found["day"].tolist() == [pd.Timestamp(day, tz="UTC") for day in DAYS[1:]]


def test_where_nothing_was_refused_the_frame_keeps_its_types(database):
    found = between(database, "market.bars", DAYS[0], DAYS[2], as_of=LATER)
    assert found.empty
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {
        "day": UTC, "ticker": "str", "bar_start": UTC, "reason": "str",
    }  # fmt: skip


def bar(
    close: float, known_at: str, reason: str = "a price is not above zero", bar_start: str = "14:00"
) -> pd.DataFrame:
    row = {
        "ticker": "AAPL",
        "bar_start": f"2024-01-31 {bar_start}:00+00:00",
        "close": close,
        "known_at": f"2024-01-31 {known_at}:00+00:00",
    }
    return refused((DAYS[1], "AAPL", reason)).assign(row=json.dumps(row))


def keep(database: Database, *bars: pd.DataFrame) -> int:
    every = pd.concat(bars, ignore_index=True)
    written = write(database, {BARS: BARS.empty()}, [DAYS[1]], quarantined=every, run_id="r", code_version="1")
    return written[BARS.name].rows_quarantined


def test_the_same_wrong_bar_read_an_hour_later_is_no_other_refusal(database):
    assert keep(database, bar(-1.0, "15:15")) == 1
    assert keep(database, bar(-1.0, "16:15")) == 0
    (row,) = listed(database)["row"]
    assert row["known_at"] == "2024-01-31 15:15:00+00:00"  # as it came first


def test_a_bar_that_was_wrong_in_several_ways_counts_once_with_its_newest_reason(database):
    assert keep(database, bar(-1.0, "15:15")) == 1
    assert keep(database, bar(-2.0, "16:15")) == 1
    assert keep(database, bar(9e9, "17:15", "close 9e+09 is 9e+07 times its neighbours'")) == 1
    assert keep(database, bar(-1.0, "18:15", bar_start="15:00")) == 1
    found = between(database, BARS.name, DAYS[0], DAYS[2], as_of=LATER).sort_values("bar_start")
    assert found["bar_start"].dt.hour.tolist() == [14, 15]
    assert found["reason"].tolist() == ["close 9e+09 is 9e+07 times its neighbours'", "a price is not above zero"]
    assert len(listed(database)) == 4  # nothing is dropped in silence


def test_what_was_refused_later_was_no_refusal_yet(database):
    assert keep(database, bar(-1.0, "15:15"), bar(-2.0, "17:15", bar_start="16:00")) == 2
    early = dt.datetime(2024, 1, 31, 16, tzinfo=dt.UTC)
    assert between(database, BARS.name, DAYS[0], DAYS[2], as_of=early)["bar_start"].dt.hour.tolist() == [14]
    write(
        database,
        {BARS: BARS.empty()},
        [DAYS[1]],
        quarantined=refused((DAYS[1], "MSFT", "no moment")),
        run_id="r",
        code_version="1",
    )
    assert (
        len(between(database, BARS.name, DAYS[0], DAYS[2], as_of=early)) == 1
    )  # it says no moment: refused when it was seen
    assert len(between(database, BARS.name, DAYS[0], DAYS[2], as_of=LATER)) == 3


def test_refusals_are_counted_by_rule_and_found_by_ticker_and_day(database):
    by = {"run_id": "r", "code_version": "1"}
    far = "close 9e+09 is {} times its neighbours', and no split explains it"
    of_bars = refused(
        (DAYS[0], "AAPL", far.format("8.1e+07")), (DAYS[1], "MSFT", far.format("-12")), (DAYS[2], "AAPL", "high is below low")
    )  # fmt: skip
    write(database, {BARS: BARS.empty()}, DAYS, quarantined=of_bars, **by)
    write(database, {ACTIONS: ACTIONS.empty()}, DAYS, quarantined=refused((DAYS[1], "AAPL", "no split")), **by)
    counts = counted(database)
    assert counts[["table", "reason", "rows", "tickers"]].to_numpy().tolist() == [
        ["market.bars", "close # is # times its neighbours', and no split explains it", 2, 2],
        ["market.actions", "no split", 1, 1],
        ["market.bars", "high is below low", 1, 1],
    ]
    assert counts[["first", "last"]].iloc[0].tolist() == DAYS[:2]
    assert listed(database, Sought(ticker="AAPL"))["day"].tolist() == [DAYS[2], DAYS[1], DAYS[0]]
    assert listed(database, Sought("market.bars", "AAPL", DAYS[0], DAYS[1]))["day"].tolist() == [DAYS[0]]
    assert counted(database, Sought(first=DAYS[2]))["rows"].tolist() == [1]
