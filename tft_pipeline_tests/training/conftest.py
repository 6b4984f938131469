"""One small history and one model fitted on it, shared: a fit costs a second, and nothing here changes it."""

import pandas as pd
import pytest

from tft_pipeline.training.fit import fit
from tft_pipeline.training.trained import TrainedModel
from tft_pipeline_tests.training.examples import calendar_of, features_of, tiny


@pytest.fixture(scope="session")
def calendar() -> pd.DataFrame:
    """300 bars that are held, then 10 ahead."""
    return calendar_of(310)


@pytest.fixture(scope="session")
def features(calendar: pd.DataFrame) -> pd.DataFrame:
    return features_of(calendar.iloc[:300])


@pytest.fixture(scope="session")
def as_of(features: pd.DataFrame) -> pd.Timestamp:
    return features["bar_end"].max()


@pytest.fixture(scope="session")
def model(features: pd.DataFrame, calendar: pd.DataFrame, as_of: pd.Timestamp) -> TrainedModel:
    return fit(features, calendar, tiny(), seed=3, trained_as_of=as_of)
