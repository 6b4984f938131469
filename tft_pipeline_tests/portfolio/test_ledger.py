"""Values worked out by hand, and what must not be known too early."""

import time
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tft_pipeline import schema
from tft_pipeline.config import PortfolioSettings
from tft_pipeline.contracts import BARS, DECISIONS, EQUITY, POSITIONS, TRADES
from tft_pipeline.portfolio.ledger import State, advance
from tft_pipeline_tests.portfolio.examples import (
    COSTLY,
    FREE,
    actions,
    assert_balanced,
    at,
    bars,
    day_by_day,
    decisions,
    hours,
)

MONDAY = hours("2026-01-05", 14, 3)


def run(prices, decided=(), acted=(), settings=FREE):
    return advance(State.opening(settings), bars(prices), actions(acted), decisions(decided), settings)


def test_a_decision_is_filled_at_the_open_of_the_next_bar():
    t = MONDAY
    found = run([("AAA", t[0], 100.0, 101.0), ("AAA", t[1], 102.0, 103.0)], [("AAA", t[1], 0.5)])
    [fill] = found.trades.itertuples()
    assert (fill.executed_at, fill.kind, fill.quantity, fill.price) == (t[1], "trade", 49, 102.0)  # 5,000 / 102 = 49.02
    assert fill.cash_change_cents == -49 * 10_200
    assert found.equity["equity_cents"].tolist() == [1_000_000, 1_000_000 + 49 * 100]
    assert_balanced(found, 1_000_000)


def test_what_is_known_a_quarter_after_the_bar_is_not_filled_at_its_end():
    t = MONDAY
    prices = [("AAA", t[k], 100.0 + k, 101.0 + k) for k in range(3)]
    decided = [("AAA", t[1], 0.5)]
    found = advance(State.opening(FREE), bars(prices), actions(), decisions(decided), FREE, delay=timedelta(minutes=15))
    [fill] = found.trades.itertuples()
    assert (fill.executed_at, fill.price) == (t[2], 102.0)
    assert_balanced(found, 1_000_000)


def test_of_two_decisions_that_wait_for_one_opening_the_later_counts():
    friday, monday = at("2026-01-09 20:00"), at("2026-01-12 14:00")
    prices = [("AAA", friday, 100.0, 100.0), ("AAA", monday, 100.0, 100.0)]
    decided = [("AAA", friday, 0.5), ("AAA", friday + pd.Timedelta(hours=1), -0.5)]
    found = advance(State.opening(FREE), bars(prices), actions(), decisions(decided), FREE, delay=timedelta(minutes=15))
    assert found.positions["quantity"].tolist() == [-50]


def test_costs_are_half_the_spread_and_a_fee_a_share():
    t = MONDAY
    found = run([("AAA", t[0], 100.0, 100.0), ("AAA", t[1], 100.0, 100.0)], [("AAA", t[1], 0.5)], settings=COSTLY)
    [fill] = found.trades.itertuples()
    assert fill.quantity == 50
    assert fill.cost_cents == 550  # 50 × (10 cents of spread + 1 cent of fee)
    assert fill.cash_change_cents == -500_000 - 550
    assert found.equity["cost_cents"].tolist() == [0, 550]
    assert found.equity["drawdown"].tolist() == [0.0, (1_000_000 - 550) / 1_000_000 - 1]


def test_selling_short_brings_cash_in_and_gains_when_prices_fall():
    t = MONDAY
    found = run([("AAA", t[0], 100.0, 100.0), ("AAA", t[1], 100.0, 90.0)], [("AAA", t[1], -0.5)])
    assert found.positions["quantity"].tolist() == [-50]
    assert found.equity.iloc[-1]["cash_cents"] == 1_500_000
    assert found.equity.iloc[-1]["equity_cents"] == 1_050_000
    assert_balanced(found, 1_000_000)


