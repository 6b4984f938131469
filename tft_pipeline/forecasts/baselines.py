"""Forecasts without a model: what a model must beat. Each has predict's interface and obeys the same calendar."""

from datetime import datetime

import numpy as np
import pandas as pd

from tft_pipeline.forecasts.frames import issued_within, quantile_rows
from tft_pipeline.training.calibration import naive_quantiles
from tft_pipeline.training.windows import Panel

BASELINE_ID = "baseline-ewma"


def naive(
    features: pd.DataFrame, calendar: pd.DataFrame, horizon_hours: int, *, start: datetime, end: datetime
) -> pd.DataFrame:
    """contracts.QUANTILES for each held bar with start <= bar_end < end: the last value, with a normal band.

    P50 is 0; P10 and P90 are ∓1.2816 volatility_ewma √h (RiskMetrics 1996). Nothing is fitted, so it never knows that a
    night moves prices more than an hour does; a model should.
    """
    panel = Panel.from_frames(features, calendar, observed=(), known=())
    allowed = panel.forecastable(encoder_bars=1, horizon_hours=horizon_hours) & issued_within(panel, start, end)
    origins = np.flatnonzero(allowed.ravel()).astype(np.int64)
    quantiles = naive_quantiles(panel.volatility_ewma.ravel()[origins], horizon_hours)
    return quantile_rows(BASELINE_ID, panel, origins, quantiles)
