"""Which days the hourly refresh has to do: read from the ledger, not from what ticked (FAULTS 12). Pure."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd

from tft_pipeline.schema import Table


def days_to_refresh(
    ledger: pd.DataFrame, tables: Sequence[Table], *, first: date, last: date, now: datetime
) -> tuple[date, date] | None:
    """(oldest, newest) day that some table's slice lacks or does not reach far enough into; None when all is fresh.

    ledger: ops.slices: table_name, slice_day, reaches_to. A slice is complete when it reaches the end of its day, and fresh
    when it reaches the last full hour. Days run from first to last, both included.
    """
    due = now.replace(minute=0, second=0, microsecond=0)
    reached: dict[tuple[str, date], pd.Timestamp] = dict(
        zip(zip(ledger["table_name"], ledger["slice_day"], strict=True), ledger["reaches_to"], strict=True)
    )
    stale = []
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        wanted = min(datetime.combine(day + timedelta(days=1), time(), tzinfo=UTC), due)
        for table in tables:
            reaches = reached.get((table.name, day))
            if reaches is None or pd.isna(reaches) or reaches < wanted:
                stale.append(day)
                break
    return (min(stale), last) if stale else None
