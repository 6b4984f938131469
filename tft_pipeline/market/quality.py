"""Which bars cannot be true, and how far a ticker's day can be trusted. Named rules, counted; nothing is dropped in silence."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from tft_pipeline.contracts import BARS, QUALITY
from tft_pipeline.market.actions import dividend_on, split_factor
from tft_pipeline.market.sessions import Calendar, infer_phase

WARN_BELOW = 0.8
RULES = ("missing", "quarantined", "stale", "zero_volume", "outlier")  # QUALITY counts each as `<rule>_bars`

PRICES = ["open", "high", "low", "close"]
_LEAST_PRICE = min(column.minimum or 0.0 for column in BARS.columns if column.name in PRICES)  # what the table takes
_UNIT_ERROR = 20.0  # times the bar before: no hour of an equity has moved so far; cents for dollars (100) have
_OUTLIER_DEVIATIONS = 12.0  # robust deviations of the ticker's own hourly returns
# JSON has no such numbers, and PostgreSQL's jsonb refuses what Python writes for them.
_JSON = {np.nan: None, np.inf: "Infinity", -np.inf: "-Infinity"}
USUAL_BARS = 35  # a US week: what is usual is learned from


@dataclass(frozen=True)
class Judged:
    """good: BARS. rejected: day (UTC midnight), ticker, reason (a sentence), row (the bar as JSON text)."""

    good: pd.DataFrame
    rejected: pd.DataFrame


def judge(bars: pd.DataFrame, actions: pd.DataFrame, *, before: pd.DataFrame) -> Judged:
    """Part the bars that can be true from those that cannot.

    bars: BARS' columns, as a source gave them. actions: ACTIONS known so far: a split explains a jump. before: BARS of the days
    before, to see a jump at the very first bar. A bar breaking several rules is rejected once, for the first.
    A jump that no split explains is refused for as long as it lasts, a whole day too, unless a week of the new level comes at once.
    """
    reasons = pd.Series(None, index=bars.index, dtype="object")
    with np.errstate(invalid="ignore"):
        for sentence, broken in _rules(bars):
            reasons[reasons.isna() & broken] = sentence
    # Among the sound ones only: a bar that was sent again because the first could not be true is the one to keep.
    again = bars[reasons.isna()].duplicated(["ticker", "bar_start"])
    reasons[again.index[again]] = "the ticker already has a bar with this start"
    sound = bars[reasons.isna()]
    far = _in_another_unit(sound, actions, before)
    reasons[far.index] = [
        f"close {close:g} is {times:.3g} times its neighbours', and no split explains it"
        for close, times in zip(bars.loc[far.index, "close"], far, strict=True)
    ]
    bad = reasons.notna()
    rejected = bars[bad]
    return Judged(
        good=bars.loc[~bad, BARS.names].reset_index(drop=True),
        rejected=pd.DataFrame(
            {
                "day": rejected["bar_start"].dt.floor("D").array,
                "ticker": rejected["ticker"].to_numpy(),
                "reason": reasons[bad].to_numpy(),
                "row": [json.dumps(row, default=str) for row in rejected.replace(_JSON).to_dict("records")],
            }
        ),
    )


def _rules(bars: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """(why, which bars), the gravest first."""
    prices = bars[PRICES]
    missing = pd.Series(~np.isfinite(prices.to_numpy(np.float64)).all(axis=1), index=bars.index)
    return [
        ("a price is missing or not finite", missing),
        (
            "a price is not above zero",
            ~missing & pd.Series((prices.to_numpy(np.float64) < _LEAST_PRICE).any(axis=1), index=bars.index),
        ),
        ("high is below low", bars["high"] < bars["low"]),
        ("open lies outside low and high", (bars["open"] < bars["low"]) | (bars["open"] > bars["high"])),
        ("close lies outside low and high", (bars["close"] < bars["low"]) | (bars["close"] > bars["high"])),
        (
            f"high is more than {_UNIT_ERROR:g} times open and close, or low less than that part of them",
            (bars["high"] > _UNIT_ERROR * bars[["open", "close"]].max(axis=1))
            | (bars["low"] * _UNIT_ERROR < bars[["open", "close"]].min(axis=1)),
        ),
        ("volume is missing, negative or not finite", ~(bars["volume"].between(0, np.finfo(float).max))),
        ("the bar does not end after it begins", bars["bar_end"] <= bars["bar_start"]),
    ]


def _in_another_unit(bars: pd.DataFrame, actions: pd.DataFrame, before: pd.DataFrame) -> pd.Series:
    """Close over the level it left, split-adjusted, of those bars that lie beyond a jump of _UNIT_ERROR; by bars' index.

    Jumps part a ticker's bars into stretches. One is refused as a whole when it begins so far from the last level that was believed:
    that of before, or where there is none, that of the longest stretch.
    """
    columns = ["ticker", "bar_start", "close"]
    both = pd.concat([before[columns].assign(origin=-1), bars[columns].assign(origin=bars.index)], ignore_index=True)
    both = both.sort_values(["ticker", "bar_start"], kind="stable", ignore_index=True)
    both["adjusted"] = both["close"] * split_factor(both, actions)
    jumps = _is_far(both["adjusted"] / both.groupby("ticker", sort=False)["adjusted"].shift())
    both["stretch"] = jumps.cumsum()
    found: dict[int, float] = {}
    for _, of_ticker in both[both["ticker"].isin(both.loc[jumps, "ticker"].unique())].groupby("ticker", sort=False):
        earlier, new = of_ticker[of_ticker["origin"] < 0], of_ticker[of_ticker["origin"] >= 0]
        if new.empty:
            continue
        stretches = [stretch for _, stretch in new.groupby("stretch", sort=True)]
        level = (max(stretches, key=len) if earlier.empty else earlier.iloc[::-1])["adjusted"].iloc[0]
        for stretch in stretches:
            ratio = stretch["adjusted"] / level
            if len(stretch) < USUAL_BARS and _is_far(ratio).iloc[0]:
                found.update(zip(stretch["origin"], ratio, strict=True))
            else:
                level = stretch["adjusted"].iloc[-1]
    return pd.Series(found, dtype="float64")


def _is_far(ratio: pd.Series) -> pd.Series:
    return (ratio > _UNIT_ERROR) | (ratio < 1 / _UNIT_ERROR)


def quality(
    bars: pd.DataFrame, rejected: pd.DataFrame, actions: pd.DataFrame, calendar: Calendar, *, tickers: Sequence[str],
    start: datetime, end: datetime, as_of: datetime,
) -> pd.DataFrame:  # fmt: skip
    """QUALITY: a row for each ticker and session day of start <= day < end, also for a ticker without a bar that day.

    bars: BARS of these days and some before, to know what is usual. rejected: day, ticker, bar_start of the bars in
    quarantine; one whose hour a sound bar holds by now was mended, and does not count.
    as_of: a bar that has not ended by then is not missing yet.
    score = 1 - (missing + quarantined + (stale + zero volume + outliers) / 2) / expected, not below 0: what is not there or was
    refused counts whole, what is there but doubtful counts half.
    """
    # A day more on either side: Sydney's sessions begin, and Chicago's futures open, on the UTC day before their date.
    around = (start - timedelta(days=1)).date(), (end + timedelta(days=1)).date()
    grid = calendar.bar_grid(*around, phase_minutes=infer_phase(bars))
    grid = grid[(grid["bar_start"] >= start) & (grid["bar_start"] < end) & (grid["bar_end"] <= as_of)]
    if grid.empty or not len(tickers):
        return QUALITY.empty()
    days = (
        grid.assign(day_start=grid["bar_start"].dt.floor("D"))
        .groupby("day_start")
        .size()
        .rename("expected_bars")
        .reset_index()
    )
    rows = pd.DataFrame({"ticker": pd.Series(sorted(tickers), dtype="str")}).merge(days, how="cross")
    counted = _doubts(bars, actions)
    counted = counted[(counted["bar_start"] >= start) & (counted["bar_start"] < end)]
    expected = counted["bar_start"].isin(grid["bar_start"])
    counts = counted.assign(
        day_start=counted["bar_start"].dt.floor("D"),
        bars=1,
        on_grid=expected,
        # Outside the sessions nothing is built on a bar, so nothing speaks against the day there.
        stale_bars=counted["stale_bars"] & expected,
        zero_volume_bars=(counted["volume"] == 0) & expected,
        outlier_bars=counted["outlier_bars"] & expected,
    )
    names = ["bars", "on_grid", "stale_bars", "zero_volume_bars", "outlier_bars"]
    sums = counts.groupby(["ticker", "day_start"])[names].sum().reset_index()
    held = pd.MultiIndex.from_frame(bars[["ticker", "bar_start"]])
    refused = rejected[~pd.MultiIndex.from_frame(rejected[["ticker", "bar_start"]]).isin(held)]
    refused = (
        refused.groupby(["ticker", "day"])
        .size()
        .rename("quarantined_bars")
        .reset_index()
        .rename(columns={"day": "day_start"})
    )
    refused["day_start"] = pd.to_datetime(refused["day_start"], utc=True).astype(rows["day_start"].dtype)
    rows = rows.merge(sums, how="left", on=["ticker", "day_start"])
    rows = rows.merge(refused.astype({"ticker": rows["ticker"].dtype}), how="left", on=["ticker", "day_start"])
    rows = rows.fillna(dict.fromkeys([*names, "quarantined_bars"], 0)).astype(
        dict.fromkeys([*names, "quarantined_bars"], "int64")
    )
    # A refused bar is not held, but it is not missing: it has its own count.
    rows["missing_bars"] = (rows["expected_bars"] - rows["on_grid"] - rows["quarantined_bars"]).clip(lower=0)
    doubtful = rows["stale_bars"] + rows["zero_volume_bars"] + rows["outlier_bars"]
    faults = rows["missing_bars"] + rows["quarantined_bars"] + doubtful / 2
    rows["score"] = (1 - faults / rows["expected_bars"]).clip(0.0, 1.0)
    return rows[QUALITY.names].sort_values(["ticker", "day_start"], ignore_index=True)


def _doubts(bars: pd.DataFrame, actions: pd.DataFrame) -> pd.DataFrame:
    """bars with stale_bars (repeats the bar before, price for price) and outlier_bars (a jump beyond what is usual), as booleans."""
    ordered = bars.sort_values(["ticker", "bar_start"], ignore_index=True)
    grouped = ordered.groupby("ticker", sort=False)
    same = pd.Series(True, index=ordered.index)
    for price in PRICES:
        same &= ordered[price] == grouped[price].shift()
    factor = split_factor(ordered, actions)
    worth = (ordered["close"] + dividend_on(ordered, actions)) * factor
    previous = (ordered["close"] * factor).groupby(ordered["ticker"], sort=False).shift()
    returns = np.log(worth / previous).abs()
    # The median of |x| over 0.6745 is a robust deviation. Of the bars before only, so that a day's judgement never changes later.
    usual = returns.groupby(ordered["ticker"], sort=False).transform(
        lambda of_ticker: of_ticker.shift().rolling(USUAL_BARS, min_periods=USUAL_BARS // 2).median() / 0.6745
    )
    return ordered.assign(stale_bars=same, outlier_bars=(returns > _OUTLIER_DEVIATIONS * usual) & (usual > 0))
