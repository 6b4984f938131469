"""Minutes of hours that were read: worked out by hand."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from tft_pipeline.contracts import WHOLE_HOUR
from tft_pipeline.sentiment.coverage import Stretch, counted, minutes_covered, together

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
STOCKS, COMMENTS = ("stocks", "submissions"), ("stocks", "comments")


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def masks(*stretches: tuple[float, float], end: float = 120) -> list[int]:
    """Of r/stocks, by hour from noon to `end` minutes past it."""
    read = [Stretch(*STOCKS, at(first), at(last)) for first, last in stretches]
    found = minutes_covered([STOCKS], read, start=NOON, end=at(end))
    assert found["hour_start"].tolist() == list(pd.date_range(NOON, at(end), freq="h", inclusive="left"))
    return [int(mask) for mask in found["minutes"]]


def test_a_minute_counts_where_all_of_it_was_read() -> None:
    assert masks((0, 120)) == [WHOLE_HOUR, WHOLE_HOUR]
    assert masks((0, 3)) == [0b111, 0]
    assert masks((0.5, 3.5)) == [0b110, 0]  # the first began before, the last goes on
    assert masks((2.2, 2.9)) == [0, 0]
    assert masks((59, 61)) == [1 << 59, 1]
    assert masks((-600, 600)) == [WHOLE_HOUR, WHOLE_HOUR]


def test_stretches_add_up_whether_they_meet_or_not() -> None:
    assert masks((0, 2), (4, 5)) == [0b10011, 0]
    assert masks((0, 40), (30, 60)) == [WHOLE_HOUR, 0]


def test_who_was_asked_in_vain_has_a_row_of_nothing() -> None:
    found = minutes_covered([STOCKS, COMMENTS, STOCKS], [Stretch(*STOCKS, at(0), at(60))], start=NOON, end=at(60))
    assert found[["channel", "kind", "minutes"]].to_numpy().tolist() == [
        ["stocks", "comments", 0], ["stocks", "submissions", WHOLE_HOUR],
    ]  # fmt: skip


def test_nobody_asked_and_no_time_are_no_rows_of_the_same_columns() -> None:
    for found in (
        minutes_covered([], [], start=NOON, end=at(60)),
        minutes_covered([STOCKS], [], start=NOON, end=NOON),
    ):
        assert found.empty
        assert [str(dtype) for dtype in found.dtypes] == ["str", "str", "datetime64[us, UTC]", "int64"]


@pytest.mark.parametrize("held", [0, 1, WHOLE_HOUR, WHOLE_HOUR - 1])
def test_what_was_read_before_stays_read_to_the_last_minute(held: int) -> None:
    found = minutes_covered([STOCKS], [Stretch(*STOCKS, at(0), at(2))], start=NOON, end=at(120))
    before = minutes_covered([STOCKS, COMMENTS], [], start=at(-60), end=at(60))
    before["minutes"] = held
    assert together(found, before)["minutes"].tolist() == [held | 0b11, 0]
    assert str(together(found, before)["minutes"].dtype) == "int64"


def test_of_the_hour_in_progress_only_what_has_passed_is_asked_for() -> None:
    found = minutes_covered([STOCKS], [Stretch(*STOCKS, at(30), at(80))], start=NOON, end=at(80.5))
    hours = counted(found, at(80.5))
    assert hours[["covered", "asked"]].to_numpy().tolist() == [[30, 60], [20, 20]]
