"""The feature matrix: every feature of every ticker, joined as of each bar's end."""

import numpy as np
import pandas as pd

from tft_pipeline.contracts import FEATURES, KNOWN_FEATURES, OBSERVED_FEATURES
from tft_pipeline.features.calendar import known_features
from tft_pipeline.features.cross_section import cross_section
from tft_pipeline.features.mood import mood
from tft_pipeline.features.prices import adjusted
from tft_pipeline.features.returns import returns
from tft_pipeline.features.shape import shape
from tft_pipeline.features.trend import trend
from tft_pipeline.features.volatility import volatility
from tft_pipeline.features.volume import volume

# The longest looks back: 36 bars of the MACD line, of which each looks back 104 bars, and a return needs the bar before.
WARMUP_BARS = 140
# Calendar days before a bar's own day that hold so many bars of the sparsest calendar we know, US half days and holidays included.
WARMUP_DAYS = 45


def feature_matrix(bars: pd.DataFrame, hourly: pd.DataFrame, grid: pd.DataFrame) -> pd.DataFrame:
    """FEATURES of every bar with enough history, sorted by key. Values never depend on anything after the bar's end.

    bars: BARS, with split_factor (what makes a price comparable with those before it) and dividend (dollars a share, as traded, that
    go ex with the bar), and counts: whether the ticker was a member of the universe at the bar's end, and is part of the market that all
    are held against; without that column, all are. hourly: HOURLY_SENTIMENT. grid: the calendar's expected bars with session_open, session_close,
    previous_bar_end, covering bars. Bars outside the calendar, and those with fewer than WARMUP_BARS in the WARMUP_DAYS before their
    day, have no row, even where more history is loaded: a day alone and a range of years then give the same rows.
    """
    ordered = bars.merge(grid[["bar_start", "session_open"]], on="bar_start", how="inner")
    if ordered.empty:
        return FEATURES.empty()
    ordered = ordered.sort_values(["ticker", "bar_start"], ignore_index=True)
    by_ticker_mood = dict(tuple(hourly.groupby("ticker")))
    parts = [
        _of_ticker(of_ticker, by_ticker_mood.get(ticker, hourly.iloc[:0]))
        for ticker, of_ticker in ordered.groupby("ticker", sort=True)
    ]
    rows = pd.concat(parts, ignore_index=True)
    # A return across a long halt is not everywhere loaded, and must not move the market of the others.
    counted = {f"return_{bars}h": rows[f"return_{bars}h"].where(rows[f"within_{bars}"]) for bars in (1, 7)}
    rows = rows.assign(**cross_section(rows.assign(**counted)))
    rows = rows.merge(known_features(grid).drop(columns="bar_end"), on="bar_start", how="left")
    complete = rows[[column.name for column in (*OBSERVED_FEATURES, *KNOWN_FEATURES)]].notna().all(axis=1)
    return rows.loc[complete & rows[f"within_{WARMUP_BARS}"], FEATURES.names].reset_index(drop=True)


def _of_ticker(bars: pd.DataFrame, hourly: pd.DataFrame) -> pd.DataFrame:
    """All features of one ticker's ascending bars that need no other ticker."""
    prices = adjusted(bars)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            **returns(prices),
            **volatility(prices),
            **shape(prices),
            **trend(prices),
            **volume(prices),
            **mood(bars["bar_end"], hourly),
        }
    within = {f"within_{back}": _within_reach(bars["bar_start"], back) for back in (1, 7, WARMUP_BARS)}
    names = ["ticker", "bar_start", "bar_end", "close", *(["counts"] if "counts" in bars else [])]
    given = bars[names].reset_index(drop=True)
    return given.assign(log_price=np.log(prices.close), **columns, **within)


def _within_reach(bar_starts: pd.Series, back: int) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """(n_bars,): whether the bar so many before lies within WARMUP_DAYS of the bar's own day, as what is loaded for that day does."""
    starts = bar_starts.to_numpy("datetime64[us]")
    earliest = starts.astype("datetime64[D]") - np.timedelta64(WARMUP_DAYS, "D")
    reached = np.zeros(len(starts), dtype=np.bool_)
    reached[back:] = starts[:-back] >= earliest[back:]
    return reached
