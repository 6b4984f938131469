"""The form of the newest bar."""

import numpy as np

from tft_pipeline.features.prices import Prices
from tft_pipeline.features.rolling import Floats, ratio


def shape(prices: Prices) -> dict[str, Floats]:
    """(n_bars,) each."""
    return {
        "high_low_range": np.log(prices.high / prices.low),
        "close_location": ratio(prices.close - prices.low, prices.high - prices.low, otherwise=0.5),
    }
