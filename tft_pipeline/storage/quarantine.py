"""Rows that were refused, each with its reason: kept beside the slices they were meant for."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime

import pandas as pd
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tft_pipeline.errors import ContractError
from tft_pipeline.schema import UTC
from tft_pipeline.storage.database import Database

COLUMNS = ["day", "ticker", "reason", "row"]
_WHEN_READ = ["known_at", "loaded_at"]  # of a row: left out of its fingerprint


def checked(refused: pd.DataFrame | None, names: Sequence[str], days: Sequence[date]) -> pd.DataFrame:
    """refused with COLUMNS, days as dates. Raises ContractError: other columns, several tables, a day not written, no JSON."""
    if refused is None or refused.empty:
        return pd.DataFrame(columns=COLUMNS)
    if sorted(refused.columns) != sorted(COLUMNS):
        raise ContractError(
            f"ops.quarantine: refused rows need the columns {COLUMNS}; the frame has {list(refused.columns)}."
        )
    if len(names) != 1:
        raise ContractError(
            f"ops.quarantine: refused rows belong to one table, but {list(names)} are written. Write them apart."
        )
    kept = refused[COLUMNS].assign(day=[pd.Timestamp(day).date() for day in refused["day"]])
    strays = sorted(set(kept["day"]) - set(days))
    if strays:
        raise ContractError(
            f"ops.quarantine: refused rows of {names[0]} lie on {strays[0]}, which is not written. Name that day, too."
        )
    for row in kept["row"]:
        try:
            json.loads(row)
        except (TypeError, ValueError) as error:
            raise ContractError(
                f"ops.quarantine: a refused row of {names[0]} is no JSON text ({error}): {str(row)[:80]!r}."
            ) from None
    return kept


def add(connection: psycopg.Connection[TupleRow], name: str, refused: pd.DataFrame, run_id: str) -> int:
    """Rows of refused that were not known before; all of them are kept.

    When a row was read does not make it another: a live source gives the same wrong bar anew every hour.
    """
    cursor = connection.execute(
        """
        INSERT INTO ops.quarantine (table_name, slice_day, fingerprint, ticker, reason, row, run_id)
        SELECT %s, g.day, encode(sha256(convert_to(concat_ws(E'\\n', coalesce(g.ticker, ''), g.reason, g.row::jsonb - %s::text[]), 'UTF8')), 'hex'),
               g.ticker, g.reason, g.row::jsonb, %s
        FROM unnest(%s::date[], %s::text[], %s::text[], %s::text[]) AS g (day, ticker, reason, row)
        ON CONFLICT DO NOTHING""",
        (
            name,
            _WHEN_READ,
            run_id,
            refused["day"].tolist(),
            [None if pd.isna(ticker) else str(ticker) for ticker in refused["ticker"]],
            refused["reason"].tolist(),
            refused["row"].tolist(),
        ),
    )
    return cursor.rowcount


@dataclass(frozen=True)
class Sought:
    """Which refusals: of one `schema.table`, one ticker, days from first to last, both included; None: whatever."""

    table: str | None = None
    ticker: str | None = None
    first: date | None = None
    last: date | None = None


_SOUGHT = """
    (%(table)s::text IS NULL OR table_name = %(table)s) AND (%(ticker)s::text IS NULL OR ticker = %(ticker)s)
    AND (%(first)s::date IS NULL OR slice_day >= %(first)s) AND (%(last)s::date IS NULL OR slice_day <= %(last)s)"""


def listed(database: Database, sought: Sought = Sought(), *, limit: int = 1000) -> pd.DataFrame:
    """The newest refusals: table, day, ticker, reason, row (dict), run_id, seen_at (UTC)."""
    columns = ["table", "day", "ticker", "reason", "row", "run_id", "seen_at"]
    query = sql.SQL("""
        SELECT table_name, slice_day, ticker, reason, row, run_id, seen_at FROM ops.quarantine WHERE {}
        ORDER BY slice_day DESC, table_name, ticker, reason, fingerprint LIMIT %(limit)s""").format(sql.SQL(_SOUGHT))
    with database.connect() as connection:
        rows = connection.execute(query, {**asdict(sought), "limit": limit}).fetchall()
    return pd.DataFrame(rows, columns=columns)


def counted(database: Database, sought: Sought = Sought()) -> pd.DataFrame:
    """Refusals by table and rule: table, reason (figures in it as #, for they differ from row to row), rows, tickers, first, last; most first."""
    columns = ["table", "reason", "rows", "tickers", "first", "last"]
    query = sql.SQL(r"""
        SELECT table_name, regexp_replace(reason, '(?<= )-?\d+(\.\d+)?(e[+-]?\d+)?', '#', 'g') AS rule, count(*), count(DISTINCT ticker),
               min(slice_day), max(slice_day)
        FROM ops.quarantine WHERE {} GROUP BY table_name, rule ORDER BY 3 DESC, table_name, rule""").format(
        sql.SQL(_SOUGHT)
    )
    with database.connect() as connection:
        rows = connection.execute(query, asdict(sought)).fetchall()
    return pd.DataFrame(rows, columns=columns)


def between(database: Database, name: str, first: date, last: date, *, as_of: datetime) -> pd.DataFrame:
    """day (UTC midnight), ticker, bar_start, reason of what was refused for a table from first to last, both included, and known by as_of.

    A bar counts once, with the reason given last, however often it was seen and in however many ways it was wrong; bar_start is NaT
    where the row gives none, and each such row counts.
    """
    with database.connect() as connection:
        rows = connection.execute(
            r"""
            SELECT slice_day, ticker, row ->> 'bar_start', reason FROM (
                SELECT DISTINCT ON (slice_day, ticker, coalesce(row ->> 'bar_start', fingerprint)) * FROM ops.quarantine
                WHERE table_name = %s AND slice_day BETWEEN %s AND %s AND %s >=
                    CASE WHEN row ->> 'known_at' ~ '^\d{4}-\d{2}-\d{2}' THEN (row ->> 'known_at')::timestamptz ELSE seen_at END
                ORDER BY slice_day, ticker, coalesce(row ->> 'bar_start', fingerprint), seen_at DESC, fingerprint) AS newest
            ORDER BY slice_day, ticker, fingerprint""",
            (name, first, last, as_of),
        ).fetchall()
    frame = pd.DataFrame(rows, columns=["day", "ticker", "bar_start", "reason"])
    return frame.assign(
        day=pd.to_datetime(frame["day"], utc=True),
        bar_start=pd.to_datetime(frame["bar_start"], utc=True, errors="coerce", format="ISO8601"),
    ).astype({"day": UTC, "bar_start": UTC, "ticker": "str", "reason": "str"})
