"""The model as an asset: trained with what was known at the end of day D, stored whole, never trained twice alike."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from tft_pipeline import schema
from tft_pipeline.config import TrainingSettings
from tft_pipeline.contracts import FEATURES, MODELS
from tft_pipeline.errors import ConfigError
from tft_pipeline.orchestration.assets.features import features_hourly
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.expected import expected_bars
from tft_pipeline.orchestration.reporting import Result, begin, covering, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.audit import reaches_to
from tft_pipeline.storage.read import read
from tft_pipeline.storage.registry import model_exists, model_metrics
from tft_pipeline.training.artifacts import to_row
from tft_pipeline.training.fit import EpochReport, fit
from tft_pipeline.training.identity import planned_model_id


class Training(dg.Config):
    """What a stranger may want to change before a training run; empty fields keep the installation's settings."""

    seed: int | None = Field(None, description="Seed of weights and of the order of windows.")
    max_epochs: int | None = Field(None, ge=1, description="Most epochs; early stopping may end sooner.")
    again: bool = Field(False, description="Train even if this very model (data, settings, seed) is already stored.")


@table_asset("training", MODELS, kinds=["pytorch"], deps=[features_hourly], pool="gpu")
def tft_model(context: dg.AssetExecutionContext, config: Training, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """A Temporal Fusion Transformer, trained with nothing later than the end of the partition's day."""
    watch, window = begin(context, pipeline)
    settings = pipeline.settings.training
    if config.max_epochs is not None:
        settings = TrainingSettings(**{**settings.model_dump(), "max_epochs": config.max_epochs})
    seed = pipeline.settings.seed if config.seed is None else config.seed
    # The day's last microsecond: midnight itself is the next day's slice.
    trained_as_of = window.moment - timedelta(microseconds=1)
    if reaches_to(pipeline.database, FEATURES, window.days[0]) is None:
        raise ConfigError(
            f"features.hourly was never made for {window.days[0]}, so what was known at its end is not known here; "
            f"run `tft-pipeline backfill --from … --to {window.days[0]}` first."
        )
    features = read(pipeline.database, FEATURES, window.before(settings.history_days), window.end)
    features = features[
        features["bar_end"] <= trained_as_of
    ]  # around the clock, a day's last bar ends with the next day
    model_id = planned_model_id(features, settings, seed=seed, trained_as_of=trained_as_of)
    if not config.again and model_exists(pipeline.database, model_id):
        context.log.info(f"{model_id} is already stored: same data, settings and seed. Nothing to train.")
        return result(
            context,
            {},
            watch,
            checks=[contract_kept(pipeline.database, [MODELS], window)],
            model_id=model_id,
            trained=False,
            **covering(_taught(features, model_metrics(pipeline.database, model_id)), pipeline.tickers),
        )
    calendar = expected_bars(pipeline, features, horizon_hours=settings.horizon_hours)

    def on_epoch(report: EpochReport) -> None:
        pipeline.progress("training", report.epoch, settings.max_epochs)
        context.log.info(
            f"epoch {report.epoch}/{settings.max_epochs}: training loss {report.training_loss:.4f}, "
            f"validation loss {report.validation_loss:.4f}"
        )

    model = fit(features, calendar, settings, seed=seed, trained_as_of=trained_as_of, on_epoch=on_epoch)
    # A day's slice keeps every model ever trained as of it: past forecasts name them.
    kept = read(pipeline.database, MODELS, window.start, window.end)
    rows = schema.concat([kept[kept["model_id"] != model.model_id], to_row(model)], MODELS)
    written = pipeline.write(context.run.run_id, {MODELS: rows}, window)
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [MODELS], window)], model_id=model.model_id, trained=True,
        **_figures(model.metrics), **covering(model.tickers, pipeline.tickers),
    )  # fmt: skip


def _taught(features: pd.DataFrame, metrics: dict[str, Any]) -> set[str]:
    """The tickers that a model learned from: all there were, but those that its fit dropped."""
    dropped: dict[str, str] = metrics["dropped_tickers"]
    return {str(ticker) for ticker in features["ticker"].unique()} - dropped.keys()


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """The plain numbers and words among the fit's metrics: what the UI can plot."""
    return {name: value for name, value in metrics.items() if isinstance(value, bool | int | float | str)}
