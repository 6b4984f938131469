"""What the trading calendar alone says of a bar: known for any future bar, hence the only future that a forecast may see."""

from typing import Any

import numpy as np
import pandas as pd

from tft_pipeline.contracts import KNOWN_FEATURES


def known_features(grid: pd.DataFrame) -> pd.DataFrame:
    """bar_start, bar_end and the KNOWN_FEATURES, a row for each of grid.

    grid: expected bars, ascending: bar_start, bar_end, session_open, session_close, previous_bar_end (of the bar expected before, not
    of the one that happened: a missing bar must not show in what was known ahead).
    """
    since_open = (grid["bar_end"] - grid["session_open"]).dt.total_seconds() / 3600
    length = (grid["session_close"] - grid["session_open"]).dt.total_seconds() / 3600
    gap = (grid["bar_start"] - grid["previous_bar_end"]).dt.total_seconds() / 3600
    hour, weekday, month = (
        since_open / 24,
        grid["session_open"].dt.dayofweek / 7,
        (grid["session_open"].dt.month - 1) / 12,
    )
    circles = {"hour": hour, "weekday": weekday, "month": month}
    values: dict[str, Any] = {"bar_start": grid["bar_start"], "bar_end": grid["bar_end"]}
    for name, turn in circles.items():
        values[f"{name}_sin"] = np.sin(2 * np.pi * turn)
        values[f"{name}_cos"] = np.cos(2 * np.pi * turn)
    values["session_progress"] = (since_open / length).clip(0.0, 1.0)
    values["hours_since_previous_bar"] = np.log1p(gap.clip(lower=0.0))
    return pd.DataFrame(values)[["bar_start", "bar_end", *(column.name for column in KNOWN_FEATURES)]]
