"""How wide the band must be to cover what it says it covers: pure maths, shared by the fit and the forecasts.

One factor a horizon stretches (or draws in) the band around its median until four in five of the validation part lie
inside: split conformal prediction with the score |actual - p50| over the half-band on its side (Romano, Patterson, Candès
2019, in its scaled form; Lei et al. 2018). Stretching keeps the order of the quantiles and never moves the median: a shift
of the median fitted on a few weeks would be the drift of those weeks, so there is none.
"""

import numpy as np
import numpy.typing as npt

QUANTILE_LEVELS = (0.1, 0.5, 0.9)
COVERAGE = 0.8  # P10…P90
_NARROWEST, _WIDEST = 0.5, 2.0  # a factor beyond says that the model is broken, not that it needs stretching

Floats = npt.NDArray[np.float64]


def width_factors(actual: Floats, quantiles: Floats) -> Floats:
    """(n_horizons,) by which to stretch the band so that COVERAGE of actual lies inside.

    actual: (n_windows, n_horizons). quantiles: (n_windows, n_horizons, 3), the model's units. Without windows every factor is 1.
    """
    n_windows, n_horizons = actual.shape
    if n_windows == 0:
        return np.ones(n_horizons)
    p10, p50, p90 = np.moveaxis(quantiles, 2, 0)
    half = np.where(actual >= p50, p90 - p50, p50 - p10)
    score = np.abs(actual - p50) / np.maximum(half, 1e-9)  # inside the stretched band: score <= factor
    rank = min(int(np.ceil(COVERAGE * (n_windows + 1))), n_windows) - 1
    factors: Floats = np.clip(np.sort(score, axis=0)[rank], _NARROWEST, _WIDEST)
    return factors


def stretched(quantiles: Floats, factors: Floats) -> Floats:
    """quantiles (…, n_horizons, 3) with P10 and P90 moved to factor times their distance from P50."""
    median = quantiles[..., 1:2]
    stretched: Floats = median + (quantiles - median) * factors[:, None]
    return stretched


def coverage(actual: Floats, quantiles: Floats) -> float:
    """Share of actual (n, h) within P10…P90 of quantiles (n, h, 3); NaN without any."""
    inside = (actual >= quantiles[..., 0]) & (actual <= quantiles[..., 2])
    return float(inside.mean()) if inside.size else float("nan")


def pinball(actual: Floats, quantiles: Floats) -> Floats:
    """(…) mean pinball loss over the quantiles: max(q e, (q - 1) e), e = actual - forecast (Koenker, Bassett 1978).

    actual: (…), quantiles: (…, 3), same units.
    """
    error = actual[..., None] - quantiles
    levels = np.array(QUANTILE_LEVELS)
    loss: Floats = np.maximum(levels * error, (levels - 1) * error).mean(axis=-1)
    return loss


def naive_quantiles(volatility: Floats, horizon_hours: int) -> Floats:
    """(n, horizon_hours, 3) log returns of a random walk with the given volatility, per √hour (n,).

    The last value stays the likeliest, and the band is normal: ∓1.2816 volatility √h (RiskMetrics 1996, with its decay of
    0.94 where volatility is the exponentially weighted one).
    """
    normal = np.array([-1.2815515655446004, 0.0, 1.2815515655446004])
    spread = volatility[:, None] * np.sqrt(np.arange(1, horizon_hours + 1))
    quantiles: Floats = spread[..., None] * normal
    return quantiles
