"""Trading sessions and the hourly bars that they should hold. Holidays, half days and daylight saving come from exchange_calendars."""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import exchange_calendars
import numpy as np
import pandas as pd

from tft_pipeline.errors import ConfigError
from tft_pipeline.schema import UTC as UTC_DTYPE

HOUR = pd.Timedelta(hours=1)


class Calendar:
    """The sessions of one exchange, by its exchange_calendars name ('XNYS', '24/7' …). All times UTC.

    Raises ConfigError: no such calendar.
    """

    def __init__(self, name: str) -> None:
        if name not in exchange_calendars.get_calendar_names(include_aliases=True):
            raise ConfigError(
                f"{name!r} is no trading calendar; set TFT_CALENDAR to one of exchange_calendars, such as XNYS or 24/7."
            )
        self.name = name

    def sessions(self, start: date, end: date) -> pd.DataFrame:
        """day_start (midnight UTC of the session's date), session_open, session_close for start <= date < end, ascending.

        Some calendars are recorded for a stretch of years only; outside it they have no sessions.
        """
        schedule = _schedule(self.name, _decade(start), _decade(end) + 10)
        days = pd.DatetimeIndex(schedule.index)
        wanted = (days >= pd.Timestamp(start)) & (days < pd.Timestamp(end))
        chosen = schedule[wanted]
        frame = pd.DataFrame(
            {
                "day_start": days[wanted].tz_localize("UTC"),
                "session_open": chosen["open"].to_numpy(),
                "session_close": chosen["close"].to_numpy(),
            }
        )
        for column in ("session_open", "session_close"):
            frame[column] = pd.to_datetime(frame[column], utc=True)
        return frame.astype(dict.fromkeys(frame.columns, UTC_DTYPE))

    def bar_grid(self, start: date, end: date, *, phase_minutes: int) -> pd.DataFrame:
        """Every expected hourly bar of the sessions of start <= date < end, ascending.

        phase_minutes: minute of the hour at which bars begin. 0 is the clock hour: New York's session of 09:30–16:00 has bars from
        09:00, 10:00 … 15:00, the first holding half an hour of trade. 30 is the session's own: 09:30 … 15:30, the last half an hour.
        Returns bar_start, bar_end (of the clock-hour bar always the full hour; of the other the close at the latest), session_open,
        session_close, previous_bar_end (of the bar before on this grid; the first row's is its own bar_start).
        """
        sessions = self.sessions(start, end)
        opens, closes = _hours(sessions["session_open"]), _hours(sessions["session_close"])
        phase = phase_minutes / 60.0
        first = np.floor(opens - phase) + phase  # hours since the epoch
        counts = np.maximum(np.ceil(closes - first - 1e-9), 0).astype(int)
        row = np.repeat(np.arange(len(sessions)), counts)
        step = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = first[row] + step
        ends = begins + 1.0 if phase_minutes == 0 else np.minimum(begins + 1.0, closes[row])
        grid = pd.DataFrame(
            {
                "bar_start": _times(begins),
                "bar_end": _times(ends),
                "session_open": sessions["session_open"].to_numpy()[row] if len(row) else [],
                "session_close": sessions["session_close"].to_numpy()[row] if len(row) else [],
            }
        )
        for column in grid.columns:
            grid[column] = pd.to_datetime(grid[column], utc=True)
        grid = grid.astype(dict.fromkeys(grid.columns, UTC_DTYPE))
        # 24/7 sessions meet at midnight, and some markets' last hour reaches into the next session's first.
        grid = grid.drop_duplicates("bar_start", ignore_index=True)
        previous = grid["bar_end"].shift(1).fillna(grid["bar_start"])
        return grid.assign(previous_bar_end=previous).astype({"previous_bar_end": UTC_DTYPE})

    def next_bars(self, after: datetime, count: int, *, phase_minutes: int) -> pd.DataFrame:
        """The count bars of the grid that begin at or after a moment.

        Raises ConfigError: the calendar is not recorded so far ahead.
        """
        days = 14 + 2 * count
        grid = self.bar_grid(
            after.date() - timedelta(days=7), after.date() + timedelta(days=days), phase_minutes=phase_minutes
        )
        coming = grid[grid["bar_start"] >= after].head(count).reset_index(drop=True)
        if len(coming) < count:
            raise ConfigError(
                f"The trading calendar {self.name!r} knows {len(coming)} of the {count} bars after {after:%Y-%m-%d %H:%M} UTC; "
                "upgrade exchange_calendars, or set TFT_CALENDAR to one that reaches further."
            )
        return coming


def infer_phase(bars: pd.DataFrame) -> int:
    """The minute of the hour at which most of the bars begin; 0 where there are none."""
    if bars.empty:
        return 0
    return int(bars["bar_start"].dt.minute.mode().iloc[0])


def _decade(day: date) -> int:
    return day.year // 10 * 10


@lru_cache(maxsize=8)
def _schedule(name: str, first_year: int, last_year: int) -> pd.DataFrame:
    """open and close by the session's date, as far as these years are recorded.

    Calendars take a second to build and reach a year ahead only unless told; decades are asked for so that few are built.
    """
    shipped = exchange_calendars.get_calendar(name)
    start, end = pd.Timestamp(first_year, 1, 1), pd.Timestamp(last_year, 12, 31)
    start = max(start, type(shipped).bound_min() or start)
    end = min(end, type(shipped).bound_max() or end, pd.Timestamp(datetime.now(UTC).date()) + pd.Timedelta(days=365))
    if start >= end:
        return pd.DataFrame(shipped.schedule.iloc[:0])
    return pd.DataFrame(exchange_calendars.get_calendar(name, start=start, end=end).schedule)


def _hours(times: pd.Series) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return times.to_numpy("datetime64[us]").astype(np.int64) / 3.6e9


def _times(hours: "np.ndarray[Any, np.dtype[np.float64]]") -> "np.ndarray[Any, Any]":
    return np.round(hours * 3.6e9).astype(np.int64).astype("datetime64[us]")
