import json

import numpy as np
import pandas as pd
import pytest

from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.market.quality import USUAL_BARS, judge
from tft_pipeline.schema import validate
from tft_pipeline_tests.features.bars import make_actions, make_bars, real

STARTS = [f"2024-03-07 {hour}:00" for hour in range(14, 21)]
BEFORE = [f"2024-03-06 {hour}:00" for hour in range(14, 21)]


def bars_with(**values: object) -> pd.DataFrame:
    """Seven bars at 100 in which the fourth has these values."""
    bars = make_bars(STARTS, 100.0, open=100.0, high=101.0, low=99.0)
    for name, value in values.items():
        bars.loc[3, name] = value
    return bars


def judged(bars, actions=None, before=None):
    return judge(
        bars, ACTIONS.empty() if actions is None else actions, before=BARS.empty() if before is None else before
    )


def test_sound_bars_pass_unchanged():
    verdict = judged(bars_with())
    pd.testing.assert_frame_equal(validate(verdict.good, BARS), bars_with())
    assert verdict.rejected.empty
    assert list(verdict.rejected.columns) == ["day", "ticker", "reason", "row"]
    assert str(verdict.rejected["day"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"close": np.nan}, "a price is missing or not finite"),
        ({"high": np.inf}, "a price is missing or not finite"),
        ({"low": -np.inf}, "a price is missing or not finite"),
        ({"open": 0.0}, "a price is not above zero"),
        ({"low": -1.0}, "a price is not above zero"),
        ({"low": 1.9e-305}, "a price is not above zero"),
        ({"high": 98.0}, "high is below low"),
        ({"high": 10_100.0}, "high is more than 20 times open and close, or low less than that part of them"),
        ({"low": 1.0}, "high is more than 20 times open and close, or low less than that part of them"),
        ({"open": 98.0}, "open lies outside low and high"),
        ({"open": 102.0}, "open lies outside low and high"),
        ({"close": 98.0}, "close lies outside low and high"),
        ({"close": 102.0}, "close lies outside low and high"),
        ({"volume": -1.0}, "volume is missing, negative or not finite"),
        ({"volume": np.nan}, "volume is missing, negative or not finite"),
        ({"volume": np.inf}, "volume is missing, negative or not finite"),
        ({"bar_end": pd.Timestamp("2024-03-07 17:00", tz="UTC")}, "the bar does not end after it begins"),
        ({"bar_start": pd.Timestamp("2024-03-07 16:00", tz="UTC")}, "the ticker already has a bar with this start"),
        (
            dict.fromkeys(("open", "high", "low", "close"), 10_000.0),
            "close 10000 is 100 times its neighbours', and no split explains it",
        ),
        (
            dict.fromkeys(("open", "high", "low", "close"), 1.0),
            "close 1 is 0.01 times its neighbours', and no split explains it",
        ),
    ],
)
def test_each_rule_refuses_the_bar_that_breaks_it_with_its_sentence(values, sentence):
    verdict = judged(bars_with(**values))
    assert verdict.rejected["reason"].tolist() == [sentence]
    assert verdict.rejected["ticker"].tolist() == ["AAPL"]
    assert verdict.rejected["day"].tolist() == [pd.Timestamp("2024-03-07", tz="UTC")]
    expected = bars_with().drop(index=3).reset_index(drop=True)
    pd.testing.assert_frame_equal(validate(verdict.good, BARS), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_kept_of_a_refused_bar_is_json_that_postgresql_takes(value):
    (text,) = judged(bars_with(close=value)).rejected["row"]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    row = json.loads(text, parse_constant=refuse)
    assert row["close"] == {"nan": None, "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    assert row["ticker"] == "AAPL"
    assert row["bar_start"] == "2024-03-07 17:00:00+00:00"
    assert row["high"] == 101.0


def test_a_bar_that_breaks_several_rules_is_refused_once_for_the_gravest():
    verdict = judged(bars_with(high=-5.0, volume=-1.0))
    assert verdict.rejected["reason"].tolist() == ["a price is not above zero"]


def test_a_bar_sent_again_because_the_first_was_broken_is_the_one_kept():
    twice = pd.concat([bars_with(close=np.nan), bars_with().iloc[[3]]], ignore_index=True)
    verdict = judged(twice)
    assert verdict.rejected["reason"].tolist() == ["a price is missing or not finite"]
    pd.testing.assert_frame_equal(validate(verdict.good, BARS), bars_with())


def test_the_same_start_in_two_tickers_is_no_repetition():
    both = pd.concat([make_bars(STARTS, 100.0), make_bars(STARTS, 2.0, ticker="BAC")], ignore_index=True)
    assert judged(both).rejected.empty


def test_a_split_is_no_unit_error_when_its_action_is_known():
    before, after = make_bars(BEFORE, 700.0), make_bars(STARTS, 25.0)
    split = make_actions(("AAPL", STARTS[0], "split", 28.0))
    assert judged(after.iloc[:3], split, before).rejected.empty
    unknown = judged(after.iloc[:1], None, before)
    assert unknown.rejected["reason"].tolist() == ["close 25 is 0.0357 times its neighbours', and no split explains it"]


def test_a_seven_to_one_split_passes_with_and_without_its_action():
    """Seven times is no unit error, for prices have moved so far; only what no hour has done is refused."""
    before, after = make_bars(BEFORE, 645.57), make_bars(STARTS, 93.7)
    assert judged(after, make_actions(("AAPL", STARTS[0], "split", 7.0)), before).rejected.empty
    assert judged(after, None, before).rejected.empty


def test_a_unit_error_after_a_split_is_still_seen():
    split = make_actions(("AAPL", STARTS[1], "split", 7.0))
    bars = make_bars(STARTS, [700, 100, 100, 10_000, 100, 100, 100])
    verdict = judged(bars, split)
    assert verdict.rejected["reason"].tolist() == ["close 10000 is 100 times its neighbours', and no split explains it"]


def test_the_days_before_show_a_unit_error_at_the_first_bar():
    verdict = judged(make_bars(STARTS[:1], 10_000.0), None, make_bars(BEFORE, 100.0))
    assert len(verdict.rejected) == 1
    assert verdict.good.empty
    assert validate(verdict.good, BARS).empty


def test_a_whole_day_in_cents_is_refused_alone_and_in_a_range():
    days = [[f"2024-03-{day:02} {hour}:00" for hour in range(14, 21)] for day in (4, 5, 6, 7, 8, 11)]
    parts = [make_bars(hours, 10_000.0 if number in (3, 4) else 100.0) for number, hours in enumerate(days)]
    ranged = judged(pd.concat(parts, ignore_index=True))
    held, refused = BARS.empty(), []
    for part in parts:
        verdict = judged(part, before=held)
        held = pd.concat([held, verdict.good], ignore_index=True)
        refused.append(verdict.rejected)
    assert len(ranged.rejected) == 14
    assert [len(rejected) for rejected in refused] == [0, 0, 0, 7, 7, 0]
    pd.testing.assert_frame_equal(pd.concat(refused[3:5], ignore_index=True), ranged.rejected)
    pd.testing.assert_frame_equal(held, ranged.good)


def test_without_days_before_the_longest_stretch_is_believed():
    verdict = judged(make_bars(STARTS, [1.0, 1.0, 100.0, 100.0, 100.0, 100.0, 1.0]))
    assert verdict.good["close"].tolist() == [100.0] * 4
    assert len(verdict.rejected) == 3


def test_a_new_level_is_believed_when_a_week_of_it_comes_at_once():
    before, hours = make_bars(BEFORE, 100.0), pd.date_range("2024-03-07", periods=USUAL_BARS, freq="h", tz="UTC")
    assert judged(make_bars(hours, 3.0), before=before).rejected.empty
    assert len(judged(make_bars(hours[:-1], 3.0), before=before).rejected) == USUAL_BARS - 1


def test_a_jump_of_one_ticker_is_no_other_tickers():
    before = pd.concat(
        [make_bars(BEFORE, 100.0), make_bars(BEFORE, [1.0] + [50.0] * 6, ticker="BAC")], ignore_index=True
    )
    bars = pd.concat([make_bars(STARTS[:1], 9_000.0), make_bars(STARTS, 2.0, ticker="IBM")], ignore_index=True)
    assert judged(bars, before=before).rejected["ticker"].tolist() == ["AAPL"]


def test_no_bars_give_no_verdict():
    verdict = judged(BARS.empty())
    assert verdict.good.empty
    assert verdict.rejected.empty


@pytest.mark.shared
def test_every_real_bar_around_a_split_passes(shared_data):
    bars, actions = real(shared_data / "real" / "us5_2013_2016", "2014-06-02", "2014-06-16")
    new = bars["bar_start"] >= pd.Timestamp("2014-06-09", tz="UTC")
    verdict = judge(bars[new], actions, before=bars[~new])
    assert verdict.rejected.empty
    assert len(verdict.good) == 5 * 5 * 7
