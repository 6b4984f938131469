"""When drift asks for a new model, and when it has asked often enough."""

from datetime import timedelta

import pandas as pd
import pytest

from tft_pipeline import schema
from tft_pipeline.config import MonitoringSettings
from tft_pipeline.contracts import DRIFT
from tft_pipeline.monitoring.drift import drift
from tft_pipeline.monitoring.policy import retrain_request
from tft_pipeline_tests.monitoring.worlds import features, scores, split

DAY = pd.Timestamp("2026-02-27", tz="UTC").as_unit("us")
NOW = DAY + pd.Timedelta(hours=22)
TRAINED = DAY - pd.Timedelta(days=40)
SETTINGS = MonitoringSettings()


def rows(drifted_features=0, of=10, coverage=False, skill=False):
    made = [
        (f"f{i}", DAY, "m1", 1.0 if i < drifted_features else 0.1, 0.5, i < drifted_features, 1000, 100)
        for i in range(of)
    ]
    made += [
        (name, DAY, "m1", 0.09 if on else 0.01, 0.08, on, 0, 500)
        for name, on in (("coverage", coverage), ("skill", skill))
    ]
    frame = pd.DataFrame(made, columns=DRIFT.names).astype(DRIFT.empty().dtypes.to_dict())
    return schema.validate(frame, DRIFT)


def asked(frame, *, trained=TRAINED, requested=None, attempts=0, now=NOW):
    return retrain_request(
        frame, last_trained_as_of=trained, last_requested_at=requested, attempts=attempts, now=now, settings=SETTINGS
    )


def test_enough_drifted_features_ask_for_retraining():
    request = asked(rows(3))
    assert request.wanted
    assert request.reason == "3 of 10 features drifted by 2026-02-27"
    assert request.run_key == "drift-20260227-attempt-1"


def test_fewer_do_not_and_the_reason_says_how_many_would():
    request = asked(rows(2))
    assert (request.wanted, request.run_key) == (False, None)
    assert request.reason == "2 of 10 features drifted by 2026-02-27; retraining is asked for from 30% on"


@pytest.mark.parametrize("subject", ["coverage", "skill"])
def test_the_forecasts_own_drift_is_enough(subject):
    request = asked(rows(**{subject: True}))
    assert request.wanted
    assert request.reason == f"0 of 10 features drifted by 2026-02-27, {subject} 0.090 > 0.080"


def test_nothing_judged_asks_for_nothing():
    request = asked(DRIFT.empty())
    assert not request.wanted
    assert request.reason.startswith("nothing was judged yet")


def test_drift_of_the_model_before_asks_for_nothing():
    request = asked(rows(10), trained=DAY + pd.Timedelta(days=1) - pd.Timedelta(microseconds=1))
    assert not request.wanted
    assert "the drift of 2026-02-27 is of the one before" in request.reason
    assert asked(rows(10), trained=DAY - pd.Timedelta(microseconds=1)).wanted
    assert asked(rows(10), trained=None).wanted


def test_asks_again_after_the_cool_down_and_with_another_key():
    quiet = asked(rows(10), requested=NOW - timedelta(hours=20), attempts=1)
    assert not quiet.wanted
    assert quiet.reason.endswith(
        "retraining was asked for 2026-02-27 02:00 UTC (attempt 1, no model yet); again in 4.0 h"
    )
    again = asked(rows(10), requested=NOW - timedelta(hours=24), attempts=1)
    assert again.run_key == "drift-20260227-attempt-2"


@pytest.mark.parametrize(("attempts", "hours"), [(1, 24), (2, 48), (3, 96), (4, 168), (50, 168)])
def test_what_fails_again_and_again_is_asked_for_ever_more_rarely(attempts, hours):
    assert not asked(rows(10), requested=NOW - timedelta(hours=hours - 1), attempts=attempts).wanted
    assert asked(rows(10), requested=NOW - timedelta(hours=hours), attempts=attempts).wanted


def test_a_cool_down_beyond_a_week_is_kept():
    month = SETTINGS.model_copy(update={"cooldown_hours": 720})
    early = retrain_request(
        rows(10),
        last_trained_as_of=None,
        last_requested_at=NOW - timedelta(hours=700),
        attempts=3,
        now=NOW,
        settings=month,
    )
    assert not early.wanted


def test_a_regime_of_three_times_the_variance_asks_and_a_quiet_month_does_not():
    for change, wanted in ((260, True), (None, False)):
        reference, recent = split(features(4, 281, change_day=change), 260, 21)
        found = drift(reference, recent, scores(0, 21), model_id="model", baseline_id="baseline", day_start=DAY)
        assert asked(found).wanted is wanted
