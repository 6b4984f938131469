import numpy as np
import pandas as pd
import pytest

from tft_pipeline.contracts import HOURLY_SENTIMENT
from tft_pipeline.features.mood import SHRINKAGE, mood
from tft_pipeline.schema import validate
from tft_pipeline_tests.features.bars import HOUR, at, make_mood

FRIDAY_AND_MONDAY = pd.Series(
    [at(f"2024-03-{day}:00") for day in ("08 19", "08 20", "08 21", "11 14", "11 15")]
).dt.as_unit("us")  # bar ends: New York's daylight saving begins between them


def mentions(hourly: pd.DataFrame, ends: pd.Series = FRIDAY_AND_MONDAY) -> list[int]:
    """How many mentions joined each bar."""
    return np.expm1(mood(ends, validate(hourly, HOURLY_SENTIMENT))["mentions_log"]).round().astype(int).tolist()


def hourly_bars(count: int) -> pd.Series:
    return pd.Series(pd.date_range(at("2024-03-04 01:00"), periods=count, freq="h", unit="us"))


def test_a_bars_mood_by_hand():
    ends = hourly_bars(3)
    hourly = make_mood([ends[0], ends[1]], [3, 0], [1, 0], [2, 4], confidence=[0.9, 0.6])
    values = mood(ends, hourly)
    assert SHRINKAGE == 5.0
    assert values["sentiment_score"].tolist() == [0.0, pytest.approx((3 - 1) / (6 + 5)), 0.0]
    assert values["sentiment_confidence"].tolist() == [0.0, pytest.approx(0.9), pytest.approx(0.6)]
    assert values["sentiment_disagreement"].tolist() == [0.0, pytest.approx(1 - 2 / 4), 0.0]
    assert values["mentions_log"].tolist() == [0.0, pytest.approx(np.log(7)), pytest.approx(np.log(5))]


def test_five_bullish_posts_and_no_other_score_a_half():
    ends = hourly_bars(2)
    assert mood(ends, make_mood([ends[0]], 5))["sentiment_score"][1] == 0.5


def test_the_confidence_of_several_hours_weighs_by_their_mentions():
    ends = pd.Series([at("2024-03-04 10:00"), at("2024-03-04 13:00")]).dt.as_unit("us")
    hourly = make_mood(["2024-03-04 10:00", "2024-03-04 12:00"], [1, 0], [0, 2], [0, 1], confidence=[0.5, 0.9])
    values = mood(ends, hourly)
    assert values["sentiment_confidence"][1] == pytest.approx((0.5 * 1 + 0.9 * 3) / 4)
    assert values["sentiment_score"][1] == pytest.approx((1 - 2) / (4 + 5))
    assert values["sentiment_disagreement"][1] == pytest.approx(1 - 1 / 3)


def test_seven_bars_pool_their_posts():
    ends = hourly_bars(10)
    hours = ends - HOUR
    hourly = make_mood(hours[[2, 3, 9]], [100, 4, 1], [0, 1, 2], [0, 0, 1])  # the first is the eighth bar back
    assert mood(ends, hourly)["sentiment_score_7h"][-1] == pytest.approx((5 - 3) / (9 + 5))
    assert np.isnan(mood(ends, hourly)["sentiment_score_7h"][5])


def test_momentum_and_attention_compare_with_what_is_usual():
    ends = hourly_bars(80)
    values = mood(ends, make_mood([ends.iloc[-1] - HOUR], 5))
    assert values["sentiment_momentum"][-1] == pytest.approx(0.5 - 0.5 / 35)
    assert values["mentions_attention"][-1] == pytest.approx(np.log(6) * 69 / 70)
    assert np.isnan(values["sentiment_momentum"][33])
    assert np.isfinite(values["sentiment_momentum"][34])
    assert np.isnan(values["mentions_attention"][68])
    assert np.isfinite(values["mentions_attention"][69])


def test_no_posts_are_a_neutral_mood():
    values = mood(hourly_bars(80), HOURLY_SENTIMENT.empty())
    assert {name: value[-1] for name, value in values.items()} == dict.fromkeys(values, 0.0)


def test_posts_of_the_night_and_of_the_weekend_join_the_next_sessions_first_bar():
    hourly = make_mood(
        ["2024-03-08 20:00", "2024-03-08 21:00", "2024-03-09 03:00", "2024-03-10 23:00", "2024-03-11 13:00", "2024-03-11 14:00"],
        [1, 10, 20, 30, 40, 500],
    )  # fmt: skip
    assert mentions(hourly) == [0, 0, 1, 100, 500]


def test_an_hour_that_ends_after_the_bars_end_never_enters():
    half_past = FRIDAY_AND_MONDAY + pd.Timedelta(minutes=30)
    hourly = make_mood(["2024-03-08 19:00", "2024-03-08 20:00", "2024-03-08 21:00"], [1, 2, 4])
    # 20:00 – 21:00 has ended by 21:30, 21:00 – 22:00 has not.
    assert mentions(hourly, half_past) == [0, 1, 2, 4, 0]
    an_instant_early = FRIDAY_AND_MONDAY - pd.Timedelta(microseconds=1)
    assert mentions(hourly, an_instant_early) == [0, 0, 1, 6, 0]
    assert mentions(hourly) == [0, 1, 2, 4, 0]


def test_posts_before_the_first_bars_end_or_after_the_last_are_left_out():
    hourly = make_mood(["2024-03-08 17:00", "2024-03-08 18:00", "2024-03-11 15:00"], [1, 2, 4])
    assert mentions(hourly) == [0, 0, 0, 0, 0]
