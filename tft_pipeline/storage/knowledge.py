"""When raw rows became known: the days on which something was learned about an earlier day, and what was known of it first."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pandas as pd
from psycopg import sql
from psycopg.sql import Identifier, Literal

from tft_pipeline.schema import Table
from tft_pipeline.storage import binary, composed
from tft_pipeline.storage.database import Database


def days_of_news(
    database: Database, tables: Sequence[Table], *, since: datetime, start: datetime, end: datetime, delay: timedelta
) -> list[date]:
    """The days D with start < D < end at whose end rows of earlier days were known otherwise than at the end of the day before.

    tables: raw ones. since: rows from then on count. delay: what came so long after a day's end still was known at it, see BarSource.
    Between two such days, reading as of the later gives what each of the days in between knew.
    """
    found: set[date] = set()
    with database.connect() as connection:
        for table in tables:
            query = sql.SQL("""
                SELECT DISTINCT (r.learned AT TIME ZONE 'UTC')::date FROM (
                    SELECT t.{time} AS at, t.known_at - {past} AS learned FROM {table} AS t WHERE t.known_at > {start}
                    UNION ALL SELECT t.{time}, t.known_at - {past} FROM {revisions} AS t WHERE t.known_at > {start}
                    UNION ALL SELECT t.{time}, t.replaced_at - {past} FROM {revisions} AS t WHERE t.replaced_at > {start}) AS r
                WHERE r.at >= {since} AND r.at < {end} AND r.learned < {end}
                AND (r.learned AT TIME ZONE 'UTC')::date > (r.at AT TIME ZONE 'UTC')::date""").format(
                time=Identifier(table.time), table=composed.qualified(table.name), revisions=composed.qualified(f"{table.name}_revisions"),
                # A microsecond less: what is known at midnight sharp was known at the day's end.
                past=Literal(delay + timedelta(microseconds=1)), start=Literal(start), since=Literal(since), end=Literal(end),
            )  # fmt: skip
            found |= {day for (day,) in connection.execute(query).fetchall()}
    first, last = start.astimezone(UTC).date(), (end - timedelta(microseconds=1)).astimezone(UTC).date()
    return sorted(day for day in found if first < day <= last)


def first_versions(
    database: Database, table: Table, start: datetime, end: datetime, *, known_by: datetime
) -> pd.DataFrame:
    """Rows of a raw table with start <= time < end as each was first known, if it was by then; whatever was edited or withdrawn later."""
    columns = binary.order(table.columns)
    fields = sql.SQL(", ").join(sql.SQL("r.{}::{}").format(Identifier(c.name), composed.type_of(c)) for c in columns)
    stored = composed.listed([*table.names, "loaded_at"], "t")
    query = sql.SQL("""
        SELECT {fields} FROM (
            SELECT DISTINCT ON ({key}) t.* FROM (
                SELECT {stored} FROM {table} AS t UNION ALL SELECT {stored} FROM {revisions} AS t) AS t
            WHERE t.{time} >= {start} AND t.{time} < {end} AND t.known_at <= {known_by}
            ORDER BY {key}, t.known_at, t.loaded_at) AS r""").format(
        fields=fields, key=composed.listed(table.key, "t"), stored=stored, table=composed.qualified(table.name),
        revisions=composed.qualified(f"{table.name}_revisions"), time=Identifier(table.time), start=Literal(start), end=Literal(end),
        known_by=Literal(known_by),
    )  # fmt: skip
    copied = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query)
    with database.connect() as connection, connection.cursor() as cursor, cursor.copy(copied) as copy:
        rows = [bytes(row) for row in copy]
    frame = binary.decode(rows, columns)
    return frame.sort_values(list(table.key), kind="stable", ignore_index=True)[table.names]
