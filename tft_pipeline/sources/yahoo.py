"""Hourly bars and corporate actions from Yahoo Finance, through yfinance, one ticker at a time.

Behind `BarSource`. `Ticker.history` is asked, never `yf.download`, which swallows a 429 and returns an empty frame (FAULTS 18).
Yahoo's terms allow personal use; it promises nothing, so every answer is judged before it is believed.
"""

import atexit
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import exchange_calendars
import pandas as pd
import yfinance
from curl_cffi.requests.exceptions import RequestException
from yfinance.data import YfData
from yfinance.exceptions import YFException

from tft_pipeline import contracts
from tft_pipeline.config import Settings
from tft_pipeline.errors import SourceError
from tft_pipeline.sources import _yahoo_chart as charts
from tft_pipeline.sources._patience import OutOfPatienceError, Patience
from tft_pipeline.sources._yahoo_session import (
    ChartSession,
    RateLimitedError,
    RefusedError,
    UnusableError,
    YahooTroubleError,
)
from tft_pipeline.sources.protocols import Fetched, Span

REACH = timedelta(days=730)  # hourly bars; Yahoo answers 422 beyond it
MARGIN = timedelta(minutes=10)  # the reach moves on while we ask
ATTEMPTS = 3  # of one request, when the answer is unusable
SPLITS_STAY_KNOWN = timedelta(hours=1)

_YFINANCE = threading.Lock()  # its data object, its cache and its configuration exist once a process
_CACHES: list[Path] = []  # at most one


@dataclass
class _Ticker:
    bars: pd.DataFrame = field(default_factory=contracts.BARS.empty)
    actions: pd.DataFrame = field(default_factory=contracts.ACTIONS.empty)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Chart:
    history: pd.DataFrame
    raw: dict[str, Any]


