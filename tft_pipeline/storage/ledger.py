"""What the ledger knows: which slices there are, how far they reach, how many rows lie where."""

from datetime import datetime

import pandas as pd
from psycopg import sql

from tft_pipeline.contracts import TABLES
from tft_pipeline.schema import UTC, Table
from tft_pipeline.storage import composed
from tft_pipeline.storage.database import Database

_DTYPES = {
    "day": "object", "row_count": "int64", "content_hash": "str", "reaches_to": UTC, "written_rows": "int64", "generation": "int64",
    "run_id": "str", "code_version": "str", "committed_at": UTC,
}  # fmt: skip


def slice_status(database: Database, table: Table) -> pd.DataFrame:
    """A row for each slice that was ever written, by day: day (date), row_count, content_hash, reaches_to, written_rows, generation,
    run_id, code_version, committed_at. A day that is absent was never written."""
    with database.connect() as connection:
        rows = connection.execute(
            """
            SELECT slice_day, row_count, content_hash, reaches_to, written_rows, generation, run_id, code_version, committed_at
            FROM ops.slices WHERE table_name = %s ORDER BY slice_day""",
            (table.name,),
        ).fetchall()
    return pd.DataFrame(rows, columns=list(_DTYPES)).astype(_DTYPES)


def row_counts(database: Database) -> dict[str, int]:
    """{schema.table: rows} of every table of the contract, counted."""
    counts = (
        sql.SQL("SELECT {}, count(*) FROM {}").format(sql.Literal(table.name), composed.qualified(table.name))
        for table in TABLES
    )
    with database.connect() as connection:
        found = dict(connection.execute(sql.SQL(" UNION ALL ").join(counts)).fetchall())
    return {table.name: int(found[table.name]) for table in TABLES}  # in flow order


def newest(database: Database, table: Table) -> datetime | None:
    """The latest time in the table, by its time column; None when it is empty."""
    query = sql.SQL("SELECT max({}) FROM {}").format(sql.Identifier(table.time), composed.qualified(table.name))
    with database.connect() as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def held_by_ticker(database: Database, table: Table) -> dict[str, tuple[int, datetime, datetime]]:
    """{ticker: (rows, first time, last time)} of a table that has tickers, by its time column."""
    query = sql.SQL("SELECT ticker, count(*), min({time}), max({time}) FROM {table} GROUP BY ticker").format(
        time=sql.Identifier(table.time), table=composed.qualified(table.name)
    )
    with database.connect() as connection:
        rows = connection.execute(query).fetchall()
    return {str(ticker): (int(count), first, last) for ticker, count, first, last in rows}
