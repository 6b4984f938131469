"""Yahoo's chart to bars as traded and corporate actions. Pure: no request is made here.

Yahoo restates its whole history at every split: prices before it are divided by the ratio, volumes multiplied, dividends divided.
We store what was traded, so each bar is multiplied back by the ratios of all splits after it, of which the caller must know every
one up to now. Dividends that Yahoo gives beside hourly bars are not worked into the prices.

Bars stay arrays until all tickers are there: a frame each would cost more than asking Yahoo.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.schema import UTC

HOUR_SECONDS, DAY_SECONDS = 3600, 86_400
ROUND_THE_CLOCK_SECONDS = 23 * HOUR_SECONDS  # a "session" this long is a day of a market that does not close
LIVE = timedelta(hours=2)  # what ended or took effect this recently was first held when it was read

_EVENT_FIELDS = {"splits": ("numerator", "denominator"), "dividends": ("amount",)}
_PRICES = ("open", "high", "low", "close")
_NOON_3000 = 32_503_723_200  # seconds; whatever is later is no moment

Seconds = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class DamagedChartError(Exception):
    """The chart contradicts itself, or what we need of it makes no sense."""


@dataclass(frozen=True)
class Action:
    """A split (new shares per old) or a dividend (USD a share, in today's shares as Yahoo gives it)."""

    effective_at: pd.Timestamp
    kind: str
    value: float


@dataclass(frozen=True)
class Quotes:
    """(n,) bars of one ticker, ascending. start and end: seconds since 1970 UTC; prices in USD; volume in shares. NaN where Yahoo has null."""

    start: Seconds
    end: Seconds
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.start)

    def only(self, wanted: npt.NDArray[np.bool_]) -> Self:
        """The bars where wanted is true."""
        return type(self)(*(getattr(self, field.name)[wanted] for field in fields(self)))


def no_quotes() -> Quotes:
    return Quotes(*(np.empty(0, np.int64),) * 2, *(np.empty(0, np.float64),) * 5)


def sessions(chart: dict[str, Any]) -> list[tuple[int, int]]:
    """First second and first second after each regular trading period of the chart, ascending; empty where Yahoo gives none (daily charts).

    Raises DamagedChartError for a period that is none.
    """
    periods = chart.get("meta", {}).get("tradingPeriods") or []
    if isinstance(periods, dict):
        periods = periods.get("regular") or []
    try:
        flat = [period for group in periods for period in (group if isinstance(group, list) else [group])]
        return sorted((int(period["start"]), int(period["end"])) for period in flat)
    except (KeyError, TypeError, ValueError):
        raise DamagedChartError(f"its trading periods cannot be read: {str(periods)[:120]}") from None


def actions_of(chart: dict[str, Any]) -> list[Action]:
    """Splits and dividends of the chart, ascending, each at the start of the first session that trades under it.

    Raises DamagedChartError for an event that is no number: the prices before it could not be read.
    """
    found: list[Action] = []
    events = chart.get("events") or {}
    if not events:
        return found
    open_periods = sessions(chart)
    for group, names in _EVENT_FIELDS.items():
        for event in (events.get(group) or {}).values():
            try:
                moment = int(event["date"])
                parts = [float(event[name]) for name in names]
            except (KeyError, TypeError, ValueError):
                raise DamagedChartError(f"one of its {group} cannot be read: {str(event)[:120]}") from None
            value = parts[0] / parts[1] if len(parts) == 2 and parts[1] else parts[0]
            if not all(math.isfinite(part) and part > 0 for part in parts):
                raise DamagedChartError(f"one of its {group} makes no sense: {str(event)[:120]}")
            effective = next((start for start, end in open_periods if end > moment), moment)
            found.append(Action(_moment(effective), group.removesuffix("s"), value))
    return sorted(found, key=lambda action: (action.effective_at, action.kind))


def quotes(chart: dict[str, Any]) -> Quotes:
    """Bars as Yahoo sent them, the one in progress too; of a repeated moment the last. An hourly bar ends with its hour or its session.

    What lies outside all sessions, where there are any, is left out: trade before and after hours is not asked for.
    Raises DamagedChartError where the lists do not fit each other.
    """
    moments = chart.get("timestamp") or []
    quote = (chart.get("indicators", {}).get("quote") or [{}])[0] or {}
    start = _whole(moments)
    columns = [_numbers(quote.get(name), len(start), name) for name in (*_PRICES, "volume")]
    order = np.argsort(start, kind="stable")
    start = start[order]
    last = np.append(start[1:] != start[:-1], True) if len(start) else np.empty(0, bool)
    periods = np.array(sessions(chart), dtype=np.int64).reshape(-1, 2)
    end = start + HOUR_SECONDS
    if len(periods):
        at = np.searchsorted(periods[:, 0], start, side="right") - 1
        inside = (at >= 0) & (start < periods[at, 1])
        closes = periods[at, 1]
        end = np.where(closes - periods[at, 0] < ROUND_THE_CLOCK_SECONDS, np.minimum(end, closes), end)
        last &= inside
    return Quotes(start, end, *(column[order] for column in columns)).only(last)


