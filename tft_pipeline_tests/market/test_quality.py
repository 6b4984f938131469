from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from tft_pipeline.contracts import ACTIONS, BARS, QUALITY
from tft_pipeline.market.quality import WARN_BELOW, quality
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.schema import UTC, validate
from tft_pipeline_tests.features.bars import at, make_actions, make_bars, random_bars, real

THURSDAY, FRIDAY = at("2024-03-07"), at("2024-03-08")
NOBODY = pd.DataFrame(
    {"day": pd.Series(dtype="object"), "ticker": pd.Series(dtype="str"), "bar_start": pd.Series(dtype=UTC)}
)


@pytest.fixture(scope="module")
def new_york() -> Calendar:
    return Calendar("XNYS")


@pytest.fixture(scope="module")
def grid(new_york) -> pd.DataFrame:
    """Three weeks that end with Friday, 8 March 2024."""
    return new_york.bar_grid(date(2024, 2, 20), date(2024, 3, 9), phase_minutes=0)


@pytest.fixture
def bars(grid) -> pd.DataFrame:
    return random_bars(grid, ["AAPL"])


def judge_days(
    bars, calendar, start, end, *, rejected=NOBODY, actions=None, tickers=("AAPL",), as_of=None
) -> pd.DataFrame:
    actions = ACTIONS.empty() if actions is None else actions
    moment = as_of or end + timedelta(days=7)
    frame = quality(bars, rejected, actions, calendar, tickers=tickers, start=start, end=end, as_of=moment)
    return validate(frame, QUALITY)


def counts(row: pd.Series) -> dict[str, float]:
    return row.drop(["ticker", "day_start"]).to_dict()


FAULTLESS = {
    "score": 1.0, "bars": 7, "expected_bars": 7, "missing_bars": 0, "quarantined_bars": 0, "stale_bars": 0, "zero_volume_bars": 0,
    "outlier_bars": 0,
}  # fmt: skip


def test_a_whole_day_scores_one(bars, new_york):
    frame = judge_days(bars, new_york, THURSDAY, FRIDAY)
    assert frame["day_start"].tolist() == [THURSDAY]
    assert counts(frame.iloc[0]) == FAULTLESS


def test_the_score_by_hand_with_one_fault_of_every_kind(bars, new_york):
    day = bars.index[bars["bar_start"] >= THURSDAY][:7]
    bars.loc[day[1], ["open", "high", "low", "close"]] = bars.loc[day[0], ["open", "high", "low", "close"]]  # stale
    bars.loc[day[3], "volume"] = 0.0
    bars.loc[day[6], ["open", "high", "low", "close"]] *= 1.5  # beyond what half a percent an hour allows
    rejected = pd.DataFrame({"day": [THURSDAY], "ticker": ["AAPL"], "bar_start": [bars.loc[day[4], "bar_start"]]})
    held = bars.drop(index=[day[4], day[5]])  # one of them refused, one never seen
    (row,) = (counts(r) for _, r in judge_days(held, new_york, THURSDAY, FRIDAY, rejected=rejected).iterrows())
    assert row.pop("score") == pytest.approx(1 - (1 + 1 + (1 + 1 + 1) / 2) / 7)
    assert row == {
        "bars": 5, "expected_bars": 7, "missing_bars": 1, "quarantined_bars": 1, "stale_bars": 1, "zero_volume_bars": 1, "outlier_bars": 1,
    }  # fmt: skip


def test_a_refused_bar_is_not_missing_too(bars, new_york):
    held = bars[bars["bar_start"] != at("2024-03-07 17:00")]
    rejected = pd.DataFrame(
        {"day": [THURSDAY.date(), FRIDAY.date()], "ticker": ["AAPL", "BAC"], "bar_start": at("2024-03-07 17:00")}
    )
    row = judge_days(held, new_york, THURSDAY, FRIDAY, rejected=rejected).iloc[0]
    assert (row["quarantined_bars"], row["missing_bars"], row["score"]) == (1, 0, pytest.approx(6 / 7))


