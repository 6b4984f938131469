"""What the ledger lacks, day by day, worked out by hand; and that asking costs little at years of history."""

import time
from datetime import UTC, date, datetime

from tft_pipeline.contracts import BARS, FEATURES, TABLES
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.staleness import stale_days

FIRST, LAST = date(2026, 1, 6), date(2026, 1, 8)
DUE = datetime(2026, 1, 8, 15, tzinfo=UTC)


def filled(
    database: Database, *days: int, reaches_to: datetime | None = None, tables: tuple = (BARS, FEATURES)
) -> None:  # type: ignore[type-arg]
    write(
        database, {table: table.empty() for table in tables}, [date(2026, 1, day) for day in days], run_id="r", code_version="0",
        reaches_to=reaches_to,
    )  # fmt: skip


def stale(database: Database, due: datetime = DUE) -> list[int]:
    found = stale_days(database, [BARS, FEATURES], first=FIRST, last=LAST, due=due)
    return [day.day for day in found]


def test_an_empty_ledger_lacks_every_day(database: Database) -> None:
    assert stale(database) == [6, 7, 8]


def test_a_day_is_complete_at_its_end_and_today_at_what_is_due(database: Database) -> None:
    filled(database, 6, 7)
    filled(database, 8, reaches_to=DUE)
    assert stale(database) == []
    assert stale(database, datetime(2026, 1, 8, 16, tzinfo=UTC)) == [8]


def test_a_gap_in_the_middle_a_day_half_done_and_one_table_behind_are_found(database: Database) -> None:
    filled(database, 6, 8)
    assert stale(database) == [7]
    filled(database, 7, reaches_to=datetime(2026, 1, 7, 23, 59, tzinfo=UTC))
    assert stale(database) == [7]
    filled(database, 7, tables=(BARS,))
    assert stale(database) == [7]
    filled(database, 7, tables=(FEATURES,))
    assert stale(database) == []


def test_days_up_to_the_newest_month_that_was_retired_are_not_missing(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO ops.retired (kept_as, table_name, month, row_count, ledger) VALUES ('retired.b', 'market.bars', '2025-11-01', 0, '[]')"
        )
    found = stale_days(database, [BARS], first=date(2025, 10, 1), last=date(2025, 12, 2), due=DUE)
    assert found == [date(2025, 12, 1), date(2025, 12, 2)]


def test_ten_years_are_asked_for_in_a_tenth_of_a_second(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            """
            INSERT INTO ops.slices SELECT name, day::date, 1, 'r', '0', 0, 'h', (day::date + 1)::timestamp AT TIME ZONE 'UTC', 0, now()
            FROM unnest(%s::text[]) AS name, generate_series('2016-01-09'::date, '2026-01-08', interval '1 day') AS day""",
            ([table.name for table in TABLES],),
        )
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        assert stale_days(database, TABLES, first=date(2016, 1, 9), last=LAST, due=DUE) == []
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.1
