"""Which slices their source says otherwise of than is held: `ops.restatements`, a row for each slice and ticker.

What belongs here: noting, settling, and what is open. What does not: what counts as a difference, which is `market.restatements`, and when
a day is asked for again, which is `orchestration.healing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import pandas as pd

from tft_pipeline.schema import Table
from tft_pipeline.storage.database import Database

Kind = Literal["restated", "rescaled"]
COLUMNS = ["day", "ticker", "kind", "reason", "rows"]


@dataclass(frozen=True)
class Open:
    """A note that is not settled. noted_at tells it from a later one of the same slice and ticker."""

    day: date
    ticker: str
    kind: Kind
    noted_at: datetime


def note(database: Database, table: Table, found: pd.DataFrame, *, source: str, run_id: str, at: datetime) -> int:
    """Note what differs; how many notes are new, or differ from the open one of their slice and ticker.

    found: day (date), ticker, kind, reason (a sentence), rows, a row for each slice and ticker. A difference that is noted already stays
    as it is: what is seen every hour is noted once. at: now, by the clock that asks for runs.
    """
    if found.empty:
        return 0
    with database.connect() as connection:
        cursor = connection.execute(
            """
            INSERT INTO ops.restatements AS r (table_name, slice_day, ticker, kind, reason, row_count, source, run_id,
                                                first_noted_at, noted_at)
            SELECT %s, g.day, g.ticker, g.kind, g.reason, g.rows, %s, %s, %s, %s
            FROM unnest(%s::date[], %s::text[], %s::text[], %s::text[], %s::bigint[]) AS g (day, ticker, kind, reason, rows)
            ORDER BY g.day, g.ticker
            ON CONFLICT (table_name, slice_day, ticker) DO UPDATE SET
                kind = excluded.kind, reason = excluded.reason, row_count = excluded.row_count, source = excluded.source,
                run_id = excluded.run_id, noted_at = greatest(r.noted_at, excluded.noted_at), resolved_at = NULL, resolved_by = NULL,
                times = r.times + (r.resolved_at IS NOT NULL)::int
            WHERE r.resolved_at IS NOT NULL OR (r.kind, r.reason) IS DISTINCT FROM (excluded.kind, excluded.reason)""",
            (table.name, source, run_id, at, at, *(found[name].tolist() for name in COLUMNS)),
        )
        return cursor.rowcount


def open_notes(database: Database, table: Table, first: date, last: date) -> list[Open]:
    """The notes on a table's slices from first to last, both included, that are not settled; by day and ticker."""
    with database.connect() as connection:
        rows = connection.execute(
            """
            SELECT slice_day, ticker, kind, noted_at FROM ops.restatements
            WHERE table_name = %s AND slice_day BETWEEN %s AND %s AND resolved_at IS NULL ORDER BY slice_day, ticker""",
            (table.name, first, last),
        ).fetchall()
    return [Open(*row) for row in rows]


def settle(database: Database, table: Table, notes: Sequence[Open], *, run_id: str, at: datetime) -> int:
    """Settle these notes; how many were still open. One that was noted anew meanwhile stays."""
    if not notes:
        return 0
    with database.connect() as connection:
        cursor = connection.execute(
            """
            UPDATE ops.restatements AS r SET resolved_at = %s, resolved_by = %s
            FROM unnest(%s::date[], %s::text[], %s::timestamptz[]) AS g (day, ticker, noted_at)
            WHERE r.table_name = %s AND r.slice_day = g.day AND r.ticker = g.ticker AND r.noted_at = g.noted_at AND r.resolved_at IS NULL""",
            (
                at,
                run_id,
                [one.day for one in notes],
                [one.ticker for one in notes],
                [one.noted_at for one in notes],
                table.name,
            ),
        )
        return cursor.rowcount


def restated_days(database: Database, *, first: date, last: date) -> list[tuple[date, datetime, datetime]]:
    """Days from first to last, both included, of which something is restated and not settled, ascending; with each, when anything of it was
    first noted, settled by now or not, and when the newest open note was.

    Those in or before the newest month that retention took out are left alone, as in `staleness`.
    """
    with database.connect() as connection:
        rows = connection.execute(
            """
            SELECT slice_day, min(first_noted_at), max(noted_at) FILTER (WHERE resolved_at IS NULL AND kind = 'restated')
            FROM ops.restatements
            WHERE slice_day IN (SELECT slice_day FROM ops.restatements WHERE resolved_at IS NULL AND kind = 'restated')
            AND slice_day BETWEEN greatest(%s::date, (SELECT (max(month) + interval '1 month')::date FROM ops.retired)) AND %s
            GROUP BY slice_day ORDER BY slice_day""",
            (first, last),
        ).fetchall()
    return [(day, since, noted_at) for day, since, noted_at in rows]
