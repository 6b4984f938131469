"""The schedule and the sensor on a real database: what they ask for, and the sentences with which they do not."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import DRIFT, MODELS
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.schedules import LOOKBACK_DAYS, RANGE_END, RANGE_START, WATCHED, hourly_refresh
from tft_pipeline.orchestration.sensors import drift_sensor
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.slices import write

NOW = datetime(2026, 1, 8, 15, 3, tzinfo=UTC)


@pytest.fixture
def pipeline(database: Database, tmp_path: Path) -> Callable[..., Pipeline]:
    """A pipeline on an empty, migrated database, shown the world up to NOW."""

    def made(**values: Any) -> Pipeline:
        settings: Settings = config.load(home=tmp_path, start=date(2025, 6, 1), **values)
        return Pipeline(settings, database=database, until=NOW)

    return made


def tick(pipeline: Pipeline) -> dg.RunRequest | dg.SkipReason:
    context = dg.build_schedule_context(scheduled_execution_time=NOW, resources={"pipeline": pipeline})
    found: dg.RunRequest | dg.SkipReason = hourly_refresh(context)
    return found


def look(pipeline: Pipeline) -> dg.SensorResult | dg.SkipReason:
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"pipeline": pipeline})
        found: dg.SensorResult | dg.SkipReason = drift_sensor(context)
        return found


def filled(database: Database, days: list[date], reaches_to: datetime) -> None:
    """Every watched table with empty, but written, slices."""
    write(
        database, {table: table.empty() for table in WATCHED}, days, run_id="r", code_version="0", reaches_to=reaches_to
    )


def drifted(database: Database, day: datetime, *, share: float) -> None:
    subjects = [f"feature_{n}" for n in range(10)]
    beyond = [n < share * 10 for n in range(10)]
    frame = pd.DataFrame(
        {
            "subject": pd.Series(subjects, dtype="str"), "day_start": pd.Timestamp(day).as_unit("us"), "model_id": "tft-a",
            "statistic": [0.5 if b else 0.1 for b in beyond], "threshold": 0.3, "drifted": beyond, "reference_rows": 1000, "recent_rows": 100,
        }
    )  # fmt: skip
    write(database, {DRIFT: frame}, [day.date()], run_id="r", code_version="0")


def trained(database: Database, as_of: datetime) -> None:
    row = MODELS.empty()
    row.loc[0] = ["tft-a", pd.Timestamp(as_of), pd.Timestamp(as_of), {}, {}, "f", "0", "s", b"weights"]
    row = row.astype(
        {
            "trained_as_of": "datetime64[us, UTC]",
            "model_id": "str",
            "data_fingerprint": "str",
            "code_version": "str",
            "sha256": "str",
        }
    )
    write(database, {MODELS: row}, [as_of.date()], run_id="r", code_version="0")


def test_an_empty_database_is_refreshed_from_the_oldest_day_looked_back_to(pipeline: Callable[..., Pipeline]) -> None:
    request = tick(pipeline())
    assert isinstance(request, dg.RunRequest)
    assert request.tags[RANGE_START] == (NOW.date() - timedelta(days=LOOKBACK_DAYS)).isoformat()
    assert request.tags[RANGE_END] == "2026-01-08"
    assert request.run_key == "2026-01-08T15"


def test_after_downtime_one_run_covers_what_is_missing(pipeline: Callable[..., Pipeline], database: Database) -> None:
    first = NOW.date() - timedelta(days=LOOKBACK_DAYS)
    filled(database, [first + timedelta(days=n) for n in range(5)], NOW)
    request = tick(pipeline())
    assert isinstance(request, dg.RunRequest)
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("2026-01-06", "2026-01-08")


def test_nothing_stale_is_a_sentence(pipeline: Callable[..., Pipeline], database: Database) -> None:
    filled(database, [NOW.date() - timedelta(days=n) for n in range(LOOKBACK_DAYS + 1)], NOW)
    skip = tick(pipeline())
    assert isinstance(skip, dg.SkipReason)
    assert skip.skip_message == "all 8 days from 2026-01-01 to 2026-01-08 are complete up to 15:00 UTC"


def test_a_history_that_ended_asks_for_nothing(pipeline: Callable[..., Pipeline]) -> None:
    skip = tick(pipeline(market="files:/x", posts="none", end=date(2025, 12, 1)))
    assert isinstance(skip, dg.SkipReason)
    assert "ends on 2025-12-01: nothing new can come" in str(skip.skip_message)


def test_without_drift_rows_the_sensor_says_what_is_missing(pipeline: Callable[..., Pipeline]) -> None:
    skip = look(pipeline())
    assert isinstance(skip, dg.SkipReason)
    assert "monitoring.drift is empty" in str(skip.skip_message)


def test_little_drift_is_reported_with_figures(pipeline: Callable[..., Pipeline], database: Database) -> None:
    trained(database, NOW - timedelta(days=30))
    drifted(database, datetime(2026, 1, 7, tzinfo=UTC), share=0.2)
    skip = look(pipeline())
    assert isinstance(skip, dg.SkipReason)
    assert "2 of 10 features drifted by 2026-01-07" in str(skip.skip_message)


def test_drift_asks_for_a_model_of_yesterday_and_adds_its_partition(
    pipeline: Callable[..., Pipeline], database: Database
) -> None:
    trained(database, NOW - timedelta(days=30))
    drifted(database, datetime(2026, 1, 7, tzinfo=UTC), share=0.5)
    result = look(pipeline())
    assert isinstance(result, dg.SensorResult)
    (request,) = result.run_requests or []
    assert request.partition_key == "2026-01-07"
    assert request.run_key == "drift-20260107-attempt-1"
    assert "5 of 10 features drifted" in request.tags["tft/reason"]
    (added,) = result.dynamic_partitions_requests or []
    assert list(added.partition_keys) == ["2026-01-07"]


def test_a_model_trained_since_ends_the_asking(pipeline: Callable[..., Pipeline], database: Database) -> None:
    drifted(database, datetime(2026, 1, 7, tzinfo=UTC), share=0.5)
    trained(database, datetime(2026, 1, 7, 23, 59, 59, 999999, tzinfo=UTC))
    skip = look(pipeline())
    assert isinstance(skip, dg.SkipReason)
    assert "a model was trained as of 2026-01-07" in str(skip.skip_message)
