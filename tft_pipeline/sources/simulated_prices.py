"""Prices of the simulated market: what is planted, and the bars that come of it.

    regime (a day, shared) ─┐
    volatility (a bar) ─────┴─► sd of the bar's return
    return = sd × (s × mood of the bar before + √(1−s²) × noise)

The log return here is a total return: splits and dividends change the price as traded, never the return. `s` is
settings.simulation.signal_strength, and both mood (over its sd) and noise have variance 1: so s is the correlation of
the mood with the next bar's return over its sd, and 0 leaves nothing to find. What does not belong here: posts, and
which part of the world has happened yet.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from tft_pipeline.sources.simulated_clock import Clock, Flags, Floats, stream

REGIMES = ("calm", "normal", "stressed")
_REGIME_VOLATILITY = np.array([0.65, 1.0, 2.0])
_REGIME_CHANGES = np.array(
    [[0.95, 0.05, 0.00], [0.04, 0.93, 0.03], [0.00, 0.08, 0.92]]
)  # from a row's to a column's, a day

MOOD_POWER = 3  # mood = ±u³, u uniform: mostly near zero, with bursts
MOOD_DEVIATION = (2 * MOOD_POWER + 1) ** -0.5  # E u⁶ = 1/7, exactly
_MOOD_MEMORY = 0.88  # of the normal variable below the mood, a bar
_VOLATILITY_MEMORY, _VOLATILITY_DEVIATION = 0.985, 0.3  # of log volatility, a bar
_GAP = 1.5  # overnight sd over that of an ordinary trading hour
_MISSING = 0.003
_TAILS = 8  # degrees of freedom of the noise of one ticker


@dataclass(frozen=True)
class Split:
    """New shares per old from `bar` on."""

    ticker: int
    bar: int
    ratio: float


@dataclass(frozen=True)
class Dividend:
    ticker: int
    bar: int
    usd_per_share: float


@dataclass(frozen=True)
class Prices:
    """Matrices are (n_tickers, n_bars); prices are dollars as traded."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    missing: Flags  # True where the bar never reaches anybody
    mood: Floats  # -1…1, from the bar's start to the next bar's
    activity: Floats  # volatility over the ticker's usual, without the time of day
    volatility: Floats  # sd of the bar's log return against the bar before, the gap before it included
    expected_return: Floats  # of that log return, given the mood of the bar before
    regime: npt.NDArray[np.int64]  # (n_bars,) index into REGIMES
    splits: tuple[Split, ...]
    dividends: tuple[Dividend, ...]


def generate(time: Clock, *, seed: int, n_tickers: int, epoch: date, days: int, strength: float) -> Prices:
    """The whole market over `time`. A value depends on bars up to its own only: a longer clock leaves it as it is."""
    character = _Character.drawn(seed, n_tickers)
    regime = _regimes(seed, len(time.session_dates))[time.session]
    mood = _mood(_autoregressive(_normal(seed, "mood", n_tickers, len(time)), _MOOD_MEMORY))
    log_activity = _VOLATILITY_DEVIATION * _autoregressive(
        _normal(seed, "volatility", n_tickers, len(time)), _VOLATILITY_MEMORY
    )
    activity = _REGIME_VOLATILITY[regime] * np.exp(log_activity)

    hourly = character.hourly_volatility[:, None] * activity
    in_bar = (
        hourly * (0.8 + 0.9 * (2 * time.position - 1) ** 2) * np.sqrt(time.traded_hours)
    )  # U-shaped over the session
    in_gap = hourly * _GAP * _gaps(time)
    volatility = np.hypot(in_bar, in_gap)

    lead = np.zeros_like(mood)
    lead[:, 1:] = strength * mood[:, :-1] / MOOD_DEVIATION
    noise = _noise(seed, character.market_share, len(time))
    expected = volatility * lead
    log_return = expected + volatility * np.sqrt(1 - strength**2) * noise
    log_close = np.log(character.first_price_usd)[:, None] + np.cumsum(log_return, axis=1)

    # The gap takes its share of the whole return, as for any two parts of one normal sum.
    share = (in_gap / volatility) ** 2
    gap = share * log_return + np.sqrt(share * (1 - share)) * volatility * _normal(seed, "gap", n_tickers, len(time))
    jitter = 0.04 * in_bar * _normal(seed, "open", n_tickers, len(time))
    log_open = log_close - log_return + np.where(time.begins, gap, jitter)
    log_high, log_low = _extremes(seed, log_open, log_close, in_bar)

    total_return_price = np.exp(log_close)
    splits = _splits(seed, time, n_tickers, epoch, days)
    factor, dividends = _as_traded(time, total_return_price, splits, character, epoch)
    shares = _share_counts(splits, n_tickers, len(time))
    return Prices(
        open=_quoted(np.exp(log_open) * factor),
        high=_quoted(np.exp(log_high) * factor),
        low=_quoted(np.exp(log_low) * factor),
        close=_quoted(total_return_price * factor),
        volume=_volume(seed, time, character, activity, np.abs(log_return / volatility)) * shares // 1,
        missing=_missing(seed, n_tickers, len(time), splits, dividends),
        mood=mood,
        activity=activity,
        volatility=volatility,
        expected_return=expected,
        regime=regime,
        splits=splits,
        dividends=dividends,
    )


