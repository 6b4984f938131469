"""Looking back: each refresh of the newest day asks for some days before it as well, in the same request.

What belongs here: how far back, one request for both, and what a failure of either costs. What becomes of the answer: `restating`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import BARS
from tft_pipeline.errors import SourceError
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import Table
from tft_pipeline.sources.protocols import Fetched, Span
from tft_pipeline.storage.staleness import stale_days, written_days

Ask = Callable[[Sequence[str], Span], Fetched]
Say = Callable[[str], None]

_HOUR = timedelta(hours=1)
_LONGEST_HOLIDAYS = timedelta(days=14)


def overlap_start(pipeline: Pipeline, window: Window) -> datetime:
    """The midnight from which on is asked: settings.market_overlap_days sessions before the window where it holds the newest day.

    No further back than bars were ever written without a gap; the window's own start where nothing is to be looked at.
    """
    count = pipeline.settings.market_overlap_days
    newest = (pipeline.now() - pipeline.bars.delay).astimezone(UTC).date()
    if not count or window.days[-1] < newest:
        return window.start
    since = (window.start - _LONGEST_HOLIDAYS - timedelta(days=2 * count)).date()
    sessions = pipeline.calendar.sessions(since, window.days[0])
    opened = sessions.loc[sessions["session_open"] < window.start, "session_open"].tail(count)
    if opened.empty:
        return window.start
    start = opened.iloc[0].floor("D").to_pydatetime()
    yesterday = window.days[0] - timedelta(days=1)
    written = set(written_days(pipeline.database, BARS, first=start.date(), last=yesterday))
    while start < window.start and start.date() not in written:
        start += timedelta(days=1)
    return start if start < window.start else window.start


@dataclass(frozen=True)
class Asked:
    """What one request for both gave. absent: tickers whose part of the window could not be had."""

    rows: pd.DataFrame
    problems: dict[str, str]
    absent: frozenset[str]
    table: Table
    window: Window
    start: datetime

    @property
    def inside(self) -> pd.DataFrame:
        """The window's rows."""
        return self.rows[self.rows[self.table.time] >= self.window.start].reset_index(drop=True)

    @property
    def before(self) -> pd.DataFrame:
        """Those of the overlap."""
        return self.rows[self.rows[self.table.time] < self.window.start].reset_index(drop=True)

    @property
    def days(self) -> list[date]:
        """Of the overlap, ascending."""
        return [(self.start + timedelta(days=n)).date() for n in range((self.window.start - self.start).days)]


def ask(pipeline: Pipeline, window: Window, table: Table, source: Ask, *, say: Say) -> Asked:
    """The window's rows and the overlap's, in one request. What is amiss with the overlap is said, and costs the window nothing.

    Whose bars of the window are lacking is asked for the window alone: once more, and as if there were no overlap. Raises SourceError
    where nothing of the window can be had.
    """
    tickers, start = pipeline.tickers, overlap_start(pipeline, window)
    alone = Span(window.start, window.moment)
    if start == window.start:
        fetched = source(tickers, alone)
        rows, problems = fetched.frame, dict(fetched.problems)
    else:
        rows, problems = _both(pipeline, window, table, source, start=start, say=say)
    there = set(rows.loc[rows[table.time] >= window.start, "ticker"])
    absent = frozenset(problems.keys() - there)
    return Asked(rows, problems, absent, table, window, start)


def _both(
    pipeline: Pipeline, window: Window, table: Table, source: Ask, *, start: datetime, say: Say
) -> tuple[pd.DataFrame, dict[str, str]]:
    tickers, alone = pipeline.tickers, Span(window.start, window.moment)
    try:
        fetched = source(tickers, Span(start, window.moment))
    except SourceError as error:
        say(f"the days from {start:%Y-%m-%d} on could not be looked at again, the next refresh tries to: {error}")
        fetched = source(tickers, alone)
        return fetched.frame, dict(fetched.problems)
    rows, problems = fetched.frame, dict(fetched.problems)
    there = set(rows.loc[rows[table.time] >= window.start, "ticker"])
    must = _bars_are_due(pipeline, window)
    # Most tickers have no action on most days: there, silence says nothing.
    again = (
        [ticker for ticker in tickers if ticker not in there and (must or ticker in problems)] if table is BARS else []
    )
    if not again:
        return rows, problems
    try:
        instead = source(again, alone)
    except SourceError as error:
        if len(again) == len(tickers):
            raise
        instead = Fetched(table.empty(), {ticker: problems.get(ticker, str(error)) for ticker in again})
    for ticker in again:
        if ticker in problems and ticker not in instead.problems:
            say(
                f"{ticker}: the days from {start:%Y-%m-%d} on could not be looked at again, the next refresh tries to: {problems[ticker]}"
            )
    kept = {ticker: said for ticker, said in problems.items() if ticker not in again}
    both = schema.concat([rows, instead.frame], table).sort_values(list(table.key), ignore_index=True)
    return both, {**kept, **instead.problems}


def _bars_are_due(pipeline: Pipeline, window: Window) -> bool:
    """Whether the calendar has a session with a finished hour inside the window."""
    latest = min(window.end, pipeline.now() - pipeline.bars.delay) - _HOUR
    sessions = pipeline.calendar.sessions((window.start - _LONGEST_HOLIDAYS).date(), (window.end + 24 * _HOUR).date())
    inside = (sessions["session_open"] <= latest) & (sessions["session_close"] > window.start)
    return bool(inside.any())


def missing_for_good(pipeline: Pipeline, asked: Asked, held: pd.DataFrame, left_out: Iterable[str]) -> set[str]:
    """Tickers without which the window's bars are not complete.

    held: bars of the window that are stored. left_out: tickers whose bars of the window may not be written. A window that was complete is
    so still, when a ticker of which it holds bars cannot be read this once.
    """
    absent = set(asked.absent) | set(left_out)
    days = asked.window.days
    if not absent or stale_days(pipeline.database, [asked.table], first=days[0], last=days[-1], due=asked.window.end):
        return absent
    return absent - set(held["ticker"])
