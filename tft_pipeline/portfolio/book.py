"""Cash, shares and what was written down about them: the mutable middle of the ledger."""

from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

from tft_pipeline.config import PortfolioSettings
from tft_pipeline.contracts import EQUITY, POSITIONS, TRADES
from tft_pipeline.portfolio.costs import affordable, fill_cost_cents
from tft_pipeline.portfolio.sizing import capped, shares
from tft_pipeline.portfolio.state import State
from tft_pipeline.schema import Table


class Action(NamedTuple):
    """A corporate action; sorts by moment, splits first."""

    at: int  # microseconds
    pays: bool  # a dividend of `value` dollars a share; else a split into `value` new shares per old
    ticker: str
    value: float


@dataclass
class Rows:
    """Rows of one table, to become a frame; the time column holds microseconds."""

    table: Table
    rows: list[tuple[object, ...]] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        if not self.rows:
            return self.table.empty()
        frame = pd.DataFrame(self.rows, columns=self.table.names)
        frame[self.table.time] = pd.to_datetime(frame[self.table.time], unit="us", utc=True)
        return frame.astype(self.table.empty().dtypes.to_dict())


class Book:
    """What is held now. Every change of cash or shares passes through `_trade`, so that nothing can move without a row."""

    def __init__(self, state: State, settings: PortfolioSettings) -> None:
        self.settings = settings
        self.cash, self.peak = state.cash_cents, state.peak_cents
        self.worth = state.equity_cents  # at the last mark
        self.quantities, self.prices = dict(state.quantities), dict(state.prices)
        self.costs = 0  # since the last mark
        self.trades, self.positions, self.equity = Rows(TRADES), Rows(POSITIONS), Rows(EQUITY)

    def state(self, marked_at: pd.Timestamp | None) -> State:
        return State(
            cash_cents=self.cash, equity_cents=self.worth, peak_cents=self.peak, quantities=dict(self.quantities),
            prices=dict(self.prices), marked_at=marked_at,
        )  # fmt: skip

    def act(self, action: Action, opening: float | None) -> None:
        """A split multiplies what is held; a dividend is paid to who is long, by who is short.

        The fraction of a share that a split leaves is paid out at the open, or where no bar opens then at the last close over the ratio.
        """
        held = self.quantities.get(action.ticker, 0)
        if held == 0:
            return
        if action.pays:
            self._trade(
                action.ticker,
                action.at,
                "dividend",
                quantity=0,
                price=action.value,
                cash=round(held * action.value * 100),
            )
            return
        exact = round(held * action.value, 6)  # a third of 300 shares is 100, whatever a double makes of a third
        whole = int(exact)
        self.prices[action.ticker] /= action.value
        price = self.prices[action.ticker] if opening is None else opening
        paid = round((exact - whole) * price * 100)
        self._trade(action.ticker, action.at, "split", quantity=whole - held, price=action.value, cash=paid)

    def fill(self, wanted: dict[str, float], opening: dict[str, float], now: int) -> None:
        """Trade toward target weights at the opens, sized by the last mark: sales first, then purchases as far as cash goes."""
        held = {ticker: self._weight(ticker) for ticker in self.quantities}
        targets = capped(wanted, {ticker: weight for ticker, weight in held.items() if ticker not in wanted})
        changes: list[tuple[int, str]] = []
        for ticker, target in targets.items():
            closing = wanted[ticker] == 0 and ticker in held
            if not closing and abs(target - held.get(ticker, 0.0)) < self.settings.minimum_trade_weight:
                continue
            change = shares(target, max(self.worth, 0), opening[ticker]) - self.quantities.get(ticker, 0)
            if change:
                changes.append((change, ticker))
        for change, ticker in sorted(changes):
            price = opening[ticker]
            quantity = change if change < 0 else self._allowed(change, ticker, price)
            if quantity == 0:
                continue
            cost = fill_cost_cents(quantity, price, self.settings)
            self.prices[ticker] = price
            cash = -round(quantity * price * 100) - cost
            self._trade(ticker, now, "trade", quantity=quantity, price=price, cash=cash, cost=cost)

    def mark(self, closing: dict[str, float], now: int) -> None:
        """Value everything at the newest close of each ticker."""
        total = 0
        for ticker in sorted(self.quantities):
            if ticker in closing:
                self.prices[ticker] = closing[ticker]
            quantity, price = self.quantities[ticker], self.prices[ticker]
            value = round(quantity * price * 100)
            total += value
            self.positions.rows.append((ticker, now, quantity, price, value))
        self.worth = self.cash + total
        self.peak = max(self.peak, self.worth)
        self.equity.rows.append((now, self.cash, total, self.worth, self.costs, min(self.worth / self.peak - 1, 0.0)))
        self.costs = 0

    def _weight(self, ticker: str) -> float:
        return self.quantities[ticker] * self.prices[ticker] * 100 / self.worth if self.worth > 0 else 0.0

    def _allowed(self, quantity: int, ticker: str, price: float) -> int:
        """As many of the shares as cash pays for; covering a short needs no cash at hand, since it can only lessen the risk."""
        covering = min(quantity, max(-self.quantities.get(ticker, 0), 0))
        return max(covering, min(quantity, affordable(self.cash, price, self.settings)))

    def _trade(self, ticker: str, at: int, kind: str, *, quantity: int, price: float, cash: int, cost: int = 0) -> None:
        self.cash += cash
        self.costs += cost
        left = self.quantities.get(ticker, 0) + quantity
        if left:
            self.quantities[ticker] = left
        else:
            self.quantities.pop(ticker, None)
            self.prices.pop(ticker, None)
        self.trades.rows.append((ticker, at, kind, quantity, price, cost, cash))
