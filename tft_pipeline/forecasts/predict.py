"""A model's quantiles for every bar of a stretch of time. The same bits for a bar, whatever else is asked for."""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tft_pipeline.contracts import QUANTILES
from tft_pipeline.errors import LeakageError
from tft_pipeline.forecasts.frames import issued_within, quantile_rows
from tft_pipeline.training.device import place, threads
from tft_pipeline.training.gather import Windows, ticker_codes
from tft_pipeline.training.inference import quantiles_in_units
from tft_pipeline.training.trained import TrainedModel
from tft_pipeline.training.windows import Flags, Panel, left_out


def predict(
    model: TrainedModel, features: pd.DataFrame, calendar: pd.DataFrame, *, start: datetime, end: datetime
) -> pd.DataFrame:
    """contracts.QUANTILES for each held bar with start <= bar_end < end that has a whole enough window behind it.

    features: contracts.FEATURES with at least encoder_bars bars before the first forecast. calendar: all expected bars with
    known features, horizon_hours beyond the last forecast. A ticker that the model never saw is forecast as one without a
    name. What can not be forecast has no row: not_forecast says why. Nothing after a bar moves its forecast.
    Raises ContractError for frames that break their contract, LeakageError for bars that the model was trained on.
    """
    panel = _panel(model, features, calendar)
    window = {"encoder_bars": model.settings.encoder_bars, "horizon_hours": model.settings.horizon_hours}
    origins = np.flatnonzero(_asked(model, panel, start, end).ravel()).astype(np.int64)
    if len(origins) == 0:
        return QUANTILES.empty()
    _refuse_earlier(model, panel, origins)
    where = place(model.settings.device)
    codes = ticker_codes(panel, model.tickers)
    with threads(model.settings.hidden_size):
        windows = Windows(panel, model.observed_scaler, model.known_scaler, codes, **window, device=where.device)
        try:
            quantiles = quantiles_in_units(model.network.to(where.device), windows, origins)
        finally:
            model.network.to("cpu")
        units = windows.units(torch.from_numpy(origins).to(where.device)).cpu().numpy()  # (n, H)
    log_returns = model.calibration.apply(quantiles) * units[..., None]
    return quantile_rows(model.model_id, panel, origins, log_returns)


def not_forecast(
    model: TrainedModel, features: pd.DataFrame, calendar: pd.DataFrame, *, start: datetime, end: datetime
) -> dict[str, str]:
    """{ticker: why predict has no row of it}, by name (FAULTS 37)."""
    panel = _panel(model, features, calendar)
    asked = _asked(model, panel, start, end)
    return left_out(panel, asked, model.settings.encoder_bars, model.settings.horizon_hours)


def _panel(model: TrainedModel, features: pd.DataFrame, calendar: pd.DataFrame) -> Panel:
    return Panel.from_frames(features, calendar, observed=model.observed, known=model.known)


def _asked(model: TrainedModel, panel: Panel, start: datetime, end: datetime) -> Flags:
    allowed = panel.forecastable(model.settings.encoder_bars, model.settings.horizon_hours)
    asked: Flags = allowed & issued_within(panel, start, end)
    return asked


def _refuse_earlier(model: TrainedModel, panel: Panel, origins: npt.NDArray[np.int64]) -> None:
    first = pd.Timestamp(panel.bar_end[(origins % panel.n_bars).min()], tz="UTC")
    if first <= model.trained_as_of:
        raise LeakageError(
            f"{model.model_id} was trained with data up to {model.trained_as_of:%Y-%m-%d %H:%M:%S} UTC and cannot forecast "
            f"issued_at={first}: it has seen what came of it. Ask for bars after that moment, or for an earlier model."
        )
