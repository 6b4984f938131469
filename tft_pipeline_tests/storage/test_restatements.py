"""Notes on restated slices: noted once, settled once, and what is open."""

from datetime import UTC, date, datetime, timedelta

import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.restatements import COLUMNS, Open, note, open_notes, restated_days, settle

MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)
NOON = datetime(2026, 1, 8, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def found(*rows: tuple[date, str, str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS)


AAPL = (MONDAY, "AAPL", "restated", "1 changed, first at 14:30Z", 1)
MSFT = (TUESDAY, "MSFT", "restated", "2 new, first at 15:30Z", 2)
NVDA = (TUESDAY, "NVDA", "rescaled", "7 bars are 0.5 times the prices held", 7)


def noted(database: Database, *rows: tuple[date, str, str, str, int], at: datetime = NOON) -> int:
    return note(database, BARS, found(*rows), source="yahoo", run_id="r", at=at)


def days(database: Database) -> list[tuple[date, datetime, datetime]]:
    return restated_days(database, first=date(2026, 1, 1), last=date(2026, 1, 8))


def opened(database: Database) -> list[Open]:
    return open_notes(database, BARS, date(2026, 1, 1), date(2026, 1, 8))


def test_what_is_seen_every_hour_is_noted_once(any_database: Database) -> None:
    assert noted(any_database) == 0
    assert noted(any_database, AAPL, MSFT, NVDA) == 3
    assert noted(any_database, AAPL, MSFT, NVDA, at=NOON + HOUR) == 0
    assert opened(any_database) == [
        Open(MONDAY, "AAPL", "restated", NOON), Open(TUESDAY, "MSFT", "restated", NOON), Open(TUESDAY, "NVDA", "rescaled", NOON),
    ]  # fmt: skip
    assert open_notes(any_database, ACTIONS, MONDAY, TUESDAY) == []
    assert days(any_database) == [(MONDAY, NOON, NOON), (TUESDAY, NOON, NOON)]


def test_a_difference_that_grows_is_noted_anew(any_database: Database) -> None:
    noted(any_database, AAPL)
    assert noted(any_database, (*AAPL[:3], "2 changed, first at 14:30Z", 2), at=NOON + HOUR) == 1
    assert days(any_database) == [(MONDAY, NOON, NOON + HOUR)]


def test_a_settled_note_asks_for_nothing_and_one_noted_meanwhile_stays(any_database: Database) -> None:
    noted(any_database, AAPL, MSFT)
    before = opened(any_database)
    noted(any_database, (*AAPL[:3], "3 changed, first at 14:30Z", 3), at=NOON + HOUR)
    assert settle(any_database, BARS, before, run_id="s", at=NOON + 2 * HOUR) == 1
    assert settle(any_database, BARS, before, run_id="s", at=NOON + 2 * HOUR) == 0
    assert settle(any_database, BARS, [], run_id="s", at=NOON) == 0
    assert days(any_database) == [(MONDAY, NOON, NOON + HOUR)]


def test_what_comes_back_is_counted_and_remembers_when_it_began(any_database: Database) -> None:
    for hour in range(3):
        noted(any_database, AAPL, at=NOON + hour * HOUR)
        settle(any_database, BARS, opened(any_database), run_id="s", at=NOON + hour * HOUR)
    assert days(any_database) == []
    noted(any_database, AAPL, at=NOON + 5 * HOUR)
    assert days(any_database) == [(MONDAY, NOON, NOON + 5 * HOUR)]
    with any_database.connect() as connection:
        row = connection.execute("SELECT times, run_id, resolved_by FROM ops.restatements").fetchone()
    assert row == (4, "r", None)


def test_another_ticker_of_the_day_does_not_begin_the_waits_anew(any_database: Database) -> None:
    noted(any_database, AAPL)
    settle(any_database, BARS, opened(any_database), run_id="s", at=NOON)
    noted(any_database, (MONDAY, "MSFT", *AAPL[2:]), at=NOON + HOUR)
    assert days(any_database) == [(MONDAY, NOON, NOON + HOUR)]


def test_rescaled_days_and_days_that_retention_took_are_not_asked_for(any_database: Database) -> None:
    noted(any_database, NVDA)
    assert days(any_database) == []
    noted(any_database, AAPL)
    with any_database.connect() as connection:
        connection.execute(
            "INSERT INTO ops.retired (kept_as, table_name, month, row_count, ledger) VALUES ('retired.b', 'market.bars', '2026-01-01', 0, '[]')"
        )
    assert days(any_database) == []
