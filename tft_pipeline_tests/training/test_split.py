import numpy as np
import pytest

from tft_pipeline.errors import TrainingError
from tft_pipeline.training import split as split_module
from tft_pipeline.training.split import split_by_time
from tft_pipeline.training.windows import Panel
from tft_pipeline_tests.training.examples import calendar_of, features_of


def panel(n_held: int = 100, tickers: int = 2) -> Panel:
    calendar = calendar_of(n_held + 5)
    return Panel.from_frames(
        features_of(calendar.iloc[:n_held], tickers=tickers), calendar, observed=("return_1h",), known=("hour_sin",)
    )


def test_no_return_is_seen_from_both_sides() -> None:
    parts = split_by_time(panel(), encoder_bars=10, horizon_hours=4, validation_share=0.2)
    # Origins 9 … 95 (87 bars); the newest fifth begins at bar 9 + int(0.8 * 87) = 78; training targets end at bar 77.
    assert parts.validation_begins == 78
    assert np.unique(parts.validation % 105).tolist() == list(range(78, 96))
    assert np.unique(parts.training % 105).tolist() == list(range(9, 74))
    assert (parts.training % 105).max() + 4 < parts.validation_begins


def test_too_little_history_says_how_much_there_is() -> None:
    with pytest.raises(
        TrainingError, match=r"too little history to train on: 2 ticker\(s\), at most 20 bars each, 5 bars that may"
    ):
        split_by_time(panel(20), encoder_bars=12, horizon_hours=4, validation_share=0.2)


def test_no_history_is_too_little() -> None:
    with pytest.raises(TrainingError, match=r"0 ticker\(s\)"):
        split_by_time(panel(30).from_frames(features_of(calendar_of(1)).iloc[:0], calendar_of(1), observed=(), known=()),
                      encoder_bars=4, horizon_hours=1, validation_share=0.2)  # fmt: skip


def test_a_long_validation_part_is_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_module, "MOST_VALIDATION", 10)
    parts = split_by_time(panel(), encoder_bars=10, horizon_hours=4, validation_share=0.2)
    assert len(parts.validation) == 9  # of 36
    assert len(np.unique(np.diff(parts.validation[:4]))) == 1
