"""One table's slices of one month, inside the slice writer's transaction: stage the rows, write what differs, keep the ledger."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg.sql import Composable, Composed, Identifier, Literal

from tft_pipeline.crash_points import reached
from tft_pipeline.schema import Column, Table
from tft_pipeline.storage import binary, composed, partitions, quarantine, rules

_Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Writer:
    """What the ledger says of whoever writes."""

    generation: int
    run_id: str
    code_version: str
    reaches_to: datetime | None
    tickers: tuple[str, ...] | None = None  # the only ones that it writes; None: all


@dataclass(frozen=True)
class Content:
    """What a slice holds. The hash is of its rows in key order, loading times left out; the same on every server."""

    rows: int = 0
    content_hash: str = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class Merged:
    """What became of the month's slices."""

    contents: dict[date, Content]  # of every day
    changed: list[date]  # days whose ledger row is new or different
    rows_written: dict[date, int]  # inserted, updated or deleted, by day
    rows_revised: int
    rows_quarantined: int = 0  # refusals that were not known before


def stage(connection: _Connection, table: Table) -> None:
    """Make the temporary table that takes a month's rows; it is empty again after each transaction."""
    columns = (sql.SQL("{} {}").format(Identifier(c.name), composed.type_of(c)) for c in table.columns)
    connection.execute(
        sql.SQL("CREATE TEMP TABLE {} ({}) ON COMMIT DELETE ROWS").format(_stage(table), sql.SQL(", ").join(columns))
    )


def merge(connection: _Connection, table: Table, frame: pd.DataFrame, days: Sequence[date], writer: Writer) -> Merged:
    """Make the slices of days, ascending, hold frame's rows; those of a raw table that break its contract go to quarantine.

    Raises ContractError where a derived table's rows break it.
    """
    if len(frame):
        columns = binary.order(_as_given(frame, table))
        target = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
            _stage(table), composed.listed(c.name for c in columns)
        )
        with connection.cursor() as cursor, cursor.copy(target) as copy:
            for chunk in binary.encode(frame, columns, where=table.name):
                copy.write(chunk)
    reached("writer: copied")
    refused = _judge(connection, table, writer) if len(frame) else 0
    if table.mode == "raw":
        merged = _take_in(connection, table, days)
    elif writer.tickers is None:
        merged = _replace(connection, table, days)
    else:
        merged = _replace_some(connection, table, days, writer.tickers)
    _record(connection, table, merged, writer)
    reached("writer: recorded")
    return replace(merged, rows_quarantined=refused)


def _as_given(frame: pd.DataFrame, table: Table) -> list[Column]:
    """The columns as they travel: a moment that is missing, where none may be, has to arrive as such to be refused."""
    missing = {c.name for c in table.columns if c.dtype == "time" and not c.nullable and frame[c.name].hasnans}
    return [replace(column, nullable=True) if column.name in missing else column for column in table.columns]


def _judge(connection: _Connection, table: Table, writer: Writer) -> int:
    """Hold the staged rows against the contract; how many refusals are new."""
    if table.mode == "derived":
        rules.demand_kept(connection, table, _stage(table))
        return 0
    refused = rules.set_apart(connection, table, _stage(table))
    if refused.empty:
        return 0
    partitions.ensure_within(connection, ["ops.quarantine"], refused["day"])
    return quarantine.add(connection, table.name, refused, writer.run_id)


_REMOVE = sql.SQL("""
    WITH gone AS (
        DELETE FROM {table} AS t WHERE {t_between} AND {t_day} = ANY({days}) AND {whose}
        AND NOT EXISTS (SELECT FROM {stage} AS s WHERE {same_key} AND {s_image} = {t_image})
        RETURNING {t_columns})
    SELECT {t_day}, count(*) FROM gone AS t WHERE NOT EXISTS (SELECT FROM {stage} AS s WHERE {same_key}) GROUP BY 1""")


def _replace(connection: _Connection, table: Table, days: Sequence[date]) -> Merged:
    """Derived: slices that hold what the ledger says and what is given are left alone; of the others, only what differs is touched."""
    given = contents(connection, table, _stage(table), days)
    ledger, held = _ledger(connection, table, days), _row_counts(connection, table, days)
    changed = [day for day in days if ledger.get(day) != given[day] or held.get(day, 0) != given[day].rows]
    written = dict.fromkeys(days, 0)
    if changed:
        parts = _parts(table, changed)
        _count(connection, _REMOVE.format(**parts, whose=sql.SQL("true")), written)
        reached("writer: old rows gone")
        _count(connection, _INSERT.format(**parts, more=sql.SQL(""), values=sql.SQL("")), written)
        reached("writer: new rows in")
    return Merged(given, changed, written, 0)


