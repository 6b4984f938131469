"""Panels of autocorrelated features, and of scores, in which it is known whether anything drifts."""

import numpy as np
import pandas as pd

from tft_pipeline.contracts import FEATURES, OBSERVED_FEATURES, SCORES

TICKERS = ("AAA", "BBB", "CCC", "DDD")
BARS_A_DAY = 7


def features(
    seed: int, days: int, *, change_day: int | None = None, variance: float = 3.0, first: str = "2020-01-01"
) -> pd.DataFrame:
    """The columns of FEATURES that drift reads: AR(1) with memories from none to 50 bars, fat tails, and a part that tickers share.

    From change_day on, shocks have `variance` times their variance.
    """
    random = np.random.default_rng(seed)
    names = [column.name for column in OBSERVED_FEATURES]
    n = days * BARS_A_DAY
    memory = np.linspace(0.0, 0.98, len(names))
    shocks = 0.6 * random.standard_t(5, (n, 1, len(names))) + 0.8 * random.standard_t(5, (n, len(TICKERS), len(names)))
    if change_day is not None:
        shocks[change_day * BARS_A_DAY :] *= np.sqrt(variance)
    values = np.empty_like(shocks)
    values[0] = shocks[0]
    for i in range(1, n):
        values[i] = memory * values[i - 1] + np.sqrt(1 - memory**2) * shocks[i]
    dates = pd.bdate_range(first, periods=days, tz="UTC").as_unit("us")
    starts = np.repeat(dates, BARS_A_DAY) + pd.to_timedelta(np.tile(np.arange(14, 14 + BARS_A_DAY), days), unit="h")
    flat = {name: values[:, :, k].T.ravel() for k, name in enumerate(names)}
    frame = pd.DataFrame(
        {"ticker": np.repeat(TICKERS, n), "bar_start": np.tile(starts.as_unit("us"), len(TICKERS)), **flat}
    )
    assert set(frame.columns) <= set(FEATURES.names)
    return frame


def stormy(frame: pd.DataFrame, seed: int, *, memory: float = 0.95) -> pd.DataFrame:
    """The same features under one stochastic volatility: its logarithm is AR(1) from day to day, of deviation 0.3."""
    random = np.random.default_rng(seed)
    codes, dates = pd.factorize(frame["bar_start"].dt.floor("D"))
    log_volatility = np.zeros(len(dates))
    for i in range(1, len(dates)):
        log_volatility[i] = memory * log_volatility[i - 1] + np.sqrt(1 - memory**2) * 0.3 * random.normal()
    names = [column.name for column in OBSERVED_FEATURES]
    return frame.assign(**{name: frame[name] * np.exp(log_volatility[codes]) for name in names})


def split(frame: pd.DataFrame, day: int, recent_days: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(everything before the day-th day, the recent_days days from there on)."""
    at = frame["bar_start"].to_numpy("datetime64[D]")
    days = np.unique(at)
    until = days[day + recent_days] if day + recent_days < len(days) else days[-1] + 1
    return frame[at < days[day]], frame[(at >= days[day]) & (at < until)]


def scores(seed: int, days: int, *, width: float = 1.0, worse: float = 0.0) -> pd.DataFrame:
    """SCORES of `model` and `baseline`, horizon 1 to 3, in a market whose volatility moves from day to day.

    width: of the model's band against the right one. worse: what the model loses more than the baseline, as a share.
    """
    random = np.random.default_rng(seed)
    dates = pd.bdate_range("2026-01-05", periods=days, tz="UTC").as_unit("us")
    log_volatility = np.zeros(days)
    for i in range(1, days):
        log_volatility[i] = 0.7 * log_volatility[i - 1] + random.normal(0, 0.2)
    rows = []
    for day, level in zip(dates, log_volatility, strict=True):
        for hour in range(14, 21):
            for ticker in TICKERS:
                for horizon in (1, 2, 3):
                    actual = float(random.normal(0, 0.003 * np.exp(level)))
                    issued = day + pd.Timedelta(hours=hour)
                    loss = abs(actual) / 3
                    common = (ticker, issued, horizon, issued + pd.Timedelta(hours=horizon), actual, -actual)
                    rows.append(
                        (
                            "model",
                            *common,
                            loss * (1 + worse + 0.1 * random.normal()),
                            abs(actual) < 1.28155 * 0.003 * width,
                        )
                    )
                    rows.append(("baseline", *common, loss, abs(actual) < 1.28155 * 0.003))
    frame = pd.DataFrame(rows, columns=SCORES.names)
    frame["pinball"] = frame["pinball"].clip(lower=0)
    return frame.astype(SCORES.empty().dtypes.to_dict())