def not_restated(splits: Iterable[Action], prices: Quotes) -> set[pd.Timestamp]:
    """Moments of splits that Yahoo lists but has not yet worked into the prices before them, which takes it up to a day.

    prices: `quotes` of an hourly or a daily chart. A split is called not restated where the step from the last close before it to
    the first open under it is nearer to the whole ratio than to none. Ratios within 20 % of 1 are too small to tell: taken as restated.
    """
    late: set[pd.Timestamp] = set()
    for split in splits:
        known = np.isfinite(prices.open) & np.isfinite(prices.close)
        before = known & (prices.start < split.effective_at.timestamp())
        after = known & (prices.start >= split.effective_at.timestamp())
        if not before.any() or not after.any() or abs(math.log(split.value)) < math.log(1.2):
            continue
        opened = float(prices.open[after][0])
        step = float(prices.close[before][-1]) / opened if opened else 0.0
        if step > 0 and abs(math.log(step) - math.log(split.value)) < abs(math.log(step)):
            late.add(split.effective_at)
    return late


def late_in_hours(later: Sequence[Action], late: set[pd.Timestamp], hours: Quotes, days: Quotes) -> set[pd.Timestamp]:
    """Which of the splits after the hourly bars these have not been restated for: Yahoo restates its hours and its days at different times.

    late: what `not_restated` says of the daily chart. The two charts' opens of the newest day that both have tell whether the same holds of
    the hours. Without such a day it is taken to.
    Raises DamagedChartError where no set of restated splits explains by how much the two differ.
    """
    known = [quoted.only(np.isfinite(quoted.open) & (quoted.open > 0)) for quoted in (hours, days)]
    dates = [quoted.start // DAY_SECONDS for quoted in known]
    common = np.intersect1d(dates[0], dates[1])
    if not later or not len(common):
        return late
    opens = [float(quoted.open[date == common[-1]][0]) for quoted, date in zip(known, dates, strict=True)]
    apart = math.log(opens[0] / opens[1])
    of_days = sum(math.log(split.value) for split in later if split.effective_at not in late)
    for count in range(len(later) + 1):
        for unseen in combinations(later, count):
            of_hours = sum(math.log(split.value) for split in later if split not in unseen)
            if abs(of_days - of_hours - apart) < math.log(1.2):
                return late if abs(apart) < math.log(1.2) else {split.effective_at for split in unseen}
    raise DamagedChartError(
        f"its hourly prices are {opens[0] / opens[1]:.3g} times its daily ones, and no split explains it"
    )


def finished(found: Quotes, by: datetime) -> tuple[Quotes, list[str]]:
    """The bars that ended at or before `by` and can be stored, and a sentence for each kind of bar left out."""
    over = found.only(found.end <= by.timestamp())
    no_price = ~np.isfinite([over.open, over.high, over.low, over.close]).all(axis=0)
    no_volume = ~np.isfinite(over.volume) & ~no_price
    ticks = (over.start % 60 != 0) & ~no_price & ~no_volume
    notes = [
        f"{int(left_out.sum())} bar(s) {why} left out, first at {_moment(over.start[left_out][0]):%Y-%m-%d %H:%M}Z"
        for left_out, why in ((no_price, "without a price"), (no_volume, "without a volume"), (ticks, "off the minute"))
        if left_out.any()
    ]
    return over.only(~(no_price | no_volume | ticks)), notes


def as_traded(bars: Quotes, splits: Iterable[Action]) -> Quotes:
    """bars with Yahoo's retroactive split adjustment taken back: prices x ratio, volume / ratio, for every split after the bar.

    Prices are then rounded to a millionth of a dollar and volumes to whole shares: Yahoo's division left noise behind.
    """
    factor = _factor(bars.start, splits)
    restated = factor != 1.0
    if not restated.any():
        return bars
    prices = {
        name: np.where(restated, (getattr(bars, name) * factor).round(6), getattr(bars, name)) for name in _PRICES
    }
    volume = np.where(restated, (bars.volume / factor).round(), bars.volume)
    return Quotes(bars.start, bars.end, **prices, volume=volume)


def bar_rows(parts: Sequence[tuple[str, Quotes, datetime]], *, source: str, delay: timedelta) -> pd.DataFrame:
    """contracts.BARS of parts: (ticker, its bars, when they were read), in the order given."""
    parts = [part for part in parts if len(part[1])]
    if not parts:
        return BARS.empty()
    lengths = [len(bars) for _, bars, _ in parts]

    def joined(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(bars, name) for _, bars, _ in parts])

    read_at = pd.Series([at for _, _, at in parts], dtype=UTC).repeat(lengths).reset_index(drop=True)
    end = _times(joined("end"))
    columns = {
        "ticker": pd.Series(
            np.repeat(np.array([ticker for ticker, _, _ in parts], dtype=object), lengths), dtype="str"
        ),
        "bar_start": _times(joined("start")),
        "bar_end": end,
        **{name: joined(name) for name in (*_PRICES, "volume")},
    }
    rows = pd.DataFrame(columns)
    rows["source"] = pd.Series(source, index=rows.index, dtype="str")
    rows["known_at"] = _known_at(end, delay, read_at)
    return rows[BARS.names]


