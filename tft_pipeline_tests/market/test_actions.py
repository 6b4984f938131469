import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.market.actions import dividend_on, renamed, split_factor
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


def renames(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """ACTIONS of (ticker, effective_at, former)."""
    frame = make_actions(*[(ticker, moment, "rename", 1.0) for ticker, moment, _ in rows])
    return frame.assign(former=pd.Series([former for *_, former in rows], dtype="str"))


def told(frame: pd.DataFrame) -> list[str]:
    return [f"{ticker} {at:%d}" for ticker, at in zip(frame["ticker"], frame["bar_start"], strict=True)]


def test_a_renamed_tickers_bars_go_on_under_the_new_name():
    bars = pd.concat(
        [make_bars(DAYS[:2], 180.0, ticker="FB"), make_bars(DAYS[2:], 190.0, ticker="META")], ignore_index=True
    )
    actions = renames(("META", DAYS[2], "FB"))
    assert told(renamed(bars, actions, time="bar_start")) == [f"META 0{day}" for day in (4, 5, 6, 7, 8)]
    assert told(renamed(bars, actions.iloc[:0], time="bar_start")) == told(bars)  # not known yet
    assert validate(renamed(bars, actions, time="bar_start"), BARS)["close"].tolist() == [180, 180, 190, 190, 190]


def test_a_symbol_that_another_company_had_before_or_takes_after_is_another_share():
    both = pd.concat([make_bars(DAYS, 180.0, ticker="FB"), make_bars(DAYS, 11.0, ticker="META")], ignore_index=True)
    found = renamed(both, renames(("META", DAYS[2], "FB")), time="bar_start")
    assert told(found) == ["META 04", "META 05", "FB 06", "FB 07", "FB 08", "META 06", "META 07", "META 08"]
    assert found["close"].tolist() == [180, 180, 180, 180, 180, 11, 11, 11]


def test_renames_follow_each_other_and_a_name_may_come_back():
    bars = pd.concat(
        [make_bars([day], 10.0, ticker=name) for day, name in zip(DAYS, ["A", "B", "B", "C", "A"], strict=True)],
        ignore_index=True,
    )
    there = renames(("B", DAYS[1], "A"), ("C", DAYS[3], "B"))
    assert told(renamed(bars, there, time="bar_start")) == ["C 04", "C 05", "C 06", "C 07", "A 08"]
    back = renames(("B", DAYS[1], "A"), ("C", DAYS[3], "B"), ("A", DAYS[4], "C"))
    assert told(renamed(bars, back, time="bar_start")) == [f"A 0{day}" for day in (4, 5, 6, 7, 8)]


def test_a_split_of_the_former_ticker_is_the_new_ones():
    actions = make_actions(("FB", DAYS[1], "split", 2.0), ("FB", DAYS[4], "split", 3.0))
    found = renamed(actions, renames(("META", DAYS[2], "FB")), time="effective_at")
    assert found[["ticker", "value"]].values.tolist() == [["META", 2.0], ["FB", 3.0]]
    bars = renamed(make_bars(DAYS[:2], 100.0, ticker="FB"), renames(("META", DAYS[2], "FB")), time="bar_start")
    assert split_factor(bars, found).tolist() == [1.0, 2.0]


def test_without_bars_or_renames_nothing_happens():
    assert renamed(make_bars([], 1.0), renames(("META", DAYS[2], "FB")), time="bar_start").empty
    bars = make_bars(DAYS, 1.0)
    pd.testing.assert_frame_equal(renamed(bars, make_actions(("AAPL", DAYS[1], "split", 2.0)), time="bar_start"), bars)
