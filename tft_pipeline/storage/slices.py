"""The slice writer: the one way in which rows reach PostgreSQL. A slice is a table's rows of one UTC day.

A month is one transaction, whatever the number of tables: locks, fence, staging, what differs, ledger. So a crash leaves whole months
or nothing of them, and running again writes what is missing and not one row more.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from time import perf_counter

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tft_pipeline import schema
from tft_pipeline.crash_points import reached
from tft_pipeline.errors import ContractError, StaleWriterError, StorageError
from tft_pipeline.schema import Table
from tft_pipeline.storage import blockers, lineage, merge, partitions, quarantine
from tft_pipeline.storage.database import Database

_LOCK_SECONDS = 60.0
_STATEMENT_SECONDS = 600.0
_DRAWN_BITS = 20


@dataclass(frozen=True)
class Written:
    """What a write did to one table."""

    table: str
    days: int  # slices that were given
    rows: int  # rows that these slices hold now
    rows_written: int  # inserted, updated or deleted; 0 when nothing changed
    slices_changed: int
    rows_revised: int  # raw tables: versions that went to `_revisions`
    rows_quarantined: int  # refused rows that were not known before
    seconds: float
    content_hashes: dict[date, str]


@dataclass
class _Sum:
    rows: int = 0
    rows_written: int = 0
    slices_changed: int = 0
    rows_revised: int = 0
    rows_quarantined: int = 0
    seconds: float = 0.0
    content_hashes: dict[date, str] = field(default_factory=dict)

    def add(self, merged: merge.Merged) -> None:
        self.rows += sum(content.rows for content in merged.contents.values())
        self.rows_written += sum(merged.rows_written.values())
        self.slices_changed += len(merged.changed)
        self.rows_revised += merged.rows_revised
        self.rows_quarantined += merged.rows_quarantined
        self.content_hashes |= {day: content.content_hash for day, content in merged.contents.items()}


@dataclass(frozen=True)
class Claim:
    """A writer's claim on slices, see take_generation."""

    generation: int
    days: Sequence[date]


def take_generation(
    database: Database, tables: Iterable[Table], days: Iterable[date], *, holding: Claim | None = None
) -> int:
    """A number higher than any writer before, and from now on the lowest that may write these tables' slices of these days.

    Take it before the work begins, hand it to `write`: a predecessor that was given up, but lives on, is then refused.
    holding: the claim of a writer that needs more days than it thought. Raises StaleWriterError where it no longer stands: who has a
    successor must not overtake it by claiming again.
    """
    names, wanted = [table.name for table in tables], sorted(set(days))
    with blockers.named(database, names, wanted), database.connect() as connection:
        lineage.check(database, connection)
        if holding is not None:
            # In the order in which they are claimed below; locked, for a successor may come between the look and the claim.
            connection.execute(
                """
                SELECT FROM ops.fences WHERE table_name = ANY(%s) AND slice_day = ANY(%s)
                ORDER BY table_name COLLATE "C", slice_day FOR UPDATE""",
                (names, list(holding.days)),
            )
            _still_ours(connection, names, holding)
        row = connection.execute("SELECT nextval('ops.generations')").fetchone()
        # A server that was restored or promoted may give the same number again: what is drawn tells its claim from the forgotten one.
        generation = (int(row[0]) if row else 0) << _DRAWN_BITS | secrets.randbits(_DRAWN_BITS)
        connection.execute(
            """
            INSERT INTO ops.fences AS f (table_name, slice_day, generation)
            SELECT name, day, %s FROM unnest(%s::text[]) AS name CROSS JOIN unnest(%s::date[]) AS day ORDER BY name COLLATE "C", day
            ON CONFLICT (table_name, slice_day) DO UPDATE SET generation = greatest(f.generation, excluded.generation)""",
            (generation, names, wanted),
        )
    return generation