def _replace_some(connection: _Connection, table: Table, days: Sequence[date], tickers: Sequence[str]) -> Merged:
    """Derived, some tickers' rows only: what differs of theirs is touched, and the slices hold what then lies there."""
    parts, written = _parts(table, days), dict.fromkeys(days, 0)
    whose = sql.SQL("{} = ANY({}::text[])").format(Identifier("t", "ticker"), Literal(list(tickers)))
    _count(connection, _REMOVE.format(**parts, whose=whose), written)
    reached("writer: old rows gone")
    _count(connection, _INSERT.format(**parts, more=sql.SQL(""), values=sql.SQL("")), written)
    reached("writer: new rows in")
    return _held(connection, table, days, written)


def _take_in(connection: _Connection, table: Table, days: Sequence[date]) -> Merged:
    """Raw: new rows come in, rows that differ take the place of versions that go to `_revisions`, the rest stays as it is.

    A version held from its known_at until its successor was known: the successor's known_at where that is later, else now.
    """
    parts = _parts(table, days)
    # Taken under the slice's lock, hence later than any version that lies there: versions are told apart by it.
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    now = Literal(row[0] if row else None)
    revised = sql.SQL("""
        WITH gone AS (
            DELETE FROM {table} AS t USING {stage} AS s
            WHERE {t_between} AND {t_day} = ANY({days}) AND {same_key} AND {s_image} <> {t_image}
            RETURNING {t_columns}, t.loaded_at,
                CASE WHEN s.known_at > t.known_at THEN s.known_at ELSE greatest({now}, t.known_at) END AS replaced_at),
        kept AS (
            INSERT INTO {revisions} ({columns}, loaded_at, replaced_at)
            SELECT {t_columns}, t.loaded_at, t.replaced_at FROM gone AS t ORDER BY {t_key}
            RETURNING {time})
        SELECT {t_day}, count(*) FROM kept AS t GROUP BY 1""")
    moved, written = dict.fromkeys(days, 0), dict.fromkeys(days, 0)
    _count(connection, revised.format(**parts, now=now), moved)
    reached("writer: old rows gone")
    more, values = sql.SQL(", loaded_at"), sql.SQL(", {}").format(now)
    _count(connection, _INSERT.format(**parts, more=more, values=values), written)
    reached("writer: new rows in")
    return replace(_held(connection, table, days, written), rows_revised=sum(moved.values()))


def _held(connection: _Connection, table: Table, days: Sequence[date], written: dict[date, int]) -> Merged:
    """What became of slices of which only a part was given: they hold what lies there."""
    ledger, held = _ledger(connection, table, days), _row_counts(connection, table, days)
    changed = [day for day in days if written[day] or day not in ledger or ledger[day].rows != held.get(day, 0)]
    found = ledger | (contents(connection, table, composed.qualified(table.name), changed) if changed else {})
    return Merged(found, changed, written, 0)


_INSERT = sql.SQL("""
    WITH put AS (
        INSERT INTO {table} ({columns}{more})
        SELECT {s_columns}{values} FROM {stage} AS s
        WHERE {s_day} = ANY({days}) AND NOT EXISTS (SELECT FROM {table} AS t WHERE {t_between} AND {same_key})
        ORDER BY {s_key}
        RETURNING {time})
    SELECT {t_day}, count(*) FROM put AS t GROUP BY 1""")


def _record(connection: _Connection, table: Table, merged: Merged, writer: Writer) -> None:
    """The ledger: a row for each slice that changed; of the others only how far they reach, where that is further than before."""
    days = list(merged.contents)
    values = {
        "table": table.name,
        "generation": writer.generation,
        "run": writer.run_id,
        "code": writer.code_version,
        "days": days,
        # Who writes some tickers cannot say how far the others' rows reach: a new slice of theirs reaches nowhere, an old one as before.
        "reaches": [_midnight(day) if writer.tickers is not None else _reach(day, writer.reaches_to) for day in days],
        "some": writer.tickers is not None,
        "changed": [day in set(merged.changed) for day in days],
        "rows": [merged.contents[day].rows for day in days],
        "hashes": [merged.contents[day].content_hash for day in days],
        "written": [merged.rows_written[day] for day in days],
    }
    connection.execute(
        """
        INSERT INTO ops.slices AS l (table_name, slice_day, generation, run_id, code_version, row_count, content_hash, reaches_to,
                                     written_rows)
        SELECT %(table)s, g.day, %(generation)s, %(run)s, %(code)s, g.rows, g.hash, g.reach, g.written
        FROM unnest(%(days)s::date[], %(changed)s::boolean[], %(rows)s::bigint[], %(hashes)s::text[], %(reaches)s::timestamptz[],
                    %(written)s::bigint[]) AS g (day, changed, rows, hash, reach, written)
        WHERE g.changed
        ORDER BY g.day
        ON CONFLICT (table_name, slice_day) DO UPDATE SET
            generation = excluded.generation, run_id = excluded.run_id, code_version = excluded.code_version,
            row_count = excluded.row_count, content_hash = excluded.content_hash,
            reaches_to = CASE WHEN %(some)s THEN l.reaches_to ELSE excluded.reaches_to END,
            written_rows = excluded.written_rows, committed_at = excluded.committed_at""",
        values,
    )
    connection.execute(
        """
        UPDATE ops.slices AS l SET reaches_to = g.reach
        FROM unnest(%(days)s::date[], %(reaches)s::timestamptz[]) AS g (day, reach)
        WHERE l.table_name = %(table)s AND l.slice_day = g.day AND l.reaches_to < g.reach""",
        values,
    )


