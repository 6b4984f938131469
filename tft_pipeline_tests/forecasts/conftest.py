"""A history, and a model fitted on its first part: the rest is there to be forecast."""

import pandas as pd
import pytest

from tft_pipeline.training.fit import fit
from tft_pipeline.training.trained import TrainedModel
from tft_pipeline_tests.training.examples import calendar_of, features_of, tiny


@pytest.fixture(scope="session")
def calendar() -> pd.DataFrame:
    """400 bars that are held, then 10 ahead."""
    return calendar_of(410)


@pytest.fixture(scope="session")
def features(calendar: pd.DataFrame) -> pd.DataFrame:
    return features_of(calendar.iloc[:400])


@pytest.fixture(scope="session")
def as_of(calendar: pd.DataFrame) -> pd.Timestamp:
    """The end of bar 299, newest of the fit."""
    return calendar["bar_end"].iloc[299]


@pytest.fixture(scope="session")
def model(features: pd.DataFrame, calendar: pd.DataFrame, as_of: pd.Timestamp) -> TrainedModel:
    return fit(features[features["bar_end"] <= as_of], calendar, tiny(), seed=3, trained_as_of=as_of)
