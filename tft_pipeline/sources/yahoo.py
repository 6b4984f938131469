"""Hourly bars and corporate actions from Yahoo Finance, through yfinance's connection, one ticker a request.

Behind `BarSource`. yfinance keeps the cookie, the crumb and the consent that Yahoo wants, and looks like a browser; the chart itself is
asked for and read here. `Ticker.history` would ask for each ticker's time zone besides, turn a null volume into 0, drop bars without
saying so, and spend 35 ms of one core on a ticker; `yf.download` swallows a 429 and returns an empty frame (FAULTS 17-21).
Yahoo's terms allow personal use; it promises nothing, so every answer is judged before it is believed.
"""

import atexit
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import yfinance
from curl_cffi.requests.exceptions import RequestException
from yfinance.const import _BASE_URL_
from yfinance.data import YfData

from tft_pipeline.config import Settings
from tft_pipeline.contracts import ACTIONS, BARS, TICKER_PATTERN
from tft_pipeline.errors import ConfigError, SourceError
from tft_pipeline.schema import Table
from tft_pipeline.sources import _yahoo_chart as charts
from tft_pipeline.sources._pace import Door, Tally
from tft_pipeline.sources._patience import OutOfPatienceError, Patience
from tft_pipeline.sources._sessions import schedule
from tft_pipeline.sources._yahoo_session import (
    CHART_PATH,
    ChartSession,
    RateLimitedError,
    RefusedError,
    UnusableError,
    YahooTroubleError,
)
from tft_pipeline.sources.protocols import Fetched, Span, Watched, unwatched

CURRENCIES = "24/5"  # the calendar under which tickers are currency pairs
REACH = timedelta(days=730)  # hourly bars; Yahoo answers 422 beyond it
MARGIN = timedelta(minutes=10)  # the reach moves on while we ask
ATTEMPTS = 3  # of one request, when the answer is unusable
SPLITS_STAY_KNOWN = timedelta(hours=1)
STAYS_FRESH = timedelta(minutes=10)  # what one kind of question brought along for the other
CHECK_SYMBOL = (
    "Check the symbol at finance.yahoo.com (share classes take a hyphen: BRK-B) or take it out of TFT_TICKERS."
)

_YFINANCE = threading.Lock()  # its data object, its cache and its configuration exist once a process
_CACHES: list[Path] = []  # at most one


@dataclass(frozen=True)
class _Read:
    """What one ticker's fetch gave, when, and a sentence where something is amiss."""

    at: datetime
    bars: charts.Quotes
    actions: pd.DataFrame
    problem: str
    failed: bool = False


@dataclass(frozen=True)
class _Since:
    """A daily chart from a week before moment: its splits, which of them it has not been restated for, and its days."""

    moment: datetime
    read_at: datetime
    splits: list[charts.Action]
    late: set[pd.Timestamp]
    days: charts.Quotes


