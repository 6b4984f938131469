"""The ledger against the tables: what runs wrote, what slices promise, how far they reach, and where the two disagree."""

from collections.abc import Sequence
from datetime import date, datetime

from psycopg import sql

from tft_pipeline.contracts import TABLES
from tft_pipeline.schema import Table
from tft_pipeline.storage import composed, merge
from tft_pipeline.storage.database import Database


def rows_written_by(database: Database, run_ids: Sequence[str]) -> dict[str, int]:
    """{schema.table: rows that these runs inserted, updated or deleted}; every table of the contract, 0 where nothing changed."""
    with database.connect() as connection:
        found = connection.execute(
            "SELECT table_name, sum(written_rows) FROM ops.slices WHERE run_id = ANY(%s) GROUP BY table_name",
            (list(run_ids),),
        ).fetchall()
    written = {str(name): int(rows) for name, rows in found}
    return {table.name: written.get(table.name, 0) for table in TABLES}


def rows_promised(database: Database, table: Table, days: Sequence[date]) -> int:
    """How many rows the ledger says that these days' slices hold."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT coalesce(sum(row_count), 0) FROM ops.slices WHERE table_name = %s AND slice_day = ANY(%s)",
            (table.name, list(days)),
        ).fetchone()
    return int(row[0]) if row else 0


def reaches_to(database: Database, table: Table, day: date) -> datetime | None:
    """How far into its day the slice reaches; None where it was never written."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT reaches_to FROM ops.slices WHERE table_name = %s AND slice_day = %s", (table.name, day)
        ).fetchone()
    return row[0] if row else None


def disagreements(database: Database) -> list[str]:
    """A sentence for each slice that holds another number of rows than the ledger says, oldest first."""
    sentences: list[tuple[date, str]] = []
    with database.connect() as connection:
        for table in TABLES:
            query = sql.SQL(
                """
                SELECT coalesce(l.slice_day, h.day), coalesce(l.row_count, 0), coalesce(h.rows, 0)
                FROM (SELECT slice_day, row_count FROM ops.slices WHERE table_name = {name}) l
                FULL JOIN (SELECT {day} AS day, count(*) AS rows FROM {table} t GROUP BY 1) h ON h.day = l.slice_day
                WHERE coalesce(l.row_count, 0) <> coalesce(h.rows, 0) ORDER BY 1"""
            ).format(name=table.name, day=composed.day_of(table, "t"), table=composed.qualified(table.name))
            for day, promised, held in connection.execute(query).fetchall():
                sentences.append(
                    (day, f"{table.name} on {day}: the ledger says {promised} rows, the table holds {held}")
                )
    return [sentence for _, sentence in sorted(sentences)]


def damaged(database: Database, tables: Sequence[Table] = TABLES) -> list[str]:
    """A sentence for each slice whose rows are not, bit for bit, those that its ledger row was written with. Reads every row."""
    sentences: list[tuple[date, str]] = []
    with database.connect() as connection:
        for table in tables:
            recorded = connection.execute(
                "SELECT slice_day, row_count, content_hash FROM ops.slices WHERE table_name = %s ORDER BY slice_day",
                (table.name,),
            ).fetchall()
            days = [day for day, _, _ in recorded]
            held = merge.contents(connection, table, composed.qualified(table.name), days) if days else {}
            for day, rows, content_hash in recorded:
                found = held[day]
                if (found.rows, found.content_hash) != (rows, content_hash):
                    sentences.append(
                        (
                            day,
                            f"{table.name} on {day}: the ledger says {rows} rows of {content_hash[:12]}…, the table holds {found.rows} of {found.content_hash[:12]}…",
                        )
                    )
    return [sentence for _, sentence in sorted(sentences)]
