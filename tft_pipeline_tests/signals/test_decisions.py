"""When it is BUY, SELL or HOLD, how much, and why."""

import numpy as np
import pandas as pd
import pytest

from tft_pipeline import schema
from tft_pipeline.config import SignalSettings
from tft_pipeline.contracts import DECISIONS, QUANTILES
from tft_pipeline.errors import ContractError
from tft_pipeline.signals.decisions import Edge, decide, direction_probability, summary

PROVEN = Edge(skill=0.012, baseline="baseline-ewma", n=12_345)
COSTS = 0.0005
NOON = pd.Timestamp("2026-01-05 17:00", tz="UTC").as_unit("us")


def quantiles(*bands, horizon_hours=6, model_id="m1", issued_at=NOON):
    """QUANTILES, one ticker T0, T1 … for each (p10, p50, p90)."""
    rows = [
        (model_id, f"T{i}", issued_at, horizon_hours, issued_at + pd.Timedelta(hours=horizon_hours), *band)
        for i, band in enumerate(bands)
    ]
    frame = pd.DataFrame(rows, columns=QUANTILES.names).astype(QUANTILES.empty().dtypes.to_dict())
    return schema.validate(frame, QUANTILES)


def only(frame):
    schema.validate(frame, DECISIONS)
    [row] = frame.itertuples()
    return row


def test_buys_what_is_likely_to_rise_beyond_its_costs():
    row = only(decide(quantiles((-0.006, 0.0042, 0.0142)), PROVEN, SignalSettings(), COSTS))
    assert (row.action, row.horizon_hours, row.model_id) == ("BUY", 6, "m1")
    assert row.confidence == pytest.approx(0.7012, abs=1e-4)  # Φ(0.0042 / (0.0102 / 1.28155))
    assert row.weight == 0.2
    assert row.reason == "P50 +0.42% over 6 h pays 0.05% of costs; 70% sure it rises"


def test_sells_short_what_is_likely_to_fall():
    row = only(decide(quantiles((-0.0142, -0.0042, 0.006)), PROVEN, SignalSettings(), COSTS))
    assert (row.action, row.weight) == ("SELL", -0.2)
    assert row.reason == "P50 -0.42% over 6 h pays 0.05% of costs; 70% sure it falls"


def test_without_shorts_a_sale_closes_what_is_held():
    row = only(decide(quantiles((-0.0142, -0.0042, 0.006)), PROVEN, SignalSettings(allow_short=False), COSTS))
    assert (row.action, row.weight) == ("SELL", 0.0)
    assert row.reason.endswith("short selling is off, so what is held is sold")


@pytest.mark.parametrize("skill", [0.0, -0.004, float("nan")])
def test_without_proven_skill_everything_is_held_in_cash(skill):
    found = decide(
        quantiles((0.01, 0.02, 0.03), (-0.03, -0.02, -0.01)),
        Edge(skill, "baseline-ewma", 12_345),
        SignalSettings(),
        COSTS,
    )
    schema.validate(found, DECISIONS)
    assert found["action"].tolist() == ["HOLD", "HOLD"]
    assert found["weight"].tolist() == [0.0, 0.0]
    assert found["reason"].str.startswith("no edge: validation skill").all()


def test_the_reason_for_no_edge_has_its_figures():
    row = only(decide(quantiles((0.01, 0.02, 0.03)), Edge(-0.004, "baseline-ewma", 12_345), SignalSettings(), COSTS))
    assert row.reason == "no edge: validation skill -0.40% against baseline-ewma over 12,345 windows"


def test_a_baseline_alone_claims_no_direction():
    bands = quantiles((-0.01, 0.0, 0.01), model_id="baseline-ewma")
    row = only(decide(bands, Edge(0.0, "baseline-ewma", 0), SignalSettings(), COSTS))
    assert (row.action, row.weight, row.confidence) == ("HOLD", 0.0, 0.5)
    assert (
        row.reason
        == "no model has been trained on what was known by then: only baseline-ewma speaks, and it claims no direction"
    )


def test_what_does_not_pay_its_costs_is_not_traded():
    row = only(decide(quantiles((-0.0001, 0.0004, 0.0009)), PROVEN, SignalSettings(), COSTS))
    assert (row.action, row.weight) == ("HOLD", 0.0)
    assert row.reason == "P50 +0.04% over 6 h does not pay 0.05% of costs"


def test_an_unsure_direction_is_not_traded():
    row = only(decide(quantiles((-0.03, 0.001, 0.03)), PROVEN, SignalSettings(), COSTS))
    assert (row.action, row.weight) == ("HOLD", 0.0)
    assert row.reason == "P50 +0.10% over 6 h, but only 51.6% sure it rises; 55.0% are asked for"


