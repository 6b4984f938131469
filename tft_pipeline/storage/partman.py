"""pg_partman, where it is installed: it makes months ahead and takes old ones out, instead of this package.

Written for the interface of pg_partman 5 as its source and documentation have it: `create_parent`, `part_config`, `run_maintenance_proc`.
NOT tried with the extension itself: the embedded server brings none, and Debian 12 packages 4.7, too old for this interface. The tests
install an extension of that name whose functions record how they are called, and really make and detach partitions as pg_partman names them.

It differs from our own upkeep in three things. Its months are called bars_p20190101, not bars_2019_01: `ops.make_partition` therefore
looks at bounds, too. It detaches without CONCURRENTLY, so readers of that table wait for a moment. And it knows no ledger: what it has
detached keeps its rows in ops.slices, and `doctor` says so, until upkeep has filed it away. It should run in UTC wherever else it is run,
or its months begin at the server's midnight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tft_pipeline.errors import StorageError
from tft_pipeline.storage import partitions, retention
from tft_pipeline.storage.database import Database

MINIMUM_VERSION = 5  # 4 takes other arguments, and inherits by triggers


@dataclass(frozen=True)
class Extension:
    schema: str
    version: str


def installed(database: Database) -> Extension | None:
    """Where pg_partman lies in this database; None where it does not. Raises StorageError: it is too old to be used."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT n.nspname, e.extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_partman'"
        ).fetchone()
    if row is None:
        return None
    extension = Extension(*row)
    if int(extension.version.split(".")[0]) < MINIMUM_VERSION:
        raise StorageError(
            f"{database.shown}: pg_partman {extension.version} is too old; install {MINIMUM_VERSION} or newer (ALTER EXTENSION pg_partman UPDATE), "
            "or drop the extension and upkeep makes and retires months itself."
        )
    return extension


def maintain(
    database: Database, extension: Extension, tables: Sequence[str], *, months: int, before: date | None
) -> list[str]:
    """Register tables that are not yet, set premake and retention, and let pg_partman do its round; the partitions that are new.

    before: months that end by then are to be taken out; None: none are. pg_partman counts back from now, so it is told the days between.
    Tables exempt from retention are only made ahead.
    """
    there = {part.name for part in retention.listed(database, tables)}
    days = None if before is None else max((datetime.now(UTC).date() - before).days, 1)
    kept = set(retention.names())
    with database.connect(autocommit=True) as connection:
        for table in tables:
            _register(connection, extension, table, months)
            _configure(connection, extension, table, months, days if table in kept else None)
        connection.execute(sql.SQL("CALL {}()").format(sql.Identifier(extension.schema, "run_maintenance_proc")))
    return sorted({part.name for part in retention.listed(database, tables)} - there)


def _register(connection: psycopg.Connection[TupleRow], extension: Extension, table: str, months: int) -> None:
    config = sql.Identifier(extension.schema, "part_config")
    known = sql.SQL("SELECT FROM {} WHERE parent_table = %s").format(config)
    if connection.execute(known, (table,)).fetchone() is not None:
        return
    row = connection.execute(
        """
        SELECT a.attname, (SELECT max((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''(\\d{4}-\\d\\d-\\d\\d)'))[1]::date)
                           FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = p.partrelid)
        FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
        WHERE p.partrelid = %s::regclass""",
        (table,),
    ).fetchone()
    if row is None:
        raise StorageError(f"{table} is not partitioned; run `tft-pipeline migrate`.")
    key, newest = row
    # It makes partitions from p_start_partition on, and would collide with months that are there under our names.
    start = partitions.following(newest) if newest else datetime.now(UTC).date().replace(day=1)
    connection.execute(
        sql.SQL(
            "SELECT {}(p_parent_table => %s, p_control => %s, p_interval => '1 month', p_premake => %s, p_start_partition => %s, "
            "p_default_table => false, p_template_table => 'false', p_jobmon => false)"
        ).format(sql.Identifier(extension.schema, "create_parent")),
        (table, key, max(months, 1), f"{start} 00:00:00+00"),
    )


def _configure(
    connection: psycopg.Connection[TupleRow], extension: Extension, table: str, months: int, days: int | None
) -> None:
    """Detached months stay, with their indexes, where they are: upkeep files them away together with their ledger rows."""
    connection.execute(
        sql.SQL(
            "UPDATE {} SET premake = %s, retention = %s, retention_keep_table = true, retention_keep_index = true, retention_schema = NULL, "
            "infinite_time_partitions = true WHERE parent_table = %s"
        ).format(sql.Identifier(extension.schema, "part_config")),
        (max(months, 1), None if days is None else f"{days} days", table),
    )
