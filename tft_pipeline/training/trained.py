"""A trained model: all that a forecast needs, and what it was made of."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tft_pipeline.config import TrainingSettings
from tft_pipeline.training.calibration import Calibration
from tft_pipeline.training.model import ForecastNetwork
from tft_pipeline.training.scaling import Scaler


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """network: on the CPU, in eval mode. tickers: those it was trained on, in the order of their codes 1, 2, …"""

    model_id: str
    trained_as_of: datetime  # UTC
    settings: TrainingSettings
    seed: int
    tickers: tuple[str, ...]
    observed: tuple[str, ...]
    known: tuple[str, ...]
    observed_scaler: Scaler
    known_scaler: Scaler
    calibration: Calibration
    network: ForecastNetwork
    data_fingerprint: str
    code_version: str
    metrics: dict[str, Any]  # plain JSON: numbers are finite, or None where there is nothing to measure
