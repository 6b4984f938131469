"""What a source says otherwise than it did: rows that it restated, and whole histories that it put into another unit. Pure.

A source that works a split into its history without telling of it multiplies all prices before by one ratio. Prices are kept as traded,
so such a ratio is no restatement: to write it would make the split happen twice as soon as the source tells of it.
"""

from dataclasses import dataclass
from math import exp, isfinite, log

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.contracts import ACTIONS, BARS

# Relative. Yahoo sends single precision (6e-8), divided by a split's ratio and multiplied back: the same price in another guise.
NOISE = 1e-6
LEAST_BARS = 3  # that tell a ratio
RATIO_WITHIN = 1e-4  # as a logarithm: so far each price may lie from the ratio
LEAST_RATIO = 1.01  # the smallest split is a stock dividend of some percent

PRICES = ["open", "high", "low", "close"]
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rescaled:
    """A ticker whose prices from its first held bar to last (start of a bar) are ratio times what is held, volumes whatever."""

    ticker: str
    ratio: float
    bars: int
    last: pd.Timestamp

    def sentence(self, actions: pd.DataFrame) -> str:
        """Why it is no restatement. actions: ACTIONS that are known."""
        said = f"{self.bars} bars up to {self.last:%Y-%m-%d %H:%M}Z are {self.ratio:.6g} times the prices held"
        split = _that_explains(self, actions)
        if split is None:
            return (
                f"{said}, and no split that is known explains it: left as they were traded, until the source tells why"
            )
        return f"{said}: the split of {split:%Y-%m-%d} explains it, which the source worked in and did not take back; left as they were traded"


@dataclass(frozen=True)
class Compared:
    """rows: those of the fetched that may be written, noise gone. differing: ticker, the table's time, is_new, of what a source restated.

    rescaled: tickers of which all rows of the days up to the last rescaled bar are left out of both.
    """

    rows: pd.DataFrame
    differing: pd.DataFrame
    rescaled: tuple[Rescaled, ...] = ()


def compare_bars(fetched: pd.DataFrame, held: pd.DataFrame) -> Compared:
    """Hold bars against those that are stored now.

    fetched: BARS, all sound. held: BARS of the same stretch of time. A bar differs where a price, the volume or its end is another, or
    where it is not held though the ticker has an earlier one: what lies before a ticker's first held bar was never asked for. Bars of
    another source are not compared. Of a price that differs by less than NOISE, the held one is taken.
    """
    both = _beside(fetched, held, BARS.key, [*PRICES, "volume", "bar_end"])
    common = both["same_source"].to_numpy(np.bool_)
    alike = _alike(both, [*PRICES, "volume"]) & (both["bar_end"] == both["bar_end_held"]).to_numpy()
    rescaled = _rescaled(both, common & ~_alike(both, PRICES), common)
    left = np.zeros(len(both), dtype=np.bool_)
    for one in rescaled:
        left |= ((both["ticker"] == one.ticker) & (both["bar_start"].dt.floor("D") <= one.last)).to_numpy()
    first = held.groupby("ticker")["bar_start"].min().reindex(both["ticker"]).set_axis(both.index)
    is_new = ~both["is_held"].to_numpy(np.bool_)
    differs = ((common & ~alike) | (is_new & (both["bar_start"] > first).to_numpy())) & ~left
    return Compared(
        rows=_settled(fetched, both, common & alike, [*PRICES, "volume"])[~left].reset_index(drop=True),
        differing=_told(both, "bar_start", differs, is_new),
        rescaled=rescaled,
    )


def compare_actions(fetched: pd.DataFrame, held: pd.DataFrame) -> Compared:
    """Hold corporate actions, ACTIONS, against those that are stored now: one differs where its value is another, or where it is not held.

    Of a value that differs by less than NOISE, the held one is taken. Actions of another source are not compared.
    """
    both = _beside(fetched, held, ACTIONS.key, ["value"])
    common, is_new = both["same_source"].to_numpy(np.bool_), ~both["is_held"].to_numpy(np.bool_)
    alike = _alike(both, ["value"])
    rows = _settled(fetched, both, common & alike, ["value"]).reset_index(drop=True)
    return Compared(rows, _told(both, "effective_at", (common & ~alike) | is_new, is_new))


def _beside(fetched: pd.DataFrame, held: pd.DataFrame, key: tuple[str, ...], values: list[str]) -> pd.DataFrame:
    """fetched with the held row's values (`_held`), is_held and same_source; row by row, in fetched's order."""
    names = [*key, *values, "source"]
    beside = fetched[names].merge(held[names], on=list(key), how="left", suffixes=("", "_held"), validate="m:1")
    is_held = beside["source_held"].notna()
    return beside.assign(is_held=is_held, same_source=is_held & (beside["source"] == beside["source_held"]))


def _alike(both: pd.DataFrame, names: list[str]) -> _Flags:
    ours = both[[f"{name}_held" for name in names]].to_numpy(np.float64)
    alike: _Flags = np.isclose(both[names].to_numpy(np.float64), ours, rtol=NOISE, atol=0.0).all(axis=1)
    return alike


def _settled(fetched: pd.DataFrame, both: pd.DataFrame, same: _Flags, names: list[str]) -> pd.DataFrame:
    """fetched, with what is held where it is the same but for noise."""
    values = {name: np.where(same, both[f"{name}_held"], both[name]) for name in names}
    return fetched.assign(**values)


def _told(both: pd.DataFrame, time: str, differs: _Flags, is_new: _Flags) -> pd.DataFrame:
    return both.assign(is_new=is_new).loc[differs, ["ticker", time, "is_new"]].reset_index(drop=True)


def _rescaled(both: pd.DataFrame, moved: _Flags, common: _Flags) -> tuple[Rescaled, ...]:
    """Tickers of which, from the first held bar to the last that moved, all prices moved by one ratio."""
    found: list[Rescaled] = []
    suspects = both["ticker"].isin(both.loc[moved, "ticker"].unique()).to_numpy()
    of_suspects = both.assign(moved=moved)[suspects & common].sort_values("bar_start", kind="stable")
    for ticker, bars in of_suspects.groupby("ticker", sort=True):
        upto = bars.iloc[: int(np.flatnonzero(bars["moved"].to_numpy())[-1]) + 1]
        held = upto[[f"{name}_held" for name in PRICES]].to_numpy(np.float64)
        steps = np.log(upto[PRICES].to_numpy(np.float64) / held)
        middle = float(np.median(steps))
        constant = isfinite(middle) and bool((np.abs(steps - middle) <= RATIO_WITHIN).all())
        if len(upto) >= LEAST_BARS and constant and abs(middle) > log(LEAST_RATIO):
            found.append(Rescaled(str(ticker), exp(middle), len(upto), upto["bar_start"].iloc[-1]))
    return tuple(found)


def _that_explains(rescaled: Rescaled, actions: pd.DataFrame) -> pd.Timestamp | None:
    """When the first split after the rescaled bars took effect, where all that did multiply to the ratio; else None."""
    of_ticker = (actions["ticker"] == rescaled.ticker) & (actions["kind"] == "split")
    later = actions[of_ticker & (actions["effective_at"] > rescaled.last)]
    if later.empty or abs(log(rescaled.ratio) + float(np.log(later["value"]).sum())) > 10 * RATIO_WITHIN:
        return None
    first: pd.Timestamp = later["effective_at"].min()
    return first
