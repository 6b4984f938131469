"""How good the validation forecasts are, in figures that mean something to a reader, next to the naive forecast's."""

import math
from typing import Any

import numpy as np
from torch import Tensor

from tft_pipeline.training.calibration import Floats, coverage, naive_quantiles, pinball
from tft_pipeline.training.gather import Windows


def measured(windows: Windows, origins: Tensor, quantiles: Floats) -> dict[str, Any]:
    """Figures over the windows at origins (n,), n >= 1. quantiles: (n, H, 3), the model's units, not yet calibrated.

    Pinball losses are in log returns, as in forecasts.scores; skill is 1 - model / naive.
    """
    actual = windows.log_returns(origins).cpu().numpy()  # (n, H)
    forecast = quantiles * windows.units(origins).cpu().numpy()[..., None]
    naive = naive_quantiles(windows.ewma(origins).cpu().numpy(), actual.shape[1])
    of_model, of_naive = pinball(actual, forecast), pinball(actual, naive)
    median = forecast[..., 1]
    moved = (actual != 0) & (median != 0)
    return {
        "validation_pinball": float(of_model.mean()),
        "validation_baseline_pinball": float(of_naive.mean()),
        "validation_skill": _skill(of_model, of_naive),
        "validation_skill_by_horizon": [_skill(of_model[:, h], of_naive[:, h]) for h in range(actual.shape[1])],
        "validation_coverage_80_uncalibrated": coverage(actual, forecast),
        "validation_p50_correlation": _correlation(quantiles[..., 1], actual / windows.units(origins).cpu().numpy()),
        "validation_direction_hit_rate": float((np.sign(actual) == np.sign(median))[moved].mean())
        if moved.any()
        else None,
    }


def _skill(of_model: Floats, of_naive: Floats) -> float | None:
    naive = float(of_naive.mean())
    return 1 - float(of_model.mean()) / naive if naive > 0 else None


def _correlation(left: Floats, right: Floats) -> float | None:
    """Pearson's, None where one side never moves."""
    if left.std() < 1e-12 or right.std() < 1e-12:
        return None
    value = float(np.corrcoef(left.ravel(), right.ravel())[0, 1])
    return value if math.isfinite(value) else None
