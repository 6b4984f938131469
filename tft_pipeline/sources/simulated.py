"""A seeded market that never was: bars, corporate actions, and posts whose mood leads returns by a planted strength.

Everything follows from the settings: seed, tickers, days, signal strength, calendar, and the epoch, which is
`settings.start`. The same settings give the same rows whatever span is asked and whenever it is asked; time going on
adds rows and changes none. What belongs here: the world as sources see it. How it is made lies in simulated_prices.py
and simulated_posts.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import pandas as pd

from tft_pipeline import contracts
from tft_pipeline.config import Settings
from tft_pipeline.errors import SourceError
from tft_pipeline.sources import simulated_posts, simulated_prices
from tft_pipeline.sources.protocols import Fetched, Span, Watched, unwatched
from tft_pipeline.sources.simulated_clock import Clock, Flags, Times, clock, microseconds, midnight, moment
from tft_pipeline.sources.simulated_texts import company_name

CHANNEL = "simulated"
_AHEAD = timedelta(days=14)  # longer than any market ever stays closed: the night after the last bar needs the next


@dataclass(frozen=True)
class Truth:
    """What was planted, up to the moment of asking.

    bars: ticker, bar_start, bar_end, mood (-1…1, from the bar's start to the next bar's), volatility (sd of the bar's
    log return against the bar before), regime, expected_return (of that same log return, given the mood of the bar
    before). So the return of bar t+1 over its volatility correlates with the mood of bar t by signal_strength. Missing bars are
    rows here as well. splits: ticker, effective_at, value (new shares per old). missing: ticker, bar_start of the bars
    that nobody receives.
    """

    bars: pd.DataFrame
    signal_strength: float
    splits: pd.DataFrame
    missing: pd.DataFrame


@dataclass(frozen=True)
class _World:
    """Everything generated so far, and a little beyond `until`."""

    clock: Clock
    prices: simulated_prices.Prices
    tickers: tuple[str, ...]
    seed: int

    @cached_property
    def posts(self) -> simulated_posts.Posts:
        mood, activity = self.prices.mood, self.prices.activity
        return simulated_posts.generate(self.clock, self.tickers, seed=self.seed, mood=mood, activity=activity)


class SimulatedMarket:
    """One world; its bars and its posts belong together, so take both from the same object.

    until: the present, for tests and replays; by default it moves with the clock on the wall.
    """

    def __init__(self, settings: Settings, until: datetime | None = None) -> None:
        """Raises SourceError when the calendar is unknown or `until` lies before the epoch. Generates nothing yet."""
        self._settings = settings
        self._until = until
        self.tickers = tuple(ticker_name(i) for i in range(settings.simulation.tickers))
        # Without a start the epoch would be another one tomorrow: whoever wants the same world twice must give one.
        self.epoch = settings.start or self.until().date() - timedelta(days=settings.simulation.days)
        if midnight(self.epoch) > self.until():
            raise SourceError(
                f"simulated market: it begins on {self.epoch}, after the present {self.until():%Y-%m-%d %H:%M} UTC; "
                "set TFT_START to an earlier day."
            )
        self._world: _World | None = None

    def until(self) -> datetime:
        return self._until or datetime.now(UTC)

    def bars_source(self) -> "SimulatedBars":
        return SimulatedBars(self)

    def posts_source(self) -> "SimulatedPosts":
        return SimulatedPosts(self)

    def company_names(self) -> dict[str, str]:
        """{ticker: the nickname that posts use}."""
        return {ticker: company_name(ticker) for ticker in self.tickers}

    def truth(self) -> Truth:
        world = self.world()
        time, prices = world.clock, world.prices
        ended = time.ended(microseconds(self.until()))
        shape = (len(self.tickers), ended)
        bars = pd.DataFrame(
            {
                "ticker": _texts(np.repeat(self.tickers, ended)),
                "bar_start": _times(np.tile(time.start_us[:ended], shape[0])),
                "bar_end": _times(np.tile(time.end_us[:ended], shape[0])),
                "mood": prices.mood[:, :ended].ravel(),
                "volatility": prices.volatility[:, :ended].ravel(),
                "regime": _texts(np.tile(np.array(simulated_prices.REGIMES)[prices.regime[:ended]], shape[0])),
                "expected_return": prices.expected_return[:, :ended].ravel(),
            }
        )
        missing = prices.missing[:, :ended].ravel()
        splits = [split for split in prices.splits if split.bar < ended]
        return Truth(
            bars=bars,
            signal_strength=self._settings.simulation.signal_strength,
            splits=pd.DataFrame(
                {
                    "ticker": _texts([self.tickers[split.ticker] for split in splits]),
                    "effective_at": _times(time.start_us[[split.bar for split in splits]]),
                    "value": np.array([split.ratio for split in splits], dtype=np.float64),
                }
            ),
            missing=bars.loc[missing, ["ticker", "bar_start"]].reset_index(drop=True),
        )

    def world(self) -> _World:
        """Generated on the first call, and again when the present outruns it."""
        now = microseconds(self.until())
        if self._world is None or now >= self._world.clock.start_us[-1]:
            simulation = self._settings.simulation
            last = max(self.until().date(), self.epoch + timedelta(days=simulation.days)) + _AHEAD
            time = clock(self._settings.calendar, self.epoch, last)
            prices = simulated_prices.generate(
                time,
                seed=self._settings.seed,
                n_tickers=simulation.tickers,
                epoch=self.epoch,
                days=simulation.days,
                strength=simulation.signal_strength,
            )
            self._world = _World(time, prices, self.tickers, self._settings.seed)
        return self._world

    def wanted(self, tickers: Sequence[str]) -> tuple[list[int], dict[str, str]]:
        """Indices of the tickers that exist, in order of name, and a sentence for each that does not."""
        index = {ticker: i for i, ticker in enumerate(self.tickers)}
        offered = f"the simulated market offers {self.tickers[0]} to {self.tickers[-1]} ({len(self.tickers)})"
        problems = {t: f"unknown ticker {t!r}; {offered}." for t in dict.fromkeys(tickers) if t not in index}
        found = [index[ticker] for ticker in sorted(set(tickers)) if ticker in index]
        if problems and not found:
            raise SourceError(
                f"simulated market: none of the tickers asked for ({', '.join(sorted(problems)[:5])}) exists; {offered}. "
                "Set TFT_TICKERS to some of these, leave it empty for all, or raise TFT_SIMULATION_TICKERS."
            )
        return found, problems


class SimulatedBars:
    """BarSource of a simulated market."""

    name = "simulated"
    simulated = True
    delay = timedelta(0)

    def __init__(self, market: SimulatedMarket) -> None:
        self.watched: Watched = unwatched
        self.market = market

    def universe(self) -> tuple[str, ...]:
        return tuple(sorted(self.market.tickers))

    def span(self) -> Span | None:
        time = self.market.world().clock
        ended = time.ended(microseconds(self.market.until()))
        return Span(moment(int(time.start_us[0])), moment(int(time.end_us[ended - 1]))) if ended else None

    def bars(self, tickers: Sequence[str], span: Span) -> Fetched:
        chosen, problems = self.market.wanted(tickers)
        world = self.market.world()
        time, prices = world.clock, world.prices
        asked = time.within(microseconds(span.start), microseconds(span.end))
        asked = slice(asked.start, max(asked.start, min(asked.stop, time.ended(microseconds(self.market.until())))))
        received: Flags = ~prices.missing[chosen, asked]
        columns = np.nonzero(received)[1] + asked.start
        end = _times(time.end_us[columns])
        frame = pd.DataFrame(
            {
                "ticker": _texts(np.repeat(np.array(self.market.tickers)[chosen], received.sum(axis=1))),
                "bar_start": _times(time.start_us[columns]),
                "bar_end": end,
                **{p: getattr(prices, p)[chosen, asked][received] for p in ("open", "high", "low", "close", "volume")},
                "source": _texts(np.repeat([self.name], len(columns))),
                "known_at": end,
            }
        )
        return Fetched(frame, problems)

    def actions(self, tickers: Sequence[str], span: Span) -> Fetched:
        chosen, problems = self.market.wanted(tickers)
        world = self.market.world()
        start, end = microseconds(span.start), min(microseconds(span.end), microseconds(self.market.until()) + 1)
        rows = [
            (self.market.tickers[ticker], at, kind, value)
            for ticker, bar, kind, value in _events(world.prices)
            if ticker in set(chosen) and start <= (at := int(world.clock.start_us[bar])) < end
        ]
        if not rows:
            return Fetched(contracts.ACTIONS.empty(), problems)
        names, times, kinds, values = zip(*sorted(rows), strict=True)
        effective_at = _times(np.array(times, dtype=np.int64))
        frame = pd.DataFrame(
            {
                "ticker": _texts(names),
                "effective_at": effective_at,
                "kind": _texts(kinds),
                "value": np.array(values, dtype=np.float64),
                "source": _texts([self.name] * len(rows)),
                "known_at": effective_at,
            }
        )
        return Fetched(frame, problems)


class SimulatedPosts:
    """PostSource of a simulated market."""

    name = "simulated"
    simulated = True
    delay = timedelta(0)

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market

    def posts(self, span: Span) -> Fetched:
        posts = self.market.world().posts
        end_us = min(microseconds(span.end), microseconds(self.market.until()) + 1)
        first, last = np.searchsorted(posts.created_us, [microseconds(span.start), end_us]).tolist()
        rows = slice(first, max(first, last))
        authors = [ticker.lower() for ticker in self.market.tickers] + ["market"]
        marks = zip(posts.author[rows].tolist(), posts.number[rows].tolist(), posts.copied[rows].tolist(), strict=True)
        created_at = _times(posts.created_us[rows])
        frame = pd.DataFrame(
            {
                "channel": _texts(np.repeat([CHANNEL], len(created_at))),
                "post_id": _texts(
                    [f"{authors[author]}-{number:07d}{'c' if copied else ''}" for author, number, copied in marks]
                ),
                "created_at": created_at,
                "text": _texts(posts.sentences[posts.text[rows]]),
                "score": posts.votes[rows],
                "source": _texts(np.repeat([self.name], len(created_at))),
                "known_at": created_at,
            }
        )
        return Fetched(frame.sort_values(["post_id", "created_at"], kind="stable", ignore_index=True), {})


def ticker_name(index: int) -> str:
    """SIMA … SIMZ, SIMAA … SIMZZ, SIMAAA …: at most six letters for the 5,000 that settings allow."""
    letters, rest = "", index + 1
    while rest:
        rest, letter = divmod(rest - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return f"SIM{letters}"


def _events(prices: simulated_prices.Prices) -> list[tuple[int, int, str, float]]:
    splits = [(split.ticker, split.bar, "split", split.ratio) for split in prices.splits]
    return splits + [(paid.ticker, paid.bar, "dividend", paid.usd_per_share) for paid in prices.dividends]


def _times(microseconds_utc: Times) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(microseconds_utc.astype("datetime64[us]"), tz=UTC)


def _texts(values: Sequence[str] | np.ndarray) -> pd.Series:
    return pd.Series(values, dtype="str")