def write(
    database: Database,
    frames: Mapping[Table, pd.DataFrame],
    days: Sequence[date],
    *,
    run_id: str,
    code_version: str,
    quarantined: pd.DataFrame | None = None,
    reaches_to: datetime | None = None,
    generation: int | None = None,
    at_once: bool = False,
    tickers: Sequence[str] | None = None,
) -> dict[str, Written]:
    """Make the slices of days hold what frames say; {table name: what was done}. Several tables commit together, month by month.

    frames: by contract, with rows of these days only. A derived table's slice is replaced by its frame; a day without rows becomes an
    empty slice. A raw table's slice takes new rows in; where a row differs from the one held, that one moves to `_revisions`; rows that
    the frame lacks stay; single rows that break the contract go to quarantine.
    quarantined: rows (day, ticker, reason, row: JSON text) of the only table in frames that were refused before; known refusals are not
    doubled.
    reaches_to: moment up to which the input was complete; None: the days are over. Recorded, no more than the end of each day.
    generation: from take_generation, for these tables and days; None takes one now.
    at_once: all months in one transaction, for rows that must agree across months at every moment, as a ledger's do.
    tickers: only these tickers' rows are given and replaced; those of all others are not touched, and no slice reaches further than before.
    Raises ContractError (nothing is written), StaleWriterError (a later writer took over), StorageError; months that were committed
    before the error stay.
    """
    wanted = sorted(set(days))
    if tickers is not None:
        _demand_within(frames, quarantined, tickers)
    parts = {table: _by_day(_fit(frame, table), table, wanted) for table, frame in frames.items()}
    refused = quarantine.checked(quarantined, [table.name for table in frames], wanted)
    reached("writer: validated")
    if generation is None:
        generation = take_generation(database, frames, wanted)
    names = [table.name for table in frames]
    with blockers.named(database, names, wanted):
        for table, part in parts.items():
            partitions.ensure(database, partitions.of_table(table), part.days)
        if len(refused):
            partitions.ensure(database, ["ops.quarantine"], refused["day"])
    reached("writer: partitions made")
    sums = {table: _Sum() for table in frames}
    writer = merge.Writer(generation, run_id, code_version, reaches_to, None if tickers is None else tuple(tickers))
    last: tuple[str, date] | None = None
    with blockers.named(database, names, wanted), database.connect() as connection:
        for table in parts:
            merge.stage(connection, table)
        connection.commit()
        reached("writer: staged")
        for _, group in groupby(wanted, key=lambda day: at_once or (day.year, day.month)):
            month = list(group)
            with connection.transaction():
                _claim(connection, names, month, generation)
                reached("writer: locked")
                for table, part in parts.items():
                    started = perf_counter()
                    merged = merge.merge(connection, table, part.rows(month), month, writer)
                    sums[table].add(merged)
                    sums[table].seconds += perf_counter() - started
                    last = (table.name, merged.changed[-1]) if merged.changed else last
                if len(refused):
                    only = next(iter(parts))
                    sums[only].rows_quarantined += quarantine.add(
                        connection, only.name, refused[refused["day"].isin(month)], run_id
                    )
                reached("writer: before commit")
            reached("writer: month committed")
        if last is not None:
            lineage.remember(database, connection, *last, generation)
    reached("writer: all committed")
    return {
        table.name: Written(
            table=table.name, days=len(wanted), **{name: getattr(found, name) for name in found.__dataclass_fields__}
        )
        for table, found in sums.items()
    }


@dataclass(frozen=True)
class _ByDay:
    """A frame ordered by day, and where in it each day begins."""

    frame: pd.DataFrame
    days: list[date]  # that have rows, ascending
    starts: list[int]  # one more than days

    def rows(self, month: Sequence[date]) -> pd.DataFrame:
        """The rows of the days from the month's first to its last."""
        low = np.searchsorted(np.array(self.days, dtype="M8[D]"), np.datetime64(month[0]), side="left")
        high = np.searchsorted(np.array(self.days, dtype="M8[D]"), np.datetime64(month[-1]), side="right")
        return self.frame.iloc[self.starts[low] : self.starts[high]]


