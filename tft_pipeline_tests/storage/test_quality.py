from datetime import UTC, date, datetime

import pytest

from tft_pipeline.contracts import QUALITY
from tft_pipeline.storage.quality import mean_score
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.storage.frames import frame

DAYS = [date(2024, 1, 31), date(2024, 2, 1)]


def test_the_mean_is_of_the_days_asked_for_and_none_where_nothing_was_judged(database):
    rows = frame(QUALITY, DAYS, hours=(0,), tickers=("AAPL", "MSFT")).sort_values("day_start")
    rows["score"] = [0.2, 0.8, 0.4, 0.9]
    write(database, {QUALITY: rows}, DAYS, run_id="r", code_version="1")
    first, second, third = (datetime(2024, *day, tzinfo=UTC) for day in ((1, 31), (2, 1), (2, 2)))
    assert mean_score(database, first, second) == pytest.approx(0.5)
    assert mean_score(database, second, third) == pytest.approx(0.65)
    assert mean_score(database, first, third) == pytest.approx(0.575)
    assert mean_score(database, third, datetime(2024, 3, 1, tzinfo=UTC)) is None
