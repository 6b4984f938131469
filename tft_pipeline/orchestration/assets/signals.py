"""Decisions as an asset. How quantiles become an action lives in `signals`."""

import dagster as dg
import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import DECISIONS, QUANTILES
from tft_pipeline.forecasts.baselines import BASELINE_ID
from tft_pipeline.orchestration.assets.forecasts import forecasts
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.reporting import Result, begin, coverage, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.portfolio.costs import round_trip_log_return
from tft_pipeline.signals.decisions import Edge, decide
from tft_pipeline.storage.read import read
from tft_pipeline.storage.registry import model_metrics


@table_asset("signals", DECISIONS, deps=[forecasts])
def trading_signals(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """BUY, SELL or HOLD for each ticker at the end of each bar, with confidence, target weight and reason."""
    watch, window = begin(context, pipeline)
    quantiles = read(pipeline.database, QUANTILES, window.start, window.end)
    costs = round_trip_log_return(pipeline.settings.portfolio)
    by_model = quantiles[quantiles["model_id"] != BASELINE_ID]
    # Where no model spoke, the baseline's band stands, and it claims no direction.
    covered = pd.MultiIndex.from_frame(by_model[["ticker", "issued_at"]])
    alone = quantiles[~pd.MultiIndex.from_frame(quantiles[["ticker", "issued_at"]]).isin(covered)]
    parts = []
    for model_id, of_model in pd.concat([by_model, alone]).groupby("model_id"):
        parts.append(decide(of_model, _edge(pipeline, str(model_id)), pipeline.settings.signals, costs))
    frame = schema.concat(parts, DECISIONS)
    written = pipeline.write(context.run.run_id, {DECISIONS: frame}, window)
    actions = frame["action"].value_counts()
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [DECISIONS], window)],
        buy=int(actions.get("BUY", 0)), sell=int(actions.get("SELL", 0)), hold=int(actions.get("HOLD", 0)),
        newest=dg.MetadataValue.md(_newest(frame)), **coverage(frame, pipeline.tickers if len(frame) else ()),
    )  # fmt: skip


def _edge(pipeline: Pipeline, model_id: str) -> Edge:
    """What the model proved on its validation windows; a baseline proves nothing over itself."""
    if model_id == BASELINE_ID:
        return Edge(skill=0.0, baseline=BASELINE_ID, n=0)
    metrics = model_metrics(pipeline.database, model_id)
    return Edge(skill=metrics["validation_skill"], baseline=BASELINE_ID, n=metrics["validation_windows"])


def _newest(frame: pd.DataFrame) -> str:
    """The last bar's decisions as a table."""
    rows = frame[frame["issued_at"] == frame["issued_at"].max()]
    lines = [
        f"| {r.ticker} | {r.action} | {r.weight:+.1%} | {r.confidence:.0%} | {r.reason} |" for r in rows.itertuples()
    ]
    return "\n".join(["| ticker | action | weight | confidence | reason |", "| --- | --- | --- | --- | --- |", *lines])
