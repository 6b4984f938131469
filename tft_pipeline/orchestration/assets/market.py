"""Bars, corporate actions and their quality, as assets. How a bar is judged lives in `market`."""

from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import ACTIONS, BARS, QUALITY
from tft_pipeline.market.quality import RULES, WARN_BELOW, Judged, judge, quality
from tft_pipeline.market.restatements import compare_actions, compare_bars
from tft_pipeline.orchestration.checks import contract_kept, floor_kept, trusted
from tft_pipeline.orchestration.overlap import ask, missing_for_good
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.pieces import pieces
from tft_pipeline.orchestration.reporting import Result, begin, coverage, covering, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.restating import Look, newly_refused
from tft_pipeline.storage.quarantine import between
from tft_pipeline.storage.read import read

# A jump is judged against the days before it.
JUDGED_WITH_DAYS = 10


@table_asset("market", ACTIONS, pool="yahoo")
def corporate_actions(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Splits and dividends by the first bar that trades under them; prices stay as traded and are adjusted on read."""
    watch, window = begin(context, pipeline)
    asked = ask(pipeline, window, ACTIONS, pipeline.bars.actions, say=context.log.warning)
    held = read(pipeline.database, ACTIONS, asked.start, window.end)
    look = Look.begun(pipeline, asked, context.run.run_id)
    compared = compare_actions(schema.concat([asked.before, look.as_learned(held)], ACTIONS), held)
    inside = compared.rows["effective_at"] >= window.start
    written = pipeline.write(context.run.run_id, {ACTIONS: compared.rows[inside]}, window)
    noted = look.concluded(compared)
    check = contract_kept(pipeline.database, [ACTIONS], window)
    # Most tickers have no action on most days: covered is whoever could be asked.
    facts = covering(set(pipeline.tickers) - asked.problems.keys(), pipeline.tickers)
    return result(
        context, written, watch, checks=[check], source=pipeline.bars.name, problems=asked.problems or None, **noted, **facts
    )  # fmt: skip


@table_asset("market", BARS, deps=[corporate_actions], pool="yahoo")
def market_bars(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Hourly prices and volumes as traded. Bars that cannot be true go to quarantine with their reason."""
    watch, window = begin(context, pipeline)
    asked = ask(pipeline, window, BARS, pipeline.bars.bars, say=context.log.warning)
    held = read(pipeline.database, BARS, asked.start, window.end)
    look = Look.begun(pipeline, asked, context.run.run_id)
    judged = _judged(pipeline, look.as_learned(held), window.start, window)
    earlier = _judged(pipeline, asked.before, asked.start, window)
    compared = compare_bars(schema.concat([earlier.good, judged.good], BARS), held)
    actions = read(pipeline.database, ACTIONS)
    left = {one.ticker: one.sentence(actions) for one in compared.rescaled}
    for ticker, problem in [*asked.problems.items(), *left.items()]:
        context.log.warning(f"{ticker}: {problem}")
    good = compared.rows[compared.rows["bar_start"] >= window.start].reset_index(drop=True)
    absent = missing_for_good(
        pipeline, asked, held[held["bar_start"] >= window.start], left.keys() - set(good["ticker"])
    )
    written = pipeline.write(context.run.run_id, {BARS: good}, window, quarantined=judged.rejected, complete=not absent)
    noted = look.concluded(compared, newly_refused(pipeline, asked, earlier.rejected), rescaled=left)
    check = contract_kept(pipeline.database, [BARS], window)
    facts = coverage(good, pipeline.tickers)
    return result(
        context, written, watch, checks=[check], source=pipeline.bars.name, simulated=pipeline.bars.simulated,
        problems={**asked.problems, **left} or None, **noted, **facts,
    )  # fmt: skip


def _judged(pipeline: Pipeline, bars: pd.DataFrame, start: datetime, window: Window) -> Judged:
    """bars, from start on, parted by what is known of actions and of the bars before."""
    actions = read(pipeline.database, ACTIONS, as_of=window.known)
    before = read(pipeline.database, BARS, start - timedelta(days=JUDGED_WITH_DAYS), start, as_of=window.known)
    return judge(bars, actions, before=before)


@table_asset(
    "market",
    QUALITY,
    deps=[market_bars, corporate_actions],
    warnings={"trusted": f"Every ticker's day scores at least {WARN_BELOW}."},
    blocking={"floor": "Each day's tickers that have bars score TFT_QUALITY_FLOOR on average, or more."},
)
def bar_quality(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """How far each ticker's day can be trusted, 0 to 1, and which rules spoke against it."""
    watch, window = begin(context, pipeline)
    parts = pieces(pipeline, window, [BARS, ACTIONS], since=window.before(JUDGED_WITH_DAYS))
    frame = schema.concat([_quality_of(pipeline, piece) for piece in parts], QUALITY)
    written = pipeline.write(context.run.run_id, {QUALITY: frame}, window)
    floor = floor_kept(frame, pipeline.settings.quality.floor)
    checks = [contract_kept(pipeline.database, [QUALITY], window), trusted(frame), floor]
    rules: dict[str, Any] = {f"{rule} bars": int(frame[f"{rule}_bars"].sum()) for rule in RULES}
    return result(
        context, written, watch, checks=checks, days_below_threshold=int((frame["score"] < WARN_BELOW).sum()), **rules,
        **coverage(frame, pipeline.tickers if len(frame) else ()),
    )  # fmt: skip


def _quality_of(pipeline: Pipeline, window: Window) -> pd.DataFrame:
    """QUALITY of the window, from raw tables as of its `known`."""
    bars = read(pipeline.database, BARS, window.before(JUDGED_WITH_DAYS), window.end, as_of=window.known)
    actions = read(pipeline.database, ACTIONS, as_of=window.known)
    rejected = between(pipeline.database, BARS.name, window.days[0], window.days[-1], as_of=window.known)
    judged = quality(
        bars, rejected, actions, pipeline.calendar, tickers=pipeline.ever_followed, start=window.start, end=window.end, as_of=pipeline.reach(window),
    )  # fmt: skip
    return pipeline.membership.on_its_day(judged, pipeline.now())
