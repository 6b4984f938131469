"""Shorter bars to longer ones: one rule for every source."""

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


def joined(bars: pd.DataFrame, into: pd.Series) -> pd.DataFrame:
    """One bar of each ticker for each value of `into`: first open, highest high, lowest low, last close, sum of the volumes.

    bars: ticker, open, high, low, close, volume, sorted by ticker and time. into: (n_bars,) `bar_start` of the longer bar that each
    belongs to, ascending within a ticker. A bar belongs to one longer bar whole; a longer bar in which there is none is not made.
    Returns ticker, bar_start, open, high, low, close, volume, sorted by the first two. Of missing values the others are taken; where
    all of a longer bar's are missing, so is its own.
    """
    ticker, moment = pd.factorize(bars["ticker"])[0], pd.factorize(into)[0]
    begins = np.ones(len(bars), dtype=bool)
    begins[1:] = (ticker[1:] != ticker[:-1]) | (moment[1:] != moment[:-1])
    at = np.flatnonzero(begins)
    values = {name: bars[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume")}
    if not len(at):
        return pd.DataFrame({"ticker": bars["ticker"], "bar_start": into, **values})
    known = ~np.isnan(values["volume"])
    volume = np.add.reduceat(np.where(known, values["volume"], 0.0), at)
    return pd.DataFrame({
        "ticker": bars["ticker"].iloc[at].reset_index(drop=True),
        "bar_start": into.iloc[at].reset_index(drop=True),
        "open": _first(values["open"], at),
        "high": np.fmax.reduceat(values["high"], at),
        "low": np.fmin.reduceat(values["low"], at),
        "close": _first(values["close"][::-1], len(bars) - np.append(at[1:], len(bars))[::-1])[::-1],
        "volume": np.where(np.logical_or.reduceat(known, at), volume, np.nan),
    })  # fmt: skip


def _first(values: Floats, at: Places) -> Floats:
    """(len(at),) the first known value of each stretch that begins at `at`; NaN where none is known."""
    place = np.minimum.reduceat(np.where(np.isnan(values), len(values), np.arange(len(values))), at)
    first: Floats = np.append(values, np.nan)[place]
    return first
