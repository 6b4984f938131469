"""The feature matrix as an asset. Each feature's formula lives in `features`."""

from datetime import timedelta

import dagster as dg
import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, HOURLY_SENTIMENT, KNOWN_FEATURES, OBSERVED_FEATURES
from tft_pipeline.features.matrix import WARMUP_DAYS, feature_matrix
from tft_pipeline.market.actions import dividend_on, split_factor
from tft_pipeline.market.sessions import infer_phase
from tft_pipeline.orchestration.assets.market import bar_quality, corporate_actions, market_bars
from tft_pipeline.orchestration.assets.sentiment import sentiment_hourly
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.pieces import pieces
from tft_pipeline.orchestration.reporting import Result, begin, coverage, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.read import read


@table_asset("features", FEATURES, deps=[market_bars, corporate_actions, bar_quality, sentiment_hourly])
def features_hourly(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """What was known about each ticker at the end of each bar: returns, volatility, trend, volume, market, mood, calendar.

    A correction changes the features from the day on which it became known, not those before it.
    """
    watch, window = begin(context, pipeline)
    parts = pieces(pipeline, window, [BARS, ACTIONS], since=window.before(WARMUP_DAYS))
    frame = schema.concat([features_of(pipeline, piece) for piece in parts], FEATURES)
    written = pipeline.write(context.run.run_id, {FEATURES: frame}, window)
    in_window = len(read(pipeline.database, BARS, window.start, window.end, columns=["ticker"]))
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [FEATURES], window)],
        observed_features=len(OBSERVED_FEATURES), known_features=len(KNOWN_FEATURES), bars_left_out=in_window - len(frame),
        **coverage(frame, pipeline.tickers if in_window else ()),
    )  # fmt: skip


def features_of(pipeline: Pipeline, window: Window) -> pd.DataFrame:
    """FEATURES of the window, from raw tables as of its `known`."""
    warm = window.before(WARMUP_DAYS)
    bars = read(pipeline.database, BARS, warm, window.end, as_of=window.known)
    mood = read(pipeline.database, HOURLY_SENTIMENT, warm, window.end)
    actions = read(pipeline.database, ACTIONS, as_of=window.known)
    bars = bars.assign(split_factor=split_factor(bars, actions), dividend=dividend_on(bars, actions))
    # From a fortnight before, so that the first bar knows when the one before it was expected to end.
    grid = pipeline.calendar.bar_grid(
        (warm - timedelta(days=14)).date(), window.end.date(), phase_minutes=infer_phase(bars)
    )
    matrix = feature_matrix(bars, mood, grid)
    inside: pd.DataFrame = matrix[(matrix["bar_start"] >= window.start) & (matrix["bar_start"] < window.end)]
    return inside
