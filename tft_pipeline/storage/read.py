"""Rows by contract, out of PostgreSQL: the exact dtypes, ordered by key, as they are or as they were known at a moment."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

import pandas as pd
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg.sql import Composable, Identifier, Literal

from tft_pipeline.errors import ContractError
from tft_pipeline.schema import Column, Table
from tft_pipeline.storage import binary, composed
from tft_pipeline.storage.database import Database

Connection = psycopg.Connection[TupleRow]


def read(
    source: Database | Connection,
    table: Table,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    tickers: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    as_of: datetime | None = None,
    where: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    """(n_rows, n_columns) rows with start <= time < end, ordered by key.

    columns: in this order; None: those of the contract. Generated ones (market.bars.typical_price) may be asked for by name.
    as_of: raw tables only: the versions that were known at that moment, whatever was corrected, or came, later.
    where: {column: value} that must be equal, or one of a list of values.
    Raises ContractError: an unknown column, as_of for a derived table, a time without zone; StorageError.
    """
    wanted = _columns(table, columns)
    _zoned(table, start=start, end=end, as_of=as_of)
    if as_of is not None and table.mode != "raw":
        raise ContractError(
            f"{table.name}: as_of needs a raw table, and this one is derived. Read its inputs as of that moment."
        )
    fetched = binary.order(dict.fromkeys([*wanted, *(c for c in table.columns if c.name in table.key)]))
    conditions = _conditions(table, start, end, tickers, where or {})
    current = _select(composed.qualified(table.name), fetched, conditions)
    query = current if as_of is None else _as_of(table, fetched, conditions, as_of)
    copied = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(query)
    with _connected(source) as connection, connection.cursor() as cursor, cursor.copy(copied) as copy:
        rows = [bytes(row) for row in copy]
    frame = binary.decode(rows, fetched)
    return frame.sort_values(list(table.key), kind="stable", ignore_index=True)[[column.name for column in wanted]]


def universe(source: Database | Connection) -> list[str]:
    """Tickers that market.bars holds, sorted."""
    with _connected(source) as connection:
        return [
            str(ticker)
            for (ticker,) in connection.execute("SELECT DISTINCT ticker FROM market.bars ORDER BY ticker").fetchall()
        ]


def _select(relation: Composable, columns: Sequence[Column], conditions: Sequence[Composable]) -> sql.Composed:
    # A domain travels as its base type only when cast; COLLATE and NOT NULL do not matter on the way out.
    values = sql.SQL(", ").join(sql.SQL("{}::{}").format(Identifier("r", c.name), composed.type_of(c)) for c in columns)
    return sql.SQL("SELECT {} FROM {} AS r WHERE {}").format(
        values, relation, sql.SQL(" AND ").join([sql.SQL("true"), *conditions])
    )


def _as_of(table: Table, columns: Sequence[Column], conditions: Sequence[Composable], moment: datetime) -> sql.Composed:
    """The current version unless an older one still held at moment; of several that held, the one that was loaded first."""
    revisions = composed.qualified(f"{table.name}_revisions")
    known = sql.SQL("r.known_at <= {}").format(Literal(moment))
    held = sql.SQL("v.known_at <= {} AND v.replaced_at > {}").format(Literal(moment), Literal(moment))
    replaced = sql.SQL("NOT EXISTS (SELECT FROM {} AS v WHERE {} AND {})").format(
        revisions, composed.same_key(table, "v", "r"), held
    )
    oldest = sql.SQL("(SELECT DISTINCT ON ({}) v.* FROM {} AS v WHERE {} ORDER BY {}, v.loaded_at)").format(
        composed.listed(table.key, "v"), revisions, held, composed.listed(table.key, "v")
    )
    current = _select(composed.qualified(table.name), columns, [*conditions, known, replaced])
    return sql.SQL("{} UNION ALL {}").format(current, _select(oldest, columns, conditions))


def _conditions(
    table: Table,
    start: datetime | None,
    end: datetime | None,
    tickers: Sequence[str] | None,
    where: Mapping[str, object],
) -> list[Composable]:
    time = Identifier("r", table.time)
    found: list[Composable] = []
    if start is not None:
        found.append(sql.SQL("{} >= {}").format(time, Literal(start)))
    if end is not None:
        found.append(sql.SQL("{} < {}").format(time, Literal(end)))
    if tickers is not None:
        found.append(_equal(_columns(table, ["ticker"])[0], list(tickers)))
    for name, value in where.items():
        found.append(_equal(_columns(table, [name])[0], value))
    return found


def _equal(column: Column, value: object) -> sql.Composed:
    name, kind = Identifier("r", column.name), composed.type_of(column)
    if isinstance(value, list | tuple | set | frozenset):
        return sql.SQL("{} = ANY({}::{}[])").format(name, Literal(list(value)), kind)
    return sql.SQL("{} = {}::{}").format(name, Literal(value), kind)


def _columns(table: Table, names: Sequence[str] | None) -> list[Column]:
    if names is None:
        return list(table.columns)
    by_name = {column.name: column for column in (*table.columns, *table.generated)}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ContractError(
            f"{table.name}: there is no column {unknown[0]!r}; it has {list(by_name)}. "
            f"Ask for one of these or add it to contracts.{table.constant} and a migration."
        )
    return [by_name[name] for name in names]


def _zoned(table: Table, **times: datetime | None) -> None:
    for name, value in times.items():
        if value is not None and value.tzinfo is None:
            raise ContractError(f"{table.name}: {name}={value.isoformat()} has no time zone; say UTC.")


@contextmanager
def _connected(source: Database | Connection) -> Iterator[Connection]:
    if isinstance(source, Database):
        with source.connect() as connection:
            yield connection
    else:
        yield source
