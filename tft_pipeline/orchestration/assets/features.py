"""The feature matrix as an asset. Each feature's formula lives in `features`."""

import dagster as dg

from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, HOURLY_SENTIMENT, KNOWN_FEATURES, OBSERVED_FEATURES
from tft_pipeline.features.matrix import WARMUP_DAYS, feature_matrix
from tft_pipeline.orchestration.assets.market import bar_quality, corporate_actions, market_bars
from tft_pipeline.orchestration.assets.sentiment import sentiment_hourly
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.reporting import about, begin, contract_check, coverage, result
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.read import read


@dg.asset(
    **about("features", FEATURES),
    deps=[market_bars, corporate_actions, bar_quality, sentiment_hourly],
    check_specs=contract_check("features_hourly"),
)
def features_hourly(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
    """What was known about each ticker at the end of each bar: returns, volatility, trend, volume, market, mood, calendar."""
    watch, window = begin(context, pipeline)
    warm = window.before(WARMUP_DAYS)
    bars = read(pipeline.database, BARS, warm, window.end, as_of=window.moment)
    mood = read(pipeline.database, HOURLY_SENTIMENT, warm, window.end)
    actions = read(pipeline.database, ACTIONS, as_of=window.moment)
    matrix = feature_matrix(bars, actions, mood, pipeline.calendar.sessions(warm.date(), window.end.date()))
    frame = matrix[(matrix["bar_start"] >= window.start) & (matrix["bar_start"] < window.end)]
    written = pipeline.write(context.run_id, {FEATURES: frame}, window)
    in_window = int(((bars["bar_start"] >= window.start) & (bars["bar_start"] < window.end)).sum())
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [FEATURES], window)],
        observed_features=len(OBSERVED_FEATURES), known_features=len(KNOWN_FEATURES), bars_without_history=in_window - len(frame),
        **coverage(frame, pipeline.tickers if in_window else ()),
    )  # fmt: skip
