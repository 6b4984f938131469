"""Frames to dense arrays on the trading grid, and which windows of them may be used.

What belongs here: numpy only, once per fit or forecast. The gather of windows from a device's memory lies in gather.py.

The target of a window with origin t is, for h = 1…H bars ahead,

    y[h] = (index[t + h] - index[t]) / (volatility_35h[t] * sqrt(h)),

a log return in units of what a random walk with the ticker's recent volatility would make of h bars: so calm and wild
tickers, and near and far horizons, weigh alike in the loss, and a forecast in these units reads as a band in prices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.errors import ContractError

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

SCALE = "volatility_35h"  # the unit of the target
EWMA = "volatility_ewma"  # the unit of the naive forecast
MISSING_SHARE = 0.1  # of a window's bars, at most; the newest must be held
SMALLEST_SCALE = 1e-6  # below it a price stands still: a return in this unit teaches nothing


@dataclass(frozen=True)
class Panel:
    """Every ticker on one grid of expected bars. A bar that is not held is NaN; `held` says which."""

    tickers: tuple[str, ...]
    bar_end: npt.NDArray[np.datetime64]  # (n_bars,) microseconds, UTC, ascending
    observed: Singles  # (n_tickers, n_bars, n_observed)
    known: Singles  # (n_bars, n_known)
    held: Flags  # (n_tickers, n_bars)
    price_index: Floats  # (n_tickers, n_bars) log
    scale: Floats  # (n_tickers, n_bars) volatility_35h, per √hour
    volatility_ewma: Floats  # (n_tickers, n_bars) per √hour

    @classmethod
    def from_frames(
        cls, features: pd.DataFrame, calendar: pd.DataFrame, *, observed: Sequence[str], known: Sequence[str]
    ) -> "Panel":
        """features: contracts.FEATURES, any order. calendar: bar_start, bar_end and known features of all expected bars,
        ascending, those ahead included. observed, known: names of the columns to take.

        Raises ContractError for a missing column, a bar that the calendar does not expect, one held twice, or a value
        that is not finite.
        """
        if features.empty:
            return cls._empty(len(observed), len(known))
        needed = ["ticker", "bar_end", "log_price", SCALE, EWMA, *observed]
        _require(features, needed, "features.hourly")
        _require(calendar, ["bar_end", *known], "the trading calendar")
        grid = _times(calendar["bar_end"])
        if len(grid) > 1 and not (grid[1:] > grid[:-1]).all():
            raise ContractError("the trading calendar: bar_end does not ascend. Sort it and drop what is there twice.")

        names, ticker = np.unique(features["ticker"].to_numpy(dtype=str), return_inverse=True)
        end = _times(features["bar_end"])
        bar = np.searchsorted(grid, end)
        strangers = (bar == len(grid)) | (grid[np.minimum(bar, len(grid) - 1)] != end)
        if strangers.any():
            first = features[["ticker", "bar_end"]].iloc[int(strangers.argmax())]
            raise ContractError(
                f"features.hourly: {int(strangers.sum())} bar(s) are not on the trading calendar, first {first['ticker']} "
                f"bar_end={first['bar_end']}. Give a calendar that covers every bar, or drop bars outside sessions."
            )
        held = np.zeros((len(names), len(grid)), dtype=np.bool_)
        held[ticker, bar] = True
        if int(held.sum()) != len(features):
            twice = features.loc[features.duplicated(["ticker", "bar_end"]), ["ticker", "bar_end"]].iloc[0]
            raise ContractError(
                f"features.hourly: {twice['ticker']} bar_end={twice['bar_end']} is there twice. Keep one row a ticker and bar."
            )

        def placed(columns: list[str], dtype: type[np.floating[Any]]) -> npt.NDArray[Any]:
            values = features[columns].to_numpy(dtype=np.float64)
            _require_finite(values, columns, features)
            dense = np.full((*held.shape, len(columns)), np.nan, dtype=dtype)
            dense[ticker, bar] = values
            return dense

        measures = placed(["log_price", SCALE, EWMA], np.float64)
        return cls(
            tickers=tuple(str(name) for name in names),
            bar_end=grid,
            observed=placed(list(observed), np.float32),
            known=_known(calendar, list(known)),
            held=held,
            price_index=measures[..., 0],
            scale=measures[..., 1],
            volatility_ewma=measures[..., 2],
        )

    @classmethod
    def _empty(cls, n_observed: int, n_known: int) -> "Panel":
        none = np.zeros((0, 0))
        return cls(
            tickers=(),
            bar_end=np.zeros(0, dtype="datetime64[us]"),
            observed=np.zeros((0, 0, n_observed), dtype=np.float32),
            known=np.zeros((0, n_known), dtype=np.float32),
            held=np.zeros((0, 0), dtype=np.bool_),
            price_index=none,
            scale=none,
            volatility_ewma=none,
        )

    @property
    def n_bars(self) -> int:
        return len(self.bar_end)

    def newest_held(self) -> npt.NDArray[np.int64]:
        """(n_tickers, n_bars) the newest bar at or before each that is held; -1 where there is none."""
        bars = np.where(self.held, np.arange(self.n_bars), -1)
        return np.maximum.accumulate(bars, axis=1) if bars.size else bars

    def log_returns(self, horizon_hours: int) -> Floats:
        """(n_tickers, n_bars, horizon_hours) from each bar to each of the next; NaN where either end is not held."""
        ahead = np.full((*self.held.shape, horizon_hours), np.nan)
        for h in range(1, min(horizon_hours, self.n_bars - 1) + 1):
            ahead[:, :-h, h - 1] = self.price_index[:, h:] - self.price_index[:, :-h]
        return ahead

    def forecastable(self, encoder_bars: int, horizon_hours: int) -> Flags:
        """(n_tickers, n_bars) whether a window may begin its forecast here.

        The bar is held with a scale, the encoder's bars lie on the grid and at least nine in ten are held, and the calendar
        knows horizon_hours bars ahead.
        """
        allowed = np.zeros(self.held.shape, dtype=np.bool_)
        newest = self.n_bars - horizon_hours  # exclusive
        if newest < encoder_bars or not self.tickers:
            return allowed
        counted = np.cumsum(self.held, axis=1, dtype=np.int64)
        in_window = counted.copy()
        in_window[:, encoder_bars:] = counted[:, encoder_bars:] - counted[:, :-encoder_bars]
        enough = in_window >= np.ceil((1 - MISSING_SHARE) * encoder_bars - 1e-9)
        allowed[:, encoder_bars - 1 : newest] = (self.held & enough)[:, encoder_bars - 1 : newest]
        return allowed

    def learnable(self, encoder_bars: int, horizon_hours: int) -> Flags:
        """(n_tickers, n_bars) forecastable, and every target is known and finite."""
        whole = np.isfinite(self.log_returns(horizon_hours)).all(axis=2)
        moving = np.nan_to_num(self.scale) > SMALLEST_SCALE
        allowed: Flags = self.forecastable(encoder_bars, horizon_hours) & whole & moving
        return allowed


def left_out(panel: Panel, usable: Flags, encoder_bars: int, horizon_hours: int) -> dict[str, str]:
    """{ticker: why none of its bars is usable}, so that nobody vanishes in silence (FAULTS 37). usable: (n_tickers, n_bars)."""
    held = panel.held.sum(axis=1)
    return {
        ticker: (
            f"{int(held[i])} bars are held and no window of {encoder_bars} bars with {horizon_hours} bars after it is whole enough"
        )
        for i, ticker in enumerate(panel.tickers)
        if not usable[i].any()
    }


def _times(column: pd.Series) -> npt.NDArray[np.datetime64]:
    if getattr(column.dtype, "tz", None) is None:
        raise ContractError(f"column {column.name!r} has no time zone ({column.dtype}); times are UTC throughout.")
    times: npt.NDArray[np.datetime64] = (
        column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    )
    return times


def _known(calendar: pd.DataFrame, columns: list[str]) -> Singles:
    values = calendar[columns].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        name = columns[int((~np.isfinite(values)).any(axis=0).argmax())]
        raise ContractError(
            f"the trading calendar: column {name!r} is not finite. Every expected bar needs its calendar features."
        )
    return values.astype(np.float32)


def _require(frame: pd.DataFrame, columns: list[str], where: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ContractError(f"{where}: column {missing[0]!r} is missing; the frame has {list(frame.columns)}.")


def _require_finite(values: Floats, columns: list[str], features: pd.DataFrame) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        first = features[["ticker", "bar_end"]].iloc[int(row)]
        raise ContractError(
            f"features.hourly: column {columns[int(column)]!r} is not finite in {int(bad.any(axis=1).sum())} row(s), first at "
            f"{first['ticker']} bar_end={first['bar_end']}. Leave out bars whose features are not known yet."
        )
