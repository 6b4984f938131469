"""Assets, one module a stage, in the order of the flow."""

import dagster as dg

from tft_pipeline.orchestration.assets.features import features_hourly
from tft_pipeline.orchestration.assets.forecasts import forecast_scores, forecasts
from tft_pipeline.orchestration.assets.market import bar_quality, corporate_actions, market_bars
from tft_pipeline.orchestration.assets.monitoring import model_drift
from tft_pipeline.orchestration.assets.portfolio import portfolio
from tft_pipeline.orchestration.assets.sentiment import sentiment_hourly, social_posts, ticker_mentions
from tft_pipeline.orchestration.assets.signals import trading_signals
from tft_pipeline.orchestration.assets.training import tft_model
from tft_pipeline.orchestration.assets.upkeep import partition_upkeep

HISTORY: list[dg.AssetsDefinition] = [
    corporate_actions, market_bars, bar_quality, social_posts, ticker_mentions, sentiment_hourly, features_hourly,
]  # fmt: skip
TRAINING: list[dg.AssetsDefinition] = [tft_model]
OUTCOME: list[dg.AssetsDefinition] = [forecasts, forecast_scores, trading_signals, portfolio, model_drift]
UPKEEP: list[dg.AssetsDefinition] = [partition_upkeep]
ALL: list[dg.AssetsDefinition] = [*HISTORY, *TRAINING, *OUTCOME, *UPKEEP]
