"""model_drift on a database: nothing before a model serves, what moved once enough has happened, and the same for a day alone."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from tft_pipeline import config
from tft_pipeline.contracts import DRIFT, FEATURES, MODELS, OBSERVED_FEATURES
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.storage.frames import frame
from tft_pipeline_tests.training.examples import calendar_of, features_of

BY = {"run_id": "test", "code_version": "0"}
FIRST = date(2024, 1, 1)  # a Monday
TRAINED = date(2024, 2, 16)  # Friday of the seventh week
LAST = date(2024, 2, 29)
MOVED = "return_1h"
Run = Callable[[date, date], dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, database: Database) -> Iterator[Run]:
    """Runs model_drift over days; the newest day's metadata. A model was trained on seven weeks, after which one feature rose for good."""
    calendar = calendar_of(44 * 7, first_day=FIRST.isoformat())
    rows = features_of(calendar)
    later = rows["bar_start"] >= pd.Timestamp(TRAINED, tz="UTC") + pd.Timedelta(days=1)
    rows.loc[later, MOVED] += 0.05  # ten times its deviation
    days = [FIRST + timedelta(days=i) for i in range((LAST - FIRST).days + 1)]
    write(database, {FEATURES: rows}, days, **BY)
    model = frame(MODELS, [TRAINED], hours=(23,)).assign(model_id="tft-1")
    write(database, {MODELS: model}, [TRAINED], **BY)
    settings = config.load(home=tmp_path, start=FIRST, end=LAST, sentiment={"scorer": "vader"})
    pipeline = Pipeline(settings, database=database)
    job = build(settings, pipeline).resolve_job_def("outcome")
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.ephemeral() as instance:

        def drift(first: date, last: date) -> dict[str, Any]:
            ends = {"range_start": first.isoformat(), "range_end": last.isoformat()}
            chosen: dict[str, Any] = {"tags": {f"dagster/asset_partition_{name}": day for name, day in ends.items()}}
            if first == last:
                chosen = {"partition_key": first.isoformat()}
            done = job.execute_in_process(
                instance=instance, asset_selection=[dg.AssetKey("model_drift")], run_config=quiet, **chosen
            )
            assert done.success
            event = instance.get_latest_materialization_event(dg.AssetKey("model_drift"))
            assert event is not None
            assert event.asset_materialization is not None
            return {name: value.value for name, value in event.asset_materialization.metadata.items()}

        yield drift


def test_before_a_model_there_is_nothing_to_drift_from(run: Run, database: Database) -> None:
    metadata = run(FIRST, TRAINED - timedelta(days=1))
    assert (metadata["rows"], metadata["drifted"]) == (0, 0)
    assert metadata["reason"].startswith("no model has been trained yet")


def test_what_moved_since_the_training_is_named_once_a_week_of_it_is_there(run: Run, database: Database) -> None:
    metadata = run(TRAINED, LAST)
    found = read(database, DRIFT)
    # Five trading days after the Friday: from the next Friday on.
    assert sorted({day.date() for day in found["day_start"]}) == [date(2024, 2, day) for day in (23, 26, 27, 28, 29)]
    assert set(found["model_id"]) == {"tft-1"}
    newest = found[found["day_start"] == found["day_start"].max()]
    # Nothing was scored, so neither skill nor coverage is among them.
    assert set(newest["subject"]) == {column.name for column in OBSERVED_FEATURES}
    assert newest.set_index("subject")["drifted"][MOVED]
    assert newest["drifted"].sum() <= 3
    assert metadata["subjects"] == metadata["rows"] == len(found)
    assert MOVED in metadata["reason"]
    assert metadata["ticker_coverage"] == "drift is judged over the bars of all tickers together"
    assert metadata["quality"] == "none judged yet"


def test_a_day_alone_is_judged_as_in_a_range(run: Run, database: Database) -> None:
    run(TRAINED, LAST)
    ranged = slice_status(database, DRIFT).set_index("day")["content_hash"]
    for day in (date(2024, 2, 23), date(2024, 2, 28)):
        assert run(day, day)["rows_written"] == 0
    assert slice_status(database, DRIFT).set_index("day")["content_hash"].equals(ranged)
