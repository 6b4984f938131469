"""Which days the ledger says are missing or not reached far enough: one statement, whatever the number of years."""

from collections.abc import Sequence
from datetime import date, datetime

from tft_pipeline.schema import Table
from tft_pipeline.storage.database import Database


def stale_days(database: Database, tables: Sequence[Table], *, first: date, last: date, due: datetime) -> list[date]:
    """Days from first to last, both included, of which some table's slice is missing or does not reach its end, or due where that is
    earlier; ascending.

    Days in or before the newest month that retention took out are not missing, however young `first` is (storage.retention).
    """
    with database.connect() as connection:
        rows = connection.execute(
            """
            WITH asked AS (
                SELECT day::date AS day, ((day::date + 1)::timestamp AT TIME ZONE 'UTC') AS ends
                FROM generate_series(
                    greatest(%(first)s::date, (SELECT (max(month) + interval '1 month')::date FROM ops.retired))::timestamp,
                    %(last)s::timestamp, interval '1 day') AS day),
            reached AS (
                SELECT s.slice_day, count(*) AS tables FROM ops.slices AS s JOIN asked AS a ON a.day = s.slice_day
                WHERE s.table_name = ANY(%(tables)s) AND s.reaches_to >= least(a.ends, %(due)s) GROUP BY s.slice_day)
            SELECT a.day FROM asked AS a LEFT JOIN reached AS r ON r.slice_day = a.day
            WHERE coalesce(r.tables, 0) < cardinality(%(tables)s::text[]) ORDER BY a.day""",
            {"first": first, "last": last, "due": due, "tables": [table.name for table in tables]},
        ).fetchall()
    return [day for (day,) in rows]


def written_days(database: Database, table: Table, *, first: date, last: date) -> list[date]:
    """Days from first to last, both included, of which the table has a slice, complete or not; ascending."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT slice_day FROM ops.slices WHERE table_name = %s AND slice_day BETWEEN %s AND %s ORDER BY slice_day",
            (table.name, first, last),
        ).fetchall()
    return [day for (day,) in rows]
