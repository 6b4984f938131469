"""The hours that a source asks for are the hours that market/ will look for."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from tft_pipeline.errors import ConfigError
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.sources._sessions import hours, schedule
from tft_pipeline.sources.protocols import Span

A_YEAR = Span(datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("calendar", "by_the_clock", "phase_minutes"),
    [
        ("XNYS", False, 30),
        ("XNYS", True, 0),
        ("24/7", False, 0),
        ("24/5", False, 0),
        ("24/5", True, 0),
        ("XLON", True, 0),
    ],
)
def test_they_are_the_calendars_own_for_a_year(calendar: str, by_the_clock: bool, phase_minutes: int) -> None:
    found = hours(calendar, A_YEAR, by_the_clock=by_the_clock)
    expected = Calendar(calendar).bar_grid(A_YEAR.start.date(), A_YEAR.end.date(), phase_minutes=phase_minutes)
    for name, seconds in (("bar_start", found.start), ("bar_end", found.end)):
        np.testing.assert_array_equal(expected[name].to_numpy("datetime64[s]").astype(np.int64), seconds)


def test_a_moment_belongs_to_the_hour_that_it_lies_in() -> None:
    day = Span(datetime(2024, 3, 5, tzinfo=UTC), datetime(2024, 3, 7, tzinfo=UTC))
    found = hours("XNYS", day, by_the_clock=False)
    opening = int(datetime(2024, 3, 5, 14, 30, tzinfo=UTC).timestamp())
    moments = np.array([-1, 0, 3599, 3600, 6 * 3600 + 1799, 6 * 3600 + 1800, 24 * 3600], dtype=np.int64) + opening
    at, inside = found.holding(moments)
    assert inside.tolist() == [False, True, True, True, True, False, True]
    assert at[inside].tolist() == [0, 0, 1, 6, 7]


def test_an_unknown_calendar_is_named_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="'NASDAQ-X' is no trading calendar; set TFT_CALENDAR"):
        schedule("NASDAQ-X", date(2024, 1, 1), date(2024, 1, 2))


def test_beyond_what_is_recorded_there_are_no_sessions() -> None:
    assert len(schedule("XKRX", date(1900, 3, 1), date(1900, 3, 2))) == 0
    long_ago = Span(datetime(1900, 3, 1, tzinfo=UTC), datetime(1900, 3, 2, tzinfo=UTC))
    assert len(hours("XKRX", long_ago, by_the_clock=False)) == 0
