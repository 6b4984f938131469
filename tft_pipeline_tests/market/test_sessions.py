from datetime import date

import pandas as pd
import pytest

from tft_pipeline.errors import ConfigError
from tft_pipeline.market.sessions import Calendar, infer_phase
from tft_pipeline_tests.features.bars import HOUR, at, make_bars, real

NEW_YORK = "America/New_York"


@pytest.fixture(scope="module")
def new_york() -> Calendar:
    return Calendar("XNYS")


def test_thanksgiving_has_no_session_and_the_day_after_it_is_half_a_day(new_york):
    sessions = new_york.sessions(date(2026, 11, 25), date(2026, 11, 28))
    assert sessions["day_start"].tolist() == [at("2026-11-25"), at("2026-11-27")]
    assert sessions["session_open"].tolist() == [at("2026-11-25 14:30"), at("2026-11-27 14:30")]
    assert sessions["session_close"].tolist() == [at("2026-11-25 21:00"), at("2026-11-27 18:00")]
    assert {str(dtype) for dtype in sessions.dtypes} == {"datetime64[us, UTC]"}
    half_day = new_york.bar_grid(date(2026, 11, 27), date(2026, 11, 28), phase_minutes=0)
    assert half_day["bar_start"].dt.hour.tolist() == [14, 15, 16, 17]
    assert half_day["bar_end"].iloc[-1] == at("2026-11-27 18:00")


def test_bars_of_the_clock_hour_by_hand(new_york):
    grid = new_york.bar_grid(date(2024, 3, 7), date(2024, 3, 9), phase_minutes=0)
    thursday = pd.date_range("2024-03-07 14:00", periods=7, freq="h", tz="UTC")
    starts = [*thursday, *(thursday + pd.Timedelta(days=1))]
    assert grid["bar_start"].tolist() == starts
    assert grid["bar_end"].tolist() == [start + HOUR for start in starts]
    assert grid["session_open"].unique().tolist() == [at("2024-03-07 14:30"), at("2024-03-08 14:30")]
    assert grid["session_close"].unique().tolist() == [at("2024-03-07 21:00"), at("2024-03-08 21:00")]
    assert grid["previous_bar_end"].iloc[0] == grid["bar_start"].iloc[0]
    assert grid["previous_bar_end"].iloc[1:].tolist() == grid["bar_end"].iloc[:-1].tolist()
    assert {str(dtype) for dtype in grid.dtypes} == {"datetime64[us, UTC]"}


def test_bars_of_the_sessions_own_hour_end_with_half_an_hour(new_york):
    grid = new_york.bar_grid(date(2024, 3, 7), date(2024, 3, 8), phase_minutes=30)
    assert grid["bar_start"].tolist() == list(pd.date_range("2024-03-07 14:30", periods=7, freq="h", tz="UTC"))
    assert grid["bar_end"].tolist() == [*grid["bar_start"].iloc[1:], at("2024-03-07 21:00")]
    half_day = new_york.bar_grid(date(2026, 11, 27), date(2026, 11, 28), phase_minutes=30)
    assert half_day["bar_end"].tolist() == [
        at("2026-11-27 15:30"), at("2026-11-27 16:30"), at("2026-11-27 17:30"), at("2026-11-27 18:00"),
    ]  # fmt: skip


@pytest.mark.parametrize("phase", [0, 15, 20, 30, 50])
def test_bars_of_any_phase_cover_the_session_and_begin_at_its_minute(new_york, phase):
    grid = new_york.bar_grid(date(2024, 1, 1), date(2024, 3, 1), phase_minutes=phase)
    assert set(grid["bar_start"].dt.minute) == {phase}
    assert (grid["bar_start"].dt.second == 0).all()
    assert (grid["bar_start"].dt.microsecond == 0).all()
    ends = grid.groupby("session_open").agg(first=("bar_start", "min"), last=("bar_end", "max"))
    assert (ends["first"] <= ends.index).all()
    assert (ends["first"] > ends.index - HOUR).all()
    assert (ends["last"] >= ends.index + 6.5 * HOUR).all()


@pytest.mark.parametrize("minute", range(60))
def test_a_session_that_opens_on_the_bars_minute_opens_with_its_bar(new_york, minute, monkeypatch):
    opens = at("2024-03-07 14:00") + pd.Timedelta(minutes=minute)
    one = pd.DataFrame(
        {"day_start": [at("2024-03-07")], "session_open": [opens], "session_close": [opens + 2 * HOUR]}
    ).astype("datetime64[us, UTC]")
    monkeypatch.setattr(new_york, "sessions", lambda *_: one)
    grid = new_york.bar_grid(date(2024, 3, 7), date(2024, 3, 8), phase_minutes=minute)
    assert grid["bar_start"].tolist() == [opens, opens + HOUR]


