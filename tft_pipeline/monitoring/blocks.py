"""How far apart two stretches of an autocorrelated series usually lie, measured on contiguous blocks of the series itself.

Hourly features remember hours to weeks, so the tables of a test for independent rows (Kolmogorov-Smirnov, say) would cry wolf every
month. Blocks as long as the recent stretch keep the memory, and whole days of all tickers keep what tickers have in common.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

BINS = 64
BLOCKS = (
    128  # evenly spread over the reference; they overlap, so they are worth only reference / length independent ones
)
FALSE_ALARMS = 0.01  # of one feature on one day, without drift
LEAST_MEMORY = 0.3  # first autocorrelation of a day's errors
SMALLEST_SHIFT = 0.1  # reference deviations; nothing nearer is called drift, however quiet the reference was

_BEYOND = np.array([0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0])  # deviations past the reference's extremes
_P90_DEVIATIONS = 1.2815515655446004

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """statistic: recent against reference. threshold: what it stays below in all but FALSE_ALARMS of the days without drift."""

    statistic: float
    threshold: float


def distance(reference: Floats, days: npt.NDArray[np.intp], recent: Floats, *, recent_days: int) -> Distance:
    """How far recent values lie from the reference's, in the reference's deviations, and how far would be too far.

    reference: (n,) values. days: (n,) the day of each, 0… in order. recent: (m,) values of recent_days days.
    statistic: first Wasserstein distance, the area between the two cumulative distributions; unlike the largest gap between them it
    goes on growing when recent values leave the reference's range. From bins of the reference's quantiles.
    threshold: the same distance between blocks of recent_days and the rest of the reference; their logarithms, taken as normal, bound
    the next one (prediction interval: mean + t × sd × √(1 + 1/k), with k = reference days / recent days independent blocks).
    """
    n_days = int(days.max()) + 1
    scale = _scale(reference)
    edges = _edges(reference, scale)
    widths = np.diff(edges) / scale
    n_bins = len(edges) + 1
    flat = np.bincount(days * n_bins + np.searchsorted(edges, reference, side="right"), minlength=n_days * n_bins)
    summed = np.zeros((n_days + 1, n_bins))
    summed[1:] = flat.reshape(n_days, n_bins).cumsum(axis=0)
    starts = np.unique(np.linspace(0, n_days - recent_days, BLOCKS).astype(int))
    blocks = summed[starts + recent_days] - summed[starts]
    usual = np.log(_wasserstein(blocks, summed[-1] - blocks, widths) + 1e-9)
    independent = n_days / recent_days
    t = student_t(1 - FALSE_ALARMS, max(independent - 1, 2.0))
    bound = math.exp(float(usual.mean()) + t * float(usual.std()) * math.sqrt(1 + 1 / independent))
    found = np.bincount(np.searchsorted(edges, recent, side="right"), minlength=n_bins).astype(np.float64)
    statistic = float(_wasserstein(found[None, :], summed[-1][None, :], widths)[0])
    return Distance(statistic, max(bound, SMALLEST_SHIFT))


def too_far(of_days: Floats, weights: Floats, *, sides: int) -> float:
    """How far the mean of days that remember each other strays from what is expected, by chance, in FALSE_ALARMS of such stretches.

    of_days: (n_days,) daily means, at least 3. weights: (n_days,) rows behind each. sides: 2 when both directions count.
    The days count as n (1 - r) / (1 + r) independent ones; r is their first autocorrelation, corrected for the downward bias
    (1 + 4r) / n of short series (Kendall 1954) and kept within LEAST_MEMORY and 0.9, for a month is too short to rule memory out.
    """
    n = len(of_days)
    share = weights / weights.sum()
    apart = of_days - float((share * of_days).sum())
    squares = float((apart**2).sum())
    measured = float((apart[1:] * apart[:-1]).sum()) / squares if squares > 0 else 0.0
    memory = min(max(measured + (1 + 4 * measured) / n, LEAST_MEMORY), 0.9)
    stretched = (1 + memory) / (1 - memory)
    variance = float(((share * apart) ** 2).sum()) * n / (n - 1) * stretched
    return student_t(1 - FALSE_ALARMS / sides, max(n / stretched - 1, 2.0)) * math.sqrt(variance)


def student_t(probability: float, freedom: float) -> float:
    """Quantile of Student's t (Abramowitz, Stegun 26.7.5): at 99.5 %, 12 % low at 2 degrees of freedom, 3 % at 3, 0.3 % at 6."""
    z = NormalDist().inv_cdf(probability)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def _scale(values: Floats) -> float:
    """A robust deviation; the plain one where most values are equal, 1 where all are."""
    low, high = np.quantile(values, [0.1, 0.9])
    robust = float(high - low) / (2 * _P90_DEVIATIONS)
    plain = float(values.std())
    return next((scale for scale in (robust, plain) if scale > 1e-12), 1.0)


def _edges(values: Floats, scale: float) -> Floats:
    """Quantiles of the values, and a few marks beyond them so that leaving their range shows; what is farther counts as the last."""
    inner = np.quantile(values, np.linspace(0, 1, BINS + 1))
    beyond = _BEYOND * scale
    return np.unique(np.concatenate((inner[0] - beyond[::-1], inner, inner[-1] + beyond)))


def _wasserstein(left: Floats, right: Floats, widths: Floats) -> Floats:
    """(k,) areas between the cumulative shares of two (k, n_bins) counts; widths: (n_bins - 2,) of all bins but the open two."""
    a = left.cumsum(axis=1)[:, :-1] / left.sum(axis=1, keepdims=True)
    b = right.cumsum(axis=1)[:, :-1] / right.sum(axis=1, keepdims=True)
    gaps = np.abs(a - b)
    return np.asarray(((gaps[:, :-1] + gaps[:, 1:]) / 2 * widths).sum(axis=1), dtype=np.float64)