def test_nothing_before_a_moment_changes_when_the_future_does():
    t = hours("2026-01-05", 14, 6)
    prices = [("AAA", start, 100.0 + i, 101.0 + i) for i, start in enumerate(t)]
    decided = [("AAA", start, w) for start, w in zip(t[1:], [0.5, -0.3, 0.8, 0.1, 0.4], strict=True)]
    crashed = [
        (k, start, o * 0.1 if start >= t[3] else o, c * 0.1 if start >= t[3] else c) for k, start, o, c in prices
    ]
    turned = [(k, moment, -w if moment >= t[3] else w) for k, moment, w in decided]
    one, other = run(prices, decided), run(crashed, turned)
    for name, column in (("trades", "executed_at"), ("positions", "marked_at"), ("equity", "marked_at")):
        left, right = getattr(one, name), getattr(other, name)
        cut = t[3] if column == "executed_at" else t[3] + pd.Timedelta(microseconds=1)
        assert_frame_equal(left[left[column] < cut], right[right[column] < cut])
        assert len(left[left[column] < cut])


def test_a_decision_issued_inside_a_bar_waits_for_the_next_open():
    t = MONDAY
    halfway = t[0] + pd.Timedelta(minutes=30)
    late = decisions([("BBB", halfway, 0.5)])
    prices = bars([("AAA", t[0], 10.0, 10.0), ("BBB", t[0] + pd.Timedelta(minutes=30), 10.0, 10.0)], minutes=60)
    found = advance(State.opening(FREE), prices, actions(), late, FREE)
    assert found.trades["executed_at"].tolist() == [halfway]


def test_a_decision_lapses_when_the_market_goes_on_without_its_ticker():
    t = MONDAY
    prices = [
        ("AAA", t[0], 10.0, 10.0),
        ("BBB", t[0], 10.0, 10.0),
        ("BBB", t[1], 10.0, 10.0),
        ("AAA", t[2], 10.0, 10.0),
    ]
    found = run(prices, [("AAA", t[1], 0.5), ("BBB", t[1], 0.25)])
    assert found.trades["ticker"].tolist() == ["BBB"]


def test_a_decision_of_friday_is_filled_on_monday():
    friday, monday = at("2026-01-02 20:00"), at("2026-01-05 14:00")
    found = run(
        [("AAA", friday, 10.0, 10.0), ("AAA", monday, 11.0, 12.0)], [("AAA", friday + pd.Timedelta(hours=1), 0.5)]
    )
    assert found.trades["executed_at"].tolist() == [monday]
    assert found.trades["quantity"].tolist() == [454]


def test_a_ticker_without_a_bar_keeps_its_last_close():
    t = MONDAY
    prices = [("AAA", t[0], 10.0, 10.0), ("AAA", t[1], 10.0, 12.0), ("BBB", t[2], 5.0, 5.0)]
    found = run(prices, [("AAA", t[1], 0.5)])
    assert found.positions["price"].tolist() == [12.0, 12.0]
    assert found.equity["equity_cents"].tolist() == [1_000_000, 1_100_000, 1_100_000]


def test_hold_closes_what_is_held_and_no_decision_keeps_it():
    t = hours("2026-01-05", 14, 4)
    prices = [("AAA", start, 10.0, 10.0) for start in t]
    found = run(prices, [("AAA", t[1], 0.5), ("AAA", t[3], 0.0)])
    assert found.trades["quantity"].tolist() == [500, -500]
    assert found.positions["marked_at"].tolist() == [t[2], t[3]]


def test_changes_below_the_minimum_are_not_traded_but_a_rest_is_always_closed():
    t = hours("2026-01-05", 14, 4)
    settings = FREE.model_copy(update={"minimum_trade_weight": 0.2})
    prices = [("AAA", start, 10.0, 10.0) for start in t] + [("BBB", start, 10.0, 10.0) for start in t]
    decided = [("AAA", t[1], 0.25), ("BBB", t[1], 0.1), ("AAA", t[2], 0.35), ("AAA", t[3], 0.0)]
    found = run(prices, decided, settings=settings)
    assert found.trades[["ticker", "quantity"]].to_numpy().tolist() == [["AAA", 250], ["AAA", -250]]


def test_weights_beyond_the_whole_equity_are_scaled_down_together():
    t = MONDAY
    prices = [(k, start, 10.0, 10.0) for start in t[:2] for k in ("AAA", "BBB", "CCC")]
    found = run(prices, [("AAA", t[1], 1.0), ("BBB", t[1], -0.5), ("CCC", t[1], 0.5)])
    held = found.positions.set_index("ticker")["quantity"].to_dict()
    assert held == {"AAA": 500, "BBB": -250, "CCC": 250}


