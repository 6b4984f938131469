"""Scores against figures worked out by hand."""

import pandas as pd
import pytest

from tft_pipeline import contracts, schema
from tft_pipeline.forecasts.scores import score, summary
from tft_pipeline_tests.training.examples import calendar_of, features_of


def market() -> tuple[pd.DataFrame, pd.DataFrame]:
    """One ticker, four bars held of five: the index runs 0, 0.01, 0.03, -0.02."""
    calendar = calendar_of(5)
    features = features_of(calendar.iloc[:4], tickers=1)
    features["log_price"] = [0.0, 0.01, 0.03, -0.02]
    return features, calendar


def forecast(
    calendar: pd.DataFrame, at: int, horizon: int, band: tuple[float, float, float], model_id: str = "m"
) -> pd.DataFrame:
    row = {
        "model_id": model_id, "ticker": "T00", "issued_at": calendar["bar_end"].iloc[at], "horizon_hours": horizon,
        "target_at": calendar["bar_end"].iloc[at + horizon], "p10": float(band[0]), "p50": float(band[1]), "p90": float(band[2]),
    }  # fmt: skip
    return schema.validate(pd.DataFrame([row]).astype({"model_id": "str", "ticker": "str"}), contracts.QUANTILES)


def test_a_matured_forecast_by_hand() -> None:
    features, calendar = market()
    rows = score(forecast(calendar, 1, 1, (-0.01, 0.005, 0.015)), features)
    schema.validate(rows, contracts.SCORES)
    only = rows.iloc[0]
    assert only["actual"] == pytest.approx(0.02)  # 0.03 - 0.01
    assert only["error"] == pytest.approx(-0.015)  # p50 - actual
    # 0.1 * 0.03, 0.5 * 0.015, 0.9 * 0.005: the mean of three
    assert only["pinball"] == pytest.approx((0.003 + 0.0075 + 0.0045) / 3)
    assert not only["covered"]
    assert only["matured_at"] == calendar["bar_end"].iloc[2]


def test_a_return_below_the_band_costs_nine_tenths_on_p10() -> None:
    features, calendar = market()
    only = score(forecast(calendar, 0, 3, (-0.01, 0.0, 0.01)), features).iloc[0]  # actual -0.02
    assert only["pinball"] == pytest.approx((0.9 * 0.01 + 0.5 * 0.02 + 0.1 * 0.03) / 3)
    assert not only["covered"]


def test_a_return_on_the_edge_is_covered() -> None:
    features, calendar = market()
    assert score(forecast(calendar, 0, 1, (0.01, 0.01, 0.01)), features)["covered"].tolist() == [True]


def test_a_forecast_whose_bar_has_not_closed_waits() -> None:
    features, calendar = market()
    waiting = pd.concat([forecast(calendar, 3, 1, (-1, 0, 1)), forecast(calendar, 2, 1, (-1, 0, 1))])
    assert score(waiting, features)["issued_at"].tolist() == [calendar["bar_end"].iloc[2]]


def test_a_forecast_whose_origin_is_gone_has_no_score() -> None:
    features, calendar = market()
    assert score(forecast(calendar, 0, 2, (-1, 0, 1)), features.iloc[1:]).empty


def test_skill_compares_the_forecasts_that_both_made() -> None:
    features, calendar = market()
    of_model = score(
        pd.concat(
            [
                forecast(calendar, 0, 1, (0.0, 0.01, 0.02)),
                forecast(calendar, 1, 1, (0.0, 0.02, 0.04)),
                forecast(calendar, 0, 3, (-9, 0, 9)),  # the baseline never made this one
            ]
        ),
        features,
    )
    baseline = score(pd.concat([forecast(calendar, at, 1, (-0.02, 0.0, 0.02), "b") for at in (0, 1, 2)]), features)
    figures = summary(of_model, baseline)
    # model: (0.1*0.01 + 0 + 0.1*0.01)/3, (0.1*0.02 + 0 + 0.1*0.02)/3
    assert figures["pinball"] == pytest.approx((0.002 + 0.004) / 6)
    # baseline: actual 0.01: (0.1*0.03 + 0.5*0.01 + 0.1*0.01)/3; actual 0.02: (0.1*0.04 + 0.5*0.02 + 0)/3
    assert figures["baseline_pinball"] == pytest.approx((0.009 + 0.014) / 6)
    assert figures["skill"] == pytest.approx(1 - 0.006 / 0.023)
    assert figures["coverage_80"] == 1.0
    assert figures["n"] == 2


def test_nothing_to_score_is_no_error() -> None:
    features, calendar = market()
    empty = score(contracts.QUANTILES.empty(), features)
    schema.validate(empty, contracts.SCORES)
    assert score(forecast(calendar, 0, 1, (-1, 0, 1)), contracts.FEATURES.empty()).empty
    nothing = {"pinball": None, "baseline_pinball": None, "skill": None, "coverage_80": None, "n": 0}
    assert summary(empty, empty) == nothing
    scored = score(forecast(calendar, 0, 1, (-1, 0, 1)), features)
    assert summary(scored, empty) == summary(empty, scored) == nothing


def test_a_perfect_baseline_has_no_skill_to_compare_with() -> None:
    features, calendar = market()
    perfect = score(forecast(calendar, 0, 1, (0.01, 0.01, 0.01)), features)
    assert summary(perfect, perfect)["skill"] is None
