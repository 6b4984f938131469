"""The ledger balances, or PostgreSQL refuses the commit: on both servers, whoever writes."""

from datetime import date
from time import perf_counter

import numpy as np
import pandas as pd
import pytest

from tft_pipeline.contracts import EQUITY, POSITIONS, TRADES
from tft_pipeline.errors import StorageError
from tft_pipeline.schema import UTC
from tft_pipeline.storage.ledger import row_counts
from tft_pipeline.storage.slices import write

BY = {"run_id": "run-1", "code_version": "1.0"}
DAYS = [date(2024, 1, 31), date(2024, 2, 1)]
MARKS = pd.Series(pd.to_datetime(["2024-01-31 15:00Z", "2024-01-31 16:00Z", "2024-02-01 15:00Z"])).astype(UTC)


def ledger():
    """100 shares bought at 10 dollars for 1 dollar of costs in the second bar, marked at 10 and then at 11 dollars."""
    trades = pd.DataFrame(
        {
            "ticker": ["AAPL"],
            "executed_at": MARKS[:1],
            "kind": ["trade"],
            "quantity": [100],
            "price": [10.0],
            "cost_cents": [100],
        }
    ).assign(cash_change_cents=-1000_00 - 100)
    positions = pd.DataFrame(
        {"ticker": ["AAPL"] * 2, "marked_at": MARKS[1:], "quantity": 100, "price": [10.0, 11.0]}
    ).reset_index(drop=True)
    positions["value_cents"] = [1000_00, 1100_00]
    equity = pd.DataFrame(
        {"marked_at": MARKS, "cash_cents": [5000_00, 3999_00, 3999_00], "positions_cents": [0, 1000_00, 1100_00]}
    )
    equity["equity_cents"] = equity["cash_cents"] + equity["positions_cents"]
    equity = equity.assign(cost_cents=[0, 100, 0], drawdown=[0.0, -0.0002, 0.0])
    return {TRADES: trades, POSITIONS: positions, EQUITY: equity}


def test_a_ledger_that_adds_up_is_kept(any_database):
    write(any_database, ledger(), DAYS, **BY)
    counts = row_counts(any_database)
    assert (counts["portfolio.trades"], counts["portfolio.positions"], counts["portfolio.equity"]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("where", "cents", "message"),
    [
        (
            (POSITIONS, 1, "value_cents"),
            1,
            r"at 2024-02-01 15:00:00\+00 positions_cents is 110000, yet .* sum to 110001",
        ),
        (
            (TRADES, 0, "cash_change_cents"),
            -1,
            r"cash moves by -100100 cents between 2024-01-31 15:00:00\+00 and .* move it by -100101",
        ),
        (
            (EQUITY, 2, "cash_cents"),
            500,
            r"cash moves by 500 cents between 2024-01-31 16:00:00\+00 and .* move it by 0",
        ),
    ],
)
def test_a_doctored_ledger_is_refused(any_database, where, cents, message):
    table, row, column = where
    frames = ledger()
    frames[table].loc[row, column] += cents
    frames[EQUITY]["equity_cents"] = frames[EQUITY]["cash_cents"] + frames[EQUITY]["positions_cents"]
    with pytest.raises(StorageError, match=message):
        write(any_database, frames, DAYS, **BY)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE portfolio.equity SET equity_cents = equity_cents + 1 WHERE marked_at = '2024-01-31 16:00+00'",
        "UPDATE portfolio.equity SET cash_cents = cash_cents + 1, equity_cents = equity_cents + 1 WHERE marked_at = '2024-01-31 16:00+00'",
        "UPDATE portfolio.positions SET value_cents = value_cents + 1",
        "UPDATE portfolio.positions_2024_02 SET value_cents = value_cents + 1",
        "DELETE FROM portfolio.positions",
        "DELETE FROM portfolio.trades",
        "UPDATE portfolio.trades SET executed_at = executed_at + interval '1 hour'",
        "DELETE FROM portfolio.equity WHERE marked_at = '2024-02-01 15:00+00'",
        "INSERT INTO portfolio.positions VALUES ('MSFT', '2024-01-31 17:00+00', 1, 1, 100)",
        "INSERT INTO portfolio.positions VALUES ('MSFT', '2024-01-31 17:00+00', 1, 1, 100), ('IBM', '2024-01-31 17:00+00', -1, 1, -100)",
    ],
)
def test_nobody_can_unbalance_it_by_hand(any_database, statement):
    write(any_database, ledger(), DAYS, **BY)
    with (
        pytest.raises(StorageError, match=r"portfolio\.equity|equity_cash_and_positions"),
        any_database.connect() as connection,
    ):
        connection.execute(statement)
    assert row_counts(any_database)["portfolio.trades"] == 1


def test_what_was_checked_early_is_checked_again_when_it_changes(database):
    write(database, ledger(), DAYS, **BY)
    with pytest.raises(StorageError, match=r"cash moves"), database.connect() as connection:  # noqa: PT012 - raises on leaving
        connection.execute("UPDATE portfolio.equity SET drawdown = -0.5")
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        connection.execute("SET CONSTRAINTS ALL DEFERRED")
        connection.execute("DELETE FROM portfolio.trades")


def test_months_of_marks_in_one_transaction_are_checked_quickly(database):
    marks = pd.date_range("2024-03-01", periods=31 * 24, freq="h", tz="UTC", unit="us")
    tickers = [f"T{i:02d}" for i in range(30)]
    positions = pd.DataFrame(
        {"ticker": np.repeat(tickers, len(marks)), "marked_at": np.tile(marks, 30), "quantity": 1, "price": 1.0}
    )
    positions = positions.assign(value_cents=100).astype({"ticker": "str", "marked_at": UTC})
    equity = pd.DataFrame(
        {"marked_at": marks, "cash_cents": 0, "positions_cents": 3000, "equity_cents": 3000, "cost_cents": 0}
    )
    days = sorted(set(equity["marked_at"].dt.date))
    trades = TRADES.empty()
    started = perf_counter()
    write(database, {TRADES: trades, POSITIONS: positions, EQUITY: equity.assign(drawdown=0.0)}, days, **BY)
    assert perf_counter() - started < 10  # 22,320 positions; about 0.6 s on an idle machine