class YahooBars:
    """Yahoo's hourly bars as traded.

    `delay`: a bar is taken for finished 15 minutes after its end, since Yahoo shows several exchanges that much late; then it is
    known at bar_end + 15 minutes, or at the moment of reading for bars that ended within the last two hours.
    A ticker is `AAPL` or `BRK-B`; with TFT_CALENDAR=24/7 a crypto pair such as `BTC-USD`, with 24/5 a currency pair such as `EUR-USD`,
    which Yahoo calls EURUSD=X, both in dollars. A ticker's problem is a sentence in `Fetched.problems`, also where rows came with it:
    bars left out, a span cut to Yahoo's reach.
    Yahoo tells of no renames: a ticker that was renamed is an unknown symbol to it, or one that answers as another.
    """

    name = "yahoo"
    simulated = False
    delay = timedelta(minutes=15)

    def __init__(
        self,
        settings: Settings,
        *,
        session: ChartSession | None = None,
        cache_dir: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = 180.0,
        timeout_seconds: float = 10.0,
        connections: int | None = None,
        requests_per_second: float | None = None,
    ) -> None:
        """connections, requests_per_second: of settings.yahoo unless given. cache_dir: where yfinance's private cache is made, $TFT_HOME/cache by default; the first instance of a process decides."""
        self.watched: Watched = unwatched
        self._calendar = settings.calendar
        self._session = session or ChartSession()
        self._now = now
        self._sleep = sleep
        self._patience_seconds = patience_seconds
        self._timeout_seconds = timeout_seconds
        self._connections = connections or settings.yahoo.connections
        self._per_second = settings.yahoo.requests_per_second if requests_per_second is None else requests_per_second
        self._brought: dict[str, dict[tuple[str, datetime, int], _Read]] = {"bars": {}, "actions": {}}
        self._later: dict[str, _Since] = {}
        _private_cache(cache_dir or settings.home / "cache")

    def universe(self) -> tuple[str, ...]:
        """Empty: Yahoo has no list of its own; set TFT_TICKERS."""
        return ()

    def span(self) -> Span | None:
        """None: the reach of 730 days moves on with the clock."""
        return None

    def bars(self, tickers: Sequence[str], span: Span) -> Fetched:
        """contracts.BARS, prices as traded. Raises SourceError when nothing at all can be had."""
        return self._one_kind("bars", BARS, tickers, span)

    def actions(self, tickers: Sequence[str], span: Span) -> Fetched:
        """contracts.ACTIONS. Raises SourceError when nothing at all can be had.

        One answer of Yahoo holds bars and actions: what `bars` or `actions` brought along of the other is handed out once, without asking again.
        """
        return self._one_kind("actions", ACTIONS, tickers, span)

    # ------------------------------------------------------------------------------------------------------------------

    def _one_kind(self, kind: str, table: Table, tickers: Sequence[str], span: Span) -> Fetched:
        wanted = list(dict.fromkeys(tickers))
        if not wanted or span.start >= span.end:
            return Fetched(table.empty(), {})
        now, quarter = self._now(), int(span.end.timestamp()) // 900  # a bar is finished at a quarter of an hour
        fresh = {k: read for k, read in self._brought[kind].items() if now - read.at <= STAYS_FRESH}
        read = {ticker: fresh[key] for ticker in wanted if (key := (ticker, span.start, quarter)) in fresh}
        if missing := [ticker for ticker in wanted if ticker not in read]:
            asked = self._fetch(missing, span, now)
            read |= asked
            for other in self._brought:
                self._brought[other] = {(ticker, span.start, quarter): found for ticker, found in asked.items()}
        self._brought[kind] = {}
        problems = {ticker: sentence for ticker in wanted if (sentence := read[ticker].problem)}
        if all(one.failed for one in read.values()):
            first = wanted[0]
            raise SourceError(
                f"yahoo: none of {len(wanted)} ticker(s) could be read; {first}: {problems[first]}", transient=True
            )
        stacked = self._rows(kind, [(ticker, read[ticker]) for ticker in wanted])
        inside = (stacked[table.time] >= pd.Timestamp(span.start)) & (stacked[table.time] < pd.Timestamp(span.end))
        return Fetched(stacked[inside].sort_values(list(table.key), ignore_index=True), problems)

    def _rows(self, kind: str, read: Sequence[tuple[str, _Read]]) -> pd.DataFrame:
        if kind == "bars":
            return charts.bar_rows(
                [(ticker, one.bars, one.at) for ticker, one in read], source=self.name, delay=self.delay
            )
        some = [one.actions for _, one in read if not one.actions.empty]
        return pd.concat(some, ignore_index=True) if some else ACTIONS.empty()

    def _fetch(self, tickers: Sequence[str], span: Span, now: datetime) -> dict[str, _Read]:
        """Each ticker once, several at a time; a failure is that ticker's alone, save for a limit that outlasts our patience."""
        window, cut = _within_reach(span, now)
        patience = Patience(self._patience_seconds, self._sleep)
        door = Door(patience, per_second=self._per_second, sleep=self._sleep)

        tally = Tally(self.watched, len(tickers))

        def one(ticker: str) -> _Read:
            try:
                return alone(ticker)
            finally:
                tally.one_more()

        def alone(ticker: str) -> _Read:
            if not re.fullmatch(TICKER_PATTERN, ticker):
                return _failed(now, f"{ticker!r} is no ticker; nothing was asked. Write it as in BRK-B or AAPL.")
            try:
                return self._read(ticker, window, now, _Asking(patience, door), cut)
            except RefusedError as error:
                return _failed(now, f"{error}. {CHECK_SYMBOL}")
            except (YahooTroubleError, charts.DamagedChartError) as error:
                return _failed(now, f"{error}. Run the slice again later.")
            except OutOfPatienceError as error:
                return _failed(now, f"not read: {error}. Run the slice again later.")

        if self._connections == 1 or len(tickers) == 1:
            return {ticker: one(ticker) for ticker in tickers}
        with ThreadPoolExecutor(min(self._connections, len(tickers)), thread_name_prefix="yahoo") as pool:
            return dict(zip(tickers, pool.map(one, tickers), strict=True))

    def _read(self, ticker: str, window: Span, now: datetime, asking: "_Asking", cut: str) -> _Read:
        """One ticker's bars and actions within the window, as traded, and what must be said about them."""
        symbol = self._symbol(ticker)
        chart = self._ask(symbol, window, "1h", asking)
        if chart is None:
            self._demand_silence(window, now)
            return _Read(now, charts.no_quotes(), ACTIONS.empty(), f"{cut}." if cut else "")
        meta = chart.get("meta", {})
        if meta.get("symbol") != symbol:
            raise RefusedError(f"Yahoo answers with {meta.get('symbol')!r} instead: renamed")
        if meta.get("currency") != "USD":
            raise RefusedError(f"its prices are in {meta.get('currency')}, not in USD")

        quoted = charts.quotes(chart)
        bars, notes = charts.finished(quoted, now - self.delay)
        listed = charts.actions_of(chart)
        here = [action for action in listed if action.kind == "split"]
        late = charts.not_restated(here, quoted)
        later: list[charts.Action] = []
        if window.end < now - timedelta(hours=1):
            since = self._since(ticker, window.end, now, asking)
            later = [split for split in since.splits if split.effective_at >= window.end]
            late |= charts.late_in_hours(
                later, since.late & {split.effective_at for split in later}, quoted, since.days
            )
        known_days = {split.effective_at.date() for split in here}
        splits = here + [split for split in later if split.effective_at.date() not in known_days]
        if late:
            days = ", ".join(f"{moment:%Y-%m-%d}" for moment in sorted(late))
            notes.append(f"Yahoo has not restated its prices for the split of {days} yet: taken as they stand")
        splits = [split for split in splits if split.effective_at not in late]

        bars = bars.only((bars.start >= window.start.timestamp()) & (bars.start < window.end.timestamp()))
        if not len(bars) and not notes:
            self._demand_silence(window, now)
        held_at = self._now()  # later than `now` by what we had to wait
        inside = [action for action in listed if window.start <= action.effective_at < window.end]
        said = "; ".join([*([cut] if cut else []), *notes])
        return _Read(
            held_at, charts.as_traded(bars, splits), charts.action_rows(inside, ticker, splits, source=self.name, now=held_at),
            f"{said}." if said else "",
        )  # fmt: skip

    def _since(self, ticker: str, moment: datetime, now: datetime, asking: "_Asking") -> "_Since":
        """What happened from the moment until now; one daily chart, kept for an hour."""
        known = self._later.get(ticker)
        if known is None or known.moment > moment or now - known.read_at > SPLITS_STAY_KNOWN:
            # A week more, so that a price from before a split is in sight.
            chart = self._ask(self._symbol(ticker), Span(moment - timedelta(days=7), now), "1d", asking)
            listed = [action for action in charts.actions_of(chart) if action.kind == "split"] if chart else []
            days = charts.quotes(chart) if chart else charts.no_quotes()
            known = _Since(moment, now, listed, charts.not_restated(listed, days), days)
            self._later[ticker] = known
        return known

    def _symbol(self, ticker: str) -> str:
        """Yahoo's name of a ticker. Raises RefusedError for a currency pair without a price in dollars."""
        if self._calendar != CURRENCIES:
            return ticker
        base, _, currency = ticker.partition("-")
        if currency != "USD":
            raise RefusedError(
                f"with TFT_CALENDAR={CURRENCIES} a ticker is a pair in dollars, such as EUR-USD; nothing was asked"
            )
        return f"{base}USD=X"

    def _ask(self, ticker: str, window: Span, interval: str, asking: "_Asking") -> dict[str, Any] | None:
        """One chart, asked for until it is usable; None where Yahoo has no bars in the window."""
        unusable = 0
        while True:
            ticket = asking.door.enter()
            try:
                chart = self._ask_once(ticker, window, interval)
            except RateLimitedError as error:
                asking.door.limited(ticket, str(error), at_least_seconds=error.retry_after_seconds)
            except UnusableError as error:
                unusable += 1
                if unusable == ATTEMPTS:
                    raise UnusableError(f"{error}, {ATTEMPTS} times") from None
                asking.patience.back_off(unusable, f"{ticker}: {error}")
            except RefusedError:
                asking.door.passed()
                raise
            else:
                asking.door.passed()
                return chart

    def _ask_once(self, ticker: str, window: Span, interval: str) -> dict[str, Any] | None:
        url = f"{_BASE_URL_}{CHART_PATH}{ticker}"
        params = {
            "period1": int(window.start.timestamp()), "period2": int(window.end.timestamp()), "interval": interval,
            "includePrePost": False, "events": "div,splits,capitalGains",
        }  # fmt: skip
        with _YFINANCE:
            data = YfData(session=self._session)  # there is one a process, which keeps the session it was given last
        self._session.forget()
        try:
            data.get(url, params=params, timeout=self._timeout_seconds)
        except YahooTroubleError as error:
            if isinstance(error, RefusedError) and "data doesn't exist for" in str(error).lower():
                return None  # listed, but not in this window
            raise
        except RequestException as error:
            raise UnusableError(f"no answer ({type(error).__name__})") from None
        except Exception as error:
            raise UnusableError(f"yfinance fails on the answer ({type(error).__name__}: {str(error)[:120]})") from None
        chart = self._session.chart
        if chart is None:
            raise UnusableError("Yahoo refuses to serve us (HTTP 401 or 403)")
        if "meta" in chart and not chart.get("timestamp"):
            return None  # well formed and without a single bar
        if interval == "1h" and not charts.sessions(chart):
            raise UnusableError("the chart has no trading periods: no telling when its bars end")
        return chart

    def _demand_silence(self, window: Span, now: datetime) -> None:
        """Empty is success only where the calendar has no session with a finished hour inside the window."""
        latest = pd.Timestamp(min(window.end, now - self.delay)) - timedelta(hours=1)
        sessions = schedule(self._calendar, window.start.date(), window.end.date())
        expected = int(((sessions["open"] <= latest) & (sessions["close"] > pd.Timestamp(window.start))).sum())
        if expected:
            raise RefusedError(
                f"Yahoo has no bars from {window.start:%Y-%m-%d %H:%M}Z to {window.end:%Y-%m-%d %H:%M}Z, "
                f"where the calendar {self._calendar} has {expected} session(s)"
            )