@dataclass(frozen=True)
class _Character:
    """What never changes about a ticker; arrays are (n_tickers,)."""

    hourly_volatility: Floats
    market_share: Floats  # correlation of the noise with the market's
    first_price_usd: Floats
    hourly_shares: Floats
    yearly_yield: Floats  # 0: pays no dividend

    @classmethod
    def drawn(cls, seed: int, n_tickers: int) -> "_Character":
        draws = np.array([stream(seed, "character", i).random(5) for i in range(n_tickers)])
        volatility, share, price = 0.0025 + 0.0035 * draws[:, 0], 0.3 + 0.35 * draws[:, 1], 20 * 12 ** draws[:, 2]
        turnover, pays = 2e5 * 20 ** draws[:, 3], np.where(draws[:, 4] < 0.6, 0.01 + 0.04 * draws[:, 4], 0.0)
        # The first two behave like funds on the whole market: quiet, dear, traded a lot, close to the common factor.
        heavy = slice(0, 2)
        volatility[heavy], share[heavy], price[heavy] = 0.0018, (0.95, 0.9)[:n_tickers], (400.0, 250.0)[:n_tickers]
        turnover[heavy], pays[heavy] = 8e6, 0.015
        price[3:4] = 9.0  # the one whose shares are merged ten to one
        return cls(volatility, share, price, turnover, pays)


def _normal(seed: int, name: str, n_tickers: int, n_bars: int) -> Floats:
    """(n_tickers, n_bars) standard normal, a stream for each ticker."""
    draws = np.empty((n_tickers, n_bars))
    for i in range(n_tickers):
        stream(seed, name, i).standard_normal(out=draws[i])
    return draws


def _autoregressive(shocks: Floats, memory: float) -> Floats:
    """AR(1) of variance 1 along the last axis, stationary from its first value on."""
    state = shocks[:, 0]
    values = np.empty_like(shocks.T)  # time first: each step then writes one contiguous row
    steps = np.ascontiguousarray(shocks.T) * np.sqrt(1 - memory**2)
    values[0] = state
    for t in range(1, len(values)):
        state = memory * state + steps[t]
        values[t] = state
    return np.ascontiguousarray(values.T)


def _mood(normal: Floats) -> Floats:
    """-1…1 with standard deviation MOOD_DEVIATION, from standard normal values: ±(2Φ(|x|)−1)^MOOD_POWER."""
    return np.sign(normal) * _two_sided(np.abs(normal)) ** MOOD_POWER


def _two_sided(x: Floats) -> Floats:
    """2Φ(x)−1 = erf(x/√2), x ≥ 0, within 1.5e-7: Abramowitz, Stegun, Handbook of Mathematical Functions, 7.1.26."""
    x = x / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * x)
    tail: Floats = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    below: Floats = np.clip(1 - tail * np.exp(-(x**2)), 0.0, 1.0)
    return below


def _regimes(seed: int, n_sessions: int) -> npt.NDArray[np.int64]:
    """(n_sessions,) a Markov chain that begins in `normal`."""
    draws = stream(seed, "regime").random(n_sessions)
    cumulative = np.cumsum(_REGIME_CHANGES, axis=1)
    chain, state = np.empty(n_sessions, dtype=np.int64), 1
    for day in range(n_sessions):
        chain[day] = state
        state = min(int(np.searchsorted(cumulative[state], draws[day], side="right")), len(REGIMES) - 1)
    return chain


def _gaps(time: Clock) -> Floats:
    """(n_bars,) 1 where the market was closed before the bar; 0 at the very first, whose past nobody has seen."""
    gaps = time.begins.astype(np.float64)
    gaps[0] = 0.0
    return gaps


def _noise(seed: int, market_share: Floats, n_bars: int) -> Floats:
    """(n_tickers, n_bars) of variance 1: a market factor that all share, and a fat-tailed part of each ticker's own."""
    market = stream(seed, "market").standard_normal(n_bars)
    own = np.array([stream(seed, "own", i).standard_t(_TAILS, n_bars) for i in range(len(market_share))])
    own *= np.sqrt((_TAILS - 2) / _TAILS)
    noise: Floats = market_share[:, None] * market + np.sqrt(1 - market_share[:, None] ** 2) * own
    return noise