def test_positions_without_a_decision_take_their_room_first():
    t = MONDAY
    prices = [(k, start, 10.0, 10.0) for start in t for k in ("AAA", "BBB")]
    found = run(prices, [("AAA", t[1], 0.75), ("BBB", t[2], 0.75)])
    assert found.trades["quantity"].tolist() == [750, 250]


def test_purchases_stop_where_cash_ends():
    t = MONDAY
    found = run([("AAA", t[0], 10.0, 10.0), ("AAA", t[1], 10.0, 10.0)], [("AAA", t[1], 1.0)], settings=COSTLY)
    [fill] = found.trades.itertuples()
    assert fill.quantity == 998  # each costs 10.02 dollars
    assert found.equity.iloc[-1]["cash_cents"] >= 0


def test_a_short_is_covered_even_without_the_cash_to_pay_for_it():
    t = hours("2026-01-05", 14, 4)
    prices = [
        ("AAA", t[0], 10.0, 10.0),
        ("AAA", t[1], 10.0, 10.0),
        ("AAA", t[2], 40.0, 40.0),
        ("AAA", t[3], 40.0, 40.0),
    ]
    found = run(prices, [("AAA", t[1], -1.0), ("AAA", t[3], 1.0)])
    assert found.trades["quantity"].tolist() == [-1000, 1000]
    assert found.equity["equity_cents"].tolist() == [1_000_000, 1_000_000, -2_000_000, -2_000_000]
    assert found.equity.iloc[-1]["drawdown"] == -3.0
    assert_balanced(found, 1_000_000)


def test_a_split_multiplies_shares_before_the_bar_trades_and_moves_no_equity():
    t = MONDAY
    prices = [("AAA", t[0], 700.0, 700.0), ("AAA", t[1], 700.0, 700.0), ("AAA", t[2], 100.0, 100.0)]
    found = run(prices, [("AAA", t[1], 0.7), ("AAA", t[2], 0.7)], [("AAA", t[2], "split", 7.0)])
    assert found.trades[["kind", "quantity", "price"]].to_numpy().tolist() == [["trade", 10, 700.0], ["split", 60, 7.0]]
    assert found.positions["quantity"].tolist() == [10, 70]
    assert found.equity["equity_cents"].tolist() == [1_000_000] * 3
    assert found.trades["executed_at"].tolist() == [t[1], t[2]]


def test_the_fraction_that_a_split_leaves_is_paid_at_the_open():
    t = MONDAY
    prices = [("AAA", t[0], 10.0, 10.0), ("AAA", t[1], 10.0, 10.0), ("AAA", t[2], 15.0, 15.0)]
    found = run(prices, [("AAA", t[1], 0.101)], [("AAA", t[2], "split", 2 / 3)])  # 101 shares become 67 and a third
    split = found.trades.iloc[1]
    assert (split["quantity"], split["cash_change_cents"]) == (-34, 500)
    assert found.positions["quantity"].tolist() == [101, 67]
    assert_balanced(found, 1_000_000)


def test_a_short_pays_the_fraction_that_a_split_leaves():
    t = MONDAY
    prices = [("AAA", t[0], 10.0, 10.0), ("AAA", t[1], 10.0, 10.0), ("AAA", t[2], 15.0, 15.0)]
    found = run(prices, [("AAA", t[1], -0.101)], [("AAA", t[2], "split", 2 / 3)])
    split = found.trades.iloc[1]
    assert (split["quantity"], split["cash_change_cents"]) == (34, -500)


def test_a_reverse_split_that_leaves_no_whole_share_pays_all_of_it_out():
    t = MONDAY
    prices = [("AAA", t[0], 10.0, 10.0), ("AAA", t[1], 10.0, 10.0), ("AAA", t[2], 1000.0, 1000.0)]
    found = run(prices, [("AAA", t[1], 0.05)], [("AAA", t[2], "split", 0.01)])
    assert found.trades.iloc[1]["cash_change_cents"] == 50_000  # half a share of 1,000 dollars
    assert found.positions["marked_at"].tolist() == [t[2]]
    assert found.equity.iloc[-1]["equity_cents"] == 1_000_000


