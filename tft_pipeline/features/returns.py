"""Returns over several spans, and where in the day they were made."""

import numpy as np

from tft_pipeline.features.prices import Prices
from tft_pipeline.features.rolling import Floats, windows


def returns(prices: Prices) -> dict[str, Floats]:
    """(n_bars,) each, log. A return over n bars is the sum of the newest n one-bar returns."""
    one = prices.log_return
    spans = {f"return_{n}h": windows(one, n).sum(axis=1) for n in (2, 3, 7, 14, 35, 70)}
    gap = np.log((prices.open + prices.dividend) / prices.previous_close)
    return {
        "return_1h": one,
        **spans,
        "overnight_return": np.where(prices.opens_session, gap, 0.0),
        "intrabar_return": np.log(prices.close / prices.open),
    }
