import math

import pytest

from tft_pipeline.config import PortfolioSettings
from tft_pipeline.portfolio.costs import affordable, fill_cost_cents, round_trip_log_return
from tft_pipeline.portfolio.sizing import capped, shares

SETTINGS = PortfolioSettings(half_spread_bps=2.0, fee_usd_per_share=0.005)


def test_shares_are_whole_and_rounded_toward_zero():
    assert shares(0.1, 1_000_000, 30.0) == 33
    assert shares(-0.1, 1_000_000, 30.0) == -33
    assert shares(0.0, 1_000_000, 30.0) == 0


def test_weights_within_the_limit_are_left_alone():
    assert capped({"AAA": 0.4, "BBB": -0.3}, {"CCC": 0.3}) == {"AAA": 0.4, "BBB": -0.3}


def test_weights_share_the_room_that_is_left():
    assert capped({"AAA": 0.6, "BBB": -0.6}, {"CCC": 0.4}) == pytest.approx({"AAA": 0.3, "BBB": -0.3})
    assert capped({"AAA": 0.6}, {"CCC": -1.2}) == {"AAA": 0.0}
    assert capped({}, {"CCC": 0.4}) == {}
    assert capped({"AAA": 0.0}, {}) == {"AAA": 0.0}


def test_a_fill_costs_the_same_bought_or_sold():
    assert fill_cost_cents(1_000, 50.0, SETTINGS) == 1_000 + 500  # 2 bps of 50,000 dollars, and half a cent a share
    assert fill_cost_cents(-1_000, 50.0, SETTINGS) == 1_500
    assert fill_cost_cents(0, 50.0, SETTINGS) == 0


def test_no_more_is_affordable_than_cash_pays_for():
    for cash in (0, 1, 999, 10_000, 123_457):
        most = affordable(cash, 9.99, SETTINGS)
        assert round(most * 999) + fill_cost_cents(most, 9.99, SETTINGS) <= cash
        assert round((most + 1) * 999) + fill_cost_cents(most + 1, 9.99, SETTINGS) > cash
    assert affordable(-500, 9.99, SETTINGS) == 0
    assert affordable(5, 0.005, PortfolioSettings(half_spread_bps=0, fee_usd_per_share=0)) == 10


def test_two_halves_of_a_cent_that_both_round_up_are_not_affordable():
    fee = PortfolioSettings(half_spread_bps=0, fee_usd_per_share=0.015)
    assert fill_cost_cents(1, 0.015, fee) == 2
    assert affordable(3, 0.015, fee) == 0  # 1.5 + 1.5 cents, booked as 2 + 2
    assert affordable(4, 0.015, fee) == 1


def test_a_round_trip_costs_two_fills_of_a_fifty_dollar_share():
    paid = 2 * fill_cost_cents(10_000, 50.0, SETTINGS) / (10_000 * 5_000)
    assert round_trip_log_return(SETTINGS) == pytest.approx(paid) == pytest.approx(-math.log1p(-paid), rel=1e-3)
