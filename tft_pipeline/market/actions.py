"""Splits, dividends and renames, applied on read: prices stay as traded, under the name of their day, in the tables."""

import numpy as np
import pandas as pd


def renamed(frame: pd.DataFrame, actions: pd.DataFrame, *, time: str) -> pd.DataFrame:
    """frame with each share's whole history under its newest name.

    frame: rows with ticker and `time` (bar_start of BARS, effective_at of ACTIONS). actions: ACTIONS that are known: a rename that is not
    known yet renames nothing. Rows of a former ticker before the rename took effect become the new ticker's; what another company traded
    under the new name before is left out; what trades under the former name afterwards is another share's, and stays. Renames follow each
    other: of A to B to C, A's rows are C's. Rows keep their order and index. A rename without `former` is none.
    """
    renames = actions[(actions["kind"] == "rename") & actions["former"].notna()].sort_values(
        "effective_at", kind="stable"
    )
    tickers = frame["ticker"].copy()
    kept = np.ones(len(frame), dtype=np.bool_)
    for new, former, effective_at in zip(renames["ticker"], renames["former"], renames["effective_at"], strict=True):
        earlier = (frame[time] < effective_at).to_numpy() & kept
        kept &= ~(earlier & (tickers == new).to_numpy())
        tickers[earlier & (tickers == former).to_numpy()] = new
    return frame.assign(ticker=tickers)[kept]


def split_factor(bars: pd.DataFrame, actions: pd.DataFrame) -> pd.Series:
    """What a price of each bar is multiplied by to be comparable with the prices before it.

    bars: (n_bars,) rows with ticker, bar_start. actions: ACTIONS, all of a ticker's history that is known.
    Returns (n_bars,) aligned to bars' index: the product of the ratios of all splits effective at or before the bar's start, 1.0
    before the first. Forward from the first action, so neither later actions nor the length of loaded history ever change it.
    """
    splits = actions[actions["kind"] == "split"].sort_values("effective_at")
    factor = np.ones(len(bars))
    tickers, starts = bars["ticker"].to_numpy(), bars["bar_start"].to_numpy("datetime64[us]")
    for ticker, of_ticker in splits.groupby("ticker", sort=False):
        mine = tickers == ticker
        effective = of_ticker["effective_at"].to_numpy("datetime64[us]")
        products = np.concatenate(([1.0], np.cumprod(of_ticker["value"].to_numpy(float))))
        factor[mine] = products[np.searchsorted(effective, starts[mine], side="right")]
    return pd.Series(factor, index=bars.index)


def dividend_on(bars: pd.DataFrame, actions: pd.DataFrame) -> pd.Series:
    """Dollars a share that go ex with each bar, (n_bars,) aligned to bars' index; 0.0 on most.

    A dividend belongs to the first of the ticker's bars that starts at or after its effective_at, so one on a missing bar is not lost.
    """
    amount = np.zeros(len(bars))
    dividends = actions[actions["kind"] == "dividend"]
    tickers, starts = bars["ticker"].to_numpy(), bars["bar_start"].to_numpy("datetime64[us]")
    for ticker, of_ticker in dividends.groupby("ticker", sort=False):
        mine = np.flatnonzero(tickers == ticker)
        order = mine[np.argsort(starts[mine], kind="stable")]
        if not len(order):
            continue
        effective = of_ticker["effective_at"].to_numpy("datetime64[us]")
        position = np.searchsorted(starts[order], effective, side="left")
        # One that was effective before the first loaded bar was paid before it, unless it is effective at that very bar.
        inside = (position < len(order)) & (effective >= starts[order[0]])
        np.add.at(amount, order[position[inside]], of_ticker["value"].to_numpy(float)[inside])
    return pd.Series(amount, index=bars.index)
