import pandas as pd

from tft_pipeline.contracts import ACTIONS
from tft_pipeline.market.actions import dividend_on, split_factor
from tft_pipeline.schema import validate
from tft_pipeline_tests.features.bars import make_actions, make_bars

DAYS = [f"2024-03-0{day} 14:00" for day in (4, 5, 6, 7, 8)]


def test_a_split_counts_from_the_bar_that_trades_under_it():
    actions = validate(make_actions(("AAPL", "2024-03-06 14:00", "split", 4.0)), ACTIONS)
    assert split_factor(make_bars(DAYS, 100.0), actions).tolist() == [1, 1, 4, 4, 4]


def test_splits_multiply_in_the_order_in_which_they_took_effect():
    actions = make_actions(("AAPL", "2024-03-07 14:00", "split", 0.1), ("AAPL", "2024-03-05 14:00", "split", 2.0))
    assert split_factor(make_bars(DAYS, 100.0), actions).tolist() == [1, 2, 2, 0.2, 0.2]


def test_actions_touch_their_own_ticker_and_their_own_kind_alone():
    bars = pd.concat([make_bars(DAYS, 100.0), make_bars(DAYS, 30.0, ticker="BAC")])  # an index that repeats
    actions = make_actions(
        ("AAPL", "2024-03-06 14:00", "split", 4.0), ("BAC", "2024-03-06 14:00", "dividend", 0.5), ("IBM", DAYS[0], "split", 3.0),
        ("IBM", DAYS[0], "dividend", 3.0),
    )  # fmt: skip
    factor, dividend = split_factor(bars, actions), dividend_on(bars, actions)
    assert factor.tolist() == [1, 1, 4, 4, 4] + [1] * 5
    assert dividend.tolist() == [0] * 5 + [0, 0, 0.5, 0, 0]
    assert factor.index.equals(bars.index)
    assert dividend.index.equals(bars.index)


def test_bars_in_any_order_get_what_is_theirs():
    actions = make_actions(("AAPL", "2024-03-06 14:00", "split", 4.0), ("AAPL", "2024-03-07 14:00", "dividend", 0.5))
    bars = make_bars(DAYS, 100.0).iloc[[3, 0, 4, 2, 1]]
    assert split_factor(bars, actions).tolist() == [4, 1, 4, 4, 1]
    assert dividend_on(bars, actions).tolist() == [0.5, 0, 0, 0, 0]


def test_a_dividend_on_a_missing_bar_joins_the_next_one():
    actions = make_actions(
        ("AAPL", "2024-03-06 14:00", "dividend", 0.5), ("AAPL", "2024-03-06 15:00", "dividend", 0.25)
    )
    without = make_bars([DAYS[0], DAYS[1], DAYS[3], DAYS[4]], 100.0)
    assert dividend_on(without, actions).tolist() == [0, 0, 0.75, 0]
    assert dividend_on(make_bars(DAYS, 100.0), actions).tolist() == [0, 0, 0.5, 0.25, 0]


def test_a_dividend_before_the_first_bar_or_after_the_last_is_nobodys():
    actions = make_actions(
        ("AAPL", "2024-03-01 14:00", "dividend", 0.5), ("AAPL", DAYS[0], "dividend", 0.25), ("AAPL", "2024-03-11 14:00", "dividend", 1.0),
    )  # fmt: skip
    assert dividend_on(make_bars(DAYS, 100.0), actions).tolist() == [0.25, 0, 0, 0, 0]


def test_a_later_action_changes_nothing_earlier():
    bars = make_bars(DAYS, 100.0)
    known = [("AAPL", DAYS[1], "split", 2.0), ("AAPL", DAYS[2], "dividend", 0.5)]
    more = make_actions(*known, ("AAPL", DAYS[4], "split", 7.0), ("AAPL", DAYS[4], "dividend", 9.0))
    assert split_factor(bars, more)[:4].equals(split_factor(bars, make_actions(*known))[:4])
    assert dividend_on(bars, more)[:4].equals(dividend_on(bars, make_actions(*known))[:4])
    assert split_factor(bars, more)[4] == 14.0
    assert dividend_on(bars, more)[4] == 9.0


def test_the_length_of_the_loaded_history_changes_nothing():
    actions = make_actions(
        ("AAPL", DAYS[1], "split", 2.0), ("AAPL", DAYS[3], "split", 5.0), ("AAPL", DAYS[3], "dividend", 0.5)
    )
    bars = make_bars(DAYS, 100.0)
    for first in range(4):
        assert split_factor(bars[first:], actions).equals(split_factor(bars, actions)[first:])
        assert dividend_on(bars[first:], actions).equals(dividend_on(bars, actions)[first:])


def test_no_actions_and_no_bars_are_no_trouble():
    assert split_factor(make_bars(DAYS, 100.0), ACTIONS.empty()).tolist() == [1.0] * 5
    assert dividend_on(make_bars(DAYS, 100.0), ACTIONS.empty()).tolist() == [0.0] * 5
    actions = make_actions(("AAPL", DAYS[1], "split", 2.0), ("AAPL", DAYS[1], "dividend", 2.0))
    assert split_factor(make_bars([], 100.0), actions).empty
    assert dividend_on(make_bars([], 100.0), actions).empty