def test_a_refused_bar_that_came_again_and_was_sound_does_not_count(bars, new_york):
    rejected = pd.DataFrame({"day": [THURSDAY], "ticker": ["AAPL"], "bar_start": [at("2024-03-07 17:00")]})
    row = judge_days(bars, new_york, THURSDAY, FRIDAY, rejected=rejected).iloc[0]
    assert counts(row) == FAULTLESS


def test_more_refusals_than_bars_leave_the_score_at_zero(bars, new_york):
    held = bars[bars["bar_start"] < THURSDAY]
    rejected = pd.DataFrame({"day": [THURSDAY] * 9, "ticker": ["AAPL"] * 9, "bar_start": [pd.NaT] * 9})
    row = judge_days(held, new_york, THURSDAY, FRIDAY, rejected=rejected).iloc[0]
    assert (row["bars"], row["quarantined_bars"], row["missing_bars"], row["score"]) == (0, 9, 0, 0.0)


def test_a_ticker_without_a_bar_that_day_has_a_row_of_its_own(bars, new_york):
    frame = judge_days(bars, new_york, THURSDAY, FRIDAY, tickers=["MSFT", "AAPL"])
    assert frame["ticker"].tolist() == ["AAPL", "MSFT"]
    assert frame["score"].tolist() == [1.0, 0.0]
    assert counts(frame.iloc[1]) == {**FAULTLESS, "score": 0.0, "bars": 0, "missing_bars": 7}
    assert frame["score"].iloc[1] < WARN_BELOW


def test_no_bars_at_all_are_all_missing(new_york):
    frame = judge_days(BARS.empty(), new_york, THURSDAY, FRIDAY)
    assert counts(frame.iloc[0]) == {**FAULTLESS, "score": 0.0, "bars": 0, "missing_bars": 7}


def test_weekends_and_holidays_have_no_rows(bars, new_york):
    frame = judge_days(bars, new_york, at("2024-03-01"), at("2024-03-11"))
    assert frame["day_start"].dt.strftime("%d").tolist() == ["01", "04", "05", "06", "07", "08"]
    empty = judge_days(bars, new_york, at("2024-03-09"), at("2024-03-11"))
    assert empty.empty
    assert judge_days(bars, new_york, THURSDAY, FRIDAY, tickers=[]).empty


def test_bars_in_progress_and_to_come_are_not_missing(bars, new_york):
    moment = at("2024-03-07 16:30")
    held = bars[bars["bar_end"] <= moment]
    row = judge_days(held, new_york, THURSDAY, FRIDAY, as_of=moment).iloc[0]
    assert counts(row) == {**FAULTLESS, "bars": 2, "expected_bars": 2}
    at_its_end = judge_days(held, new_york, THURSDAY, FRIDAY, as_of=at("2024-03-07 17:00")).iloc[0]
    assert (at_its_end["expected_bars"], at_its_end["missing_bars"]) == (3, 1)
    assert judge_days(held, new_york, THURSDAY, FRIDAY, as_of=at("2024-03-07 14:59")).empty


def test_bars_outside_the_session_do_not_fill_its_gaps(bars, new_york):
    early = make_bars(["2024-03-07 09:00"], bars["close"].iloc[-14])
    held = pd.concat([bars[bars["bar_start"] != at("2024-03-07 17:00")], early], ignore_index=True)
    row = judge_days(held, new_york, THURSDAY, FRIDAY).iloc[0]
    assert (row["bars"], row["missing_bars"]) == (7, 1)


def test_a_half_day_expects_four_bars(new_york):
    grid = new_york.bar_grid(date(2026, 11, 27), date(2026, 11, 28), phase_minutes=0)
    day, end = at("2026-11-27"), at("2026-11-28")
    row = judge_days(random_bars(grid, ["AAPL"]), new_york, day, end).iloc[0]
    assert (row["expected_bars"], row["missing_bars"], row["score"]) == (4, 0, 1.0)