@dataclass(frozen=True)
class _Asking:
    """What one fetch may spend, on waiting and on requests, whichever ticker it is for."""

    patience: Patience
    door: Door


def _within_reach(span: Span, now: datetime) -> tuple[Span, str]:
    """span cut to what Yahoo can serve, and a sentence where that lost something."""
    reach = now - REACH + MARGIN
    if span.end <= reach:
        raise SourceError(
            f"yahoo: hourly bars reach back 730 days, to {reach:%Y-%m-%d}; asked for {span.start:%Y-%m-%d} to {span.end:%Y-%m-%d}. "
            "Set TFT_START later, or bring older bars with TFT_MARKET=files:FOLDER."
        )
    end = min(span.end, now)
    if span.start >= end:
        raise SourceError(
            f"yahoo: the span from {span.start:%Y-%m-%d %H:%M}Z to {span.end:%Y-%m-%d %H:%M}Z has not begun; wait."
        )
    if span.start < reach:
        return Span(reach, end), f"hourly bars reach back 730 days: cut to begin {reach:%Y-%m-%d %H:%M}Z"
    return Span(span.start, end), ""


def _failed(at: datetime, problem: str) -> _Read:
    return _Read(at, charts.no_quotes(), ACTIONS.empty(), problem, failed=True)


def _private_cache(parent: Path) -> None:
    """A folder of this process alone: yfinance pickles cookies into its cache, and two processes lock each other out (FAULTS 25)."""
    with _YFINANCE:
        if _CACHES:
            return  # yfinance keeps the database that it opened first
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="yahoo-", dir=parent))  # mkdtemp makes it 0700
        except OSError as error:
            raise ConfigError(
                f"yahoo: no folder can be made in {parent} ({error.strerror}); set TFT_HOME to a place you may write."
            ) from None
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        yfinance.set_tz_cache_location(str(folder))
        _CACHES.append(folder)
