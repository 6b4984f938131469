"""How much is traded, against what is usual, and what it does to the price. Source: Amihud, J. Financial Markets 5 (2002)."""

import numpy as np

from tft_pipeline.features.prices import Prices
from tft_pipeline.features.rolling import Floats, before, correlation, mean, ratio, standing, windows


def volume(prices: Prices) -> dict[str, Floats]:
    """(n_bars,) each. Volumes are split-adjusted, so a split does not look like a rush of trade."""
    one, logs = prices.log_return, np.log1p(prices.volume)
    change = logs - before(logs)
    typical = (prices.high + prices.low + prices.close) / 3
    traded = windows(prices.volume, 7).sum(axis=1)
    average = ratio(windows(typical * prices.volume, 7).sum(axis=1), traded, otherwise=0.0)
    millions = np.maximum(prices.close * prices.volume, 1.0) / 1e6
    return {
        "volume_relative_35h": np.log((prices.volume + 1) / (mean(prices.volume, 35) + 1)),
        "volume_deviation_70h": standing(logs, 70),
        "volume_change_1h": change,
        "price_volume_correlation_35h": correlation(one, change, 35),
        # Without a trade in seven bars there is no average price to be away from.
        "vwap_distance_7h": np.where(
            traded > 0, np.log(prices.close / np.where(average > 0, average, prices.close)), traded * 0.0
        ),
        "illiquidity_35h": np.log(mean(np.abs(one) / millions, 35) + 1e-12),
    }
