"""Months past retention: detached from their tables, moved to the schema `retired`, and out of the ledger in the same step. Never dropped.

What belongs here: taking months out. What does not: when it is done, and what else upkeep does.

Detaching CONCURRENTLY cannot share a transaction with anything. So it comes first; moving the table, its record in ops.retired and the
ledger's rows follow in one transaction. A process that dies in between leaves a partition half detached, or a table that is a partition
of nothing: both are found by what the catalog says, not by what was planned, and finished by the next call.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from tft_pipeline.contracts import EQUITY, MODELS, POSITIONS, TABLES, TRADES
from tft_pipeline.crash_points import reached
from tft_pipeline.schema import Table
from tft_pipeline.storage import partitions
from tft_pipeline.storage.database import Database

# Models: a forecast that is kept names the model that made it. The portfolio: each mark stands on the one before it and is measured by
# the highest of all; a ledger that began in its middle would begin again with the opening cash.
EXEMPT: frozenset[Table] = frozenset({MODELS, TRADES, POSITIONS, EQUITY})

_MONTH_IN_NAME = r"_(?:p)?(\d{4})_?(\d{2})(?:\d{2})?$"  # ours: bars_2019_01; pg_partman's: bars_p20190101


@dataclass(frozen=True)
class Partition:
    """A month of a table. detaching: a DETACH CONCURRENTLY began and did not end."""

    table: str  # schema.table
    name: str  # schema.partition
    month: date
    upper: date  # first day that it does not hold
    detaching: bool


@dataclass(frozen=True)
class Retired:
    """A month that left its table."""

    table: str
    month: date
    kept_as: str
    rows: int
    slices: int  # rows that left the ledger with it


def names() -> list[str]:
    """The partitioned tables that retention applies to, downstream first: nothing stays without what it was made from for longer."""
    kept = [name for table in reversed(TABLES) if table not in EXEMPT for name in partitions.of_table(table)]
    return [*kept, "ops.quarantine"]


def limit(database: Database, years: int, *, today: date) -> date | None:
    """The first day that is kept; None where there are no rows yet.

    Counted back from the newest day of which the ledger holds rows, not from today: a history that ended long ago would all be past it.
    """
    with database.connect() as connection:
        row = connection.execute(
            "SELECT (max(least(slice_day, %s)) - make_interval(years => %s))::date FROM ops.slices WHERE row_count > 0",
            (today, years),
        ).fetchone()
    return row[0] if row else None


def listed(database: Database, tables: Iterable[str] | None = None) -> list[Partition]:
    """Every partition of these tables (None: all that retention applies to), oldest first within its table."""
    with database.connect() as connection:
        return _listed(connection, list(tables) if tables is not None else names())


def overdue(database: Database, before: date) -> list[Partition]:
    """Partitions that end at or before a day, and are still there."""
    return [part for part in listed(database) if part.upper <= before]


def loose(database: Database) -> list[str]:
    """Tables that were a month of one of ours and are it no longer, but lie where they lay: retirements that were interrupted."""
    with database.connect() as connection:
        return [name for name, _, _ in _loose(connection)]


def retired_days(database: Database, table: Table) -> set[date]:
    """Days whose rows, and ledger rows, were retired and have not come back: they are not missing."""
    with database.connect() as connection:
        rows = connection.execute(
            """
            SELECT DISTINCT (entry->>'slice_day')::date AS day FROM ops.retired r CROSS JOIN jsonb_array_elements(r.ledger) AS entry
            WHERE r.table_name = %(table)s AND NOT EXISTS (
                SELECT FROM ops.slices s WHERE s.table_name = %(table)s AND s.slice_day = (entry->>'slice_day')::date)""",
            {"table": table.name},
        ).fetchall()
    return {day for (day,) in rows}


def retire(database: Database, *, before: date) -> list[Retired]:
    """Retire every month that ends at or before a day, and finish what an earlier call, or pg_partman, has begun; what was done.

    Takes no lock that readers or writers of other months wait for. Needs the tables' owner. A second call at the same time waits.
    Raises StorageError: somebody held a table for longer than the lock timeout (the next call goes on from there), or is not the owner.
    """
    with database.connect(autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtextextended('tft-pipeline retention', 0))")
        for part in _listed(connection, names()):
            if part.detaching:
                _detach(connection, part, "FINALIZE")
            elif part.upper <= before:
                _detach(connection, part, "CONCURRENTLY")
        return [_file_away(connection, *found) for found in _loose(connection)]


def finish(database: Database) -> list[Retired]:
    """Only what an earlier call, or pg_partman, has begun."""
    return retire(database, before=date.min)


def _detach(connection: psycopg.Connection[TupleRow], part: Partition, how: str) -> None:
    reached("upkeep: before a detach")
    connection.execute(
        sql.SQL("ALTER TABLE {} DETACH PARTITION {} {}").format(
            sql.Identifier(*part.table.split(".")), sql.Identifier(*part.name.split(".", 1)), sql.SQL(how)
        )
    )
    reached("upkeep: detached")


def _file_away(connection: psycopg.Connection[TupleRow], name: str, table: str, month: date) -> Retired:
    """Move a detached table, take its days out of the ledger, and write down both: all or nothing."""
    with connection.transaction():
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(_quoted(name))).fetchone()
        rows = int(row[0]) if row else 0
        gone = connection.execute(
            """
            DELETE FROM ops.slices AS s WHERE table_name = %s AND slice_day >= %s AND slice_day < %s
            RETURNING slice_day, to_jsonb(s)""",
            (table, month, partitions.following(month)),
        ).fetchall()
        reached("upkeep: out of the ledger")
        kept_as = _free_name(connection, f"{table.replace('.', '_')}_{month:%Y_%m}")
        _rename(connection, name, kept_as)
        reached("upkeep: moved")
        ledger = [entry for _, entry in sorted(gone, key=lambda found: found[0])]
        connection.execute(
            "INSERT INTO ops.retired (kept_as, table_name, month, row_count, ledger) VALUES (%s, %s, %s, %s, %s)",
            (f"retired.{kept_as}", table, month, rows, Jsonb(ledger)),
        )
        reached("upkeep: recorded")
    reached("upkeep: filed away")
    return Retired(table, month, f"retired.{kept_as}", rows, len(ledger))


def _rename(connection: psycopg.Connection[TupleRow], name: str, kept_as: str) -> None:
    """Into the schema retired, under a name that says which table it was; its indexes go along, and theirs must be free there, too."""
    indexes = connection.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass ORDER BY 1", (name,)
    ).fetchall()
    for number, (index,) in enumerate(indexes, start=1):
        connection.execute(
            sql.SQL("ALTER INDEX {} RENAME TO {}").format(sql.SQL(index), sql.Identifier(f"{kept_as}_index_{number}"))
        )
    schema = name.split(".", 1)[0]
    if name != f"{schema}.{kept_as}":
        connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(_quoted(name), sql.Identifier(kept_as)))
    connection.execute(sql.SQL("ALTER TABLE {} SET SCHEMA retired").format(sql.Identifier(schema, kept_as)))
    if connection.execute("SELECT to_regrole('tft_reader')").fetchone() != (None,):
        connection.execute(sql.SQL("GRANT SELECT ON {} TO tft_reader").format(sql.Identifier("retired", kept_as)))


def _free_name(connection: psycopg.Connection[TupleRow], wanted: str) -> str:
    """wanted, or wanted_2 …: a month that was loaded again after it was retired is retired again beside its first."""
    taken = {
        str(name)
        for (name,) in connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'retired'::regnamespace AND starts_with(relname, %s)",
            (wanted,),
        ).fetchall()
    }
    number = 1
    while (name := wanted if number == 1 else f"{wanted}_{number}") in taken:
        number += 1
    return name


def _listed(connection: psycopg.Connection[TupleRow], tables: list[str]) -> list[Partition]:
    # Bounds read as text, in the connection's UTC: FOR VALUES FROM ('2019-01-01 00:00:00+00') TO ('2019-02-01 00:00:00+00').
    rows = connection.execute(
        r"""
        SELECT w.name, n.nspname || '.' || c.relname, bounds[1]::date, bounds[2]::date, i.inhdetachpending
        FROM unnest(%s::text[]) WITH ORDINALITY AS w (name, place)
        JOIN pg_class p ON p.oid = w.name::regclass JOIN pg_inherits i ON i.inhparent = p.oid
        JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(\d{4}-\d\d-\d\d).*TO \(''(\d{4}-\d\d-\d\d)') AS bounds
        WHERE bounds IS NOT NULL ORDER BY w.place, bounds[1]""",
        (tables,),
    ).fetchall()
    return [Partition(*row) for row in rows]


def _loose(connection: psycopg.Connection[TupleRow]) -> list[tuple[str, str, date]]:
    """(name, table, month) of detached tables beside their former parents, downstream first, oldest first."""
    rows = connection.execute(
        """
        SELECT n.nspname || '.' || c.relname, w.name, regexp_match(substr(c.relname, length(split_part(w.name, '.', 2)) + 1), %(month)s)
        FROM unnest(%(names)s::text[]) WITH ORDINALITY AS w (name, place)
        JOIN pg_class c ON c.relnamespace = split_part(w.name, '.', 1)::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
            AND c.relname ~ ('^' || split_part(w.name, '.', 2) || %(month)s)
        JOIN pg_namespace n ON n.oid = c.relnamespace
        ORDER BY w.place, c.relname""",
        {"names": names(), "month": _MONTH_IN_NAME},
    ).fetchall()
    return [(name, table, date(int(found[0]), int(found[1]), 1)) for name, table, found in rows]


def _quoted(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))
