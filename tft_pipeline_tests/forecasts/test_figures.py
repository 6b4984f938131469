import matplotlib
import pandas as pd
import pytest

from tft_pipeline.errors import ContractError
from tft_pipeline.forecasts.baselines import naive
from tft_pipeline.forecasts.figures import fan_chart
from tft_pipeline_tests.training.examples import calendar_of, features_of


@pytest.fixture
def market() -> tuple[pd.DataFrame, pd.DataFrame]:
    calendar = calendar_of(106)
    features = features_of(calendar.iloc[:100], tickers=2)
    end = features["bar_end"].max() + pd.Timedelta(hours=1)
    return naive(features, calendar, 6, start=end - pd.Timedelta(days=2), end=end), features


def test_is_a_small_picture_and_leaves_no_state_behind(market: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    backend = matplotlib.get_backend()
    picture = fan_chart(*market, ticker="T01")
    assert picture.startswith(b"\x89PNG")
    assert 5_000 < len(picture) < 60_000
    assert matplotlib.get_backend() == backend


def test_a_ticker_without_a_forecast_is_named(market: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    with pytest.raises(ContractError, match=r"fan chart: T09 has no forecast; there are some of \['T00', 'T01'\]"):
        fan_chart(*market, ticker="T09")


def test_a_forecast_without_its_bar_is_refused(market: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    quantiles, features = market
    newest = features["bar_end"].max()
    with pytest.raises(ContractError, match="has no bar that ends at issued_at"):
        fan_chart(quantiles, features[features["bar_end"] < newest], ticker="T00")
    with pytest.raises(ContractError, match="has no bar that ends at issued_at"):
        fan_chart(quantiles, features[features["ticker"] == "T01"], ticker="T00")
