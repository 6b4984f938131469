"""The portfolio as an asset: trades, positions and equity, written together. The ledger's rules live in `portfolio`."""

from datetime import datetime

import dagster as dg

from tft_pipeline.contracts import ACTIONS, BARS, DECISIONS, EQUITY, POSITIONS, TRADES
from tft_pipeline.orchestration.assets.market import corporate_actions, market_bars
from tft_pipeline.orchestration.assets.signals import trading_signals
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.reporting import Result, begin, result, table_asset
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.portfolio.figures import equity_curve
from tft_pipeline.portfolio.ledger import State, advance
from tft_pipeline.portfolio.summary import summary
from tft_pipeline.storage.portfolio import last_mark, peak_equity_cents
from tft_pipeline.storage.read import read


@table_asset(
    "portfolio",
    EQUITY,
    TRADES,
    POSITIONS,
    deps=[trading_signals, market_bars, corporate_actions],
)
def portfolio(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Result:
    """Decisions filled at the next bar's open, with costs, and marked at every bar's end. Cash + positions = equity, to the cent."""
    watch, window = begin(context, pipeline)
    state, since = _state_before(pipeline, window)
    advanced = advance(
        state,
        read(pipeline.database, BARS, since, window.end, as_of=window.moment),
        read(pipeline.database, ACTIONS, since, window.end, as_of=window.moment),
        read(pipeline.database, DECISIONS, since, window.end),
        pipeline.settings.portfolio,
    ).within(window.start, window.end)
    frames = {TRADES: advanced.trades, POSITIONS: advanced.positions, EQUITY: advanced.equity}
    written = pipeline.write(context.run_id, frames, window)
    figures = summary(advanced.equity, advanced.trades, advanced.positions)
    plain = {name: value for name, value in figures.items() if isinstance(value, int | float | str)}
    return result(
        context, written, watch, checks=[contract_kept(pipeline.database, [TRADES, POSITIONS, EQUITY], window)],
        picture=equity_curve(advanced.equity) if len(advanced.equity) else None, **plain,
    )  # fmt: skip


def _state_before(pipeline: Pipeline, window: Window) -> tuple[State, datetime]:
    """The portfolio at the last mark before the window, and from when on decisions and actions may still wait."""
    mark = last_mark(pipeline.database, before=window.start)
    if mark is None:
        return State.opening(pipeline.settings.portfolio), window.start
    peak = peak_equity_cents(pipeline.database, before=window.start) or 0  # marks there are, so a peak too
    return State.from_rows(mark.positions, mark.equity, peak), mark.marked_at
