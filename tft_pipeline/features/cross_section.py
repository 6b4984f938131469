"""A ticker against the universe in the same bar."""

import pandas as pd

from tft_pipeline.features.rolling import Floats


def cross_section(rows: pd.DataFrame) -> dict[str, Floats]:
    """(n_rows,) each, aligned to rows: ticker, bar_start, return_1h, return_7h of all tickers, sorted by ticker and bar.

    A ticker without a return in a bar does not count in it.
    """
    by_bar = rows.groupby("bar_start", sort=False)
    market_1h, market_7h = by_bar["return_1h"].transform("mean"), by_bar["return_7h"].transform("mean")
    rose = (rows["return_1h"] > 0).astype(float).where(rows["return_1h"].notna())
    return {
        "market_return_1h": market_1h.to_numpy(),
        "market_return_7h": market_7h.to_numpy(),
        "relative_return_7h": (rows["return_7h"] - market_7h).to_numpy(),
        "breadth_1h": rose.groupby(rows["bar_start"], sort=False).transform("mean").to_numpy(),
    }