def contents(connection: _Connection, table: Table, relation: Composable, days: Sequence[date]) -> dict[date, Content]:
    """What relation, which has table's columns, holds of each of days, ascending."""
    hashed = [column for column in table.columns if column.hashed]
    query = sql.SQL("""
        SELECT {day}, count(*), encode(sha256(string_agg(sha256({image}), ''::bytea ORDER BY {key})), 'hex')
        FROM {relation} AS r WHERE {between} AND {day} = ANY({days}) GROUP BY 1""").format(
        day=composed.day_of(table, "r"),
        image=composed.image(hashed, "r"),
        key=composed.key_order(table, "r"),
        relation=relation,
        between=composed.between(table, "r", *_span(days)),
        days=Literal(list(days)),
    )
    found = {day: Content(rows, digest) for day, rows, digest in connection.execute(query).fetchall()}
    return {day: found.get(day, Content()) for day in days}


def _ledger(connection: _Connection, table: Table, days: Sequence[date]) -> dict[date, Content]:
    query = "SELECT slice_day, row_count, content_hash FROM ops.slices WHERE table_name = %s AND slice_day = ANY(%s)"
    return {
        day: Content(rows, digest)
        for day, rows, digest in connection.execute(query, (table.name, list(days))).fetchall()
    }


def _row_counts(connection: _Connection, table: Table, days: Sequence[date]) -> dict[date, int]:
    """Rows that lie there, whatever the ledger says: where somebody removed some, the slice is written again."""
    counts: dict[date, int] = dict.fromkeys(days, 0)
    query = sql.SQL("SELECT {t_day}, count(*) FROM {table} AS t WHERE {t_between} AND {t_day} = ANY({days}) GROUP BY 1")
    _count(connection, query.format(**_parts(table, days)), counts)
    return counts


def _count(connection: _Connection, query: Composed, into: dict[date, int]) -> None:
    for day, rows in connection.execute(query).fetchall():
        into[day] += rows


def _parts(table: Table, days: Sequence[date]) -> dict[str, Composable]:
    """What the statements above are made of; t is the table, s the staged rows."""
    hashed = [column for column in table.columns if column.hashed]
    return {
        "table": composed.qualified(table.name),
        "revisions": composed.qualified(f"{table.name}_revisions"),
        "stage": _stage(table),
        "time": Identifier(table.time),
        "columns": composed.listed(table.names),
        "t_columns": composed.listed(table.names, "t"),
        "s_columns": composed.listed(table.names, "s"),
        "t_key": composed.key_order(table, "t"),
        "s_key": composed.key_order(table, "s"),
        "t_image": composed.image(hashed, "t"),
        "s_image": composed.image(hashed, "s"),
        "t_day": composed.day_of(table, "t"),
        "s_day": composed.day_of(table, "s"),
        "same_key": composed.same_key(table, "s", "t"),
        "t_between": composed.between(table, "t", *_span(days)),
        "days": Literal(list(days)),
    }


def _stage(table: Table) -> Identifier:
    return Identifier("pg_temp", f"stage_{table.name.replace('.', '_')}")


def _span(days: Sequence[date]) -> tuple[datetime, datetime]:
    """From the first day's first moment to the first after the last day."""
    return _midnight(days[0]), _midnight(days[-1] + timedelta(days=1))


def _reach(day: date, reaches_to: datetime | None) -> datetime:
    start, end = _midnight(day), _midnight(day + timedelta(days=1))
    return end if reaches_to is None else min(max(reaches_to, start), end)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
