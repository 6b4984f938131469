import json

import pytest

from tft_pipeline.contracts import EQUITY, POSITIONS, TRADES
from tft_pipeline.portfolio.figures import equity_curve
from tft_pipeline.portfolio.ledger import State, advance
from tft_pipeline.portfolio.summary import summary
from tft_pipeline_tests.portfolio.examples import COSTLY, actions, bars, decisions, hours


@pytest.fixture(scope="module")
def found():
    t = hours("2026-01-05", 14, 3)
    prices = bars([("AAA", t[0], 100.0, 100.0), ("AAA", t[1], 100.0, 80.0), ("AAA", t[2], 80.0, 90.0)])
    return advance(State.opening(COSTLY), prices, actions(), decisions([("AAA", t[1], 0.5)]), COSTLY)


def test_the_summary_says_what_became_of_the_money(found):
    said = summary(found.equity, found.trades, found.positions)
    assert said["equity_usd"] == 9_494.5  # 10,000 - 50 × 10 - 5.50
    assert said["cash_usd"] == 4_994.5
    assert said["positions_usd"] == 4_500.0
    assert said["return"] == pytest.approx(-0.05055)
    assert said["max_drawdown"] == pytest.approx(-0.10055)
    assert (said["costs_usd"], said["trades"]) == (5.5, 1)
    assert said["positions"] == [{"ticker": "AAA", "quantity": 50, "price": 90.0, "value_usd": 4_500.0}]
    assert json.loads(json.dumps(said)) == said


def test_nothing_marked_is_nothing_to_say():
    assert summary(EQUITY.empty(), TRADES.empty(), POSITIONS.empty()) == {}


def test_the_equity_curve_is_a_small_png(found):
    picture = equity_curve(found.equity)
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) < 60_000


def test_a_single_mark_can_be_drawn(found):
    assert equity_curve(found.equity.head(1)).startswith(b"\x89PNG\r\n")
