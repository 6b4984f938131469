"""Drift as an asset: do recent bars and forecasts still look like those the model learned from?"""

from datetime import timedelta

import dagster as dg
import pandas as pd

from tft_pipeline.contracts import DRIFT, FEATURES, SCORES
from tft_pipeline.forecasts.baselines import BASELINE_ID
from tft_pipeline.monitoring.drift import drift
from tft_pipeline.orchestration.assets.features import features_hourly
from tft_pipeline.orchestration.assets.forecasts import forecast_scores
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.reporting import Result, begin, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.read import read
from tft_pipeline.storage.registry import models_by


@table_asset("monitoring", DRIFT, deps=[features_hourly, forecast_scores])
def model_drift(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """How far recent features, coverage and skill have moved from what the serving model was trained on.

    A run over many days judges the newest of them: drift is about now, and the sensor reads the newest day only.
    """
    watch, window = begin(context, pipeline)
    settings = pipeline.settings
    models = models_by(pipeline.database, before=window.end)
    frame, reason = DRIFT.empty(), "no model has been trained yet: there is nothing to drift from"
    if len(models):
        newest = models.iloc[-1]
        recent_from = window.end - timedelta(days=settings.monitoring.recent_days)
        reference = read(
            pipeline.database,
            FEATURES,
            newest.trained_as_of - timedelta(days=settings.training.history_days),
            newest.trained_as_of,
        )
        recent = read(pipeline.database, FEATURES, max(recent_from, newest.trained_as_of), window.end)
        scores = read(pipeline.database, SCORES, recent_from, window.end)
        day_start = pd.Timestamp(window.end) - pd.Timedelta(days=1)
        frame = drift(reference, recent, scores, model_id=newest.model_id, baseline_id=BASELINE_ID, day_start=day_start)
        drifted = frame.loc[frame["drifted"], "subject"]
        reason = f"{len(drifted)} of {len(frame)} subjects drifted" + (
            f": {', '.join(drifted.head(10))}" if len(drifted) else ""
        )
    written = pipeline.write(context.run_id, {DRIFT: frame}, window)
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [DRIFT], window)], reason=reason,
        drifted=int(frame["drifted"].sum()), subjects=len(frame),
    )  # fmt: skip
