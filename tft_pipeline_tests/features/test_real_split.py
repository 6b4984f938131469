"""AAPL's 7:1 split of 9 June 2014, in real bars."""

from datetime import date

import pandas as pd
import pytest

from tft_pipeline.contracts import FEATURES, HOURLY_SENTIMENT, OBSERVED_FEATURES
from tft_pipeline.features.matrix import WARMUP_BARS, feature_matrix
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.schema import validate
from tft_pipeline_tests.features.bars import at, real, with_actions

pytestmark = pytest.mark.shared

SPLIT = at("2014-06-09 13:00")
NAMES = [column.name for column in OBSERVED_FEATURES if not column.name.startswith(("sentiment", "mentions"))]


@pytest.fixture(scope="module")
def market(shared_data) -> tuple[pd.DataFrame, pd.DataFrame]:
    return real(shared_data / "real" / "us5_2013_2016", "2013-07-01", "2015-07-01")


def times_the_usual_extreme(bars: pd.DataFrame, actions: pd.DataFrame) -> pd.Series:
    """By feature: AAPL's largest |z| in the bars that can see the split, over its largest |z| in all others."""
    grid = Calendar("XNYS").bar_grid(date(2013, 7, 1), date(2015, 7, 1), phase_minutes=0)
    matrix = validate(feature_matrix(with_actions(bars, actions), HOURLY_SENTIMENT.empty(), grid), FEATURES)
    apple = matrix[matrix["ticker"] == "AAPL"].reset_index(drop=True)
    first = apple.index[apple["bar_start"] == SPLIT].item()
    seeing = apple[NAMES].iloc[first : first + WARMUP_BARS + 1]
    others = apple[NAMES].drop(index=seeing.index)
    assert len(seeing) == WARMUP_BARS + 1
    assert len(others) > 10 * len(seeing)
    mean, deviation = others.mean(), others.std()
    return ((seeing - mean) / deviation).abs().max() / ((others - mean) / deviation).abs().max()


def test_the_split_leaves_no_jump_in_any_feature(market):
    bars, actions = market
    excess = times_the_usual_extreme(bars, actions)
    assert (excess < 1.25).all(), excess.sort_values().tail()


def test_without_its_action_the_split_would_show_in_most_features_of_the_price(market):
    bars, actions = market
    excess = times_the_usual_extreme(bars, actions[actions["kind"] != "split"])
    shown = set(excess[excess > 5].index)
    assert {
        "return_1h", "return_70h", "overnight_return", "volatility_7h", "volatility_140h", "volatility_ewma",
        "average_true_range_14h", "macd", "macd_histogram", "drawdown_70h", "vwap_distance_7h", "market_return_1h",
        "relative_return_7h",
    } <= shown  # fmt: skip


def test_the_split_lies_in_these_bars(market):
    bars, _ = market
    close = bars[bars["ticker"] == "AAPL"].set_index("bar_start")["close"]
    assert close[close.index < SPLIT].iloc[-1] / close[SPLIT] == pytest.approx(7, rel=0.05)
