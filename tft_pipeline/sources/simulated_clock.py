"""The hours in which the simulated market trades, from exchange_calendars, and its seeded streams of random numbers.

What belongs here: when bars begin and end. What does not: prices and posts.
"""

import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import exchange_calendars
import numpy as np
import numpy.typing as npt

from tft_pipeline.errors import SourceError

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000

Times = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Clock:
    """Clock-hour bars in order of time. All arrays but the last are (n_bars,); times: microseconds since 1970, UTC."""

    start_us: Times
    end_us: Times  # an hour later, also where the session closes within the hour
    session: Times  # 0, 1, 2 … of the bar's session
    traded_hours: Floats  # (0, 1]: the first bar of a New York session trades for half an hour only
    position: Floats  # 0…1: the middle of the traded time within the session
    begins: Flags  # True where the market was closed before this bar
    session_dates: npt.NDArray[np.datetime64]  # (n_sessions,) days

    def __len__(self) -> int:
        return len(self.start_us)

    def first_bar_on_or_after(self, day: date) -> int:
        """Index of the first bar of the first session on or after day; len(self) when there is none yet."""
        session = int(np.searchsorted(self.session_dates, np.datetime64(day, "D")))
        return int(np.searchsorted(self.session, session))

    def ended(self, until_us: int) -> int:
        """How many bars have ended at that moment: the first so many."""
        return int(np.searchsorted(self.end_us, until_us, side="right"))

    def within(self, start_us: int, end_us: int) -> slice:
        """The bars that begin in start_us <= t < end_us."""
        first, last = np.searchsorted(self.start_us, [start_us, end_us], side="left").tolist()
        return slice(first, last)


def clock(calendar: str, first: date, last: date) -> Clock:
    """Bars of every session from `first` to `last`, labelled by the clock hour: 09:00 New York covers 09:30–10:00.

    Raises SourceError for a calendar that is unknown, or that has no session in the range.
    """
    try:
        # Bounds of our own: by default a calendar ends a year from today, a limit that moves.
        found = exchange_calendars.get_calendar(calendar, start=first.isoformat(), end=last.isoformat())
    except exchange_calendars.errors.InvalidCalendarName:
        raise SourceError(
            f"simulated market: exchange_calendars knows no calendar {calendar!r}; "
            "set TFT_CALENDAR to one it does, such as XNYS."
        ) from None
    except (exchange_calendars.errors.CalendarError, ValueError) as error:
        raise SourceError(
            f"simulated market: {calendar} offers no sessions from {first} to {last} ({error}); choose another start."
        ) from None
    opens, closes = (
        edge.dt.tz_localize(None).to_numpy("datetime64[us]").astype(np.int64) for edge in (found.opens, found.closes)
    )
    first_hour = opens // HOUR_US
    hours = -(-closes // HOUR_US) - first_hour  # rounded up
    session = np.repeat(np.arange(len(opens)), hours)
    within = np.arange(len(session)) - np.repeat(np.cumsum(hours) - hours, hours)
    start = (first_hour[session] + within) * HOUR_US
    end = start + HOUR_US
    traded_from, traded_to = np.maximum(start, opens[session]), np.minimum(end, closes[session])
    middle = (traded_from + traded_to) / 2 - opens[session]
    begins = np.ones(len(start), dtype=bool)
    begins[1:] = start[1:] > end[:-1]
    return Clock(
        start_us=start,
        end_us=end,
        session=session,
        traded_hours=(traded_to - traded_from) / HOUR_US,
        position=middle / (closes - opens)[session],
        begins=begins,
        session_dates=found.sessions.to_numpy().astype("datetime64[D]"),
    )


def stream(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """The random numbers of one purpose and one ticker, from the epoch on.

    Drawn in one call, in order of time, the first n of n+k draws are the n draws: so the past never depends on how far
    time has come.
    """
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index])


def microseconds(moment: datetime) -> int:
    """Since 1970, exact: a float of seconds would lose the last digits. Raises SourceError for a naive moment."""
    if moment.tzinfo is None:
        raise SourceError(f"the moment {moment} has no time zone; give it one, such as datetime.now(UTC).")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def moment(microseconds_utc: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds_utc)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
