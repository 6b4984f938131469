"""Bars, grids, moods and real data in the shapes that the market and feature stages take."""

from pathlib import Path

import numpy as np
import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS, HOURLY_SENTIMENT, KNOWN_FEATURES, OBSERVED_FEATURES
from tft_pipeline.features.prices import Prices
from tft_pipeline.market.actions import dividend_on, split_factor
from tft_pipeline.schema import UTC

FEATURE_NAMES = [column.name for column in (*OBSERVED_FEATURES, *KNOWN_FEATURES)]
HOUR = pd.Timedelta(hours=1)


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def prices_of(close, *, open=None, high=None, low=None, volume=1000.0, dividend=0.0, opens_session=None) -> Prices:
    """Prices of close; where not given, every bar opens and turns at its close, and no session begins after the first bar."""
    close = np.asarray(close, dtype=float)
    first = np.arange(len(close)) == 0
    return Prices(
        open=close if open is None else np.asarray(open, dtype=float),
        high=close if high is None else np.asarray(high, dtype=float),
        low=close if low is None else np.asarray(low, dtype=float),
        close=close,
        volume=np.broadcast_to(np.asarray(volume, dtype=float), close.shape).copy(),
        dividend=np.broadcast_to(np.asarray(dividend, dtype=float), close.shape).copy(),
        opens_session=first if opens_session is None else np.asarray(opens_session, dtype=bool),
    )


def make_bars(starts, close, *, ticker: str = "AAPL", volume=1000.0, **columns) -> pd.DataFrame:
    """BARS of one ticker: hour-long, opening and turning at close unless columns say otherwise."""
    starts = pd.DatetimeIndex(pd.to_datetime(list(starts), utc=True)).as_unit("us")
    close = np.broadcast_to(np.asarray(close, dtype=float), (len(starts),))
    frame = pd.DataFrame({"ticker": pd.Series([ticker] * len(starts), dtype="str"), "bar_start": starts})
    values = {"bar_end": starts + HOUR, "open": close, "high": close, "low": close, "close": close, "volume": volume}
    frame = frame.assign(**{**values, "source": "files", "known_at": starts + HOUR, **columns})
    kinds = {"volume": float, "source": "str", "bar_end": UTC, "known_at": UTC}
    return frame.astype(kinds)[BARS.names]


def random_bars(grid: pd.DataFrame, tickers, *, seed: int = 7) -> pd.DataFrame:
    """BARS of each ticker on every bar of grid: a random walk of 0.5 % an hour with random ranges and volumes."""
    parts = []
    for number, ticker in enumerate(tickers):
        random = np.random.default_rng([seed, number])
        close = 50 * (number + 1) * np.exp(np.cumsum(random.normal(0, 0.005, len(grid))))
        opened = close * np.exp(random.normal(0, 0.002, len(grid)))
        high = np.maximum(opened, close) * np.exp(random.exponential(0.002, len(grid)))
        low = np.minimum(opened, close) * np.exp(-random.exponential(0.002, len(grid)))
        volume = np.floor(random.lognormal(10, 1, len(grid)))
        parts.append(
            make_bars(grid["bar_start"], close, ticker=ticker, open=opened, high=high, low=low, volume=volume,
                      bar_end=grid["bar_end"].to_numpy(), known_at=grid["bar_end"].to_numpy())
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def random_mood(start: pd.Timestamp, end: pd.Timestamp, tickers, *, seed: int = 7) -> pd.DataFrame:
    """HOURLY_SENTIMENT of each ticker in about half of the clock hours from start to end, nights and weekends too."""
    parts = []
    for number, ticker in enumerate(tickers):
        random = np.random.default_rng([seed, 100 + number])
        hours = pd.date_range(start, end, freq="h", inclusive="left", unit="us")
        hours = hours[random.random(len(hours)) < 0.5]
        counts = random.integers(0, 6, (3, len(hours)))
        parts.append(make_mood(hours, *counts, ticker=ticker, confidence=random.random(len(hours))))
    return pd.concat(parts, ignore_index=True)


def make_mood(hours, bullish, bearish=0, neutral=0, *, ticker: str = "AAPL", confidence=0.8) -> pd.DataFrame:
    """HOURLY_SENTIMENT of one ticker, by the starts of its hours."""
    hours = pd.DatetimeIndex(pd.to_datetime(list(hours), utc=True)).as_unit("us")
    frame = pd.DataFrame({"ticker": pd.Series([ticker] * len(hours), dtype="str"), "hour_start": hours})
    values = {"bullish_count": bullish, "bearish_count": bearish, "neutral_count": neutral}
    frame = frame.assign(hour_end=hours + HOUR, **values, momentum=0.0, confidence=confidence)
    return frame.astype({**dict.fromkeys(values, "int64"), "confidence": float})[HOURLY_SENTIMENT.names]


def make_actions(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    """ACTIONS of (ticker, effective_at, kind, value)."""
    if not rows:
        return ACTIONS.empty()
    frame = pd.DataFrame(rows, columns=["ticker", "effective_at", "kind", "value"])
    frame["effective_at"] = pd.to_datetime(frame["effective_at"], utc=True, format="ISO8601").astype(UTC)
    frame = frame.assign(source="files", known_at=frame["effective_at"])
    frame = frame.assign(former=None)
    return frame.astype({"ticker": "str", "kind": "str", "value": float, "source": "str", "former": "str"})[
        ACTIONS.names
    ]


def with_actions(bars: pd.DataFrame, actions: pd.DataFrame) -> pd.DataFrame:
    """bars as feature_matrix takes them: with split_factor and dividend."""
    return bars.assign(split_factor=split_factor(bars, actions), dividend=dividend_on(bars, actions))


def real(folder: Path, start: str, end: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(BARS of start <= day < end, ACTIONS) of a folder of real data."""
    bars = pd.read_parquet(folder / "bars.parquet")
    bars = bars[(bars["bar_start"] >= at(start)) & (bars["bar_start"] < at(end))].reset_index(drop=True)
    bars = bars.assign(source="files", known_at=bars["bar_end"]).astype({"volume": float, "source": "str"})
    actions = pd.read_parquet(folder / "actions.parquet")
    actions = actions.assign(source="files", known_at=actions["effective_at"], former=None)
    actions = actions.astype({"source": "str", "former": "str"})
    return bars[BARS.names], actions[ACTIONS.names]
