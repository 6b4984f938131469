import numpy as np
import pandas as pd
import pytest

from tft_pipeline import contracts, schema
from tft_pipeline.forecasts.baselines import BASELINE_ID, naive
from tft_pipeline_tests.training.examples import calendar_of, features_of


def test_is_the_last_value_with_a_band_of_recent_volatility() -> None:
    calendar = calendar_of(12)
    features = features_of(calendar.iloc[:8], tickers=2)
    features["volatility_ewma"] = 0.01
    features.loc[features["ticker"] == "T01", "volatility_ewma"] = 0.02
    start, end = calendar["bar_end"].iloc[0], calendar["bar_end"].iloc[8]
    rows = naive(features, calendar, 4, start=start, end=end)
    schema.validate(rows, contracts.QUANTILES)
    assert len(rows) == 2 * 8 * 4
    assert set(rows["model_id"]) == {BASELINE_ID}
    assert (rows["p50"] == 0).all()
    first = rows[(rows["ticker"] == "T01") & (rows["issued_at"] == start)]
    assert first["p90"].tolist() == pytest.approx([0.02 * 1.2815516 * np.sqrt(h) for h in (1, 2, 3, 4)])
    assert first["p10"].tolist() == pytest.approx((-first["p90"]).tolist())


def test_is_unchanged_by_anything_after_its_bar() -> None:
    calendar = calendar_of(40)
    features = features_of(calendar.iloc[:35], tickers=2)
    cut = calendar["bar_end"].iloc[20]
    crashed = features.copy()
    crashed.loc[crashed["bar_end"] > cut, ["volatility_ewma", "log_price"]] *= 5
    asked = {"start": calendar["bar_end"].iloc[0], "end": cut + pd.Timedelta(hours=1)}
    pd.testing.assert_frame_equal(
        naive(features, calendar, 3, **asked).query("issued_at <= @cut"),
        naive(crashed, calendar, 3, **asked).query("issued_at <= @cut"),
    )


def test_nothing_in_gives_nothing_out() -> None:
    moment = pd.Timestamp("2024-01-01", tz="UTC")
    rows = naive(contracts.FEATURES.empty(), pd.DataFrame(), 3, start=moment, end=moment)
    assert schema.validate(rows, contracts.QUANTILES).empty