def _extremes(seed: int, log_open: Floats, log_close: Floats, volatility: Floats) -> tuple[Floats, Floats]:
    """Logs of high and low: the extremes of a Brownian bridge from open to close.

    Source: P(max > m) = exp(−2(m−a)(m−b)/σ²), Karatzas, Shreve, Brownian Motion and Stochastic Calculus, 4.3.
    """
    n_tickers, n_bars = log_open.shape
    spread, middle = (log_close - log_open) ** 2, (log_open + log_close) / 2
    reach = []
    for name in ("high", "low"):
        uniform = np.array([stream(seed, name, i).random(n_bars) for i in range(n_tickers)])
        reach.append(np.sqrt(spread - 2 * volatility**2 * np.log1p(-uniform)) / 2)  # 1−u is never 0
    return middle + reach[0], middle - reach[1]


def _splits(seed: int, time: Clock, n_tickers: int, epoch: date, days: int) -> tuple[Split, ...]:
    """One 4:1, one 1:10 when there are four tickers, and one of fifty of the others: all within the first `days`."""
    planned = [(min(2, n_tickers - 1), 0.45, 4.0)]
    if n_tickers > 3:
        planned.append((3, 0.7, 0.1))
    for i in range(4, n_tickers):
        chance, when, which = stream(seed, "split", i).random(3)
        if chance < 0.02:
            planned.append((i, 0.1 + 0.8 * when, (2.0, 3.0, 10.0, 0.2)[int(4 * which)]))
    dated = (
        (i, time.first_bar_on_or_after(epoch + timedelta(days=int(days * part))), ratio) for i, part, ratio in planned
    )
    return tuple(Split(i, bar, ratio) for i, bar, ratio in dated if 0 < bar < len(time))


def _as_traded(
    time: Clock, total_return_usd: Floats, splits: tuple[Split, ...], character: _Character, epoch: date
) -> tuple[Floats, tuple[Dividend, ...]]:
    """(n_tickers, n_bars) price as traded over total-return price, and the dividends, which depend on it.

    A dividend D leaves the price at (close before − D) × e^return, so that ln(close / (close before − D)) is the
    planted return.
    """
    factor = np.ones_like(total_return_usd)
    for split in splits:
        factor[split.ticker, split.bar :] /= split.ratio
    taken = {(split.ticker, split.bar) for split in splits}
    dividends = []
    quarters = range(0, int((time.session_dates[-1] - np.datetime64(epoch, "D")).astype(int)) + 1, 91)
    for ticker in np.flatnonzero(character.yearly_yield).tolist():
        for quarter in quarters:
            bar = time.first_bar_on_or_after(epoch + timedelta(days=quarter + 12 + 7 * (ticker % 11)))
            if not 0 < bar < len(time) or (ticker, bar) in taken:
                continue
            before = total_return_usd[ticker, bar - 1] * factor[ticker, bar - 1]
            usd = max(round(before * character.yearly_yield[ticker] / 4, 2), 0.01)
            if usd < before / 10:  # a cent of a penny stock would be no dividend
                factor[ticker, bar:] *= 1 - usd / before
                dividends.append(Dividend(ticker, bar, usd))
    return factor, tuple(dividends)


def _share_counts(splits: tuple[Split, ...], n_tickers: int, n_bars: int) -> Floats:
    """(n_tickers, n_bars) shares per first share: volume as traded grows with them."""
    counts = np.ones((n_tickers, n_bars))
    for split in splits:
        counts[split.ticker, split.bar :] *= split.ratio
    return counts


def _volume(seed: int, time: Clock, character: _Character, activity: Floats, surprise: Floats) -> Floats:
    """(n_tickers, n_bars) shares: U-shaped over the session, higher in wild times and in bars that move."""
    shape = (0.7 + 1.2 * (2 * time.position - 1) ** 2) * time.traded_hours
    noise = _normal(seed, "volume", *activity.shape)
    volume: Floats = character.hourly_shares[:, None] * shape * activity**0.8 * np.exp(0.3 * surprise + 0.25 * noise)
    return volume


def _missing(
    seed: int, n_tickers: int, n_bars: int, splits: tuple[Split, ...], dividends: tuple[Dividend, ...]
) -> Flags:
    """(n_tickers, n_bars) True for about three bars in a thousand, never for those just before and under an action."""
    missing = np.array([stream(seed, "missing", i).random(n_bars) for i in range(n_tickers)]) < _MISSING
    for ticker, bar in [(a.ticker, a.bar) for a in splits] + [(a.ticker, a.bar) for a in dividends]:
        missing[ticker, bar - 1 : bar + 1] = False
    return missing


def _quoted(usd: Floats) -> Floats:
    """Dollars to a hundredth of a cent, and at least that."""
    return np.maximum(np.round(usd, 4), 1e-4)
