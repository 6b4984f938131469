"""Scalers: fitted on the training bars alone, kept with the model, applied alike ever after (FAULTS 36)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LIMIT = 6.0  # deviations: what lies further out tells no more, and must not drive a weight
_TAIL = 0.005  # of either side is drawn in before mean and deviation are taken, so that one bad print does not set the scale
_SMALLEST = 1e-6  # of what is read as a logarithm

# Sizes of moves: always positive, with a long tail, and what matters is their ratio to each other and to the target's unit.
_LOGARITHMIC = ("volatility_", "high_low_range", "average_true_range")


@dataclass(frozen=True)
class Scaler:
    """center, spread: (n_variables,) float64. logarithmic: (n_variables,) whether the logarithm is scaled instead."""

    center: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    logarithmic: npt.NDArray[np.bool_]

    @classmethod
    def fit(cls, rows: npt.NDArray[np.float32], names: Sequence[str]) -> "Scaler":
        """rows: (n_rows, n_variables), finite, n_rows >= 1. A variable that never moves gets spread 1: it stays at 0."""
        logarithmic = np.array([name.startswith(_LOGARITHMIC) for name in names], dtype=np.bool_)
        values = _logs(rows, logarithmic)
        low, high = np.quantile(values, [_TAIL, 1 - _TAIL], axis=0)
        drawn_in = np.clip(values, low, high)
        spread = drawn_in.std(axis=0)
        # A variable that hardly ever moves (mentions of a quiet ticker) may be flat between its tails.
        spread = np.where(spread > 1e-9, spread, values.std(axis=0))
        return cls(drawn_in.mean(axis=0), np.where(spread > 1e-9, spread, 1.0), logarithmic)

    def apply(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(…, n_variables) to the same shape, in deviations, within ±LIMIT; NaN (a bar not held) becomes 0, the mean."""
        scaled = (_logs(values, self.logarithmic) - self.center) / self.spread
        return np.nan_to_num(np.clip(scaled, -LIMIT, LIMIT), nan=0.0).astype(np.float32)


def _logs(values: npt.NDArray[np.float32], logarithmic: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    wide = values.astype(np.float64)
    wide[..., logarithmic] = np.log(np.maximum(wide[..., logarithmic], _SMALLEST))
    return wide
