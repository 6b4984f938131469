"""Trend, oscillators and the distribution of returns; all free of the price's scale.

Sources: Wilder, New Concepts in Technical Trading Systems (1978) for RSI and true range, with simple means; Appel for MACD.
"""

import numpy as np

from tft_pipeline.features.prices import Prices
from tft_pipeline.features.rolling import (
    Floats,
    centred,
    correlation,
    deviation,
    exponential_weights,
    mean,
    ratio,
    standing,
    weighted,
    windows,
)

# EMA n has decay 1 - 2/(n+1); beyond four times n less than a thousandth of the weight is left, and is cut off.
EMA_9, EMA_12, EMA_26 = (exponential_weights(1 - 2 / (n + 1), 4 * n) for n in (9, 12, 26))


def trend(prices: Prices) -> dict[str, Floats]:
    """(n_bars,) each."""
    one, log_price = prices.log_return, np.log(prices.close)
    line = weighted(log_price, EMA_12) - weighted(log_price, EMA_26)
    scale = deviation(one, 35)
    true_range = np.maximum(prices.high, prices.previous_close) - np.minimum(prices.low, prices.previous_close)
    up, down = mean(np.maximum(one, 0.0), 14), mean(np.maximum(-one, 0.0), 14)
    lowest, highest = windows(prices.low, 14).min(axis=1), windows(prices.high, 14).max(axis=1)
    return {
        "average_true_range_14h": mean(true_range, 14) / prices.close,
        "relative_strength_14h": ratio(up, up + down, otherwise=0.5),
        "macd": ratio(line, scale, otherwise=0.0),
        "macd_histogram": ratio(line - weighted(line, EMA_9), scale, otherwise=0.0),
        "bollinger_position_20h": standing(log_price, 20),
        "stochastic_14h": ratio(prices.close - lowest, highest - lowest, otherwise=0.5),
        "drawdown_70h": np.minimum(log_price - windows(log_price, 70).max(axis=1), 0.0),
        "skewness_70h": _skewness(one, 70),
        "autocorrelation_35h": correlation(one, np.concatenate(([np.nan], one[:-1])), 34),
    }


def _skewness(values: Floats, length: int) -> Floats:
    """Third central moment over the second's power 3/2; 0 where nothing varies."""
    window = centred(values, length)
    second, third = (window**2).sum(axis=1) / length, (window**3).sum(axis=1) / length
    return ratio(third, second**1.5, otherwise=0.0)
