"""The bars that the trading calendar expects, with their calendar features: the grid of windows, and the only future that is known."""

from datetime import timedelta

import pandas as pd

from tft_pipeline.features.calendar import known_features
from tft_pipeline.market.sessions import infer_phase
from tft_pipeline.orchestration.resources import Pipeline

# Long enough for any horizon: 24 bars are four US sessions, and no market is closed longer than this.
AHEAD_DAYS = 14


def expected_bars(pipeline: Pipeline, features: pd.DataFrame, *, horizon_hours: int) -> pd.DataFrame:
    """Every expected bar from the first of features to horizon_hours beyond its last.

    Returns bar_start, bar_end and the KNOWN_FEATURES, ascending; empty when features are.
    """
    if features.empty:
        return pd.DataFrame()
    first, last = features["bar_start"].min(), features["bar_end"].max()
    grid = pipeline.calendar.bar_grid(
        (first - timedelta(days=AHEAD_DAYS)).date(),
        (last + timedelta(days=AHEAD_DAYS)).date(),
        phase_minutes=infer_phase(features),
    )
    known = known_features(grid)
    kept: pd.DataFrame = known[known["bar_start"] >= first]
    beyond: pd.DataFrame = kept[kept["bar_end"] > last].head(horizon_hours)
    both: pd.DataFrame = pd.concat([kept[kept["bar_end"] <= last], beyond], ignore_index=True)
    return both
