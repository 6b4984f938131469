"""What the calendar knows ahead, and a ticker against its universe."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tft_pipeline.contracts import KNOWN_FEATURES
from tft_pipeline.features.calendar import known_features
from tft_pipeline.features.cross_section import cross_section
from tft_pipeline.market.sessions import Calendar
from tft_pipeline_tests.features.bars import at


@pytest.fixture(scope="module")
def new_york() -> Calendar:
    return Calendar("XNYS")


def known(calendar: Calendar, start: date, end: date, phase: int = 0) -> pd.DataFrame:
    return known_features(calendar.bar_grid(start, end, phase_minutes=phase)).set_index("bar_start")


def circle(row: pd.Series, name: str) -> float:
    """The turn, 0…1, that a sine and a cosine stand for."""
    assert np.hypot(row[f"{name}_sin"], row[f"{name}_cos"]) == pytest.approx(1)
    return float(np.arctan2(row[f"{name}_sin"], row[f"{name}_cos"]) / (2 * np.pi) % 1)


def test_known_features_by_hand(new_york):
    table = known(new_york, date(2024, 3, 7), date(2024, 3, 12))
    assert list(table.columns) == ["bar_end", *(column.name for column in KNOWN_FEATURES)]
    second = table.loc[at("2024-03-07 15:00")]  # Thursday, ends 1.5 hours after the open
    assert second["bar_end"] == at("2024-03-07 16:00")
    assert second["hour_sin"] == pytest.approx(np.sin(2 * np.pi * 1.5 / 24))
    assert second["hour_cos"] == pytest.approx(np.cos(2 * np.pi * 1.5 / 24))
    assert second["weekday_sin"] == pytest.approx(np.sin(2 * np.pi * 3 / 7))
    assert second["weekday_cos"] == pytest.approx(np.cos(2 * np.pi * 3 / 7))
    assert second["month_sin"] == pytest.approx(np.sin(2 * np.pi * 2 / 12))
    assert second["month_cos"] == pytest.approx(np.cos(2 * np.pi * 2 / 12))
    assert second["session_progress"] == pytest.approx(1.5 / 6.5)
    assert second["hours_since_previous_bar"] == 0.0
    assert table.loc[at("2024-03-07 20:00"), "session_progress"] == 1.0
    # From 16:00 to 09:00 in New York; over the weekend of 10 March one hour is skipped.
    assert table.loc[at("2024-03-08 14:00"), "hours_since_previous_bar"] == pytest.approx(np.log1p(17))
    assert table.loc[at("2024-03-11 13:00"), "hours_since_previous_bar"] == pytest.approx(np.log1p(64))


def test_the_time_of_day_is_told_by_the_session_whatever_daylight_saving_does(new_york):
    table = known(new_york, date(2024, 3, 8), date(2024, 3, 12))
    friday, monday = table.loc[at("2024-03-08 14:00")], table.loc[at("2024-03-11 13:00")]
    assert circle(friday, "hour") == circle(monday, "hour") == pytest.approx(0.5 / 24)
    assert circle(friday, "weekday") == pytest.approx(4 / 7)
    assert circle(monday, "weekday") == pytest.approx(0, abs=1e-12)


def test_a_half_day_is_over_when_it_closes(new_york):
    table = known(new_york, date(2026, 11, 27), date(2026, 11, 28))
    assert table["session_progress"].tolist() == pytest.approx([0.5 / 3.5, 1.5 / 3.5, 2.5 / 3.5, 1.0])
    own_hour = known(new_york, date(2026, 11, 27), date(2026, 11, 28), phase=30)
    assert own_hour["session_progress"].tolist() == pytest.approx([1 / 3.5, 2 / 3.5, 3 / 3.5, 1.0])


def test_a_market_that_never_closes_has_no_gaps():
    table = known(Calendar("24/7"), date(2024, 12, 30), date(2025, 1, 2))
    assert (table["hours_since_previous_bar"] == 0).all()
    assert table["session_progress"].iloc[:24].tolist() == pytest.approx(list(np.arange(1, 25) / 24))
    assert circle(table.loc[at("2024-12-31 23:00")], "month") == pytest.approx(11 / 12)
    assert circle(table.loc[at("2025-01-01 00:00")], "month") == pytest.approx(0, abs=1e-12)


def test_the_market_is_the_mean_of_those_that_have_a_return():
    rows = pd.DataFrame(
        {
            "ticker": ["AAPL", "AAPL", "BAC", "BAC", "IBM"],
            "bar_start": [at("2024-03-07 15:00"), at("2024-03-07 16:00")] * 2 + [at("2024-03-07 15:00")],
            "return_1h": [0.03, 0.01, -0.01, np.nan, 0.0],
            "return_7h": [0.06, 0.02, 0.01, np.nan, -0.01],
        },
        index=[5, 3, 1, 0, 9],
    )
    values = {name: list(column) for name, column in cross_section(rows).items()}
    assert values["market_return_1h"] == pytest.approx([0.02 / 3, 0.01, 0.02 / 3, 0.01, 0.02 / 3])
    assert values["market_return_7h"] == pytest.approx([0.02, 0.02, 0.02, 0.02, 0.02])
    assert values["relative_return_7h"] == pytest.approx([0.04, 0.0, -0.01, np.nan, -0.03], nan_ok=True)
    assert values["breadth_1h"] == pytest.approx([1 / 3, 1.0, 1 / 3, 1.0, 1 / 3])


def test_a_ticker_alone_is_its_own_market():
    rows = pd.DataFrame(
        {"ticker": ["AAPL"], "bar_start": [at("2024-03-07 15:00")], "return_1h": [0.0], "return_7h": [0.02]}
    )
    values = {name: column.item() for name, column in cross_section(rows).items()}
    assert values == {"market_return_1h": 0.0, "market_return_7h": 0.02, "relative_return_7h": 0.0, "breadth_1h": 0.0}
