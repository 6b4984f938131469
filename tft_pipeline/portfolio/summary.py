"""The portfolio in a few figures."""

from typing import Any

import pandas as pd


def summary(equity: pd.DataFrame, trades: pd.DataFrame, positions: pd.DataFrame) -> dict[str, Any]:
    """Of EQUITY, TRADES and POSITIONS of one span: dollars, return since its first mark, deepest drawdown, what is held at the last.

    Empty where nothing was marked yet.
    """
    if equity.empty:
        return {}
    marks = equity.sort_values("marked_at")
    first, last = marks.iloc[0], marks.iloc[-1]
    held = positions[positions["marked_at"] == last["marked_at"]]
    fills = trades[trades["kind"] == "trade"]
    return {
        "marked_at": last["marked_at"].isoformat(),
        "equity_usd": int(last["equity_cents"]) / 100,
        "cash_usd": int(last["cash_cents"]) / 100,
        "positions_usd": int(last["positions_cents"]) / 100,
        "return": int(last["equity_cents"]) / int(first["equity_cents"]) - 1,
        "max_drawdown": float(marks["drawdown"].min()),
        "costs_usd": int(trades["cost_cents"].sum()) / 100,
        "trades": len(fills),
        "positions": [
            {"ticker": p.ticker, "quantity": int(p.quantity), "price": p.price, "value_usd": p.value_cents / 100}
            for p in held.sort_values("ticker").itertuples()
        ],
    }
