"""Small made-up frames by contract, with a planted predictive column, for the tests of training and forecasts."""

from typing import Any

import numpy as np
import pandas as pd

from tft_pipeline import schema
from tft_pipeline.config import TrainingSettings
from tft_pipeline.contracts import FEATURES, KNOWN_FEATURES, OBSERVED_FEATURES

BARS_A_DAY = 7
PLANTED = "sentiment_score"  # leads the next bar's return


def calendar_of(n_bars: int, first_day: str = "2024-01-01") -> pd.DataFrame:
    """n_bars expected bars: seven hourly ones a weekday from 14:00 UTC, with made-up calendar features."""
    days = pd.bdate_range(first_day, periods=-(-n_bars // BARS_A_DAY))
    start = (days.to_numpy()[:, None] + np.arange(14, 14 + BARS_A_DAY) * np.timedelta64(1, "h")).ravel()[:n_bars]
    bar_start = pd.Series(pd.DatetimeIndex(start).as_unit("us").tz_localize("UTC"))
    frame = pd.DataFrame({"bar_start": bar_start, "bar_end": bar_start + pd.Timedelta(hours=1)})
    place = np.arange(n_bars) % BARS_A_DAY
    for column in KNOWN_FEATURES:
        frame[column.name] = 0.0
    frame["hour_sin"], frame["hour_cos"] = np.sin(place), np.cos(place)
    frame["session_progress"] = (place + 1) / BARS_A_DAY
    gap = frame["bar_start"].diff().dt.total_seconds().div(3600).fillna(1.0)
    frame["hours_since_previous_bar"] = np.log1p(gap - 1)
    return frame


def features_of(
    calendar: pd.DataFrame, *, tickers: int = 3, seed: int = 0, strength: float = 0.35, volatility: float = 0.005
) -> pd.DataFrame:
    """contracts.FEATURES of random walks on every bar of calendar; PLANTED has correlation strength with the next bar's return.

    The bar after a night is twice as volatile, and volatility comes in waves that volatility_35h follows.
    """
    random = np.random.default_rng(seed)
    n_bars = len(calendar)
    frames = []
    for i in range(tickers):
        mood = random.uniform(-1, 1, n_bars) * np.sqrt(3)
        lead = np.concatenate([[0.0], mood[:-1]])
        noise = random.standard_normal(n_bars)
        wave = volatility * np.exp(0.5 * np.sin(np.arange(n_bars) / 60 + i))
        night = np.where(np.arange(n_bars) % BARS_A_DAY == 0, 2.0, 1.0)
        returns = wave * night * (strength * lead + np.sqrt(1 - strength**2) * noise)
        values: dict[str, Any] = {
            "ticker": f"T{i:02d}",
            "bar_start": calendar["bar_start"],
            "bar_end": calendar["bar_end"],
            "close": 100 * np.exp(np.cumsum(returns)),
            "log_price": np.cumsum(returns),
        }
        for column in OBSERVED_FEATURES:
            drawn = random.standard_normal(n_bars) * 0.1
            if column.minimum is not None or column.maximum is not None:
                drawn = np.abs(drawn).clip(0, 1) * (-1 if column.maximum == 0 else 1)
            values[column.name] = drawn
        values |= {
            "return_1h": returns,
            "volatility_35h": wave * 1.2,
            "volatility_ewma": wave * 1.2,
            PLANTED: mood / np.sqrt(3),
        }
        for column in KNOWN_FEATURES:
            values[column.name] = calendar[column.name]
        frames.append(pd.DataFrame(values))
    frame = pd.concat(frames, ignore_index=True)[FEATURES.names]
    frame["ticker"] = frame["ticker"].astype("str")
    return schema.validate(frame, FEATURES)


def tiny(**changes: Any) -> TrainingSettings:
    """Settings that train in about a second."""
    small: dict[str, Any] = {
        "encoder_bars": 8, "horizon_hours": 3, "hidden_size": 4, "attention_heads": 1, "dropout": 0.0, "batch_size": 64,
        "max_epochs": 2, "windows_per_epoch": 256, "patience": 2, "learning_rate": 1e-2, "device": "cpu",
        "inputs": ("return_1h", "volatility_35h", PLANTED, "session_progress", "hour_sin"),
    }  # fmt: skip
    return TrainingSettings(**{**small, **changes})
