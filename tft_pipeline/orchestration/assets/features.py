"""The feature matrix as an asset. Each feature's formula lives in `features`, what it is made from in `rebuilding`."""

import dagster as dg

from tft_pipeline.contracts import BARS, FEATURES, HOURLY_SENTIMENT, KNOWN_FEATURES, OBSERVED_FEATURES
from tft_pipeline.features.matrix import WARMUP_DAYS
from tft_pipeline.orchestration.admitting import admit_ready
from tft_pipeline.orchestration.assets.market import bar_quality, corporate_actions, market_bars
from tft_pipeline.orchestration.assets.sentiment import sentiment_hourly
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.rebuilding import features_of
from tft_pipeline.orchestration.reporting import Result, begin, coverage, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.read import read


@table_asset("features", FEATURES, deps=[market_bars, corporate_actions, bar_quality, sentiment_hourly])
def features_hourly(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """What was known about each ticker at the end of each bar: returns, volatility, trend, volume, market, mood, calendar.

    A correction changes the features from the day on which it became known, not those before it.
    """
    watch, window = begin(context, pipeline)
    mood = read(pipeline.database, HOURLY_SENTIMENT, window.before(WARMUP_DAYS), window.end)
    frame = features_of(pipeline, window, mood)
    written = pipeline.write(context.run.run_id, {FEATURES: frame}, window)
    admitted = admit_ready(pipeline)
    in_window = len(read(pipeline.database, BARS, window.start, window.end, columns=["ticker"]))
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [FEATURES], window)],
        observed_features=len(OBSERVED_FEATURES), known_features=len(KNOWN_FEATURES), bars_left_out=in_window - len(frame),
        new_members=", ".join(admitted) or None,
        **coverage(frame, pipeline.tickers if in_window else ()),
    )  # fmt: skip
