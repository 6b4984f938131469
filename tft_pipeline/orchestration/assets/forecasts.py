"""Forecasts and their scores as assets. Each day is forecast by the newest model that was trained before it began."""

from datetime import timedelta

import dagster as dg
import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import FEATURES, QUANTILES, SCORES
from tft_pipeline.forecasts.baselines import BASELINE_ID, naive
from tft_pipeline.forecasts.figures import fan_chart
from tft_pipeline.forecasts.predict import not_forecast, predict
from tft_pipeline.forecasts.scores import score, summary
from tft_pipeline.orchestration.assets.features import features_hourly
from tft_pipeline.orchestration.assets.training import tft_model
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.expected import expected_bars
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.reporting import Result, begin, coverage, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.models import load_artifact
from tft_pipeline.storage.read import read
from tft_pipeline.storage.registry import models_by
from tft_pipeline.training.artifacts import load

# A window may hold bars of as many weeks as this: 512 encoder bars are 73 US sessions.
MATURING_DAYS = 14


@table_asset(
    "forecasts",
    QUANTILES,
    kinds=["pytorch"],
    # Any earlier day's model may serve a day: which one is read from training.models, level-triggered.
    deps=[features_hourly, dg.AssetDep(tft_model, partition_mapping=dg.AllPartitionMapping())],
)
def forecasts(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """P10, P50 and P90 of the return over the next hours, by the model and by the baseline that it must beat."""
    watch, window = begin(context, pipeline)
    horizon = pipeline.settings.training.horizon_hours
    encoder_days = 10 + 2 * pipeline.settings.training.encoder_bars  # calendar days that surely hold the encoder's bars
    features = read(pipeline.database, FEATURES, window.before(encoder_days), window.end)
    calendar = expected_bars(pipeline, features, horizon_hours=horizon)
    parts = [naive(features, calendar, horizon, start=window.start, end=window.end)]
    models: list[str] = []
    silent: dict[str, str] = {}  # tickers without a forecast, and why
    for model_id, start, end in _serving(pipeline, window):
        model = load(load_artifact(pipeline.database, model_id))
        models.append(model_id)
        parts.append(predict(model, features, calendar, start=start, end=end))
        silent |= not_forecast(model, features, calendar, start=start, end=end)
        pipeline.progress("forecasting", len(models), len(models))
    frame = schema.concat(parts, QUANTILES)
    written = pipeline.write(context.run.run_id, {QUANTILES: frame}, window)
    picture = _picture(frame, features, models)
    if not models:
        context.log.warning(
            "no model was trained before these days: only the baseline is served, and signals will HOLD"
        )
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [QUANTILES], window)], picture=picture,
        models=", ".join(models) or "none",
        not_forecast=silent or None, baseline=BASELINE_ID, horizon_hours=horizon,
        **coverage(frame, pipeline.tickers if len(frame) else ()),
    )  # fmt: skip


def _serving(pipeline: Pipeline, window: Window) -> list[tuple[str, pd.Timestamp, pd.Timestamp]]:
    """(model_id, from, until) over the window: from each day on, the newest model trained before that day began."""
    trained = models_by(pipeline.database, before=window.end)  # model_id, trained_as_of; ascending
    serving: list[tuple[str, pd.Timestamp, pd.Timestamp]] = []
    for model_id, trained_as_of in zip(trained["model_id"], trained["trained_as_of"], strict=True):
        first_day = (trained_as_of + timedelta(microseconds=1)).ceil("D")
        start = max(pd.Timestamp(window.start), first_day)
        if start >= window.end:
            continue
        serving = [(m, s, min(e, start)) for m, s, e in serving if s < start]
        serving.append((str(model_id), start, pd.Timestamp(window.end)))
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
