"""The ledger: decisions filled at the next bar's open, corporate actions, marks. One code path for backtest and live.

Money is whole cents. At every mark cash + positions = equity, and cash moves between marks by exactly the trades in between; the
database asserts both again. What belongs here: in which order things happen. What a fill does to cash lies in book.py.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from tft_pipeline.config import PortfolioSettings
from tft_pipeline.contracts import EQUITY, POSITIONS, TRADES
from tft_pipeline.portfolio.book import Action, Book
from tft_pipeline.portfolio.events import Queue, by_moment, microseconds, moment
from tft_pipeline.portfolio.state import State
from tft_pipeline.schema import Table

__all__ = ["Advanced", "State", "advance"]

_BEGINNING = -(2**62)  # before any bar


@dataclass(frozen=True)
class Advanced:
    """state at the last mark, and what led to it: TRADES, POSITIONS, EQUITY."""

    state: State
    trades: pd.DataFrame
    positions: pd.DataFrame
    equity: pd.DataFrame

    def within(self, start: datetime, end: datetime) -> "Advanced":
        """The rows of start <= t < end, each table by its own time; the state stays that of the last mark.

        Around the clock, the bar before midnight is marked at midnight, which is the next day's: each day's slice is cut from what
        was advanced from the mark before it.
        """
        return Advanced(
            self.state,
            _cut(self.trades, TRADES, start, end),
            _cut(self.positions, POSITIONS, start, end),
            _cut(self.equity, EQUITY, start, end),
        )


def advance(
    state: State,
    bars: pd.DataFrame,
    actions: pd.DataFrame,
    decisions: pd.DataFrame,
    settings: PortfolioSettings,
    *,
    delay: timedelta = timedelta(0),
) -> Advanced:
    """Take the portfolio through bars, mark by mark: one mark at each distinct bar_end.

    bars: BARS from the state's mark on (older ones only tell which decisions still wait). actions: ACTIONS from the mark on. decisions:
    DECISIONS issued at the mark or later, and with a delay those issued a few bars before it. delay: a bar is known so long after its
    end, and so is the decision that it led to. A decision is filled at the market's first opening from then on, if the ticker opens with
    it; else it lapses, for then the market went on without the ticker.

    Order at one moment: marks, then splits, dividends, fills. At a fill the target is weight × equity of the last mark in whole shares
    at the open: an order in dollars, for the last close of what is not held is no part of the state. A decision's weight is the target
    whatever its action's name, so HOLD's 0 closes what is held. Tickers without a decision keep their shares. An action that is effective
    while the market is closed happens when it opens again, maybe days later, so that it lies in the day of the marks that it changes.

    Running a span at once equals running it piece by piece with State.from_rows in between.
    """
    since = _BEGINNING if state.marked_at is None else microseconds(state.marked_at)
    closes = by_moment(bars, "bar_end", "close", since=since + 1)
    opens = by_moment(bars, "bar_start", "open", since=since)
    wanted = _waiting(decisions, bars, since, delay // timedelta(microseconds=1))
    due = _due(actions, since)
    book = Book(state, settings)
    for mark, closing in closes:
        waiting: dict[str, float] = {}
        reopened = False
        while opens and opens[0][0] < mark:
            now, opening = opens.popleft()
            if not reopened:
                _reopen(due, now)
                reopened = True
            _act(book, due, until=now, opening=opening)
            while wanted and wanted[0][0] <= now:
                waiting.update(wanted.popleft()[1])
            book.fill({ticker: waiting.pop(ticker) for ticker in sorted(opening) if ticker in waiting}, opening, now)
        _act(book, due, until=mark - 1, opening={})
        while not delay and wanted and wanted[0][0] < mark:
            wanted.popleft()  # lapsed
        book.mark(closing, mark)
        since = mark
    marked_at = moment(since) if closes else state.marked_at
    return Advanced(book.state(marked_at), book.trades.frame(), book.positions.frame(), book.equity.frame())


def _waiting(decisions: pd.DataFrame, bars: pd.DataFrame, since: int, delay: int) -> Queue:
    """(moment from which it may be filled, {ticker: weight}) of the decisions that no opening before the mark could have filled."""
    if not delay:
        return by_moment(decisions, "issued_at", "weight", since=since)
    known = decisions.assign(known_at=decisions["issued_at"] + pd.Timedelta(delay, unit="us"))
    earlier = [at for at in microseconds(bars["bar_start"]) if at < since]
    return by_moment(known, "known_at", "weight", since=max(earlier) + 1 if earlier else since)


def _due(actions: pd.DataFrame, since: int) -> deque[Action]:
    """Splits and dividends effective from since on; of one moment splits first: a dividend is dollars a share as traded, after the split.

    A rename moves no money: what is held under the former name stays at its last price until a decision about that name closes it.
    """
    return deque(
        sorted(
            (
                Action(at, kind != "split", ticker, value)
                for at, ticker, kind, value in zip(
                    microseconds(actions["effective_at"]),
                    actions["ticker"],
                    actions["kind"],
                    actions["value"],
                    strict=True,
                )
                if at >= since and kind in ("split", "dividend")
            ),
        )
    )


def _reopen(due: deque[Action], now: int) -> None:
    """Move all that became effective by now there: at most one split and one dividend a ticker, dollars by the new share."""
    ratios: dict[str, float] = {}
    dollars: dict[str, float] = {}
    while due and due[0].at <= now:
        action = due.popleft()
        if action.pays:
            dollars[action.ticker] = dollars.get(action.ticker, 0.0) + action.value
            continue
        ratios[action.ticker] = ratios.get(action.ticker, 1.0) * action.value
        if action.ticker in dollars:
            dollars[action.ticker] /= action.value
    splits = [Action(now, False, ticker, ratio) for ticker, ratio in sorted(ratios.items())]
    dividends = [Action(now, True, ticker, paid) for ticker, paid in sorted(dollars.items())]
    due.extendleft(reversed(splits + dividends))


def _act(book: Book, due: deque[Action], *, until: int, opening: dict[str, float]) -> None:
    """Let everything happen that is effective by until; opening: the opens of that very moment."""
    while due and due[0].at <= until:
        action = due.popleft()
        book.act(action, opening.get(action.ticker) if action.at == until else None)


def _cut(frame: pd.DataFrame, table: Table, start: datetime, end: datetime) -> pd.DataFrame:
    return frame[(frame[table.time] >= start) & (frame[table.time] < end)].reset_index(drop=True)
