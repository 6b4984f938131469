"""Who is followed, since when and until when: `ops.universe`.

What belongs here: the intervals, and the one way in which they change. What does not: what membership means to a bar or a post, which
is `orchestration.membership`. A ticker is followed (its bars are fetched) from added_at on, and a member (it counts in the market's
means and is forecast) from member_from on, which comes when its history is there. Intervals are closed, never deleted; they begin and
end no earlier than they are noted, so who was a member at a past moment never changes.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg.rows import TupleRow

from tft_pipeline.contracts import TICKER_PATTERN
from tft_pipeline.errors import ConfigError, StorageError
from tft_pipeline.storage.database import Database

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)  # no partition is older; Python knows no -infinity
_CLOCKS_DIFFER = timedelta(minutes=1)
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('tft-pipeline universe', 0))"
_TICKER = re.compile(TICKER_PATTERN.removesuffix("$"))


@dataclass(frozen=True)
class Interval:
    """A stretch of time in which a ticker is followed; the end is excluded. None: not yet."""

    ticker: str
    added_at: datetime
    member_from: datetime | None
    removed_at: datetime | None

    def followed(self, moment: datetime) -> bool:
        return self.added_at <= moment and (self.removed_at is None or moment < self.removed_at)

    def member(self, moment: datetime) -> bool:
        return self.followed(moment) and self.member_from is not None and self.member_from <= moment


@dataclass(frozen=True)
class Changed:
    """What `add` or `remove` did: tickers for which it changed something, and those for which all was so already."""

    done: tuple[str, ...]
    already: tuple[str, ...]


def intervals(database: Database) -> tuple[Interval, ...]:
    """All of them, in the order in which tickers were named; empty where the universe was never changed."""
    with database.connect() as connection:
        return _read(connection)


def members(database: Database, as_of: datetime) -> tuple[str, ...]:
    """Tickers that counted at a moment, in the order in which they were named; empty where the universe was never changed."""
    return tuple(one.ticker for one in intervals(database) if one.member(as_of))


def add(database: Database, tickers: Sequence[str], *, at: datetime, current: Callable[[], Sequence[str]]) -> Changed:
    """Follow these tickers from `at` on; who is followed already stays as it is.

    current: who is followed while the table is empty; the first change of all notes them, and everybody of whom there are bars, as
    members from the beginning. Raises ConfigError for what is no ticker, StorageError where `at` lies before the last change.
    """
    wanted = checked(tickers)
    with database.connect() as connection:
        held, moment = _begin(connection, at, current)
        open_now = {one.ticker for one in held if one.removed_at is None}
        new = [ticker for ticker in wanted if ticker not in open_now]
        _insert(connection, [Interval(ticker, moment, None, None) for ticker in new], after=len(held))
    return Changed(tuple(new), tuple(ticker for ticker in wanted if ticker in open_now))


def remove(
    database: Database, tickers: Sequence[str], *, at: datetime, current: Callable[[], Sequence[str]]
) -> Changed:
    """Follow these tickers until `at` and no longer; who was removed already stays as it is.

    current, errors: as for add. Raises ConfigError, too, for a ticker that never was in the universe, and where nobody would be left.
    """
    wanted = checked(tickers)
    with database.connect() as connection:
        held, moment = _begin(connection, at, current)
        known, open_now = {one.ticker for one in held}, {one.ticker for one in held if one.removed_at is None}
        for ticker in wanted:
            if ticker not in known:
                raise ConfigError(f"{ticker!r} never was in the universe; it holds {_shown(sorted(open_now))}.")
        if not open_now - set(wanted):
            raise ConfigError("this would leave nobody in the universe; add who is to be followed first.")
        gone = [ticker for ticker in wanted if ticker in open_now]
        connection.execute(
            "UPDATE ops.universe SET removed_at = %s WHERE ticker = ANY(%s::text[]) AND removed_at IS NULL",
            (moment, gone),
        )
    return Changed(tuple(gone), tuple(ticker for ticker in wanted if ticker not in open_now))


def admit(database: Database, tickers: Sequence[str], *, at: datetime) -> tuple[str, ...]:
    """Make members, from `at` on, of those of tickers that are followed and are none yet; who became one. Again: nobody."""
    with database.connect() as connection:
        connection.execute(_LOCK)
        rows = connection.execute(
            """
            UPDATE ops.universe SET member_from = greatest(%s, added_at)
            WHERE ticker = ANY(%s::text[]) AND removed_at IS NULL AND member_from IS NULL RETURNING ticker, place""",
            (at, list(tickers)),
        ).fetchall()
    return tuple(ticker for ticker, _ in sorted(rows, key=lambda row: row[1]))


def checked(tickers: Sequence[str]) -> list[str]:
    """tickers, each once. Raises ConfigError for what cannot be one: a ticker becomes part of a request's path (FAULTS 26)."""
    for ticker in tickers:
        if not _TICKER.fullmatch(ticker):
            raise ConfigError(
                f"{ticker!r} is no ticker; tickers are upper case and match {TICKER_PATTERN}, such as AAPL or BRK.B."
            )
    if not tickers:
        raise ConfigError("no ticker was named; name one or more, such as AAPL.")
    return list(dict.fromkeys(tickers))


def _begin(
    connection: psycopg.Connection[TupleRow], at: datetime, current: Callable[[], Sequence[str]]
) -> tuple[tuple[Interval, ...], datetime]:
    """Lock out other changes; the intervals, made of who is followed now where there are none yet, and the moment of this change."""
    connection.execute(_LOCK)
    held = _read(connection)
    if not held:
        held = _first(connection, at, current())
        _insert(connection, held, after=0)
    noted = [moment for one in held for moment in (one.added_at, one.removed_at) if moment is not None]
    newest = max(noted)
    if newest - at > _CLOCKS_DIFFER:
        raise StorageError(
            f"ops.universe was changed at {newest:%Y-%m-%d %H:%M:%S} UTC, which is later than now ({at:%Y-%m-%d %H:%M:%S} UTC by this "
            "machine's clock). What is past cannot be changed: set the clock right, then run it again."
        )
    return held, max(at, newest + timedelta(microseconds=1))


def _first(connection: psycopg.Connection[TupleRow], at: datetime, current: Sequence[str]) -> tuple[Interval, ...]:
    """Whoever has bars has counted up to now, although it may be followed no longer."""
    with_bars = connection.execute('SELECT DISTINCT ticker COLLATE "C" FROM market.bars ORDER BY 1').fetchall()
    gone = [str(ticker) for (ticker,) in with_bars if ticker not in set(current)]
    return (
        *(Interval(ticker, BEGINNING, BEGINNING, None) for ticker in dict.fromkeys(current)),
        *(Interval(ticker, BEGINNING, BEGINNING, at) for ticker in gone),
    )


def _insert(connection: psycopg.Connection[TupleRow], rows: Sequence[Interval], *, after: int) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ops.universe (ticker, added_at, member_from, removed_at, place) VALUES (%s, %s, %s, %s, %s)",
            [
                (one.ticker, one.added_at, one.member_from, one.removed_at, place)
                for place, one in enumerate(rows, start=after + 1)
            ],
        )


def _read(connection: psycopg.Connection[TupleRow]) -> tuple[Interval, ...]:
    rows = connection.execute(
        "SELECT ticker::text, added_at, member_from, removed_at FROM ops.universe ORDER BY place"
    ).fetchall()
    return tuple(Interval(*row) for row in rows)


def _shown(tickers: Sequence[str]) -> str:
    return ", ".join(tickers[:12]) + (f" … ({len(tickers)} in all)" if len(tickers) > 12 else "")
