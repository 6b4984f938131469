"""Small markets for the ledger: frames by contract from a few plain values."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import pandas as pd

from tft_pipeline import contracts, schema
from tft_pipeline.config import PortfolioSettings
from tft_pipeline.contracts import ACTIONS, BARS, DECISIONS, EQUITY, POSITIONS, TRADES
from tft_pipeline.portfolio.ledger import Advanced, State, advance

FREE = PortfolioSettings(
    initial_cash_usd=10_000.0, half_spread_bps=0.0, fee_usd_per_share=0.0, minimum_trade_weight=0.0
)
COSTLY = PortfolioSettings(
    initial_cash_usd=10_000.0, half_spread_bps=10.0, fee_usd_per_share=0.01, minimum_trade_weight=0.02
)


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC").as_unit("us")


def hours(day: str, first: int, count: int) -> list[pd.Timestamp]:
    """Starts of `count` hourly bars."""
    return [at(f"{day} {first + i:02d}:00") for i in range(count)]


def bars(rows: Iterable[tuple[str, pd.Timestamp, float, float]], *, minutes: int = 60) -> pd.DataFrame:
    """BARS from (ticker, bar_start, open, close)."""
    made = [
        {
            "ticker": ticker, "bar_start": start, "bar_end": start + pd.Timedelta(minutes=minutes), "open": opened,
            "high": max(opened, closed), "low": min(opened, closed), "close": closed, "volume": 1e6, "source": "test",
            "known_at": start + pd.Timedelta(minutes=minutes),
        }
        for ticker, start, opened, closed in rows
    ]  # fmt: skip
    return _by_contract(made, BARS)


def actions(rows: Iterable[tuple[str, pd.Timestamp, str, float]] = ()) -> pd.DataFrame:
    """ACTIONS from (ticker, effective_at, kind, value)."""
    made = [
        {"ticker": ticker, "effective_at": moment, "kind": kind, "value": value, "source": "test", "known_at": moment}
        for ticker, moment, kind, value in rows
    ]
    return _by_contract(made, ACTIONS)


def decisions(rows: Iterable[tuple[str, pd.Timestamp, float]] = ()) -> pd.DataFrame:
    """DECISIONS from (ticker, issued_at, weight)."""
    made = [
        {
            "ticker": ticker, "issued_at": moment, "model_id": "test", "action": _action(weight), "confidence": 0.6, "weight": weight,
            "reason": "a test says so", "horizon_hours": 6, "p10": -0.01, "p50": 0.0, "p90": 0.01,
        }
        for ticker, moment, weight in rows
    ]  # fmt: skip
    return _by_contract(made, DECISIONS)


def day_by_day(
    all_bars: pd.DataFrame,
    all_actions: pd.DataFrame,
    all_decisions: pd.DataFrame,
    settings: PortfolioSettings,
    *,
    delay: timedelta = timedelta(0),
) -> Advanced:
    """What a daily slice writer would end up with: each day from what the database holds of the mark before it."""
    first, last = all_bars["bar_start"].min().floor("D"), all_bars["bar_end"].max().floor("D")
    kept: list[Advanced] = []
    for start in pd.date_range(first, last, freq="D"):
        end = start + pd.Timedelta(days=1)
        marks = schema.concat([piece.equity for piece in kept], EQUITY)
        state, since = State.opening(settings), start
        if len(marks):
            newest = marks[marks["marked_at"] == marks["marked_at"].max()]
            since = newest["marked_at"].iloc[0]
            held = schema.concat([piece.positions for piece in kept], POSITIONS)
            state = State.from_rows(held[held["marked_at"] == since], newest, int(marks["equity_cents"].max()))
        waiting_since = since - timedelta(days=7)
        piece = advance(
            state,
            _span(all_bars, "bar_start", waiting_since, end),
            _span(all_actions, "effective_at", since, end),
            _span(all_decisions, "issued_at", waiting_since, end),
            settings,
            delay=delay,
        )
        kept.append(piece.within(start, end))
    return Advanced(
        kept[-1].state,
        schema.concat([piece.trades for piece in kept], TRADES),
        schema.concat([piece.positions for piece in kept], POSITIONS),
        schema.concat([piece.equity for piece in kept], EQUITY),
    )


def assert_balanced(advanced: Advanced, initial_cents: int) -> None:
    """To the cent, at every mark, as the database demands it."""
    schema.validate(advanced.trades, TRADES)
    schema.validate(advanced.positions, POSITIONS)
    equity = schema.validate(advanced.equity, EQUITY)
    values = advanced.positions.groupby("marked_at")["value_cents"].sum()
    cash, previous, peak, traded = initial_cents, pd.Timestamp.min.tz_localize("UTC"), initial_cents, 0
    for row in equity.itertuples():
        inside = advanced.trades[
            (advanced.trades["executed_at"] >= previous) & (advanced.trades["executed_at"] < row.marked_at)
        ]
        assert row.cash_cents == cash + inside["cash_change_cents"].sum()
        assert row.cost_cents == inside["cost_cents"].sum()
        assert row.positions_cents == values.get(row.marked_at, 0)
        assert row.equity_cents == row.cash_cents + row.positions_cents
        peak = max(peak, row.equity_cents)
        assert row.drawdown == row.equity_cents / peak - 1
        cash, previous, traded = row.cash_cents, row.marked_at, traded + len(inside)
    assert traded == len(advanced.trades)


def _span(frame: pd.DataFrame, column: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    return frame[(frame[column] >= start) & (frame[column] < end)].reset_index(drop=True)


def _action(weight: float) -> str:
    return "HOLD" if weight == 0 else "BUY" if weight > 0 else "SELL"


def _by_contract(rows: Sequence[dict[str, object]], table: contracts.Table) -> pd.DataFrame:
    empty = table.empty()
    return pd.DataFrame(rows, columns=table.names).astype(empty.dtypes.to_dict()) if rows else empty
