"""The forecast of now: the newest features through the newest model, with the decision they lead to."""

from datetime import timedelta
from typing import Any

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import DECISIONS, FEATURES, QUANTILES
from tft_pipeline.errors import ConfigError, PipelineError
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.resources import Pipeline, Progress
from tft_pipeline.orchestration.settling import settle
from tft_pipeline.storage.ledger import newest
from tft_pipeline.storage.opening import open_database
from tft_pipeline.storage.read import read
from tft_pipeline.storage.roles import reading


def newest_forecasts(settings: Settings, *, ticker: str | None, progress: Progress) -> dict[str, Any]:
    """Run `outcome` for the newest day that has features, and report its last bar's quantiles and decisions.

    Raises PipelineError where there are no features yet, ConfigError for a ticker that has no forecast.
    """
    settings = settle(settings)
    with open_database(settings) as database:
        reader = reading(database)
        day = newest(reader, FEATURES)
        if day is None:
            raise PipelineError(
                "features.hourly is empty: run `tft-pipeline demo` or `tft-pipeline backfill --from … --to …` first."
            )
        with launch.recorded_in(settings, database.dsn) as instance:
            pipeline = Pipeline(settings, database=database, progress=progress)
            launch.run(build(settings, pipeline), "outcome", instance, day.date(), day.date())
        start = config.day_start(day.date())
        decisions = read(reader, DECISIONS, start, start + timedelta(days=1))
        quantiles = read(reader, QUANTILES, start, start + timedelta(days=1))
    last = decisions[decisions["issued_at"] == decisions["issued_at"].max()]
    if ticker is not None:
        if ticker not in set(last["ticker"]):
            raise ConfigError(
                f"no forecast for {ticker!r}; there are forecasts for {', '.join(sorted(last['ticker']))}."
            )
        last = last[last["ticker"] == ticker]
    forecasts = []
    for row in last.itertuples():
        of_ticker = (
            quantiles["ticker"].eq(row.ticker)
            & quantiles["issued_at"].eq(row.issued_at)
            & quantiles["model_id"].eq(row.model_id)
        )
        steps = quantiles[of_ticker].sort_values("horizon_hours")
        forecasts.append(
            {
                "ticker": row.ticker, "issued_at": row.issued_at.isoformat(), "model_id": row.model_id, "action": row.action,
                "weight": row.weight, "confidence": row.confidence, "reason": row.reason,
                "quantiles": steps[["horizon_hours", "target_at", "p10", "p50", "p90"]].to_dict("records"),
            }
        )  # fmt: skip
    return {"simulated": settings.simulated, "forecasts": forecasts}
