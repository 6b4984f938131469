"""Drift as an asset: do recent bars and forecasts still look like those the model learned from?"""

from datetime import timedelta

import dagster as dg
import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import DRIFT, FEATURES, SCORES
from tft_pipeline.forecasts.baselines import BASELINE_ID
from tft_pipeline.monitoring.drift import drift
from tft_pipeline.orchestration.assets.features import features_hourly
from tft_pipeline.orchestration.assets.forecasts import forecast_scores
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.reporting import Result, begin, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.read import read
from tft_pipeline.storage.registry import models_by


@table_asset("monitoring", DRIFT, deps=[features_hourly, forecast_scores])
def model_drift(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """How far recent features, coverage and skill have moved from what the serving model was trained on.

    Each day is judged by what was there at its end, so a day alone and a range give the same rows.
    """
    watch, window = begin(context, pipeline)
    frame = _of_days(pipeline, window)
    newest = frame[frame["day_start"] == frame["day_start"].max()]
    drifted = newest.loc[newest["drifted"], "subject"]
    reason = "no model has been trained yet, or too little has happened since: there is nothing to drift from"
    if len(newest):
        reason = f"{len(drifted)} of {len(newest)} subjects drifted" + (
            f": {', '.join(drifted.head(10))}" if len(drifted) else ""
        )
    written = pipeline.write(context.run.run_id, {DRIFT: frame}, window)
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [DRIFT], window)], reason=reason,
        drifted=int(frame["drifted"].sum()), subjects=len(frame), ticker_coverage="drift is judged over the bars of all tickers together",
    )  # fmt: skip


def _of_days(pipeline: Pipeline, window: Window) -> pd.DataFrame:
    """DRIFT of each day that has bars, against what the newest model of its end was trained on."""
    recent_days, database = timedelta(days=pipeline.settings.monitoring.recent_days), pipeline.database
    models = models_by(database, before=window.end)
    if models.empty:
        return DRIFT.empty()
    members = pipeline.membership  # who came later changes nothing of a day before
    features = members.speaking(read(database, FEATURES, window.start - recent_days, window.end), "bar_end")
    scores = read(database, SCORES, window.start - recent_days, window.end)
    references: dict[str, pd.DataFrame] = {}
    parts = []
    for day in sorted(features.loc[features["bar_start"] >= window.start, "bar_start"].dt.floor("D").unique()):
        end = day + timedelta(days=1)
        serving = models[models["trained_as_of"] < end]
        if serving.empty:
            continue
        model = serving.iloc[-1]
        if model.model_id not in references:
            learned_from = model.trained_as_of - timedelta(days=pipeline.settings.training.history_days)
            learned = read(database, FEATURES, learned_from, model.trained_as_of)
            references[model.model_id] = members.speaking(learned, "bar_end")
        since = max(end - recent_days, model.trained_as_of)
        parts.append(
            drift(
                references[model.model_id],
                features[(features["bar_start"] >= since) & (features["bar_start"] < end)],
                scores[(scores[SCORES.time] >= end - recent_days) & (scores[SCORES.time] < end)],
                model_id=model.model_id,
                baseline_id=BASELINE_ID,
                day_start=day,
            )
        )
    return schema.concat(parts, DRIFT)
