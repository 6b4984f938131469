"""Bars, corporate actions and their quality, as assets. How a bar is judged lives in `market`."""

import dagster as dg
import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import ACTIONS, BARS, QUALITY
from tft_pipeline.market.quality import WARN_BELOW, judge, quality
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.pieces import pieces
from tft_pipeline.orchestration.reporting import Result, begin, coverage, covering, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.sources.protocols import Span
from tft_pipeline.storage.quarantine import between
from tft_pipeline.storage.read import read

# A jump is judged against the days before it.
JUDGED_WITH_DAYS = 10


@table_asset("market", ACTIONS, pool="yahoo")
def corporate_actions(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Splits and dividends by the first bar that trades under them; prices stay as traded and are adjusted on read."""
    watch, window = begin(context, pipeline)
    fetched = pipeline.bars.actions(pipeline.tickers, Span(window.start, window.moment))
    written = pipeline.write(context.run.run_id, {ACTIONS: fetched.frame}, window)
    check = contract_kept(pipeline.database, [ACTIONS], window)
    # Most tickers have no action on most days: covered is whoever could be asked.
    facts = covering(set(pipeline.tickers) - fetched.problems.keys(), pipeline.tickers)
    return result(context, written, watch, checks=[check], source=pipeline.bars.name, problems=fetched.problems or None, **facts)  # fmt: skip


@table_asset("market", BARS, deps=[corporate_actions], pool="yahoo")
def market_bars(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Hourly prices and volumes as traded. Bars that cannot be true go to quarantine with their reason."""
    watch, window = begin(context, pipeline)
    fetched = pipeline.bars.bars(pipeline.tickers, Span(window.start, window.moment))
    for ticker, problem in fetched.problems.items():
        context.log.warning(f"{ticker}: {problem}")
    actions = read(pipeline.database, ACTIONS, as_of=window.known)
    before = read(pipeline.database, BARS, window.before(JUDGED_WITH_DAYS), window.start, as_of=window.known)
    judged = judge(fetched.frame, actions, before=before)
    absent = fetched.problems.keys() - set(fetched.frame["ticker"])
    written = pipeline.write(
        context.run.run_id, {BARS: judged.good}, window, quarantined=judged.rejected, complete=not absent
    )
    check = contract_kept(pipeline.database, [BARS], window)
    facts = coverage(judged.good, pipeline.tickers)
    return result(
        context, written, watch, checks=[check], source=pipeline.bars.name, simulated=pipeline.bars.simulated,
        problems=fetched.problems or None, **facts,
    )  # fmt: skip


@table_asset(
    "market",
    QUALITY,
    deps=[market_bars, corporate_actions],
    warnings={"trusted": f"Every ticker's day scores at least {WARN_BELOW}."},
)
def bar_quality(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """How far each ticker's day can be trusted, 0 to 1, and which rules spoke against it."""
    watch, window = begin(context, pipeline)
    parts = pieces(pipeline, window, [BARS, ACTIONS], since=window.before(JUDGED_WITH_DAYS))
    frame = schema.concat([_quality_of(pipeline, piece) for piece in parts], QUALITY)
    written = pipeline.write(context.run.run_id, {QUALITY: frame}, window)
    poor = frame[frame["score"] < WARN_BELOW]
    worst = poor.nsmallest(5, "score")
    trusted = dg.AssetCheckResult(
        check_name="trusted",
        passed=poor.empty,
        severity=dg.AssetCheckSeverity.WARN,
        description="every day scores well"
        if poor.empty
        else f"{len(poor)} of {len(frame)} ticker-days score below {WARN_BELOW}; the worst: "
        + ", ".join(f"{row.ticker} on {row.day_start:%Y-%m-%d} {row.score:.2f}" for row in worst.itertuples()),
    )
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [QUALITY], window), trusted],
        days_below_threshold=len(poor), **coverage(frame, pipeline.tickers if len(frame) else ()),
    )  # fmt: skip


def _quality_of(pipeline: Pipeline, window: Window) -> pd.DataFrame:
    """QUALITY of the window, from raw tables as of its `known`."""
    bars = read(pipeline.database, BARS, window.before(JUDGED_WITH_DAYS), window.end, as_of=window.known)
    actions = read(pipeline.database, ACTIONS, as_of=window.known)
    rejected = between(pipeline.database, BARS.name, window.days[0], window.days[-1], as_of=window.known)
    return quality(
        bars, rejected, actions, pipeline.calendar, tickers=pipeline.tickers, start=window.start, end=window.end, as_of=window.moment,
    )  # fmt: skip
