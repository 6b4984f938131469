"""When a source's exchange trades, from exchange_calendars, and the hourly bars of its sessions.

What belongs here: what a source must know before it asks. Which bars are missing is judged by market/.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Self

import exchange_calendars
import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.errors import ConfigError
from tft_pipeline.sources.protocols import Span

HOUR_SECONDS = 3600

Seconds = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Hours:
    """(n,) hourly bars, ascending, none twice: first second and first second after each, since 1970 UTC."""

    start: Seconds
    end: Seconds

    def __len__(self) -> int:
        return len(self.start)

    def only(self, wanted: npt.NDArray[np.bool_]) -> Self:
        """The bars where wanted is true."""
        return type(self)(self.start[wanted], self.end[wanted])

    def holding(self, moments: Seconds) -> tuple[Seconds, npt.NDArray[np.bool_]]:
        """For each moment the index of the last bar that began by then, and whether it lies in that bar: start <= moment < end."""
        at = np.searchsorted(self.start, moments, side="right") - 1
        return at, (at >= 0) & (moments < self.end[at])


def schedule(name: str, first: date, last: date) -> pd.DataFrame:
    """open and close by the session's date: first to last, and more around them. Raises ConfigError: no such calendar."""
    week = timedelta(days=7)
    return _years(name, (first - week).year, (last + week).year)


def hours(name: str, span: Span, *, by_the_clock: bool) -> Hours:
    """The hourly bars of the calendar's sessions that begin in span.start <= t < span.end.

    On the session's own grid the first bar begins with the session and the last ends with it: 09:30 … 15:30 in New York, to 16:00. By
    the clock they are the whole clock hours that touch the session: 09:00 … 15:00. Where sessions begin at midnight the two are one.
    """
    sessions = schedule(name, span.start.date(), span.end.date())
    opens, closes = (sessions[edge].to_numpy("datetime64[s]").astype(np.int64) for edge in ("open", "close"))
    first = opens // HOUR_SECONDS * HOUR_SECONDS if by_the_clock else opens
    counts = -((first - closes) // HOUR_SECONDS)
    row = np.repeat(np.arange(len(opens)), counts)
    step = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = first[row] + step * HOUR_SECONDS
    end = start + HOUR_SECONDS if by_the_clock else np.minimum(start + HOUR_SECONDS, closes[row])
    _, once = np.unique(start, return_index=True)
    inside = (start[once] >= span.start.timestamp()) & (start[once] < span.end.timestamp())
    return Hours(start[once][inside], end[once][inside])


@lru_cache(maxsize=8)
def _years(name: str, first: int, last: int) -> pd.DataFrame:
    """Whole years, so that the days of a backfill share one calendar: making it takes a quarter of a second."""
    if name not in exchange_calendars.get_calendar_names(include_aliases=True):
        raise ConfigError(
            f"{name!r} is no trading calendar; set TFT_CALENDAR to one of exchange_calendars, such as XNYS or 24/7."
        )
    shipped = exchange_calendars.get_calendar(name)
    start, end = pd.Timestamp(first, 1, 1), pd.Timestamp(last, 12, 31)
    start, end = max(start, type(shipped).bound_min() or start), min(end, type(shipped).bound_max() or end)
    if start >= end:  # some calendars are recorded for a stretch of years only
        return pd.DataFrame(shipped.schedule.iloc[:0][["open", "close"]])
    return pd.DataFrame(exchange_calendars.get_calendar(name, start=start, end=end).schedule[["open", "close"]])
