"""Monthly partitions, in UTC, made ahead of the rows by one function under one lock."""

from collections.abc import Iterable, Mapping
from datetime import date

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tft_pipeline.schema import Table
from tft_pipeline.storage.database import Database

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('tft-pipeline partitions', 0))"


def ensure(database: Database, names: Iterable[str], days: Iterable[date]) -> list[str]:
    """Make sure that each `schema.table` of names has the partitions of the months in which days lie.

    Returns the partitions made now, sorted. Any number of processes may call it at once. A new partition is built beside its table
    and attached: `PARTITION OF` would lock out every reader, and fails when two try (42P07). There is no DEFAULT partition, for it
    would make new bounds fail (23514).
    """
    months = sorted({day.replace(day=1) for day in days})
    wanted = {_child(name, month): (name, month) for name in names for month in months}
    if not wanted:
        return []
    with database.connect() as connection:
        return _ensure(connection, wanted)


def of_table(table: Table) -> list[str]:
    """The partitioned tables that hold a contract's rows."""
    return [table.name, f"{table.name}_revisions"] if table.mode == "raw" else [table.name]


def following(month: date) -> date:
    """First day of the next month."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _ensure(connection: psycopg.Connection[TupleRow], wanted: Mapping[str, tuple[str, date]]) -> list[str]:
    if not _missing(connection, wanted):
        return []
    connection.execute(_LOCK)
    made = _missing(connection, wanted)  # asked again: another process may have made them while we waited
    keys = {name: _partition_key(connection, name) for name in {wanted[child][0] for child in made}}
    for child in made:
        name, month = wanted[child]
        _attach(connection, name, child, keys[name], month)
    return made


def _child(name: str, month: date) -> str:
    return f"{name}_{month:%Y_%m}"


def _missing(connection: psycopg.Connection[TupleRow], wanted: Iterable[str]) -> list[str]:
    # Not to_regclass: it answers from a cache that may not know yet what was committed while we waited for the lock.
    query = """
        SELECT name FROM unnest(%s::text[]) AS name WHERE NOT EXISTS (
            SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = name)
        ORDER BY name"""
    return [name for (name,) in connection.execute(query, (list(wanted),)).fetchall()]


def _partition_key(connection: psycopg.Connection[TupleRow], name: str) -> str:
    query = """
        SELECT a.attname FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
        WHERE p.partrelid = %s::regclass"""
    row = connection.execute(query, (name,)).fetchone()
    if row is None:
        raise ValueError(f"{name} is not partitioned")
    return str(row[0])


def _attach(connection: psycopg.Connection[TupleRow], name: str, child: str, key: str, month: date) -> None:
    # The offset is spelled out: a bound without one would shift with the session's time zone. A date takes its date part.
    low, high = (sql.Literal(f"{day:%Y-%m-%d} 00:00:00+00") for day in (month, following(month)))
    parts = {
        "parent": sql.Identifier(*name.split(".")),
        "child": sql.Identifier(*child.split(".")),
        "key": sql.Identifier(key),
        "low": low,
        "high": high,
    }
    statements = (
        # The CHECK spares ATTACH its scan under lock. Comments stay with the table.
        "CREATE TABLE {child} (LIKE {parent} INCLUDING ALL EXCLUDING COMMENTS, CHECK ({key} >= {low} AND {key} < {high}))",
        "ALTER TABLE {parent} ATTACH PARTITION {child} FOR VALUES FROM ({low}) TO ({high})",
    )
    for statement in statements:
        connection.execute(sql.SQL(statement).format(**parts))