def test_a_split_on_a_missing_bar_takes_effect_at_its_moment():
    t = MONDAY
    prices = [
        ("AAA", t[0], 20.0, 20.0),
        ("AAA", t[1], 20.0, 20.0),
        ("BBB", t[0], 5.0, 5.0),
        ("BBB", t[1], 5.0, 5.0),
        ("BBB", t[2], 5.0, 5.0),
    ]
    found = run(prices, [("AAA", t[1], 0.502)], [("AAA", t[2], "split", 0.5)])  # 251 shares
    assert found.positions["quantity"].tolist() == [251, 125]
    assert found.positions["price"].tolist() == [20.0, 40.0]
    assert found.trades.iloc[1]["cash_change_cents"] == 2_000  # half a share at 20 / 0.5
    assert found.equity["equity_cents"].tolist() == [1_000_000] * 3


def test_dividends_pay_shares_held_before_and_not_those_bought_on_the_day():
    t = MONDAY
    prices = [(k, start, 10.0, 10.0) for start in t for k in ("AAA", "BBB", "CCC")]
    decided = [("AAA", t[1], 0.5), ("BBB", t[1], -0.3), ("CCC", t[2], 0.1)]
    found = run(prices, decided, [(k, t[2], "dividend", 0.25) for k in ("AAA", "BBB", "CCC")])
    paid = found.trades[found.trades["kind"] == "dividend"].set_index("ticker")["cash_change_cents"].to_dict()
    assert paid == {"AAA": 500 * 25, "BBB": -300 * 25}
    assert_balanced(found, 1_000_000)


def test_a_dividend_on_the_day_of_a_split_is_paid_on_the_new_shares():
    t = MONDAY
    prices = [("AAA", t[0], 20.0, 20.0), ("AAA", t[1], 20.0, 20.0), ("AAA", t[2], 10.0, 10.0)]
    acted = [("AAA", t[2], "dividend", 0.5), ("AAA", t[2], "split", 2.0)]
    found = run(prices, [("AAA", t[1], 0.5)], acted)
    assert found.trades["kind"].tolist() == ["trade", "split", "dividend"]
    assert found.trades.iloc[2]["cash_change_cents"] == 500 * 50


def test_four_for_one_makes_four_of_each_share_at_a_quarter_of_the_price():
    t = MONDAY
    prices = [("AAA", t[0], 400.0, 400.0), ("AAA", t[1], 400.0, 404.0), ("AAA", t[2], 101.0, 102.0)]
    found = run(prices, [("AAA", t[1], 0.5)], [("AAA", t[2], "split", 4.0)])
    assert found.trades[["kind", "quantity", "price", "cash_change_cents"]].to_numpy().tolist() == [
        ["trade", 12, 400.0, -480_000],
        ["split", 36, 4.0, 0],
    ]
    assert found.positions[["quantity", "value_cents"]].to_numpy().tolist() == [[12, 484_800], [48, 489_600]]
    assert found.equity["equity_cents"].tolist() == [1_000_000, 1_004_800, 1_009_600]


def test_one_for_ten_pays_the_rest_out_at_the_open():
    t = MONDAY
    prices = [("AAA", t[0], 3.0, 3.0), ("AAA", t[1], 3.0, 3.1), ("AAA", t[2], 31.5, 32.0)]
    found = run(prices, [("AAA", t[1], 0.5)], [("AAA", t[2], "split", 0.1)])  # 1,666 shares become 166 and six tenths
    split = found.trades.iloc[1]
    assert (split["quantity"], split["cash_change_cents"]) == (-1_500, 1_890)  # 0.6 × 31.50
    assert found.positions["quantity"].tolist() == [1_666, 166]
    assert found.equity.iloc[-1][["cash_cents", "positions_cents"]].tolist() == [
        1_000_000 - 499_800 + 1_890,
        166 * 3_200,
    ]
    assert_balanced(found, 1_000_000)