@pytest.mark.parametrize(
    ("name", "sunday_bars", "monday_bars"),
    # Sydney's summer sessions begin at 23:00 UTC on the day before: on Sunday for Monday's.
    [("XASX", 1, 6), ("24/7", 24, 24)],
)
def test_a_session_that_begins_on_the_utc_day_before_is_judged_by_utc_days(name, sunday_bars, monday_bars):
    calendar = Calendar(name)
    bars = random_bars(calendar.bar_grid(date(2024, 1, 8), date(2024, 2, 3), phase_minutes=0), ["AAPL"])
    long = judge_days(bars, calendar, at("2024-01-28"), at("2024-02-02"))
    assert (long["missing_bars"] == 0).all()
    alone = [
        judge_days(bars, calendar, day, day + timedelta(days=1)) for day in pd.date_range(at("2024-01-28"), periods=5)
    ]
    pd.testing.assert_frame_equal(pd.concat(alone, ignore_index=True), long)
    assert long["expected_bars"].tolist()[:2] == [sunday_bars, monday_bars]


def test_a_split_and_a_dividend_are_no_outliers_when_their_actions_are_known(bars, new_york):
    at_open = at("2024-03-07 14:00")
    later = bars["bar_start"] >= at_open
    prices = ["open", "high", "low", "close"]
    split = bars.copy()
    split.loc[later, prices] /= 7
    paid = bars.copy()
    paid.loc[later, prices] -= 10  # a special dividend, a fifth of the price
    for changed, kind, value in ((split, "split", 7.0), (paid, "dividend", 10.0)):
        action = make_actions(("AAPL", "2024-03-07 14:00", kind, value))
        assert judge_days(changed, new_york, THURSDAY, FRIDAY).iloc[0]["outlier_bars"] == 1, kind
        assert judge_days(changed, new_york, THURSDAY, FRIDAY, actions=action).iloc[0]["outlier_bars"] == 0, kind


def test_nothing_is_an_outlier_while_too_little_is_known_of_what_is_usual(grid, new_york):
    bars = random_bars(grid[grid["bar_start"] >= at("2024-03-06")], ["AAPL"])
    bars.loc[8:, ["open", "high", "low", "close"]] *= 2
    assert judge_days(bars, new_york, THURSDAY, FRIDAY).iloc[0]["outlier_bars"] == 0


def test_a_price_that_has_not_moved_for_a_week_makes_stale_bars_and_no_outlier(grid, new_york):
    bars = make_bars(grid["bar_start"], np.where(grid["bar_start"] < at("2024-03-07 16:00"), 10.0, 12.0))
    row = judge_days(bars, new_york, THURSDAY, FRIDAY).iloc[0]
    assert (row["stale_bars"], row["outlier_bars"]) == (6, 0)


def test_a_days_judgement_is_the_same_alone_in_a_range_and_whatever_came_after(bars, new_york):
    bars.loc[bars["bar_start"] == at("2024-03-06 16:00"), ["open", "high", "low", "close"]] *= 1.4
    both = pd.concat([bars, random_bars(bars, ["BAC"], seed=8)], ignore_index=True).drop(index=[70, 80, 85])
    days = pd.date_range(at("2024-02-29"), at("2024-03-08"))
    whole = judge_days(both, new_york, days[0], days[-1] + timedelta(days=1), tickers=["AAPL", "BAC"])
    assert whole["outlier_bars"].sum() == 2
    assert whole["missing_bars"].sum() == 3
    for day in days:
        following = day + timedelta(days=1)
        known = both[both["bar_start"] < following]
        alone = judge_days(known, new_york, day, following, tickers=["AAPL", "BAC"])
        expected = whole[whole["day_start"] == day].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, expected)


@pytest.mark.shared
def test_real_days_are_trusted_and_the_split_is_no_outlier(new_york, shared_data):
    bars, actions = real(shared_data / "real" / "us5_2013_2016", "2014-05-01", "2014-07-01")
    tickers = sorted(bars["ticker"].unique())
    frame = judge_days(bars, new_york, at("2014-05-20"), at("2014-07-01"), actions=actions, tickers=tickers)
    assert (frame["score"] >= WARN_BELOW).all()
    assert frame["missing_bars"].sum() == 0
    of_apple = (frame["ticker"] == "AAPL") & (frame["day_start"] == at("2014-06-09"))
    assert frame.loc[of_apple, "outlier_bars"].tolist() == [0]
    withheld = judge_days(bars, new_york, at("2014-06-09"), at("2014-06-10"), tickers=["AAPL"])
    assert withheld["outlier_bars"].tolist() == [1]
    assert isinstance(frame["day_start"].iloc[0].to_pydatetime(), datetime)
