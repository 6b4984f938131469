"""Where the ledger goes on from: the last mark before a moment, and the highest before it."""

from datetime import UTC, date, datetime

import pytest

from tft_pipeline.contracts import EQUITY, POSITIONS
from tft_pipeline.storage.portfolio import last_mark, peak_equity_cents
from tft_pipeline.storage.slices import write

from .frames import frame

CASH = 100_000_00  # of every mark that frame() makes
DAYS = [date(2024, 1, 31), date(2024, 2, 1)]


@pytest.fixture
def held(database):
    marks = frame(EQUITY, DAYS, hours=(14, 15))
    positions = frame(POSITIONS, DAYS, hours=(15,), tickers=("AAPL", "MSFT"))
    positions["value_cents"] = [
        500,
        10,
        300,
        20,
    ]  # AAPL on both days, then MSFT: 800 cents on the first day, 30 on the second
    value = marks["marked_at"].map(positions.groupby("marked_at")["value_cents"].sum()).fillna(0).astype("int64")
    marks = marks.assign(positions_cents=value, equity_cents=marks["cash_cents"] + value)
    write(database, {EQUITY: marks, POSITIONS: positions}, DAYS, run_id="r", code_version="1")
    return database


def test_the_last_mark_is_earlier_than_the_moment_with_its_own_positions(held):
    mark = last_mark(held, before=datetime(2024, 2, 1, 15, tzinfo=UTC))
    assert mark is not None
    assert mark.marked_at == datetime(2024, 2, 1, 14, tzinfo=UTC)
    assert mark.positions.empty
    mark = last_mark(held, before=datetime(2024, 2, 1, tzinfo=UTC))
    assert mark is not None
    assert mark.marked_at == datetime(2024, 1, 31, 15, tzinfo=UTC)
    assert mark.positions["ticker"].tolist() == ["AAPL", "MSFT"]
    assert mark.equity["positions_cents"].tolist() == [800]


def test_the_peak_is_of_what_was_marked_before(held):
    assert peak_equity_cents(held, before=datetime(2024, 1, 31, 15, tzinfo=UTC)) == CASH
    assert peak_equity_cents(held, before=datetime(2025, 1, 1, tzinfo=UTC)) == CASH + 800


def test_before_the_first_mark_there_is_nothing(held):
    moment = datetime(2024, 1, 31, 14, tzinfo=UTC)
    assert last_mark(held, before=moment) is None
    assert peak_equity_cents(held, before=moment) is None
