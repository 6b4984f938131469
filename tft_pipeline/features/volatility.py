"""How much a price moves in an hour, by several estimators. All per square-root hour (0.004 is 0.4 %).

Sources: Parkinson, J. Business 53 (1980); Garman and Klass, J. Business 53 (1980); RiskMetrics (1996) for the decay.
"""

import numpy as np

from tft_pipeline.features.prices import Prices
from tft_pipeline.features.rolling import Floats, deviation, exponential_weights, mean, ratio, weighted

EWMA = exponential_weights(0.94, 140)


def volatility(prices: Prices) -> dict[str, Floats]:
    """(n_bars,) each."""
    one = prices.log_return
    span, body = np.log(prices.high / prices.low), np.log(prices.close / prices.open)
    garman_klass = mean(0.5 * span * span - (2 * np.log(2.0) - 1) * body * body, 14)
    short, long = deviation(one, 7), deviation(one, 140)
    return {
        "volatility_7h": short,
        "volatility_35h": deviation(one, 35),
        "volatility_140h": long,
        "volatility_ewma": np.sqrt(weighted(one * one, EWMA)),
        "volatility_parkinson_14h": np.sqrt(mean(span * span, 14) / (4 * np.log(2.0))),
        # Never below zero: a bar's body is at most its range, and 2 ln 2 - 1 is below a half.
        "volatility_garman_klass_14h": np.sqrt(garman_klass),
        "volatility_ratio": ratio(short, long, otherwise=1.0),
    }
