"""What doctor asks of the database itself: roles, slow queries, months ahead and behind, and what was left half done."""

from collections.abc import Callable, Iterator

import psycopg
from psycopg import sql

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.errors import PipelineError, redacted
from tft_pipeline.orchestration import post_coverage
from tft_pipeline.storage import lineage, partitions, partman, retention, roles, upkeep
from tft_pipeline.storage.database import Database

Question = tuple[str, Callable[[], str]]

SLOWEST = 5
_SHOWN_LETTERS = 160  # of a statement


def questions(settings: Settings, database: Database) -> Iterator[Question]:
    """(subject, question); a question answers with a sentence, or raises PipelineError with one that says what to do."""
    yield "last write", lambda: lineage.found(database)
    yield "roles", lambda: _roles(database)
    yield "slow queries", lambda: _slow_query_log(database)
    yield "statements", lambda: _statements(database)
    yield "months ahead", lambda: _months_ahead(settings, database)
    yield "retention", lambda: _retention(settings, database)
    yield "detaching", lambda: _detaching(database)
    yield "indexes", lambda: _indexes(database)
    yield "post coverage", lambda: post_coverage.sentence(settings, database)


def _roles(database: Database) -> str:
    wanted = roles.missing(database)
    if wanted:
        raise PipelineError(
            f"rights are missing, so reading is not kept apart from writing; let an administrator run: {'; '.join(wanted)};"
        )
    return f"{', '.join(roles.ROLES)} are there with their rights; this user may take on each"


def _slow_query_log(database: Database) -> str:
    with database.connect() as connection:
        row = connection.execute("SELECT setting::bigint FROM pg_settings WHERE name = 'log_min_duration_statement'").fetchone()  # fmt: skip
    milliseconds = int(row[0]) if row else -1
    if milliseconds < 0:
        return "slow statements are not logged; as superuser: ALTER SYSTEM SET log_min_duration_statement = '1s'; SELECT pg_reload_conf();"
    return f"statements of {milliseconds:,} ms and more are written to the server's log (log_min_duration_statement)"


def _statements(database: Database) -> str:
    with database.connect() as connection:
        found = connection.execute(
            "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'"
        ).fetchone()
        if found is None:
            return (
                "pg_stat_statements is not installed; to see the slowest statements here: shared_preload_libraries = 'pg_stat_statements' "
                "in postgresql.conf, restart, CREATE EXTENSION pg_stat_statements;"
            )
        query = sql.SQL(
            """
            SELECT round(mean_exec_time)::bigint, calls, query FROM {} WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND query ~ %s ORDER BY mean_exec_time DESC LIMIT %s"""
        ).format(sql.SQL("{}.pg_stat_statements").format(sql.SQL(found[0])))
        ours = rf"\m({'|'.join(roles.SCHEMAS)})\M\"?\."
        try:
            rows = connection.execute(query, (ours, SLOWEST)).fetchall()
        except psycopg.errors.ObjectNotInPrerequisiteState:
            return "pg_stat_statements is installed but not loaded; set shared_preload_libraries = 'pg_stat_statements' and restart"
    if not rows:
        return "pg_stat_statements has seen none of our statements yet"
    shown = (f"{ms:,} ms on average over {calls:,} calls: {_short(query)}" for ms, calls, query in rows)
    return f"the slowest of ours, by pg_stat_statements: {' | '.join(shown)}"


def _short(statement: str) -> str:
    line = redacted(" ".join(statement.split()))
    return line if len(line) <= _SHOWN_LETTERS else f"{line[:_SHOWN_LETTERS]}…"


def _months_ahead(settings: Settings, database: Database) -> str:
    if settings.end is not None and settings.end <= config.today():
        return f"none are needed: history ends on {settings.end}"
    names = upkeep.partitioned()
    following = partitions.following(config.today().replace(day=1))
    ready = len({part.table for part in retention.listed(database, names) if part.month <= following < part.upper})
    extension = partman.installed(database)
    by = f"pg_partman {extension.version}" if extension else "partition_upkeep"
    if ready == len(names):
        return f"all {len(names)} tables have the partition of {following:%Y-%m}; {by} makes them"
    return f"{ready} of {len(names)} tables have the partition of {following:%Y-%m}; {by} makes them nightly, and a writer what it lacks"


def _retention(settings: Settings, database: Database) -> str:
    with database.connect() as connection:
        row = connection.execute("SELECT count(*), coalesce(sum(row_count), 0) FROM ops.retired").fetchone()
    months, rows = row or (0, 0)
    so_far = f"{months:,} months with {rows:,} rows lie in the schema retired" if months else "nothing was retired yet"
    years = settings.retention_years
    if years is None:
        return f"everything is kept; {so_far}"
    first = retention.limit(database, years, today=config.today())
    waiting = len(retention.overdue(database, first)) if first else 0
    rule = f"{years} years back from the newest day with rows" + (f", so from {first}" if first else "")
    return f"{rule}; {so_far}" + (f"; {waiting} past it wait for the next upkeep" if waiting else "")


def _detaching(database: Database) -> str:
    found = [part.name for part in retention.listed(database) if part.detaching] + retention.loose(database)
    if found:
        raise PipelineError(
            f"{len(found)} months are half retired, first {found[0]}: their rows are safe but no longer in their table. If no upkeep is at "
            "work this moment, materialize partition_upkeep: it finishes them."
        )
    return "no month is half retired"


def _indexes(database: Database) -> str:
    with database.connect() as connection:
        rows = connection.execute(
            """
            SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relkind FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT (x.indisvalid AND x.indisready) AND n.nspname = ANY(%s) ORDER BY 1""",
            (list(roles.SCHEMAS),),
        ).fetchall()
    if rows:
        mend = "; ".join(f"REINDEX INDEX {'CONCURRENTLY ' if kind == 'i' else ''}{name}" for name, kind in rows)
        raise PipelineError(f"{len(rows)} indexes are invalid and serve no query, first {rows[0][0]}; run: {mend};")
    return "every index is valid"
