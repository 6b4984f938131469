"""Yahoo's chart to bars as traded and corporate actions. Pure: no request is made here.

Yahoo restates its whole history at every split: prices before it are divided by the ratio, volumes multiplied, dividends divided.
We store what was traded, so each bar is multiplied back by the ratios of all splits after it, of which the caller must know every
one up to now. Dividends that Yahoo gives beside hourly bars are not worked into the prices (`auto_adjust=False`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.schema import UTC

HOUR = pd.Timedelta(hours=1)
ROUND_THE_CLOCK = pd.Timedelta(hours=23)  # a "session" this long is a day of a market that does not close
LIVE = timedelta(hours=2)  # what ended or took effect this recently was first held when it was read

_EVENT_FIELDS = {"splits": ("numerator", "denominator"), "dividends": ("amount",)}
_PRICES = {"Open": "open", "High": "high", "Low": "low", "Close": "close"}


@dataclass(frozen=True)
class Action:
    """A split (new shares per old) or a dividend (USD a share, in today's shares as Yahoo gives it)."""

    effective_at: pd.Timestamp
    kind: str
    value: float


class DamagedChartError(Exception):
    """The chart contradicts itself, or what we need of it makes no sense."""


def sessions(chart: dict[str, Any]) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Regular trading periods of the chart, ascending; empty where Yahoo gives none (daily charts)."""
    periods = chart.get("meta", {}).get("tradingPeriods") or []
    if isinstance(periods, dict):
        periods = periods.get("regular") or []
    flat = [period for group in periods for period in (group if isinstance(group, list) else [group])]
    return sorted((_moment(period["start"]), _moment(period["end"])) for period in flat)


def actions_of(chart: dict[str, Any]) -> list[Action]:
    """Splits and dividends of the chart, ascending, each at the start of the first session that trades under it.

    Raises DamagedChartError for an event that is no number: the prices before it could not be read.
    """
    open_periods = sessions(chart)
    found = []
    for group, fields in _EVENT_FIELDS.items():
        for event in ((chart.get("events") or {}).get(group) or {}).values():
            try:
                moment = _moment(event["date"])
                parts = [float(event[field]) for field in fields]
            except (KeyError, TypeError, ValueError):
                raise DamagedChartError(f"one of its {group} cannot be read: {str(event)[:120]}") from None
            value = parts[0] / parts[1] if len(parts) == 2 and parts[1] else parts[0]
            if not all(math.isfinite(part) and part > 0 for part in parts):
                raise DamagedChartError(f"one of its {group} makes no sense: {str(event)[:120]}")
            effective = next((start for start, end in open_periods if end > moment), moment)
            found.append(Action(effective, group.removesuffix("s"), value))
    return sorted(found, key=lambda action: (action.effective_at, action.kind))


def quotes(chart: dict[str, Any]) -> pd.DataFrame:
    """(n,) rows of bar_start, open and close as Yahoo sent them, also of the bar in progress; rows without a price left out."""
    quote = (chart.get("indicators", {}).get("quote") or [{}])[0]
    moments = [_moment(seconds) for seconds in chart.get("timestamp") or []]
    columns = {name: pd.Series(quote.get(name) or [], dtype="float64") for name in ("open", "close")}
    return pd.DataFrame({"bar_start": pd.Series(moments, dtype=UTC), **columns}).dropna().sort_values("bar_start")


def not_restated(splits: Iterable[Action], prices: pd.DataFrame) -> set[pd.Timestamp]:
    """Moments of splits that Yahoo lists but has not yet worked into the prices before them, which takes it up to a day.

    prices: `quotes` of an hourly or a daily chart. A split is called not restated where the step from the last close before it to
    the first open under it is nearer to the whole ratio than to none. Ratios within 20 % of 1 are too small to tell: taken as restated.
    """
    late = set()
    for split in splits:
        before = prices[prices["bar_start"] < split.effective_at]
        after = prices[prices["bar_start"] >= split.effective_at]
        if before.empty or after.empty or abs(math.log(split.value)) < math.log(1.2):
            continue
        step = float(before["close"].iloc[-1]) / float(after["open"].iloc[0])
        if step > 0 and abs(math.log(step) - math.log(split.value)) < abs(math.log(step)):
            late.add(split.effective_at)
    return late


def ohlcv(history: pd.DataFrame, chart: dict[str, Any], *, finished_by: datetime) -> tuple[pd.DataFrame, list[str]]:
    """yfinance's frame as (n,) bars with bar_start, bar_end, open, high, low, close, volume that ended at or before `finished_by`.

    Also returns a sentence for each kind of row left out: null prices, null volume (yfinance turns it to 0), off the minute.
    """
    if history.empty:
        return pd.DataFrame(columns=["bar_start", "bar_end", *_PRICES.values(), "volume"]), []
    bars = history.rename(columns=_PRICES)[[*_PRICES.values()]].astype("float64")
    bars["volume"] = history["Volume"].astype("float64")
    bars.insert(0, "bar_start", pd.DatetimeIndex(history.index).tz_convert("UTC").as_unit("us"))
    bars = bars.reset_index(drop=True)
    bars.insert(1, "bar_end", _ends(bars["bar_start"], sessions(chart)))
    bars = bars[bars["bar_end"] <= pd.Timestamp(finished_by)]

    no_price = ~np.isfinite(bars[[*_PRICES.values()]].to_numpy()).all(axis=1)
    no_volume = bars["bar_start"].isin(_without_volume(chart)) & ~no_price
    ticks = (bars["bar_start"] != bars["bar_start"].dt.floor("min")) & ~no_price & ~no_volume
    notes = [
        f"{int(left_out.sum())} bar(s) {why} left out, first at {bars.loc[left_out, 'bar_start'].iloc[0]:%Y-%m-%d %H:%M}Z"
        for left_out, why in ((no_price, "without a price"), (no_volume, "without a volume"), (ticks, "off the minute"))
        if left_out.any()
    ]
    return bars[~(no_price | no_volume | ticks)].reset_index(drop=True), notes


def as_traded(bars: pd.DataFrame, splits: Iterable[Action]) -> pd.DataFrame:
    """bars with Yahoo's retroactive split adjustment taken back: prices x ratio, volume / ratio, for every split after the bar.

    Prices are then rounded to a millionth of a dollar and volumes to whole shares: Yahoo's division left noise behind.
    """
    factor = _factor(bars["bar_start"], splits)
    restated = factor != 1.0
    traded = bars.copy()
    for column in _PRICES.values():
        traded[column] = traded[column].where(~restated, (traded[column] * factor).round(6))
    traded["volume"] = traded["volume"].where(~restated, (traded["volume"] / factor).round())
    return traded


def bar_rows(bars: pd.DataFrame, ticker: str, *, source: str, delay: timedelta, now: datetime) -> pd.DataFrame:
    """contracts.BARS of one ticker."""
    if bars.empty:
        return BARS.empty()
    rows = bars.assign(ticker=pd.Series(ticker, index=bars.index, dtype="str"), source=source)
    rows["known_at"] = _known_at(rows["bar_end"], delay, now)
    return rows[BARS.names].astype({"source": "str", "bar_start": UTC, "bar_end": UTC})


def action_rows(
    actions: Iterable[Action], ticker: str, splits: Iterable[Action], *, source: str, now: datetime
) -> pd.DataFrame:
    """contracts.ACTIONS of one ticker; dividends in dollars of a share as it was then."""
    listed = list(actions)
    if not listed:
        return ACTIONS.empty()
    rows = pd.DataFrame({
        "ticker": pd.Series([ticker] * len(listed), dtype="str"),
        "effective_at": pd.Series([action.effective_at for action in listed], dtype=UTC),
        "kind": pd.Series([action.kind for action in listed], dtype="str"),
        "value": [action.value for action in listed],
        "source": pd.Series([source] * len(listed), dtype="str"),
    })  # fmt: skip
    paid = rows["value"] * _factor(rows["effective_at"], splits)
    rows["value"] = rows["value"].where(rows["kind"] == "split", paid.round(6))
    # Two payouts on one day are one to a holder; two lines of one split are a repetition.
    rows = rows.groupby(["ticker", "effective_at", "kind"], as_index=False, sort=True).agg(
        {"value": "sum", "source": "first"}
    )
    ratio = {action.effective_at: action.value for action in listed if action.kind == "split"}
    is_split = rows["kind"] == "split"
    rows.loc[is_split, "value"] = rows.loc[is_split, "effective_at"].map(ratio)
    rows["known_at"] = _known_at(rows["effective_at"], timedelta(0), now)
    return rows[ACTIONS.names]


def _factor(moments: pd.Series, splits: Iterable[Action]) -> pd.Series:
    factor = pd.Series(1.0, index=moments.index)
    for split in splits:
        factor = factor.where(moments >= split.effective_at, factor * split.value)
    return factor


def _ends(starts: pd.Series, open_periods: list[tuple[pd.Timestamp, pd.Timestamp]]) -> pd.Series:
    """The hour's end, or the session's close where that comes first (15:30 and half days in New York)."""
    ends = starts + HOUR
    for opened, closed in open_periods:
        if closed - opened < ROUND_THE_CLOCK:
            ends = ends.mask((starts >= opened) & (starts < closed) & (ends > closed), closed)
    return ends


def _known_at(moments: pd.Series, delay: timedelta, now: datetime) -> pd.Series:
    """Nominally moment + delay; the time of reading where that is later and the moment is recent."""
    nominal = moments + delay
    read_at = pd.Timestamp(now).as_unit("us")
    return nominal.mask((moments > read_at - LIVE) & (nominal < read_at), read_at)


def _without_volume(chart: dict[str, Any]) -> list[pd.Timestamp]:
    quote = chart["indicators"]["quote"][0]
    pairs = zip(chart.get("timestamp") or [], quote.get("volume") or [], strict=False)
    return [_moment(moment) for moment, volume in pairs if volume is None]


def _moment(seconds: object) -> pd.Timestamp:
    return pd.Timestamp(int(seconds), unit="s", tz="UTC").as_unit("us")  # type: ignore[call-overload]
