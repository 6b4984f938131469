"""Hourly bars and corporate actions from Massive (massive.com, until October 2025 Polygon.io), bars one ticker a request.

Behind `BarSource`. The key comes from TFT_MASSIVE_API_KEY, travels in a header, and goes to one host only. Prices are asked for as
traded. Minute bars are joined to the hours of the exchange's own session, pre- and post-market trade left out; what Massive calls an
hour is a clock hour, whose first bar in New York holds half an hour of trade from before the opening.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import numpy as np
import pandas as pd

from tft_pipeline.config import Settings
from tft_pipeline.contracts import ACTIONS, BARS, TICKER_PATTERN
from tft_pipeline.errors import SourceError
from tft_pipeline.schema import Table, concat
from tft_pipeline.sources import _massive_answers as answers
from tft_pipeline.sources._massive_client import (
    Kept,
    MassiveClient,
    MassiveTroubleError,
    NotAuthorizedError,
    RefusedError,
    key_of,
)
from tft_pipeline.sources._pace import Door, Tally
from tft_pipeline.sources._patience import OutOfPatienceError, Patience
from tft_pipeline.sources._sessions import HOUR_SECONDS, Hours, hours, schedule
from tft_pipeline.sources._yahoo_chart import Action, Quotes, action_rows, bar_rows, no_quotes
from tft_pipeline.sources.protocols import Fetched, Span, Watched, unwatched

CONNECTIONS = 8
PAGE_ROWS = 50_000  # minutes that one page may hold, the most that Massive allows
MOST_PAGES = 10  # where one is enough
SETTLED = timedelta(days=1)  # by then every plan has the data, the one of the end of the day too
TOGETHER_FROM = (
    10  # tickers: from so many on, recent actions of the whole market are fewer pages than one request a ticker
)
TOGETHER_WITHIN = timedelta(days=31)  # a month of the market's dividends fills a few pages
A_WEEK = timedelta(days=7)  # an action of a holiday takes effect with the next session
CHECK_SYMBOL = "Check the symbol at massive.com (share classes take a dot: BRK.B) or take it out of TFT_TICKERS."
CHECK_KEY = "Check TFT_MASSIVE_API_KEY, and at massive.com/dashboard that its plan reaches this market and as far back as TFT_START."

_PAIR_PREFIX = {"24/7": "X:", "24/5": "C:"}  # crypto, foreign exchange


@dataclass(frozen=True)
class _Read:
    """What one ticker's fetch gave, when, and what must be said about it."""

    at: datetime
    bars: Quotes
    actions: pd.DataFrame
    notes: tuple[str, ...] = ()
    reached: int | None = None  # seconds since 1970: where a delayed answer ends; None: it is as of now
    failure: Exception | None = None


