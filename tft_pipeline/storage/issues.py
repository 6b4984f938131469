"""What `forecasts.issues` asks of the database: when its inputs were learned, what had been issued by a moment, what has come since."""

from collections.abc import Sequence
from datetime import datetime

import pandas as pd
from psycopg import sql
from psycopg.sql import Identifier, Literal

from tft_pipeline.contracts import ISSUES
from tft_pipeline.schema import UTC, Table
from tft_pipeline.storage import composed
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.read import read


def moments_learned(
    database: Database, table: Table, start: datetime | None, end: datetime, *, known_by: datetime
) -> pd.DataFrame:
    """at, learned: the distinct moments <= known_by at which a version of a raw table's rows of start <= at < end came to hold.

    learned is a version's known_at, or when it took another's place, where its source claimed no later known_at.
    """
    query = sql.SQL("""
        SELECT DISTINCT at, learned FROM (
            SELECT t.{time} AS at, t.known_at AS learned FROM {table} AS t
            UNION ALL SELECT t.{time}, t.known_at FROM {revisions} AS t
            UNION ALL SELECT t.{time}, t.replaced_at FROM {revisions} AS t) AS r
        WHERE r.at < {end} AND r.at >= {start} AND r.learned <= {known_by} ORDER BY 1, 2""").format(
        time=Identifier(table.time), table=composed.qualified(table.name), revisions=composed.qualified(f"{table.name}_revisions"),
        start=Literal(start) if start is not None else sql.SQL("'-infinity'::timestamptz"), end=Literal(end), known_by=Literal(known_by),
    )  # fmt: skip
    with database.connect() as connection:
        rows = connection.execute(query).fetchall()
    return pd.DataFrame(rows, columns=["at", "learned"]).astype({"at": UTC, "learned": UTC})


def newest_issues(database: Database, as_of: datetime) -> pd.DataFrame:
    """ISSUES of the newest issued_at that was known at a moment, of each model that spoke then, as they were; empty where none was."""
    query = sql.SQL("""
        SELECT max(r.issued_at) FROM (
            SELECT issued_at, known_at FROM {table} UNION ALL SELECT issued_at, known_at FROM {revisions}) AS r
        WHERE r.known_at <= {as_of} AND r.issued_at <= {as_of}""").format(
        table=composed.qualified(ISSUES.name), revisions=composed.qualified(f"{ISSUES.name}_revisions"), as_of=Literal(as_of)
    )  # fmt: skip
    with database.connect() as connection:
        row = connection.execute(query).fetchone()
    if row is None or row[0] is None:
        return ISSUES.empty()
    return read(database, ISSUES, as_of=as_of, where={"issued_at": row[0]})


def first_known(database: Database) -> datetime | None:
    """When the first issue of all was known; None where nothing was ever issued."""
    query = sql.SQL(
        "SELECT min(known_at) FROM (SELECT known_at FROM {} UNION ALL SELECT known_at FROM {}) AS r"
    ).format(composed.qualified(ISSUES.name), composed.qualified(f"{ISSUES.name}_revisions"))
    with database.connect() as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def arrived_since(
    database: Database, tables: Sequence[Table], *, before: datetime, known_at: datetime
) -> dict[str, int]:
    """{schema.table: rows of moments before `before` that came, or were replaced, after known_at}: what a replay must not see."""
    found = {}
    with database.connect() as connection:
        for table in tables:
            query = sql.SQL("""
                SELECT count(*) FROM (
                    SELECT {key} FROM {table} AS t WHERE t.{time} < {before} AND t.known_at > {known_at}
                    UNION SELECT {key} FROM {revisions} AS t WHERE t.{time} < {before} AND t.replaced_at > {known_at}) AS r""").format(
                key=composed.listed(table.key, "t"), table=composed.qualified(table.name), time=Identifier(table.time),
                revisions=composed.qualified(f"{table.name}_revisions"), before=Literal(before), known_at=Literal(known_at),
            )  # fmt: skip
            row = connection.execute(query).fetchone()
            found[table.name] = int(row[0]) if row else 0
    return found
