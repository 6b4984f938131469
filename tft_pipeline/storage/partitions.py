"""Monthly partitions, in UTC, made ahead of the rows by one function under one lock."""

from collections.abc import Iterable, Mapping
from datetime import date

import psycopg
from psycopg.rows import TupleRow

from tft_pipeline.schema import Table
from tft_pipeline.storage.database import Database


def ensure(database: Database, names: Iterable[str], days: Iterable[date]) -> list[str]:
    """Make sure that each `schema.table` of names has the partitions of the months in which days lie.

    Returns the partitions made now, sorted. Any number of processes may call it at once: `ops.make_partition` makes them one after
    another under one lock, built beside their table and attached (`PARTITION OF` would lock out every reader, and fails with 42P07 when
    two try). There is no DEFAULT partition, for it would make new bounds fail (23514).
    Raises ValueError: a name that is no partitioned table; StorageError.
    """
    wanted = _wanted(names, days)
    if not wanted:
        return []
    with database.connect() as connection:
        return _ensure(connection, wanted)


def ensure_within(connection: psycopg.Connection[TupleRow], names: Iterable[str], days: Iterable[date]) -> list[str]:
    """As ensure, in the caller's transaction: others that make partitions wait for its end, so it has to be near."""
    return _ensure(connection, _wanted(names, days))


def of_table(table: Table) -> list[str]:
    """The partitioned tables that hold a contract's rows."""
    return [table.name, f"{table.name}_revisions"] if table.mode == "raw" else [table.name]


def following(month: date) -> date:
    """First day of the next month."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _wanted(names: Iterable[str], days: Iterable[date]) -> dict[str, tuple[str, date]]:
    months = sorted({day.replace(day=1) for day in days})
    return {_child(name, month): (name, month) for name in names for month in months}


def _ensure(connection: psycopg.Connection[TupleRow], wanted: Mapping[str, tuple[str, date]]) -> list[str]:
    made = []
    for child in _missing(connection, wanted):
        name, month = wanted[child]
        try:
            # The function's owner is the tables': whoever writes needs no right to alter them (docs/decisions/0008).
            row = connection.execute("SELECT ops.make_partition(%s, %s, %s)", (*name.split("."), month)).fetchone()
        except psycopg.errors.WrongObjectType:
            raise ValueError(f"{name} is not partitioned") from None
        if row is not None and row[0] is not None:  # else another process made it while we waited for the lock
            made.append(child)
    return made


def _child(name: str, month: date) -> str:
    return f"{name}_{month:%Y_%m}"


def _missing(connection: psycopg.Connection[TupleRow], wanted: Iterable[str]) -> list[str]:
    # Not to_regclass: it answers from a cache that may not know yet what others have committed.
    query = """
        SELECT name FROM unnest(%s::text[]) AS name WHERE NOT EXISTS (
            SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname || '.' || c.relname = name)
        ORDER BY name"""
    return [name for (name,) in connection.execute(query, (list(wanted),)).fetchall()]