class MassiveBars:
    """Massive's bars by the hour, as traded, on the grid that settings.massive.bars chooses (see `hours` in _sessions.py).

    `delay`: a bar is taken for finished 15 minutes after its end, and is then known at bar_end + 15 minutes, or at the moment of
    reading for bars that ended within the last two hours. Where the key's plan serves late (status DELAYED), a bar of the last day is
    returned only once some ticker of the same call traded after its end: until then its own last minutes may be missing.
    With bars="hour" the first bar of a New York session, 09:00, holds pre-market trade, and the one to 16:00 closes with the session.
    A ticker is `AAPL`, `BRK.B` or `BRK-B`; with TFT_CALENDAR=24/7 a crypto pair such as `BTC-USD`, with 24/5 a currency pair such as
    `EUR-USD`, both in dollars. A ticker's problem is a sentence in `Fetched.problems`, also where rows came with it.
    """

    name = "massive"
    simulated = False
    delay = timedelta(minutes=15)

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = 180.0,
        timeout_seconds: float = 10.0,
        connections: int = CONNECTIONS,
        together_from: int = TOGETHER_FROM,
    ) -> None:
        """patience_seconds: waits that trouble may cost a call in all; keeping to requests_per_minute is not among them.

        Raises ConfigError without a key.
        """
        key_of(settings.massive)
        self.watched: Watched = unwatched
        self._calendar = settings.calendar
        self._settings = settings.massive
        self._now = now
        self._sleep = sleep
        self._patience_seconds = patience_seconds
        self._timeout_seconds = timeout_seconds
        self._connections = connections
        self._together_from = together_from
        self._kept = Kept(lambda: now().timestamp())
        self._door: Door | None = None

    def universe(self) -> tuple[str, ...]:
        """Empty: Massive lists every stock there is; set TFT_TICKERS."""
        return ()

    def span(self) -> Span | None:
        """None: how far back a key reaches depends on its plan."""
        return None

    def bars(self, tickers: Sequence[str], span: Span) -> Fetched:
        """contracts.BARS, prices as traded. Raises SourceError when nothing at all can be had."""
        now = self._now()
        wanted = hours(self._calendar, span, by_the_clock=self._settings.bars == "hour")
        wanted = wanted.only(wanted.end <= (now - self.delay).timestamp())
        read = self._fetch(tickers, lambda ticker, client: self._bars(ticker, wanted, now, client))
        read = _as_far_as_reached(read, now)
        rows = bar_rows(
            [(ticker, one.bars, one.at) for ticker, one in read.items()], source=self.name, delay=self.delay
        )
        return self._together(read, rows, BARS)

    def actions(self, tickers: Sequence[str], span: Span) -> Fetched:
        """contracts.ACTIONS, each at the opening of the first session under it; none of currency and crypto pairs. Raises as `bars`."""
        opens = schedule(self._calendar, span.start.date(), span.end.date())["open"]
        many = len(set(tickers)) >= self._together_from and span.end - span.start <= TOGETHER_WITHIN
        listed = _OfTheMarket() if many else None
        read = self._fetch(tickers, lambda ticker, client: self._actions(ticker, span, opens, client, listed))
        return self._together(read, concat([one.actions for one in read.values()], ACTIONS), ACTIONS)

    # ------------------------------------------------------------------------------------------------------------------

    def _fetch(self, tickers: Sequence[str], ask: Callable[[str, MassiveClient], _Read]) -> dict[str, _Read]:
        """Each ticker once, several at a time, in the order asked; a failure is that ticker's alone, save for a refused key."""
        wanted = list(dict.fromkeys(tickers))
        if not wanted:
            return {}
        patience = Patience(self._patience_seconds, self._sleep)
        self._door = Door(
            patience, per_second=self._settings.requests_per_minute / 60, sleep=self._sleep, after=self._door
        )

        tally = Tally(self.watched, len(wanted))

        def one(ticker: str) -> _Read:
            try:
                return ask(ticker, client)
            except (MassiveTroubleError, answers.DamagedAnswerError, OutOfPatienceError) as error:
                return _Read(self._now(), no_quotes(), ACTIONS.empty(), failure=error)
            finally:
                tally.one_more()

        with (
            MassiveClient(
                self._settings,
                patience=patience,
                door=self._door,
                kept=self._kept,
                timeout_seconds=self._timeout_seconds,
            ) as client,
            ThreadPoolExecutor(min(self._connections, len(wanted)), thread_name_prefix="massive") as pool,
        ):
            return dict(zip(wanted, pool.map(one, wanted), strict=True))

    def _together(self, read: dict[str, _Read], rows: pd.DataFrame, table: Table) -> Fetched:
        problems = {ticker: sentence for ticker, one in read.items() if (sentence := _sentence(one))}
        failures = [one.failure for one in read.values() if one.failure]
        if read and len(failures) == len(read):
            first, sentence = next(iter(problems.items()))
            raise SourceError(
                f"massive: none of {len(read)} ticker(s) could be read; {first}: {sentence}",
                transient=not all(isinstance(failure, NotAuthorizedError) for failure in failures),
            )
        return Fetched(rows.sort_values(list(table.key), ignore_index=True), problems)

    def _bars(self, ticker: str, wanted: Hours, now: datetime, client: MassiveClient) -> _Read:
        """One ticker's hours that are among those wanted."""
        symbol = self._symbol(ticker)
        if not len(wanted):
            return _Read(now, no_quotes(), ACTIONS.empty())
        unit = self._settings.bars
        # An hour more shows, where there was trade, that the answer reaches past the end of the last bar.
        since, until = int(wanted.start[0]), min(int(wanted.end[-1]) + HOUR_SECONDS, int(now.timestamp()))
        path = f"/v2/aggs/ticker/{quote(symbol, safe=':')}/range/1/{unit}/{since * 1000}/{until * 1000 - 1}"
        query = urlencode({"adjusted": "false", "sort": "asc", "limit": PAGE_ROWS})
        pages, delayed = [], False
        for answer in client.pages(f"{path}?{query}", most=MOST_PAGES + (until - since) // 60 // PAGE_ROWS * 4):
            if answer.get("ticker") != symbol:
                raise RefusedError(f"Massive answers with {str(answer.get('ticker'))[:40]!r} instead: renamed")
            if answer.get("adjusted") is not False:
                raise answers.DamagedAnswerError(
                    "Massive's prices are adjusted for splits, though they were asked for as traded"
                )
            pages.append(answers.served(answer.get("results")))
            delayed |= answer["status"] == "DELAYED"
        found = answers.together(pages)
        bars = answers.as_served(found, wanted) if unit == "hour" else answers.by_the_hour(found, wanted)
        notes = tuple(answers.notes_on(found, unit))
        if not len(bars) and not notes:
            late = "; a plan of end-of-day data has them after the close" if delayed else ""
            raise RefusedError(
                f"Massive has no bars from {_moment(wanted.start[0])} to {_moment(wanted.end[-1])}, "
                f"where the calendar {self._calendar} has {len(wanted)} hour(s) of trade{late}"
            )
        reached = int(found.start[-1]) if len(found) else 0
        return _Read(self._now(), bars, ACTIONS.empty(), notes, reached if delayed else None)

    def _actions(
        self, ticker: str, span: Span, opens: pd.Series, client: MassiveClient, listed: "_OfTheMarket | None"
    ) -> _Read:
        """One ticker's splits and dividends within the span."""
        symbol = self._symbol(ticker)
        if self._calendar in _PAIR_PREFIX:
            return _Read(self._now(), no_quotes(), ACTIONS.empty())
        found: list[Action] = []
        left_out: Counter[str] = Counter()
        since = f"{span.start - A_WEEK:%Y-%m-%d}"
        for kind, day, read in (
            ("splits", "execution_date", answers.splits_of),
            ("dividends", "ex_dividend_date", answers.dividends_of),
        ):
            about = {f"{day}.gte": since, "limit": 1000, "sort": day, "order": "asc"}
            if listed is not None:
                results = listed.of(symbol, f"/v3/reference/{kind}?{urlencode(about)}", client)
            else:
                results = _rows(f"/v3/reference/{kind}?{urlencode({'ticker': symbol, **about})}", client)
            some, without = read(results, symbol, opens)
            found += some
            left_out += without
        inside = [action for action in found if span.start <= action.effective_at < span.end]
        at = self._now()
        rows = action_rows(inside, ticker, (), source=self.name, now=at)
        return _Read(at, no_quotes(), rows, tuple(f"{count} {what} left out" for what, count in left_out.items()))

    def _symbol(self, ticker: str) -> str:
        """Massive's name of a ticker. Raises RefusedError for what must not become a path (FAULTS 26) or has no price in dollars."""
        if not re.fullmatch(TICKER_PATTERN.removesuffix("$"), ticker):
            raise RefusedError(f"{ticker[:40]!r} is no ticker; nothing was asked. Write it as in BRK.B or AAPL")
        prefix = _PAIR_PREFIX.get(self._calendar)
        if prefix is None:
            return ticker.replace("-", ".")
        base, _, currency = ticker.partition("-")
        if currency != "USD":
            raise RefusedError(
                f"with TFT_CALENDAR={self._calendar} a ticker is a pair in dollars, such as BTC-USD or EUR-USD; nothing was asked"
            )
        return f"{prefix}{base}{currency}"


class _OfTheMarket:
    """Answers about every ticker, each asked for once, by whichever thread comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, dict[object, list[object]] | Exception] = {}

    def of(self, symbol: str, path: str, client: MassiveClient) -> list[object]:
        """The symbol's rows. Raises for every symbol what was raised for the first: another try would meet the same."""
        with self._lock:
            if path not in self._found:
                self._found[path] = self._asked(path, client)
            found = self._found[path]
        if isinstance(found, Exception):
            raise found
        return found.get(symbol, [])

    @staticmethod
    def _asked(path: str, client: MassiveClient) -> dict[object, list[object]] | Exception:
        by_symbol: dict[object, list[object]] = {}
        try:
            for row in _rows(path, client):
                if isinstance(row, dict) and isinstance(row.get("ticker"), str):  # else it is nobody's
                    by_symbol.setdefault(row["ticker"], []).append(row)
        except (MassiveTroubleError, answers.DamagedAnswerError, OutOfPatienceError) as error:
            return error
        return by_symbol


def _rows(path: str, client: MassiveClient) -> list[object]:
    """The rows of all pages."""
    return [
        row
        for answer in client.pages(path, most=MOST_PAGES, keeping=True)
        for row in answers.listed(answer.get("results"))
    ]


def _as_far_as_reached(read: dict[str, _Read], now: datetime) -> dict[str, _Read]:
    """read without the bars that a delayed answer may have cut short: it reaches as far as its newest trade of any ticker."""
    late = [one.reached for one in read.values() if one.reached is not None]
    if not late:
        return read
    reached = max(*late, int((now - SETTLED).timestamp()))
    cut = {}
    for ticker, one in read.items():
        over = one.bars.end <= reached
        if one.reached is None or over.all():
            continue
        note = (
            f"{int(np.sum(~over))} bar(s) left out: the key's plan serves late, and its trade ends {_moment(max(late))}"
        )
        cut[ticker] = replace(one, bars=one.bars.only(over), notes=(*one.notes, note))
    return {**read, **cut}


def _sentence(one: _Read) -> str:
    match one.failure:
        case None:
            said = "; ".join(one.notes)
            return f"{said}." if said else ""
        case NotAuthorizedError():
            return f"{one.failure}. {CHECK_KEY}"
        case RefusedError():
            return f"{one.failure}. {CHECK_SYMBOL}"
        case OutOfPatienceError():
            return f"not read: {one.failure}. Run the slice again later."
    return f"{one.failure}. Run the slice again later."


def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%d %H:%M}Z"