class YahooBars:
    """Yahoo's hourly bars as traded.

    `delay`: a bar is taken for finished 15 minutes after its end, since Yahoo shows several exchanges that much late; then it is
    known at bar_end + 15 minutes, or at the moment of reading for bars that ended within the last two hours.
    A ticker's problem is a sentence in `Fetched.problems`, also where rows came with it: bars left out, a span cut to Yahoo's reach.
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
    ) -> None:
        """cache_dir: where yfinance's private cache is made, $TFT_HOME/cache by default; the first instance of a process decides."""
        self._calendar = settings.calendar
        self._session = session or ChartSession()
        self._now = now
        self._sleep = sleep
        self._patience_seconds = patience_seconds
        self._timeout_seconds = timeout_seconds
        self._brought: dict[tuple[str, Span], tuple[pd.DataFrame, str | None]] = {}
        self._splits_since: dict[str, tuple[datetime, datetime, list[charts.Action], set[pd.Timestamp]]] = {}
        _private_cache(cache_dir or settings.home / "cache")

    def universe(self) -> tuple[str, ...]:
        """Empty: Yahoo has no list of its own; set TFT_TICKERS."""
        return ()

    def span(self) -> Span | None:
        """None: the reach of 730 days moves on with the clock."""
        return None

    def bars(self, tickers: Sequence[str], span: Span) -> Fetched:
        """contracts.BARS, prices as traded. Raises SourceError when nothing at all can be had."""
        found, problems = self._fetch(tickers, span)
        self._brought = _by_ticker(tickers, span, found, problems)
        return Fetched(_stacked([read.bars for read in found.values()], contracts.BARS), problems)

    def actions(self, tickers: Sequence[str], span: Span) -> Fetched:
        """contracts.ACTIONS. What the last `bars` of the same span brought along is handed out, once, without asking again."""
        brought = {
            ticker: self._brought.pop((ticker, span)) for ticker in set(tickers) if (ticker, span) in self._brought
        }
        missing = [ticker for ticker in tickers if ticker not in brought]
        if missing:
            found, problems = self._fetch(missing, span)
            brought |= {key[0]: value for key, value in _by_ticker(missing, span, found, problems).items()}
        said = {ticker: problem for ticker, (_, problem) in brought.items() if problem}
        return Fetched(_stacked([frame for frame, _ in brought.values()], contracts.ACTIONS), said)

    # ------------------------------------------------------------------------------------------------------------------

    def _fetch(self, tickers: Sequence[str], span: Span) -> tuple[dict[str, _Ticker], dict[str, str]]:
        now = self._now()
        window, cut = _within_reach(span, now)
        patience = Patience(self._patience_seconds, self._sleep)
        wanted = list(dict.fromkeys(tickers))
        found: dict[str, _Ticker] = {}
        problems: dict[str, str] = {}
        for position, ticker in enumerate(wanted):
            if not re.fullmatch(contracts.TICKER_PATTERN, ticker):
                problems[ticker] = f"{ticker!r} is no ticker; nothing was asked. Write it as in BRK-B or AAPL."
                continue
            try:
                found[ticker] = self._read(ticker, window, now, patience)
            except (YahooTroubleError, charts.DamagedChartError) as error:
                problems[ticker] = f"{error}. {_remedy(error)}"
            except OutOfPatienceError as error:
                # Every further question would meet the same closed door.
                for left in wanted[position:]:
                    problems[left] = f"not read: {error}. Run the slice again later."
                break
            else:
                if sentences := [*([cut] if cut else []), *found[ticker].notes]:
                    problems[ticker] = "; ".join(sentences) + "."
        if wanted and not found:
            first, why = next(iter(problems.items()))
            raise SourceError(f"yahoo: none of {len(wanted)} ticker(s) could be read; {first}: {why}")
        return found, problems

    def _read(self, ticker: str, window: Span, now: datetime, patience: Patience) -> _Ticker:
        """One ticker's bars and actions within the window, as traded."""
        chart = self._ask(ticker, window, "1h", patience)
        read = _Ticker()
        if chart is None:
            self._demand_silence(window, now)
            return read
        answered = chart.raw.get("meta", {}).get("symbol")
        if answered != ticker:
            raise RefusedError(f"Yahoo answers with {answered!r} instead: renamed")
        currency = chart.raw.get("meta", {}).get("currency")
        if currency != "USD":
            raise RefusedError(f"its prices are in {currency}, not in USD")

        bars, read.notes = charts.ohlcv(chart.history, chart.raw, finished_by=now - self.delay)
        listed = charts.actions_of(chart.raw)
        here = [action for action in listed if action.kind == "split"]
        late = charts.not_restated(here, bars)
        later: list[charts.Action] = []
        if window.end < now - timedelta(hours=1):
            later, late_days = self._splits_after(ticker, window.end, now, patience)
            late |= late_days
        splits = here + [
            split for split in later if split.effective_at.date() not in {s.effective_at.date() for s in here}
        ]
        if late:
            days = ", ".join(f"{moment:%Y-%m-%d}" for moment in sorted(late))
            read.notes.append(f"Yahoo has not restated its prices for the split of {days} yet: taken as they stand")
        splits = [split for split in splits if split.effective_at not in late]

        bars = bars[(bars["bar_start"] >= pd.Timestamp(window.start)) & (bars["bar_start"] < pd.Timestamp(window.end))]
        if bars.empty and not read.notes:
            self._demand_silence(window, now)
        read.bars = charts.bar_rows(
            charts.as_traded(bars, splits), ticker, source=self.name, delay=self.delay, now=now
        )  # fmt: skip
        inside = [action for action in listed if window.start <= action.effective_at < window.end]
        read.actions = charts.action_rows(inside, ticker, splits, source=self.name, now=now)
        return read

    def _splits_after(
        self, ticker: str, moment: datetime, now: datetime, patience: Patience
    ) -> tuple[list[charts.Action], set[pd.Timestamp]]:
        """Splits from the moment until now, and which of them Yahoo has not restated; one daily chart, kept for an hour."""
        known = self._splits_since.get(ticker)
        if known is None or known[0] > moment or now - known[1] > SPLITS_STAY_KNOWN:
            # A week more, so that a price from before a split is in sight.
            chart = self._ask(ticker, Span(moment - timedelta(days=7), now), "1d", patience)
            listed = [action for action in charts.actions_of(chart.raw) if action.kind == "split"] if chart else []
            days, _ = charts.ohlcv(chart.history, chart.raw, finished_by=now) if chart else (contracts.BARS.empty(), [])
            known = (moment, now, listed, charts.not_restated(listed, days))
            self._splits_since[ticker] = known
        _, _, listed, late = known
        after = [split for split in listed if split.effective_at >= moment]
        return after, late & {split.effective_at for split in after}

    def _ask(self, ticker: str, window: Span, interval: str, patience: Patience) -> _Chart | None:
        """One chart, asked for until it is usable; None where Yahoo has no bars in the window."""
        unusable = limited = 0
        while True:
            try:
                return self._ask_once(ticker, window, interval)
            except RateLimitedError as error:
                patience.back_off(limited, str(error), base_seconds=10.0, at_least_seconds=error.retry_after_seconds)
                limited += 1
            except UnusableError as error:
                unusable += 1
                if unusable == ATTEMPTS:
                    raise UnusableError(f"{error}, {ATTEMPTS} times") from None
                patience.back_off(unusable, f"{ticker}: {error}")

    def _ask_once(self, ticker: str, window: Span, interval: str) -> _Chart | None:
        with _YFINANCE:
            yfinance.config.debug.hide_exceptions = False
            YfData.cache_get.cache_clear()  # it would answer a retry with the failure it kept
            self._session.chart = None
            try:
                history = yfinance.Ticker(ticker, session=self._session).history(
                    interval=interval, start=window.start, end=window.end, prepost=False, actions=True, auto_adjust=False,
                    keepna=True, timeout=self._timeout_seconds,
                )  # fmt: skip
            except YahooTroubleError as error:
                if isinstance(error, RefusedError) and "data doesn't exist for" in str(error).lower():
                    return None  # listed, but not in this window
                raise
            except RequestException as error:
                raise UnusableError(f"no answer ({type(error).__name__})") from None
            except Exception as error:
                chart = self._session.chart
                if chart is not None and "meta" in chart and not chart.get("timestamp"):
                    return None  # well formed and without a single bar
                if isinstance(error, YFException) and chart is None:
                    raise UnusableError("Yahoo refuses to serve us (HTTP 401 or 403)") from None
                raise UnusableError(
                    f"yfinance cannot read the chart ({type(error).__name__}: {str(error)[:120]})"
                ) from None
            chart = self._session.chart
        if chart is None:
            raise UnusableError("yfinance gave a frame without a chart")
        return _Chart(history, chart)

    def _demand_silence(self, window: Span, now: datetime) -> None:
        """Empty is success only where the calendar has no session with a finished hour inside the window."""
        latest = pd.Timestamp(min(window.end, now - self.delay)) - charts.HOUR
        week = timedelta(days=7)
        calendar = exchange_calendars.get_calendar(
            self._calendar, start=window.start.date() - week, end=window.end.date() + week
        )
        schedule = calendar.schedule
        expected = int(((schedule["open"] <= latest) & (schedule["close"] > pd.Timestamp(window.start))).sum())
        if expected:
            raise RefusedError(
                f"Yahoo has no bars from {window.start:%Y-%m-%d %H:%M}Z to {window.end:%Y-%m-%d %H:%M}Z, "
                f"where the calendar {self._calendar} has {expected} session(s)"
            )


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


