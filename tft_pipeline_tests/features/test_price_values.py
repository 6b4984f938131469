"""Every feature of one ticker's prices and volumes, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from tft_pipeline.features.prices import adjusted
from tft_pipeline.features.returns import returns
from tft_pipeline.features.shape import shape
from tft_pipeline.features.trend import trend
from tft_pipeline.features.volatility import volatility
from tft_pipeline.features.volume import volume
from tft_pipeline_tests.features.bars import at, make_actions, make_bars, prices_of, with_actions

LN2 = np.log(2.0)


def newest(features, name):
    return features[name][-1]


def step(bars_at_the_new_level: int, size: float = 0.02, n: int = 160):
    """A log price of log(100) that rose once."""
    return prices_of(100 * np.exp(np.where(np.arange(n) >= n - bars_at_the_new_level, size, 0.0)))


def alternating(n: int = 160):
    """Returns of +1 % and -1 % in turn."""
    return prices_of(100 * np.exp(0.01 * (np.arange(n) % 2)))


def test_returns_over_several_spans_are_sums_of_one_bar_returns():
    values = returns(prices_of(np.exp(np.cumsum(0.001 * np.arange(80)))))  # bar t returns t thousandths
    assert newest(values, "return_1h") == pytest.approx(0.079)
    assert newest(values, "return_2h") == pytest.approx(0.079 + 0.078)
    assert newest(values, "return_3h") == pytest.approx(0.079 + 0.078 + 0.077)
    for bars in (7, 14, 35, 70):
        assert newest(values, f"return_{bars}h") == pytest.approx(0.001 * (bars * 79 - bars * (bars - 1) / 2))
        assert np.isnan(values[f"return_{bars}h"][bars - 1])
        assert np.isfinite(values[f"return_{bars}h"][bars])


def test_a_dividend_belongs_to_the_return_of_the_bar_it_goes_ex_with():
    prices = prices_of([100, 99], open=[100, 98.5], dividend=[0, 2], opens_session=[True, True])
    values = returns(prices)
    assert newest(values, "return_1h") == pytest.approx(np.log(101 / 100))
    assert newest(values, "overnight_return") == pytest.approx(np.log(100.5 / 100))
    assert newest(values, "intrabar_return") == pytest.approx(np.log(99 / 98.5))


def test_the_night_is_told_where_a_session_begins_and_nowhere_else():
    prices = prices_of([100, 102, 104], open=[100, 101, 105], opens_session=[True, False, True])
    night = returns(prices)["overnight_return"]
    assert np.isnan(night[0])
    assert night[1:].tolist() == [0.0, pytest.approx(np.log(105 / 102))]


def test_deviations_of_alternating_returns():
    # Seven of them sum to ±1 %: the squares around the mean are 7 - 1/7 = 48/7, over 6.
    values = volatility(alternating())
    assert newest(values, "volatility_7h") == pytest.approx(0.01 * np.sqrt(8 / 7))
    assert newest(values, "volatility_35h") == pytest.approx(0.01 * np.sqrt(36 / 35))
    assert newest(values, "volatility_140h") == pytest.approx(0.01 * np.sqrt(140 / 139))
    assert newest(values, "volatility_ratio") == pytest.approx(np.sqrt(8 / 7 * 139 / 140))
    assert newest(values, "volatility_ewma") == pytest.approx(0.01)


@pytest.mark.parametrize("bars_ago", [0, 1, 10])
def test_the_exponential_volatility_forgets_six_percent_a_bar(bars_ago):
    weight = 0.06 * 0.94**bars_ago / (1 - 0.94**140)
    assert newest(volatility(step(bars_ago + 1)), "volatility_ewma") == pytest.approx(0.02 * np.sqrt(weight))


def test_volatility_from_ranges_and_bodies():
    low = np.full(20, 100.0)
    span, body = np.where(np.arange(20) % 2, 0.04, 0.02), 0.01
    prices = prices_of(low * np.exp(body), open=low, high=low * np.exp(span), low=low)
    values = volatility(prices)
    assert newest(values, "volatility_parkinson_14h") == pytest.approx(np.sqrt((0.02**2 + 0.04**2) / 2 / (4 * LN2)))
    expected = 0.5 * (0.02**2 + 0.04**2) / 2 - (2 * LN2 - 1) * 0.01**2
    assert newest(values, "volatility_garman_klass_14h") == pytest.approx(np.sqrt(expected))


def test_a_bar_whose_body_is_its_range_has_a_volatility():
    low = np.full(14, 100.0)
    whole = prices_of(low * np.exp(0.02), open=low, high=low * np.exp(0.02), low=low)
    expected = 0.02 * np.sqrt(1.5 - 2 * LN2)
    assert newest(volatility(whole), "volatility_garman_klass_14h") == pytest.approx(expected)


def test_the_shape_of_a_bar():
    values = shape(prices_of([101.0, 100.0], open=[100, 100], high=[104, 100], low=[100, 100]))
    assert values["high_low_range"].tolist() == [pytest.approx(np.log(1.04)), 0.0]
    assert values["close_location"].tolist() == [0.25, 0.5]


def test_true_range_reaches_to_the_close_before():
    close = np.full(20, 100.0)
    close[-1] = 105.0
    prices = prices_of(close, high=close + 1, low=close - 1)
    assert trend(prices)["average_true_range_14h"][-2] == pytest.approx(2 / 100)
    assert newest(trend(prices), "average_true_range_14h") == pytest.approx((13 * 2 + 6) / 14 / 105)


def test_relative_strength_is_the_share_of_the_rises():
    moves = np.array([0.0] + [0.01] * 9 + [-0.02] * 5)
    assert newest(trend(prices_of(100 * np.exp(np.cumsum(moves)))), "relative_strength_14h") == pytest.approx(9 / 19)


def risen(n: int, bars: int) -> float:
    """The share of EMA n, cut off at 4n, that lies on the newest bars."""
    decay = 1 - 2 / (n + 1)
    return (1 - decay**bars) / (1 - decay ** (4 * n))


def test_macd_of_a_step():
    # One return of h in 35 has the deviation h/√35, so h cancels out.
    line = [np.sqrt(35) * (risen(12, bars) - risen(26, bars)) for bars in (1, 2)]
    first, second = trend(step(1)), trend(step(2))
    assert newest(first, "macd") == pytest.approx(line[0])
    assert newest(second, "macd") == pytest.approx(line[1])
    weight = risen(9, 1)
    assert newest(first, "macd_histogram") == pytest.approx(line[0] * (1 - weight))
    assert newest(second, "macd_histogram") == pytest.approx(line[1] * (1 - weight) - line[0] * weight * 0.8)


def test_oscillators_of_a_step():
    values = trend(step(1))
    assert newest(values, "bollinger_position_20h") == pytest.approx(19 / np.sqrt(20))  # mean h/20, deviation h/√20
    share = 1 / 70
    assert newest(values, "skewness_70h") == pytest.approx(
        (1 - 2 * share) / np.sqrt(share * (1 - share))
    )  # Bernoulli's
    # A step two bars long: 1 in one place of 34 against 1 in another.
    assert newest(trend(step(2)), "autocorrelation_35h") == pytest.approx(-1 / 33)
    assert newest(trend(alternating()), "autocorrelation_35h") == pytest.approx(-1)


def test_the_stochastic_looks_at_fourteen_bars_of_highs_and_lows():
    close = np.full(20, 100.0)
    high, low = close + 2, close - 2
    high[5], low[5] = 1000, 1  # the fifteenth bar back
    high[6], low[19] = 110, 90
    assert newest(trend(prices_of(close, high=high, low=low)), "stochastic_14h") == pytest.approx(0.5)
    close[-1] = 95
    assert newest(trend(prices_of(close, high=high, low=low)), "stochastic_14h") == pytest.approx(5 / 20)


def test_drawdown_looks_at_seventy_closes():
    close = np.full(100, 100.0)
    close[29], close[30] = 500, 125  # the seventy-first and the seventieth back
    assert newest(trend(prices_of(close)), "drawdown_70h") == pytest.approx(np.log(100 / 125))
    close[-1] = 130
    assert newest(trend(prices_of(close)), "drawdown_70h") == 0.0


def test_volume_against_what_is_usual():
    traded = np.full(80, 100.0)
    traded[-1] = 1000
    values = volume(prices_of(np.full(80, 10.0), volume=traded))
    assert newest(values, "volume_relative_35h") == pytest.approx(np.log(1001 / ((34 * 100 + 1000) / 35 + 1)))
    assert newest(values, "volume_deviation_70h") == pytest.approx(69 / np.sqrt(70))
    assert newest(values, "volume_change_1h") == pytest.approx(np.log(1001 / 101))


@pytest.mark.parametrize("sign", [1, -1])
def test_volume_that_moves_with_the_price_or_against_it(sign):
    moves = 0.01 * np.sin(np.arange(60.0))
    traded = np.expm1(10 + np.cumsum(sign * 3 * moves))
    values = volume(prices_of(100 * np.exp(np.cumsum(moves)), volume=traded))
    assert newest(values, "price_volume_correlation_35h") == pytest.approx(sign)


def test_the_distance_to_the_average_price_weighs_by_volume():
    close = np.array([100.0] * 6 + [111.0])
    high, low = close.copy(), close.copy()
    high[-1], low[-1] = 112, 107  # typical: 110
    values = volume(prices_of(close, high=high, low=low, volume=[1.0] * 6 + [4.0]))
    assert newest(values, "vwap_distance_7h") == pytest.approx(np.log(111 / 104))


def test_illiquidity_is_return_per_million_dollars():
    close = alternating().close
    values = volume(prices_of(close, volume=2e6 / close))
    assert newest(values, "illiquidity_35h") == pytest.approx(np.log(0.01 / 2))


NEUTRAL = {
    **dict.fromkeys([f"return_{bars}h" for bars in (1, 2, 3, 7, 14, 35, 70)], 0.0),
    "overnight_return": 0.0, "intrabar_return": 0.0,
    "volatility_7h": 0.0, "volatility_35h": 0.0, "volatility_140h": 0.0, "volatility_ewma": 0.0,
    "volatility_parkinson_14h": 0.0, "volatility_garman_klass_14h": 0.0, "volatility_ratio": 1.0,
    "high_low_range": 0.0, "close_location": 0.5,
    "average_true_range_14h": 0.0, "relative_strength_14h": 0.5, "macd": 0.0, "macd_histogram": 0.0,
    "bollinger_position_20h": 0.0, "stochastic_14h": 0.5, "drawdown_70h": 0.0, "skewness_70h": 0.0, "autocorrelation_35h": 0.0,
    "volume_relative_35h": 0.0, "volume_deviation_70h": 0.0, "volume_change_1h": 0.0, "price_volume_correlation_35h": 0.0,
    "vwap_distance_7h": 0.0, "illiquidity_35h": np.log(1e-12),
}  # fmt: skip


@pytest.mark.parametrize("traded", [0.0, 700.0, 1234.0])
def test_a_flat_price_and_a_flat_volume_have_neutral_values(traded):
    # Many prices: the mean of twenty equal logarithms is seldom exactly their value.
    for price in np.linspace(0.37, 913.0, 40):
        prices = prices_of(np.full(150, price), volume=traded)
        values = {**returns(prices), **volatility(prices), **shape(prices), **trend(prices), **volume(prices)}
        assert {name: newest(values, name) for name in values} == pytest.approx(NEUTRAL, abs=1e-12), price


def test_no_trade_at_all_while_the_price_moves_stays_finite():
    prices = prices_of(alternating().close, volume=0.0)
    values = volume(prices)
    assert all(np.isfinite(newest(values, name)) for name in values)
    assert newest(values, "vwap_distance_7h") == 0.0
    assert newest(values, "illiquidity_35h") == pytest.approx(np.log(0.01 / 1e-6))  # as if one dollar were traded


def test_trade_in_one_bar_of_seven_is_an_average_price():
    close = np.array([100.0] * 6 + [111.0])
    values = volume(prices_of(close, volume=[0, 0, 5.0, 0, 0, 0, 0]))
    assert newest(values, "vwap_distance_7h") == pytest.approx(np.log(111 / 100))


def test_prices_are_adjusted_forward_and_volumes_the_other_way():
    bars = with_actions(
        make_bars(["2024-03-07 20:00", "2024-03-08 14:00", "2024-03-08 15:00"], [700.0, 101.0, 100.0], open=[690.0, 99.0, 101.0],
                  high=[710.0, 102.0, 102.0], low=[680.0, 98.0, 99.0], volume=[100.0, 700.0, 1400.0]),
        make_actions(("AAPL", "2024-03-08 14:00", "split", 7.0), ("AAPL", "2024-03-08 14:00", "dividend", 0.5)),
    )  # fmt: skip
    opens = pd.Series([at("2024-03-07 14:30"), at("2024-03-08 14:30"), at("2024-03-08 14:30")]).dt.as_unit("us")
    prices = adjusted(bars.assign(session_open=opens))
    assert prices.close.tolist() == [700, 707, 700]
    assert prices.open.tolist() == [690, 693, 707]
    assert prices.high.tolist() == [710, 714, 714]
    assert prices.low.tolist() == [680, 686, 693]
    assert prices.volume.tolist() == [100, 100, 200]
    assert prices.dividend.tolist() == [0, 3.5, 0]
    assert prices.opens_session.tolist() == [True, True, False]
    assert prices.log_return[1:].tolist() == [pytest.approx(np.log(710.5 / 700)), pytest.approx(np.log(700 / 707))]
