"""The portfolio as an asset: trades, positions and equity, written together. The ledger's rules live in `portfolio`."""

from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pandas as pd

from tft_pipeline import config, schema
from tft_pipeline.contracts import ACTIONS, BARS, DECISIONS, EQUITY, POSITIONS, TRADES
from tft_pipeline.orchestration.assets.market import corporate_actions, market_bars
from tft_pipeline.orchestration.assets.signals import trading_signals
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.partitions import Window, spanning
from tft_pipeline.orchestration.pieces import pieces
from tft_pipeline.orchestration.reporting import Result, begin, covering, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.portfolio.figures import equity_curve
from tft_pipeline.portfolio.ledger import Advanced, State, advance
from tft_pipeline.portfolio.summary import summary
from tft_pipeline.storage.ledger import newest
from tft_pipeline.storage.portfolio import last_mark, peak_equity_cents
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import Claim, take_generation

WAITING_DAYS = 7  # a decision may wait so long for its ticker's next bar: over a weekend and a holiday


@table_asset(
    "portfolio",
    EQUITY,
    TRADES,
    POSITIONS,
    deps=[trading_signals, market_bars, corporate_actions],
)
def portfolio(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Decisions filled at the next bar's open, with costs, and marked at every bar's end. Cash + positions = equity, to the cent."""
    watch, asked = begin(context, pipeline)
    window = _to_the_last_mark(pipeline, asked)
    advanced = _advanced(pipeline, window)
    frames = {TRADES: advanced.trades, POSITIONS: advanced.positions, EQUITY: advanced.equity}
    written = pipeline.write(context.run.run_id, frames, window, at_once=True)
    figures = summary(advanced.equity, advanced.trades, advanced.positions)
    plain = {name: value for name, value in figures.items() if isinstance(value, int | float | str)}
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [TRADES, POSITIONS, EQUITY], window)],
        picture=equity_curve(advanced.equity) if len(advanced.equity) else None, **plain,
        **covering({*advanced.positions["ticker"], *advanced.trades["ticker"]}, pipeline.tickers),
    )  # fmt: skip


def _to_the_last_mark(pipeline: Pipeline, window: Window) -> Window:
    """The window, and every day after it that is marked already: money that changes on one day is other money on all days after."""
    last = newest(pipeline.database, EQUITY)
    if last is None or last < window.end:
        return window
    end = config.day_start(last.date() + timedelta(days=1))
    longer = spanning(window.start, end, pipeline.now(), pipeline.bars.delay)
    held = Claim(window.generation, window.days) if window.generation is not None else None
    generation = take_generation(pipeline.database, (EQUITY, TRADES, POSITIONS), longer.days, holding=held)
    return replace(longer, generation=generation)


def _advanced(pipeline: Pipeline, window: Window) -> Advanced:
    """The window's trades, positions and marks, each day with the bars as they were known at its end, and the actions that happened."""
    before = last_mark(pipeline.database, before=window.start)
    peak = (peak_equity_cents(pipeline.database, before=window.start) or 0) if before else 0
    positions = [before.positions] if before else []
    marks = [before.equity] if before else []
    trades: list[pd.DataFrame] = []
    for piece in pieces(pipeline, window, [BARS], since=window.before(WAITING_DAYS)):
        held = schema.concat(marks, EQUITY)
        state, since = State.opening(pipeline.settings.portfolio), piece.start
        if len(held):
            newest_mark = held[held["marked_at"] == held["marked_at"].max()]
            since = newest_mark["marked_at"].iloc[0]
            of_mark = schema.concat(positions, POSITIONS)
            state = State.from_rows(
                of_mark[of_mark["marked_at"] == since], newest_mark, max(peak, int(held["equity_cents"].max()))
            )
        waiting_since = since - timedelta(days=WAITING_DAYS)
        moved = advance(
            state,
            read(pipeline.database, BARS, waiting_since, piece.end, as_of=piece.known),
            # Not as of the piece: shares were split and dividends paid when they were, whenever we heard of it. A day whose action came
            # late is asked for again (`restating`), and takes all days after it along.
            read(pipeline.database, ACTIONS, since, piece.end, as_of=pipeline.now()),
            read(pipeline.database, DECISIONS, waiting_since, piece.end),
            pipeline.settings.portfolio,
            delay=pipeline.bars.delay,
        ).within(piece.start, piece.end)
        trades.append(moved.trades)
        positions.append(moved.positions)
        marks.append(moved.equity)
        last = moved.state
    whole = Advanced(
        last, schema.concat(trades, TRADES), schema.concat(positions, POSITIONS), schema.concat(marks, EQUITY)
    )
    return whole.within(window.start, window.end)
