"""The mood of the posts that became known since the bar before."""

import numpy as np
import pandas as pd

from tft_pipeline.features.rolling import Floats, mean, ratio, windows

SHRINKAGE = 5.0  # mentions' worth of neutrality: five bullish posts and no other score 0.5

COUNTS = ["bullish_count", "bearish_count", "neutral_count"]


def mood(bar_ends: pd.Series, hourly: pd.DataFrame) -> dict[str, Floats]:
    """(n_bars,) each, for ascending bars of one ticker.

    bar_ends: (n_bars,) UTC. hourly: this ticker's HOURLY_SENTIMENT rows. An hour joins the first bar that ends at or after the hour's
    end, so posts of the night and the weekend join the next session's first bar, and none that was written after a bar's end enters.
    The first bar takes nothing: when the bar before it ended is not known.
    """
    hourly = hourly.sort_values("hour_end")  # sums are taken in this order, however the rows were read
    ends = bar_ends.to_numpy("datetime64[us]")
    bar = np.searchsorted(ends, hourly["hour_end"].to_numpy("datetime64[us]"), side="left")
    usable = (bar > 0) & (bar < len(ends))
    bar, rows = bar[usable], hourly[usable]
    bullish, bearish, neutral = (_summed(bar, rows[name].to_numpy(np.float64), len(ends)) for name in COUNTS)
    total = bullish + bearish + neutral
    sure = _summed(
        bar, rows["confidence"].to_numpy(np.float64) * rows[COUNTS].sum(axis=1).to_numpy(np.float64), len(ends)
    )
    score = (bullish - bearish) / (total + SHRINKAGE)
    logs = np.log1p(total)
    week = {
        name: windows(values, 7).sum(axis=1) for name, values in (("up", bullish), ("down", bearish), ("all", total))
    }
    return {
        "sentiment_score": score,
        "sentiment_score_7h": (week["up"] - week["down"]) / (week["all"] + SHRINKAGE),
        "sentiment_momentum": score - mean(score, 35),
        "sentiment_confidence": np.clip(ratio(sure, total, otherwise=0.0), 0.0, 1.0),
        "sentiment_disagreement": np.where(
            bullish + bearish > 0, 1 - ratio(np.abs(bullish - bearish), bullish + bearish, otherwise=0.0), 0.0
        ),
        "mentions_log": logs,
        "mentions_attention": logs - mean(logs, 70),
    }


def _summed(bar: "np.ndarray[tuple[int], np.dtype[np.int64]]", values: Floats, n_bars: int) -> Floats:
    """(n_bars,) sums of the values of each bar, added in the order of the hours."""
    return np.bincount(bar, weights=values, minlength=n_bars)[:n_bars].astype(np.float64)