def test_purchases_are_paid_for_by_the_sales_of_the_same_open():
    t = MONDAY
    prices = [(k, start, 10.0, 10.0) for start in t for k in ("AAA", "BBB")]
    found = run(prices, [("BBB", t[1], 0.9), ("AAA", t[2], 0.9), ("BBB", t[2], 0.0)])
    assert found.trades[["ticker", "quantity"]].to_numpy().tolist() == [["BBB", 900], ["BBB", -900], ["AAA", 900]]
    assert found.equity["cash_cents"].tolist() == [1_000_000, 100_000, 100_000]


@pytest.mark.parametrize(
    ("effective", "executed"),
    [
        ("2026-01-09 15:30", "2026-01-09 15:30"),  # inside a bar: at its own moment
        ("2026-01-09 19:00", "2026-01-12 14:00"),  # after Friday's last mark
        ("2026-01-10 09:00", "2026-01-12 14:00"),
        ("2026-01-12 09:00", "2026-01-12 14:00"),
        ("2026-01-12 14:00", "2026-01-12 14:00"),
    ],
)
def test_what_is_effective_while_the_market_is_closed_happens_when_it_opens_again(effective, executed):
    friday, monday = hours("2026-01-09", 14, 3), hours("2026-01-12", 14, 2)
    market = (
        bars([("AAA", start, 10.0, 10.0) for start in friday + monday]),
        actions([("AAA", at(effective), "dividend", 0.25)]),
        decisions([("AAA", friday[1], 0.5)]),
    )
    whole, days = advance(State.opening(FREE), *market, FREE), day_by_day(*market, FREE)
    assert whole.trades.iloc[1][["executed_at", "kind", "cash_change_cents"]].tolist() == [
        at(executed),
        "dividend",
        12_500,
    ]
    for name in ("trades", "positions", "equity"):
        assert_frame_equal(getattr(days, name), getattr(whole, name))


def test_several_actions_during_one_closure_become_one_of_each_kind_in_new_shares():
    friday, monday = at("2026-01-09 14:00"), at("2026-01-12 14:00")
    later = friday + pd.Timedelta(hours=1)
    prices = [("AAA", friday, 20.0, 20.0), ("AAA", later, 20.0, 20.0), ("AAA", monday, 10.0, 10.0)]
    acted = [
        ("AAA", at("2026-01-10 12:00"), "dividend", 0.5),  # a dollar's half on each of 250 old shares
        ("AAA", at("2026-01-11 12:00"), "split", 2.0),
        ("AAA", monday, "dividend", 0.1),  # ten cents on each of 500 new shares
    ]
    found = run(prices, [("AAA", later, 0.5)], acted)
    assert found.trades[["kind", "quantity", "price", "cash_change_cents"]].to_numpy().tolist() == [
        ["trade", 250, 20.0, -500_000],
        ["split", 250, 2.0, 0],
        ["dividend", 0, 0.35, 17_500],  # 125 + 50 dollars
    ]
    assert set(found.trades["executed_at"].iloc[1:]) == {monday}
    assert_balanced(found, 1_000_000)


def test_no_bars_change_nothing():
    opening = State.opening(FREE)
    found = advance(opening, BARS.empty(), actions(), DECISIONS.empty(), FREE)
    assert found.state == opening
    for frame, table in ((found.trades, TRADES), (found.positions, POSITIONS), (found.equity, EQUITY)):
        schema.validate(frame, table)
        assert frame.empty


def test_bars_of_different_lengths_are_marked_at_each_end_once():
    t = MONDAY
    whole = bars([("AAA", t[0], 10.0, 10.0), ("AAA", t[1], 10.0, 11.0)])
    halves = bars([("BBB", t[0] + pd.Timedelta(minutes=m), 20.0, 20.0) for m in (0, 30, 60, 90)], minutes=30)
    decided = decisions([("AAA", t[1], 0.5), ("BBB", t[0] + pd.Timedelta(minutes=30), 0.2)])
    found = advance(State.opening(FREE), pd.concat([whole, halves]), actions(), decided, FREE)
    assert found.equity["marked_at"].tolist() == [t[0] + pd.Timedelta(minutes=m) for m in (30, 60, 90, 120)]
    assert_balanced(found, 1_000_000)


