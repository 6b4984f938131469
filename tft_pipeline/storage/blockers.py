"""Who stood in the way when a lock could not be had in time: named in the error, for whoever has to end them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime

import psycopg
from psycopg import sql

from tft_pipeline.errors import StorageError
from tft_pipeline.storage.database import Database

# hashtextextended gives the key of a month's slices of one table; pg_locks shows it in two halves.
SLICES_KEYS = sql.SQL("""
    SELECT DISTINCT hashtextextended('tft-pipeline slices ' || name || ' ' || to_char(day, 'YYYY-MM'), 0) AS key
    FROM unnest(%(names)s::text[]) AS name CROSS JOIN unnest(%(days)s::date[]) AS day""")

# rank 0: a lock that nobody who writes these slices can have beside it. rank 1: an open transaction that has changed rows of them, whose
# end others wait for at a row.
_HOLDERS = sql.SQL("""
    WITH keys AS ({}),
    wanted AS (
        SELECT name || suffix AS name FROM (
            SELECT name || ending AS name FROM unnest(%(names)s::text[]) AS name CROSS JOIN (VALUES (''), ('_revisions')) AS e (ending)) AS n
        CROSS JOIN (SELECT DISTINCT to_char(day, '_YYYY_MM') FROM unnest(%(days)s::date[]) AS day UNION ALL SELECT '') AS m (suffix)
        UNION ALL VALUES ('ops.slices'), ('ops.fences'), ('ops.quarantine')),
    relations AS (
        SELECT c.oid FROM wanted w JOIN pg_namespace n ON n.nspname = split_part(w.name, '.', 1)
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = split_part(w.name, '.', 2)),
    holders AS (
        SELECT l.pid, CASE WHEN l.locktype = 'advisory' OR l.mode <> 'RowExclusiveLock' THEN 0 ELSE 1 END AS rank
        FROM pg_locks l
        WHERE l.granted AND l.pid <> pg_backend_pid() AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (l.locktype = 'relation' AND l.relation IN (SELECT oid FROM relations)
                AND l.mode IN ('RowExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
             OR l.locktype = 'advisory' AND l.objsubid = 1 AND (l.classid::bigint << 32 | l.objid::bigint) IN (SELECT key FROM keys)))
    SELECT DISTINCT a.pid, a.application_name, a.usename, a.state, a.xact_start, h.rank
    FROM holders h JOIN pg_stat_activity a ON a.pid = h.pid
    WHERE h.rank = (SELECT min(rank) FROM holders) ORDER BY a.xact_start NULLS LAST, a.pid""").format(SLICES_KEYS)


@contextmanager
def named(database: Database, tables: Iterable[str], days: Sequence[date]) -> Iterator[None]:
    """A lock timeout within the block says, too, which sessions hold what the slices of these tables and days need."""
    try:
        yield
    except StorageError as error:
        if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            raise
        found = holders(database, tables, days)
        if not found:
            raise
        raise StorageError(f"{error} It is held by {'; '.join(found)}.", transient=error.transient) from error.__cause__


def holders(database: Database, tables: Iterable[str], days: Sequence[date]) -> list[str]:
    """Each session that bars the writers of these tables' slices of these days, in words. Empty when it has just ended, or nobody may tell.

    Looked at after the wait is over: a session that took the lock in between is named instead of the one before it.
    """
    try:
        with database.connect() as connection:
            rows = connection.execute(_HOLDERS, {"names": list(tables), "days": list(days)}).fetchall()
    except StorageError:
        return []  # the lock timeout is what must be told, not that we could not find out more
    return [_in_words(pid, name, user, state, since) for pid, name, user, state, since, _ in rows]


def _in_words(pid: int, name: str | None, user: str | None, state: str | None, since: datetime | None) -> str:
    facts = [f"{name or 'a program without a name'} of {user}"]
    if state:  # other users' is hidden from those who may not see all
        facts.append(state)
    if since:
        facts.append(f"its transaction is open since {since:%Y-%m-%d %H:%M:%S} UTC")
    return f"process {pid} ({', '.join(facts)}; SELECT pg_terminate_backend({pid}) ends it)"