def _remedy(error: Exception) -> str:
    if isinstance(error, RefusedError):
        return (
            "Check the symbol at finance.yahoo.com (share classes take a hyphen: BRK-B) or take it out of TFT_TICKERS."
        )
    return "Run the slice again later."


def _stacked(frames: list[pd.DataFrame], table: contracts.Table) -> pd.DataFrame:
    kept = [frame for frame in frames if not frame.empty]
    if not kept:
        return table.empty()
    return pd.concat(kept, ignore_index=True).sort_values(list(table.key), kind="stable", ignore_index=True)


def _by_ticker(
    tickers: Sequence[str], span: Span, found: dict[str, _Ticker], problems: dict[str, str]
) -> dict[tuple[str, Span], tuple[pd.DataFrame, str | None]]:
    nothing = _Ticker()
    return {(ticker, span): (found.get(ticker, nothing).actions, problems.get(ticker)) for ticker in tickers}


def _private_cache(parent: Path) -> None:
    """A folder of this process alone: yfinance pickles cookies into its cache, and two processes lock each other out (FAULTS 25)."""
    with _YFINANCE:
        if _CACHES:
            return  # yfinance keeps the database that it opened first
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="yahoo-", dir=parent))  # mkdtemp makes it 0700
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        yfinance.set_tz_cache_location(str(folder))
        _CACHES.append(folder)
