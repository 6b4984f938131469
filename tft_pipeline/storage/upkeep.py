"""What PostgreSQL's tables need from time to time: months made ahead, old ones retired, fresh statistics; and figures of how they are.

What belongs here: one round of upkeep, and its figures. How months are retired: retention. Where pg_partman is installed: partman.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tft_pipeline.contracts import TABLES
from tft_pipeline.storage import partitions, partman, retention
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.retention import Retired
from tft_pipeline.storage.roles import SCHEMAS

# Autovacuum never looks at a partitioned table as a whole, and before 18 doing so reads every partition again.
_PARENT_DAYS = 7

_OURS = sql.SQL("""ours AS (
    SELECT c.oid, n.nspname || '.' || c.relname AS name, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition)""")


@dataclass(frozen=True)
class Figures:
    """How a table is, its partitions summed up; from the pg_stat views, so estimates that lag by a moment."""

    table: str
    partitions: int  # 0: not partitioned, or none yet
    live_rows: int
    dead_rows: int  # replaced or deleted, and not yet vacuumed: bloat
    table_bytes: int
    index_bytes: int
    unused_indexes: tuple[str, ...]  # of rows, never scanned since statistics began, and holding up no key
    unused_index_bytes: int
    analyzed_at: datetime | None  # newest of its partitions

    @property
    def dead_share(self) -> float:
        return self.dead_rows / max(self.dead_rows + self.live_rows, 1)


@dataclass(frozen=True)
class Round:
    """What one round of upkeep did."""

    by: str  # who makes and retires months: tft-pipeline, or pg_partman and its version
    made: Sequence[str] = ()
    before: date | None = None  # months that end by then are retired; None: none are
    retired: Sequence[Retired] = ()
    handed_over: int = 0  # partitions that a migration left with another owner than their table's
    analyzed: Sequence[str] = ()
    figures: Sequence[Figures] = field(default_factory=tuple)


def partitioned() -> list[str]:
    """Every partitioned table there is by contract, and the quarantine."""
    return [name for table in TABLES for name in partitions.of_table(table)] + ["ops.quarantine"]


def ensure_ahead(database: Database, first: date, *, months: int = 3) -> list[str]:
    """Partitions of the month of first and of so many months after it; the names of those made now."""
    wanted = [first.replace(day=1)]
    for _ in range(months):
        wanted.append(partitions.following(wanted[-1]))
    return partitions.ensure(database, partitioned(), wanted)


def upkeep(database: Database, *, first: date, months: int, before: date | None) -> Round:
    """One round: months ahead, retention, owners, statistics, figures. Doing it again changes nothing.

    first: the day from which on months are made, so many ahead. before: months that end by then are retired; None: none are.
    Raises StorageError: not the tables' owner, or somebody held a table for longer than the lock timeout.
    """
    extension = partman.installed(database)
    handed_over = _hand_over(database)
    if extension is None:
        made: Sequence[str] = ensure_ahead(database, first, months=months)
    else:
        made = partman.maintain(database, extension, partitioned(), months=months, before=before)
    # What pg_partman has detached still lies beside its table, and its days in the ledger.
    own = before if extension is None and before is not None else date.min
    retired = retention.retire(database, before=own)
    return Round(
        by=f"pg_partman {extension.version}" if extension else "tft-pipeline",
        made=made,
        before=before,
        retired=retired,
        handed_over=handed_over,
        analyzed=analyze(database),
        figures=figures(database),
    )


def analyze(database: Database) -> list[str]:
    """Fresh statistics for every table that changed since its last, and once a week for partitioned ones as a whole; which."""
    with database.connect(autocommit=True) as connection:
        only = sql.SQL("ONLY " if connection.info.server_version >= 180_000 else "")
        leaves = connection.execute(
            """
            SELECT n.nspname, c.relname FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = ANY(%s) AND c.relkind = 'r' AND s.n_mod_since_analyze > 0 AND pg_has_role(current_user, c.relowner, 'USAGE')
            ORDER BY 1, 2""",
            (list(SCHEMAS),),
        ).fetchall()
        parents = connection.execute(
            """
            SELECT DISTINCT n.nspname, p.relname FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent AND p.relkind = 'p'
            JOIN pg_namespace n ON n.oid = p.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = p.oid
            LEFT JOIN pg_stat_all_tables part ON part.relid = i.inhrelid
            WHERE n.nspname = ANY(%s) AND pg_has_role(current_user, p.relowner, 'USAGE') AND part.n_live_tup > 0
              AND coalesce(s.last_analyze < now() - make_interval(days => %s), true)
            ORDER BY 1, 2""",
            (list(SCHEMAS), _PARENT_DAYS),
        ).fetchall()
        for name in leaves:
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*name)))
        for name in parents:
            connection.execute(sql.SQL("ANALYZE {}{}").format(only, sql.Identifier(*name)))
    return [".".join(name) for name in (*leaves, *parents)]


def figures(database: Database) -> list[Figures]:
    """Of every table of ours, by name. Anybody who may connect may ask."""
    with database.connect() as connection:
        rows = connection.execute(
            sql.SQL("""
            WITH {ours}
            SELECT o.name, count(i.inhrelid), coalesce(sum(s.n_live_tup), 0), coalesce(sum(s.n_dead_tup), 0), coalesce(sum(pg_table_size(s.relid)), 0),
                   coalesce(sum(pg_indexes_size(s.relid)), 0), max(greatest(s.last_analyze, s.last_autoanalyze))
            FROM ours o LEFT JOIN pg_inherits i ON i.inhparent = o.oid
            LEFT JOIN pg_stat_all_tables s ON s.relid = CASE WHEN o.relkind = 'p' THEN i.inhrelid ELSE o.oid END
            GROUP BY o.name ORDER BY o.name""").format(ours=_OURS),
            (list(SCHEMAS),),
        ).fetchall()
        unused = _unused(connection)
    return [
        Figures(
            table=name, partitions=parts, live_rows=int(live), dead_rows=int(dead), table_bytes=int(size), index_bytes=int(indexes),
            unused_indexes=tuple(index for index, _ in unused.get(name, [])),
            unused_index_bytes=sum(size for _, size in unused.get(name, [])), analyzed_at=analyzed,
        )
        for name, parts, live, dead, size, indexes, analyzed in rows
    ]  # fmt: skip


def _unused(connection: psycopg.Connection[TupleRow]) -> dict[str, list[tuple[str, int]]]:
    """{table: [(index, bytes)]} of indexes of tables with rows that no query has used, summed over partitions."""
    rows = connection.execute(
        sql.SQL("""
            WITH {ours}
        SELECT o.name, root.relname, sum(pg_relation_size(s.indexrelid))
        FROM ours o JOIN pg_index x ON x.indrelid = o.oid AND NOT x.indisunique JOIN pg_class root ON root.oid = x.indexrelid
        LEFT JOIN pg_inherits i ON i.inhparent = x.indexrelid
        JOIN pg_stat_all_indexes s ON s.indexrelid = CASE WHEN o.relkind = 'p' THEN i.inhrelid ELSE x.indexrelid END
        JOIN pg_stat_all_tables t ON t.relid = s.relid
        GROUP BY o.name, root.relname HAVING sum(s.idx_scan) = 0 AND sum(t.n_live_tup) > 0 ORDER BY o.name, root.relname""").format(
            ours=_OURS
        ),
        (list(SCHEMAS),),
    ).fetchall()
    found: dict[str, list[tuple[str, int]]] = {}
    for table, index, size in rows:
        found.setdefault(table, []).append((index, int(size)))
    return found


def _hand_over(database: Database) -> int:
    """Give partitions from before the roles to their table's owner, each by itself: one transaction would need thousands of locks."""
    with database.connect(autocommit=True) as connection:
        rows = connection.execute(
            """
            SELECT n.nspname, c.relname, pg_get_userbyid(p.relowner) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent AND p.relkind = 'p'
            JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = ANY(%s) AND c.relowner <> p.relowner AND pg_has_role(current_user, c.relowner, 'USAGE')
              AND pg_has_role(current_user, p.relowner, 'USAGE') ORDER BY 1, 2""",
            (list(SCHEMAS),),
        ).fetchall()
        for schema, name, owner in rows:
            connection.execute(
                sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(schema, name), sql.Identifier(owner))
            )
    return len(rows)
