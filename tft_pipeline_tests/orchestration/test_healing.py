"""Which days the hourly refresh takes: whatever the ledger says is missing or stale, never what ticked."""

from datetime import UTC, date, datetime

import pandas as pd

from tft_pipeline.contracts import BARS, FEATURES
from tft_pipeline.orchestration.healing import days_to_refresh

NOW = datetime(2026, 1, 8, 15, 3, tzinfo=UTC)
FIRST, LAST = date(2026, 1, 6), date(2026, 1, 8)


def ledger(*rows: tuple[str, date, datetime | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["table_name", "slice_day", "reaches_to"])


def complete(table: str, *days: int) -> list[tuple[str, date, datetime | None]]:
    return [(table, date(2026, 1, day), datetime(2026, 1, day + 1, tzinfo=UTC)) for day in days]


def fresh(table: str, hour: int) -> tuple[str, date, datetime | None]:
    return (table, LAST, datetime(2026, 1, 8, hour, 3, tzinfo=UTC))


def test_nothing_is_done_when_every_slice_reaches_the_last_full_hour() -> None:
    rows = ledger(*complete("market.bars", 6, 7), fresh("market.bars", 15))
    assert days_to_refresh(rows, [BARS], first=FIRST, last=LAST, now=NOW) is None


def test_today_is_stale_an_hour_later() -> None:
    rows = ledger(*complete("market.bars", 6, 7), fresh("market.bars", 14))
    assert days_to_refresh(rows, [BARS], first=FIRST, last=LAST, now=NOW) == (LAST, LAST)


def test_after_downtime_the_oldest_missing_day_begins_the_run() -> None:
    rows = ledger(*complete("market.bars", 6), fresh("market.bars", 15))
    assert days_to_refresh(rows, [BARS], first=FIRST, last=LAST, now=NOW) == (date(2026, 1, 7), LAST)


def test_a_day_that_was_left_half_done_is_finished() -> None:
    half = ("market.bars", date(2026, 1, 6), datetime(2026, 1, 6, 17, 3, tzinfo=UTC))
    rows = ledger(half, *complete("market.bars", 7), fresh("market.bars", 15))
    assert days_to_refresh(rows, [BARS], first=FIRST, last=LAST, now=NOW) == (FIRST, LAST)


def test_one_table_behind_is_enough() -> None:
    rows = ledger(*complete("market.bars", 6, 7), fresh("market.bars", 15), *complete("features.hourly", 6, 7))
    assert days_to_refresh(rows, [BARS, FEATURES], first=FIRST, last=LAST, now=NOW) == (LAST, LAST)


def test_an_empty_ledger_asks_for_everything() -> None:
    assert days_to_refresh(ledger(), [BARS], first=FIRST, last=LAST, now=NOW) == (FIRST, LAST)
