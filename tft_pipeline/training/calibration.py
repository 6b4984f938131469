"""The last step from a network's quantiles to honest ones, and the losses that judge them: pure maths, shared by fit and forecasts.

On the validation part two things are set right, both with as few numbers as can be:

- The median keeps a share of what the network says, the one with the least loss; the band moves with it. On prices the
  median is mostly noise, and then the share is near 0: "no edge", said plainly.
- One factor a horizon stretches the band around the median until four in five of the actual returns lie inside: split
  conformal prediction with the score |actual - p50| over the half-band on its side (Lei et al. 2018; Romano, Patterson,
  Candès 2019). It never draws the band in: a few calm weeks of validation are no reason to expect calm.

Either step keeps the order of the quantiles.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

QUANTILE_LEVELS = (0.1, 0.5, 0.9)
NORMAL_QUANTILES = (-1.2815515655446004, 0.0, 1.2815515655446004)
COVERAGE = 0.8  # P10…P90
_WIDEST = 2.0  # a factor beyond says that the model is broken, not that it needs stretching

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """median_share: 0…1. width_factors: (n_horizons,), each within 1…_WIDEST."""

    median_share: float
    width_factors: Floats

    @classmethod
    def fit(cls, actual: Floats, quantiles: Floats) -> "Calibration":
        """actual: (n_windows, n_horizons). quantiles: (n_windows, n_horizons, 3), the model's units. n_windows >= 1."""
        share = median_share(actual, quantiles[..., 1])
        return cls(share, width_factors(actual, recentred(quantiles, share)))

    def apply(self, quantiles: Floats) -> Floats:
        """(…, n_horizons, 3) to the same shape."""
        moved = recentred(quantiles, self.median_share)
        median = moved[..., 1:2]
        calibrated: Floats = median + (moved - median) * self.width_factors[:, None]
        return calibrated


def median_share(actual: Floats, median: Floats) -> float:
    """The share s in 0, 0.05 … 1 for which s * median has the least mean absolute error; the smallest of equals."""
    shares = np.linspace(0.0, 1.0, 21)
    losses = [float(np.abs(actual - share * median).mean()) for share in shares]
    return float(shares[int(np.argmin(losses))])


def recentred(quantiles: Floats, share: float) -> Floats:
    """quantiles (…, 3) moved as one so that the median is share of what it was."""
    moved: Floats = quantiles - (1 - share) * quantiles[..., 1:2]
    return moved


def width_factors(actual: Floats, quantiles: Floats) -> Floats:
    """(n_horizons,) by which to stretch the band so that at least COVERAGE of actual lies inside."""
    p10, p50, p90 = np.moveaxis(quantiles, 2, 0)
    half = np.where(actual >= p50, p90 - p50, p50 - p10)
    score = np.abs(actual - p50) / np.maximum(half, 1e-9)  # inside the stretched band: score <= factor
    rank = min(int(np.ceil(COVERAGE * (len(actual) + 1))), len(actual)) - 1
    factors: Floats = np.clip(np.sort(score, axis=0)[rank], 1.0, _WIDEST)
    return factors


def coverage(actual: Floats, quantiles: Floats) -> float:
    """Share of actual (n, h) within P10…P90 of quantiles (n, h, 3); n >= 1."""
    inside = (actual >= quantiles[..., 0]) & (actual <= quantiles[..., 2])
    return float(inside.mean())


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
    spread = volatility[:, None] * np.sqrt(np.arange(1, horizon_hours + 1))
    quantiles: Floats = spread[..., None] * np.array(NORMAL_QUANTILES)
    return quantiles
