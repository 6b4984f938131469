"""Splits and dividends, applied on read: prices stay as traded in the tables."""

import numpy as np
import pandas as pd


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