@pytest.mark.parametrize(
    ("start", "end", "utc_before", "utc_after"),
    [
        (date(2024, 3, 4), date(2024, 3, 16), 14, 13),  # daylight saving begins on Sunday the 10th
        (date(2024, 10, 28), date(2024, 11, 9), 13, 14),  # and ends on Sunday 3 November
        (date(2026, 3, 2), date(2026, 3, 14), 14, 13),
        (date(2026, 10, 26), date(2026, 11, 7), 13, 14),
    ],
)
def test_daylight_saving_keeps_new_yorks_hours(new_york, start, end, utc_before, utc_after):
    grid = new_york.bar_grid(start, end, phase_minutes=0)
    assert len(grid) == 70
    local = grid["bar_start"].dt.tz_convert(NEW_YORK)
    assert local.dt.hour.tolist() == [9, 10, 11, 12, 13, 14, 15] * 10
    first = grid["bar_start"].iloc[::7].dt.hour.tolist()
    assert first == [utc_before] * 5 + [utc_after] * 5
    weekend = (grid["bar_start"] - grid["previous_bar_end"]).max()
    assert (
        weekend == pd.Timedelta(hours=65) + (utc_after - utc_before) * HOUR
    )  # from 16:00 on Friday to 09:00 on Monday


def test_the_calendar_that_never_closes_has_every_hour_once():
    grid = Calendar("24/7").bar_grid(date(2024, 3, 8), date(2024, 3, 12), phase_minutes=0)
    assert grid["bar_start"].tolist() == list(pd.date_range("2024-03-08", periods=96, freq="h", tz="UTC"))
    assert (grid["previous_bar_end"] == grid["bar_start"]).all()


def test_days_without_a_session_give_an_empty_grid_of_the_same_types(new_york):
    weekend = new_york.bar_grid(date(2024, 3, 9), date(2024, 3, 11), phase_minutes=0)
    assert weekend.empty
    week = new_york.bar_grid(date(2024, 3, 4), date(2024, 3, 9), phase_minutes=0)
    assert weekend.dtypes.to_dict() == week.dtypes.to_dict()


def test_an_unknown_calendar_is_refused_with_the_setting_to_change():
    with pytest.raises(ConfigError) as raised:
        Calendar("NYSEE")
    assert str(raised.value) == (
        "'NYSEE' is no trading calendar; set TFT_CALENDAR to one of exchange_calendars, such as XNYS or 24/7."
    )


def test_next_bars_skip_the_night_the_weekend_and_the_holiday(new_york):
    # Friday 12 January 2024, then Martin Luther King's day on Monday.
    bars = new_york.next_bars(at("2024-01-12 20:00").to_pydatetime(), 3, phase_minutes=0)
    assert bars["bar_start"].tolist() == [at("2024-01-12 20:00"), at("2024-01-16 14:00"), at("2024-01-16 15:00")]
    assert bars["previous_bar_end"].tolist() == [
        at("2024-01-12 20:00"), at("2024-01-12 21:00"), at("2024-01-16 15:00"),
    ]  # fmt: skip
    within = new_york.next_bars(at("2024-01-12 20:00:01").to_pydatetime(), 1, phase_minutes=0)
    assert within["bar_start"].tolist() == [at("2024-01-16 14:00")]


@pytest.mark.parametrize("after", ["2023-12-22 21:00", "2024-03-28 20:00", "2026-11-20 21:00"])
def test_next_bars_are_as_many_as_were_asked_for(new_york, after):
    assert len(new_york.next_bars(at(after).to_pydatetime(), 24, phase_minutes=30)) == 24


@pytest.mark.parametrize("year", [1985, 2090])
def test_years_that_a_calendar_does_not_record_have_no_sessions(year):
    riyadh = Calendar("XSAU")  # recorded from 2021
    assert len(riyadh.sessions(date(2024, 1, 7), date(2024, 1, 12))) == 5
    assert riyadh.sessions(date(year, 1, 1), date(year, 2, 1)).empty
    assert riyadh.bar_grid(date(year, 1, 1), date(year, 2, 1), phase_minutes=0).empty


def test_bars_further_ahead_than_a_calendar_knows_are_refused_with_a_remedy(new_york):
    with pytest.raises(ConfigError) as raised:
        new_york.next_bars(at("2090-01-01 21:00").to_pydatetime(), 24, phase_minutes=0)
    assert str(raised.value) == (
        "The trading calendar 'XNYS' knows 0 of the 24 bars after 2090-01-01 21:00 UTC; "
        "upgrade exchange_calendars, or set TFT_CALENDAR to one that reaches further."
    )


def test_sessions_of_1998_are_known(new_york):
    grid = new_york.bar_grid(date(1998, 1, 2), date(1998, 1, 3), phase_minutes=0)
    assert grid["bar_start"].dt.hour.tolist() == [14, 15, 16, 17, 18, 19, 20]


def test_the_phase_is_the_minute_at_which_most_bars_begin():
    starts = ["2024-03-07 14:30", "2024-03-07 15:30", "2024-03-07 16:00"]
    assert infer_phase(make_bars(starts, 10.0)) == 30
    assert infer_phase(make_bars(starts[2:], 10.0)) == 0
    assert infer_phase(make_bars([], 10.0)) == 0


@pytest.mark.shared
def test_real_bars_lie_on_the_grid_exactly(new_york, shared_data):
    bars, _ = real(shared_data / "real" / "us5_2013_2016", "2013-07-01", "2016-04-01")
    assert infer_phase(bars) == 0
    grid = new_york.bar_grid(date(2013, 7, 1), date(2016, 4, 1), phase_minutes=0)
    held = bars[["bar_start", "bar_end"]].drop_duplicates().sort_values("bar_start", ignore_index=True)
    pd.testing.assert_frame_equal(held, grid[["bar_start", "bar_end"]])
