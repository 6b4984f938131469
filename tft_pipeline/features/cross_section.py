"""A ticker against the universe in the same bar."""

import pandas as pd

from tft_pipeline.features.rolling import Floats


def cross_section(rows: pd.DataFrame) -> dict[str, Floats]:
    """(n_rows,) each, aligned to rows: ticker, bar_start, return_1h, return_7h of all tickers, sorted by ticker and bar.

    A ticker without a return in a bar does not count in it, nor one whose row says so: `counts`, boolean; without that column, all do.
    Who does not count is held against those who do.
    """
    counts = rows["counts"] if "counts" in rows else pd.Series(True, index=rows.index)
    return_1h, return_7h = (rows[name].where(counts) for name in ("return_1h", "return_7h"))
    market_1h, market_7h = (_mean(values, rows["bar_start"]) for values in (return_1h, return_7h))
    rose = (return_1h > 0).astype(float).where(return_1h.notna())
    return {
        "market_return_1h": market_1h.to_numpy(),
        "market_return_7h": market_7h.to_numpy(),
        "relative_return_7h": (rows["return_7h"] - market_7h).to_numpy(),
        "breadth_1h": _mean(rose, rows["bar_start"]).to_numpy(),
    }


def _mean(values: pd.Series, bar_start: pd.Series) -> pd.Series:
    """(n_rows,) the mean of those of the same bar that are there; NaN where none is."""
    means: pd.Series = values.groupby(bar_start, sort=False).transform("mean")
    return means