def test_opening_cash_is_a_peak_even_if_no_mark_shows_it():
    t = MONDAY
    first = run([("AAA", t[0], 10.0, 9.0)], [("AAA", t[0], 0.5)])
    assert first.equity["drawdown"].tolist() == [950_000 / 1_000_000 - 1]
    rebuilt = State.from_rows(first.positions, first.equity, int(first.equity["equity_cents"].max()))
    assert rebuilt == first.state
    assert rebuilt.peak_cents == 1_000_000


def three_weeks(seed: int, *, around_the_clock: bool = False, tickers: int = 4):
    """Bars with gaps, weekends, a split and dividends, and a decision after every bar."""
    random = np.random.default_rng(seed)
    days = pd.date_range("2026-01-05", periods=19, freq="D", tz="UTC").as_unit("us")
    starts = [d + pd.Timedelta(hours=int(h)) for d in days for h in (range(24) if around_the_clock else range(14, 21))]
    if not around_the_clock:
        starts = [start for start in starts if start.dayofweek < 5]
    prices, acted, decided = [], [], []
    for k in range(tickers):
        name, price = f"T{k}", 50.0 + 20 * k
        split_at, paid_at = starts[random.integers(20, len(starts) - 5)], starts[random.integers(5, len(starts) - 5)]
        acted += [(name, split_at, "split", float(random.choice([7.0, 1.5, 0.1]))), (name, paid_at, "dividend", 0.37)]
        for start in starts:
            if start == split_at:
                price /= acted[-2][3]
            opened = price * np.exp(random.normal(0, 0.01))
            price = opened * np.exp(random.normal(0, 0.01))
            if random.random() < 0.1:
                continue  # nobody received this bar
            prices.append((name, start, round(opened, 4), round(price, 4)))
            decided.append((name, start + pd.Timedelta(hours=1), float(np.clip(random.normal(0, 0.4), -1, 1))))
    return bars(prices), actions(acted), decisions(decided)


@pytest.mark.parametrize("delay", [timedelta(0), timedelta(minutes=15)], ids=["at once", "after a quarter"])
@pytest.mark.parametrize("around_the_clock", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_span_at_once_equals_the_same_day_by_day_from_the_database(seed, around_the_clock, delay):
    market = three_weeks(seed, around_the_clock=around_the_clock)
    whole = advance(State.opening(COSTLY), *market, COSTLY, delay=delay)
    days = day_by_day(*market, COSTLY, delay=delay)
    last = days.equity["marked_at"].max()
    for name, column in (("trades", "executed_at"), ("positions", "marked_at"), ("equity", "marked_at")):
        expected = getattr(whole, name)
        pd.testing.assert_frame_equal(getattr(days, name), expected[expected[column] <= last].reset_index(drop=True))
    assert len(days.trades) > (250 if delay else 300)
    assert {"split", "dividend"} <= set(days.trades["kind"])
    assert_balanced(whole, 1_000_000)


def test_a_thousand_days_of_twenty_tickers_take_seconds():
    random = np.random.default_rng(0)
    n, tickers = 7_000, [f"T{i}" for i in range(20)]
    starts = pd.date_range("2020-01-01", periods=n, freq="h", tz="UTC").as_unit("us")
    closes = 100 * np.exp(random.normal(0, 0.002, (len(tickers), n)).cumsum(axis=1))
    frame = pd.DataFrame(
        {"ticker": np.repeat(tickers, n), "bar_start": np.tile(starts, len(tickers)), "close": closes.ravel()}
    )
    frame = frame.assign(bar_end=frame["bar_start"] + pd.Timedelta(hours=1), open=frame["close"])
    decided = pd.DataFrame(
        {"ticker": frame["ticker"], "issued_at": frame["bar_end"], "weight": random.normal(0, 0.05, len(frame))}
    )
    started = time.perf_counter()
    found = advance(State.opening(PortfolioSettings()), frame, actions(), decided, PortfolioSettings())
    assert time.perf_counter() - started < 10
    assert len(found.equity) == n


def test_a_rename_moves_no_money():
    t = MONDAY
    prices = [("AAA", t[k], 100.0, 100.0) for k in range(3)]
    decided = [("AAA", t[1], 0.5)]
    plain, renamed = (run(prices, decided, acted) for acted in ((), [("AAA", t[2], "rename", 1.0)]))
    assert_frame_equal(renamed.equity, plain.equity)
    assert_frame_equal(renamed.trades, plain.trades)