def action_rows(
    actions: Iterable[Action], ticker: str, splits: Iterable[Action], *, source: str, now: datetime
) -> pd.DataFrame:
    """contracts.ACTIONS of one ticker; dividends in dollars of a share as it was then."""
    listed = list(actions)
    if not listed:
        return ACTIONS.empty()
    moments = np.array([int(action.effective_at.timestamp()) for action in listed], dtype=np.int64)
    rows = pd.DataFrame({
        "ticker": pd.Series([ticker] * len(listed), dtype="str"),
        "effective_at": pd.Series([action.effective_at for action in listed], dtype=UTC),
        "kind": pd.Series([action.kind for action in listed], dtype="str"),
        "value": [action.value for action in listed],
        "source": pd.Series([source] * len(listed), dtype="str"),
    })  # fmt: skip
    paid = rows["value"] * _factor(moments, splits)
    rows["value"] = rows["value"].where(rows["kind"] == "split", paid.round(6))
    # Two payouts on one day are one to a holder; two lines of one split are a repetition.
    rows = rows.groupby(["ticker", "effective_at", "kind"], as_index=False, sort=True).agg(
        {"value": "sum", "source": "first"}
    )
    ratio = {action.effective_at: action.value for action in listed if action.kind == "split"}
    is_split = rows["kind"] == "split"
    rows.loc[is_split, "value"] = rows.loc[is_split, "effective_at"].map(ratio)
    read_at = pd.Series([pd.Timestamp(now)] * len(rows), dtype=UTC)
    rows["known_at"] = _known_at(rows["effective_at"], timedelta(0), read_at)
    return rows.assign(former=pd.Series(None, index=rows.index, dtype="str"))[ACTIONS.names]


def _factor(moments: Seconds, splits: Iterable[Action]) -> Floats:
    factor = np.ones(len(moments))
    for split in splits:
        factor = np.where(moments >= split.effective_at.timestamp(), factor, factor * split.value)
    return factor


def _known_at(moments: pd.Series, delay: timedelta, read_at: pd.Series) -> pd.Series:
    """Nominally moment + delay; the time of reading where that is later and the moment is recent."""
    nominal = moments + delay
    return nominal.mask((moments > read_at - LIVE) & (nominal < read_at), read_at)


def _whole(moments: object) -> Seconds:
    if not isinstance(moments, list) or not all(
        isinstance(moment, int) and abs(moment) < _NOON_3000 for moment in moments
    ):
        raise DamagedChartError(f"its times cannot be read: {str(moments)[:120]}")
    return np.array(moments, dtype=np.int64)


def _numbers(values: object, length: int, name: str) -> Floats:
    """Whatever is no number is NaN."""
    if values is None and length == 0:
        return np.empty(0)
    if not isinstance(values, list) or len(values) != length:
        raise DamagedChartError(f"it has {length} times and not as many of {name!r}")
    return np.array(
        [
            float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
            for value in values
        ]
    )


def _times(seconds: Seconds) -> pd.Series:
    return pd.Series((seconds * 1_000_000).astype("M8[us]")).dt.tz_localize("UTC")


def _moment(seconds: int) -> pd.Timestamp:
    return pd.Timestamp(int(seconds), unit="s", tz="UTC").as_unit("us")
