"""Forecasts and their scores as assets. Each day is forecast by the newest model that was trained before it began."""

from datetime import timedelta

import dagster as dg
import pandas as pd

from tft_pipeline.contracts import FEATURES, ISSUES, QUANTILES, SCORES
from tft_pipeline.forecasts.baselines import BASELINE_ID
from tft_pipeline.forecasts.figures import fan_chart
from tft_pipeline.forecasts.scores import score, summary
from tft_pipeline.orchestration.assets.features import features_hourly
from tft_pipeline.orchestration.assets.training import tft_model
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.issuing import issues_of
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.rebuilding import Served, encoder_days, forecasts_of
from tft_pipeline.orchestration.reporting import Result, begin, coverage, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.read import read
from tft_pipeline.storage.registry import models_by

# A window may hold bars of as many weeks as this: 512 encoder bars are 73 US sessions.
MATURING_DAYS = 14


@table_asset(
    "forecasts",
    QUANTILES,
    ISSUES,
    kinds=["pytorch"],
    # Any earlier day's model may serve a day: which one is read from training.models, level-triggered.
    deps=[features_hourly, dg.AssetDep(tft_model, partition_mapping=dg.AllPartitionMapping())],
)
def forecasts(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """P10, P50 and P90 of the return over the next hours, by the model and by the baseline that it must beat.

    What was issued is kept by hash as well, so that a past moment can be rebuilt and compared: see `tft-pipeline replay`.
    """
    watch, window = begin(context, pipeline)
    features = read(pipeline.database, FEATURES, window.before(encoder_days(pipeline)), window.end)
    serving = _serving(pipeline, window)
    models = [served.model_id for served in serving]
    forecast = forecasts_of(pipeline, features, window.start, window.end, serving)
    frame = forecast.quantiles
    issues = issues_of(pipeline, window, features, frame)
    written = pipeline.write(context.run.run_id, {QUANTILES: frame, ISSUES: issues}, window)
    picture = _picture(frame, features, models)
    if not models:
        context.log.warning(
            "no model was trained before these days: only the baseline is served, and signals will HOLD"
        )
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [QUANTILES, ISSUES], window)], picture=picture,
        models=", ".join(models) or "none", issues=len(issues),
        not_forecast=forecast.silent or None, baseline=BASELINE_ID, horizon_hours=pipeline.settings.training.horizon_hours,
        **coverage(frame, pipeline.tickers if len(frame) else ()),
    )  # fmt: skip


def _serving(pipeline: Pipeline, window: Window) -> list[Served]:
    """Who speaks when over the window: from each day on, the newest model trained before that day began."""
    trained = models_by(pipeline.database, before=window.end)  # model_id, trained_as_of; ascending
    serving: list[Served] = []
    for model_id, trained_as_of in zip(trained["model_id"], trained["trained_as_of"], strict=True):
        first_day = (trained_as_of + timedelta(microseconds=1)).ceil("D")
        start = max(pd.Timestamp(window.start), first_day)
        if start >= window.end:
            continue
        serving = [Served(s.model_id, s.start, min(s.end, start)) for s in serving if s.start < start]
        serving.append(Served(str(model_id), start, pd.Timestamp(window.end)))
    return serving


def _picture(frame: pd.DataFrame, features: pd.DataFrame, models: list[str]) -> bytes | None:
    shown = frame[frame["model_id"] == (models[-1] if models else BASELINE_ID)]
    if shown.empty:
        return None
    return fan_chart(shown, features, ticker=str(sorted(shown["ticker"].unique())[0]))


@table_asset("forecasts", SCORES, deps=[forecasts, features_hourly])
def forecast_scores(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """What became of each forecast on the day its bar closed, and the skill against the baseline."""
    watch, window = begin(context, pipeline)
    quantiles = read(pipeline.database, QUANTILES, window.before(MATURING_DAYS), window.end)
    features = read(pipeline.database, FEATURES, window.before(MATURING_DAYS), window.end)
    scored = score(quantiles, features)
    frame = scored[(scored["matured_at"] >= window.start) & (scored["matured_at"] < window.end)]
    written = pipeline.write(context.run.run_id, {SCORES: frame}, window)
    of_model = frame[frame["model_id"] != BASELINE_ID]
    figures = summary(of_model, frame[frame["model_id"] == BASELINE_ID]) if len(of_model) else {}
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [SCORES], window)],
        **figures, **coverage(frame, pipeline.tickers if len(frame) else ()),
    )  # fmt: skip
