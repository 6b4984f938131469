"""Reductions over the bars up to and including each bar, computed from that window alone.

pandas' rolling and ewm carry a running state, so their last digits depend on where history begins. Here every value is reduced
from its own window in a fixed order: whatever history was loaded, and whatever comes after, it is the same to the last bit.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def windows(values: Floats, length: int) -> Floats:
    """(n, length): row t holds values[t-length+1 .. t]; rows without a full window are NaN."""
    padded = np.concatenate((np.full(length - 1, np.nan), values))
    # A copy, for the order of summation depends on the memory layout.
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, length))


def before(values: Floats, bars: int = 1) -> Floats:
    """(n,): the value so many bars earlier; NaN where there is none."""
    return np.concatenate((np.full(min(bars, len(values)), np.nan), values[: max(len(values) - bars, 0)]))


def mean(values: Floats, length: int) -> Floats:
    return np.asarray(windows(values, length).sum(axis=1) / length, dtype=np.float64)


def centred(values: Floats, length: int) -> Floats:
    """(n, length): each window less its mean.

    Less its newest value first: the mean of equal values is seldom exactly their value, and what is left over would pass for a
    deviation. So a window that does not vary is exactly 0.
    """
    window = windows(values, length)
    window = window - window[:, -1:]
    return np.asarray(window - window.sum(axis=1, keepdims=True) / length, dtype=np.float64)


def deviation(values: Floats, length: int) -> Floats:
    """Sample standard deviation (n - 1)."""
    window = centred(values, length)
    return np.asarray(np.sqrt((window * window).sum(axis=1) / (length - 1)), dtype=np.float64)


def standing(values: Floats, length: int) -> Floats:
    """(n,): the newest value against its window's mean, in the window's deviations; 0 where nothing varies."""
    return ratio(centred(values, length)[:, -1], deviation(values, length), otherwise=0.0)


def correlation(left: Floats, right: Floats, length: int) -> Floats:
    """Pearson's, in -1…1; 0 where either side does not vary."""
    a, b = centred(left, length), centred(right, length)
    product = (a * b).sum(axis=1)
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.clip(ratio(product, size, otherwise=0.0), -1.0, 1.0)


def weighted(values: Floats, weights: Floats) -> Floats:
    """(n,): sum of weights × the window as long as they are; weights[-1] is the newest bar's."""
    return np.asarray((windows(values, len(weights)) * weights).sum(axis=1), dtype=np.float64)


def exponential_weights(decay: float, length: int) -> Floats:
    """(length,) weights decay**k of the value k bars back, cut off at length and summing to 1; the newest last."""
    weights = decay ** np.arange(length - 1, -1, -1, dtype=np.float64)
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def ratio(numerator: Floats, denominator: Floats, *, otherwise: float) -> Floats:
    """numerator / denominator, and `otherwise` where the denominator is 0; NaN stays NaN."""
    zero = denominator == 0
    return np.where(
        zero, np.where(np.isnan(numerator), np.nan, otherwise), numerator / np.where(zero, 1.0, denominator)
    )