def _demand_within(
    frames: Mapping[Table, pd.DataFrame], quarantined: pd.DataFrame | None, tickers: Sequence[str]
) -> None:
    """Raises ContractError unless all rows are of these tickers."""
    for table, frame in frames.items():
        if "ticker" not in table.names:
            raise ContractError(f"{table.name}: has no tickers, so its rows cannot be written for some of them alone.")
        for rows in (frame, quarantined if quarantined is not None else frame):
            strays = rows.loc[~rows["ticker"].isin(list(tickers)), "ticker"]
            if len(strays):
                raise ContractError(
                    f"{table.name}: {len(strays)} row(s) of other tickers than {', '.join(tickers)}, the first of {strays.iloc[0]!r}. "
                    "Cut the frame, or write all tickers."
                )


def _fit(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """What is ours is held against all rules before anything is written; what came from outside is judged row by row, once staged."""
    return schema.arranged(frame, table) if table.mode == "raw" else schema.validate(frame, table)


def _by_day(frame: pd.DataFrame, table: Table, wanted: Sequence[date]) -> _ByDay:
    of_row = frame[table.time].to_numpy("datetime64[us]").astype("M8[D]")
    strays = np.flatnonzero(~np.isin(of_row, np.array(wanted, dtype="M8[D]")))
    if len(strays):
        row = frame.iloc[strays[0]]
        given = f"{wanted[0]} … {wanted[-1]} ({len(wanted)} days)" if wanted else "no days"
        raise ContractError(
            f"{table.name}: {len(strays)} row(s) lie outside the days to be written, {given}, first at "
            f"{', '.join(f'{k}={row[k]}' for k in table.key)}. Cut the frame by {table.time!r} or name these days, too."
        )
    order = np.argsort(of_row, kind="stable")
    days, starts = np.unique(of_row[order], return_index=True)
    return _ByDay(frame.iloc[order], [day.item() for day in days], [*starts.tolist(), len(frame)])


def _claim(
    connection: psycopg.Connection[TupleRow], names: Sequence[str], month: Sequence[date], generation: int
) -> None:
    """Lock the slices in one order for all, then see whether they are still ours to write.

    One lock a table and month, not a day: years at once would outgrow the server's table of locks.
    """
    connection.execute(
        sql.SQL("SELECT set_config('lock_timeout', {}, true), set_config('statement_timeout', {}, true)").format(
            f"{_LOCK_SECONDS}s", f"{_STATEMENT_SECONDS}s"
        )
    )
    slices = {"names": list(names), "days": list(month), "generation": generation}
    connection.execute(
        sql.SQL("SELECT pg_advisory_xact_lock(key) FROM ({} ORDER BY key OFFSET 0) AS keys").format(
            blockers.SLICES_KEYS
        ),
        slices,
    )
    _still_ours(connection, names, Claim(generation, month))


def _still_ours(connection: psycopg.Connection[TupleRow], names: Sequence[str], claim: Claim) -> None:
    """Raises StaleWriterError, or a transient StorageError where the claim is not known, unless it stands."""
    other = connection.execute(
        """
        SELECT name, day, f.generation
        FROM unnest(%(names)s::text[]) AS name CROSS JOIN unnest(%(days)s::date[]) AS day
        LEFT JOIN ops.fences f ON f.table_name = name AND f.slice_day = day
        WHERE f.generation IS DISTINCT FROM %(generation)s
        ORDER BY f.generation > %(generation)s DESC NULLS LAST, day, name LIMIT 1""",
        {"names": list(names), "days": list(claim.days), "generation": claim.generation},
    ).fetchone()
    if other is not None:
        name, day, newer = other
        if newer is None or newer < claim.generation:
            raise StorageError(
                f"{name}: this database does not know the claim (generation {claim.generation}) on the slice of {day}: it was taken on another "
                "server, or a backup was restored since. Nothing of this month was written: run it again.",
                transient=True,
            )
        raise StaleWriterError(
            f"{name}: a later writer (generation {newer}) has taken over the slice of {day} from this one ({claim.generation}). "
            "Nothing of this month was written: let the later one finish, or run again."
        )
