"""The mood toward each ticker by clock hour, from the mentions that became known within it."""

from datetime import datetime

import numpy as np
import pandas as pd

from tft_pipeline.contracts import HOURLY_SENTIMENT

MOMENTUM_HOURS = 24
_HOUR = pd.Timedelta(hours=1)


def hourly(mentions: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """contracts.HOURLY_SENTIMENT for start <= hour_start < end, hours in UTC; an hour without a mention has no row.

    mentions: contracts.MENTIONS that became known from start - 24 h on (the warm-up that momentum needs) to before end; what lies
    outside is ignored. A mention known at 15:00:00 sharp belongs to the hour from 15:00 to 16:00, and counts from 16:00 on.
    momentum: score of the hour minus the plain mean of the scores of those of the 24 clock hours before it that had mentions,
    0 if none had; score = (bullish - bearish) / total, -1…1. confidence: mean over the hour's mentions.
    """
    first, last = pd.Timestamp(start), pd.Timestamp(end)
    known = mentions["known_at"]
    used = mentions[(known >= first - MOMENTUM_HOURS * _HOUR) & (known < last)]
    if used.empty:
        return HOURLY_SENTIMENT.empty()
    label = used["label"]
    rows = pd.DataFrame(
        {
            "ticker": used["ticker"],
            "hour_start": used["known_at"].dt.floor("h"),
            "bullish_count": (label == "bullish").astype("int64"),
            "bearish_count": (label == "bearish").astype("int64"),
            "neutral_count": (label == "neutral").astype("int64"),
            "confidence": used["confidence"],
        }
    )
    # In one order whatever order the mentions came in: a sum of floats depends on it.
    rows = rows.sort_values(["ticker", "hour_start", "confidence"], kind="stable")
    groups = rows.groupby(["ticker", "hour_start"], sort=True)
    hours = groups[["bullish_count", "bearish_count", "neutral_count"]].sum()
    hours["confidence"] = groups["confidence"].mean().clip(0.0, 1.0)
    hours = hours.reset_index()
    total = hours[["bullish_count", "bearish_count", "neutral_count"]].sum(axis=1)
    score = (hours["bullish_count"] - hours["bearish_count"]) / total
    hours["momentum"] = score - _mean_before(hours["ticker"], hours["hour_start"], score).fillna(score)
    hours["hour_end"] = hours["hour_start"] + _HOUR
    wanted = hours[(hours["hour_start"] >= first) & (hours["hour_start"] < last)]
    return wanted[HOURLY_SENTIMENT.names].reset_index(drop=True)


def _mean_before(ticker: pd.Series, hour: pd.Series, score: pd.Series) -> pd.Series:
    """(n,) mean score of the ticker's rows in the 24 clock hours before each row; NaN where there is none. Rows sorted by both."""
    number = ((hour - pd.Timestamp(0, tz="UTC")) // _HOUR).to_numpy()  # clock hours since 1970
    means = np.full(len(score), np.nan)
    values = score.to_numpy(dtype="float64")
    for _, places in ticker.groupby(ticker, sort=False).indices.items():
        hours, scores = number[places], values[places]
        begin = np.searchsorted(hours, hours - MOMENTUM_HOURS, side="left")  # hours[begin] >= hour - 24
        means[places] = [scores[b:i].mean() if b < i else np.nan for i, b in enumerate(begin)]
    return pd.Series(means, index=score.index)
