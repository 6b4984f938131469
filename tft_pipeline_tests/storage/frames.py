"""Small valid frames for every table: a row a day and hour, so that a test can break one value of one."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd

from tft_pipeline.schema import UTC, Column, Table


def moments(days: Sequence[date], hours: Sequence[int] = (14,)) -> pd.Series:
    """(len(days) * len(hours),) whole hours, UTC."""
    stamps = [pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=hour) for day in days for hour in hours]
    return pd.Series(stamps, dtype=UTC)


def frame(
    table: Table, days: Sequence[date], hours: Sequence[int] = (14,), *, tickers: Sequence[str] = ("AAPL",)
) -> pd.DataFrame:
    """Rows of table, one for each ticker (where it has one) and moment, that keep its contract."""
    times = moments(days, hours)
    each = len(times)
    names = tickers if "ticker" in table.names else tickers[:1]
    values = {}
    for column in table.columns:
        if column.name == "ticker":
            values["ticker"] = pd.Series(np.repeat(list(names), each), dtype="str")
        elif column.name == table.time:
            values[column.name] = pd.concat([times] * len(names), ignore_index=True)
        elif column.dtype == "time":
            later = pd.Timedelta(hours=1) * (1 + list(table.names).index(column.name) / 100)
            values[column.name] = pd.concat([times + later] * len(names), ignore_index=True).astype(UTC)
        else:
            values[column.name] = _values(table, column, each * len(names))
    if table.name == "portfolio.equity":  # cash only: a ledger that balances without positions and trades
        values["cash_cents"] = values["equity_cents"] = np.full(each, 100_000_00)
        values["positions_cents"] = np.zeros(each, dtype=np.int64)
    return pd.DataFrame(values)[table.names]


def _values(table: Table, column: Column, n: int) -> object:
    if column.nullable:
        return pd.Series([None] * n, dtype="str" if column.dtype == "text" else object)
    if column.dtype == "text":
        if column.name in table.key and column.allowed is None:
            return pd.Series([f"{column.name}-{i}" for i in range(n)], dtype="str")
        return pd.Series([(column.allowed or (f"some {column.name}",))[0]] * n, dtype="str")
    if column.dtype == "json":
        return pd.Series([{"losses": [0.5, 0.25], "name": "Zoë"} for _ in range(n)], dtype=object)
    if column.dtype == "bytes":
        return pd.Series([bytes([i % 256]) * 10 + b"\x00\xff" for i in range(n)], dtype=object)
    if column.dtype == "bool":
        return np.arange(n) % 2 == 0
    if column.dtype == "int":
        return np.full(n, 1, dtype=np.int64)
    high = {"p50": 0.2, "p90": 0.3, "high": 12.0, "low": 8.0, "open": 9.0, "close": 11.0}.get(column.name, 0.1)
    return np.full(n, -high if column.maximum == 0 else high) + np.arange(n) * 1e-6 * (-1 if column.maximum == 0 else 1)