def test_the_weight_is_net_return_over_risk_up_to_its_maximum():
    bands = quantiles((-0.01, 0.0015, 0.01), (-0.01, 0.002, 0.01), (-0.01, 0.009, 0.01))
    found = decide(bands, PROVEN, SignalSettings(), COSTS)
    assert found["weight"].tolist() == pytest.approx([0.2 * 0.1 / 0.25, 0.2 * 0.15 / 0.25, 0.2])


def test_a_band_without_width_is_sure_and_finite():
    row = only(decide(quantiles((0.01, 0.01, 0.01)), PROVEN, SignalSettings(), COSTS))
    assert (row.action, row.confidence, row.weight) == ("BUY", 1.0, 0.2)


def test_the_longest_horizon_decides_unless_another_is_chosen():
    both = pd.concat(
        [quantiles((0.01, 0.02, 0.03), horizon_hours=1), quantiles((-0.03, -0.02, -0.01), horizon_hours=6)]
    )
    assert only(decide(both, PROVEN, SignalSettings(), COSTS)).action == "SELL"
    assert only(decide(both, PROVEN, SignalSettings(decision_horizon_hours=1), COSTS)).action == "BUY"


def test_a_horizon_that_nobody_forecasts_is_refused():
    with pytest.raises(
        ContractError, match=r"nothing is forecast 12 hours ahead, only \[6\]\. Set TFT_SIGNALS_DECISION_HORIZON_HOURS"
    ):
        decide(quantiles((0.01, 0.02, 0.03)), PROVEN, SignalSettings(decision_horizon_hours=12), COSTS)


def test_two_models_at_once_are_refused():
    both = pd.concat([quantiles((0.01, 0.02, 0.03)), quantiles((0.01, 0.02, 0.03), model_id="m2")])
    with pytest.raises(ContractError, match=r"\['m1', 'm2'\] at once"):
        decide(both, PROVEN, SignalSettings(), COSTS)


def test_no_forecasts_give_no_decisions():
    found = decide(QUANTILES.empty(), PROVEN, SignalSettings(), COSTS)
    schema.validate(found, DECISIONS)
    assert found.empty


def test_a_decision_depends_on_nothing_but_its_own_forecast():
    bands = [(-0.01 - i / 1_000, i / 1_000 - 0.005, 0.01 + i / 1_000) for i in range(10)]
    whole = decide(quantiles(*bands), PROVEN, SignalSettings(), COSTS)
    part = decide(quantiles(*bands[:4]), PROVEN, SignalSettings(), COSTS)
    pd.testing.assert_frame_equal(whole.head(4), part)


@pytest.mark.parametrize(
    ("band", "expected"),
    [
        ((-1.2815515655446004, 0.0, 1.2815515655446004), 0.5),
        ((-0.2815515655446004, 1.0, 2.2815515655446004), 0.8413447),  # symmetric, so a normal distribution: Φ(1)
        ((-2.2815515655446004, -1.0, 0.2815515655446004), 0.8413447),
        ((0.0, 1.0, 2.0), 0.9),  # zero is the 10th percentile itself
        ((-9.0, -1.0, 0.0), 0.9),  # and here the 90th, however wide the other half
        ((1.0, 1.0, 4.0), 1.0),
    ],
)
def test_the_probability_of_the_direction_against_values_by_hand(band, expected):
    found = direction_probability(*(np.array([value]) for value in band))
    assert found.tolist() == pytest.approx([expected], abs=1e-7)


def test_confidence_is_the_share_of_draws_on_the_median_s_side():
    random = np.random.default_rng(0)
    p10, p50, p90 = -0.02, 0.004, 0.01
    left = random.random(400_000) < 0.5
    half = np.abs(random.normal(size=left.size)) / 1.2815515655446004
    draws = np.where(left, p50 - half * (p50 - p10), p50 + half * (p90 - p50))
    found = direction_probability(np.array([p10]), np.array([p50]), np.array([p90]))
    assert found[0] == pytest.approx((draws > 0).mean(), abs=0.003)
    assert np.quantile(draws, [0.1, 0.5, 0.9]) == pytest.approx([p10, p50, p90], abs=2e-4)


def test_the_summary_counts_the_newest_moment():
    older = quantiles((0.01, 0.02, 0.03), issued_at=NOON - pd.Timedelta(hours=1))
    newest = quantiles((0.01, 0.02, 0.03), (0.01, 0.02, 0.03), (-0.03, -0.02, -0.01), (-0.01, 0.0, 0.01))
    assert summary(decide(pd.concat([older, newest]), PROVEN, SignalSettings(), COSTS)) == {
        "BUY": 2,
        "SELL": 1,
        "HOLD": 1,
    }
    assert summary(DECISIONS.empty()) == {"BUY": 0, "SELL": 0, "HOLD": 0}
