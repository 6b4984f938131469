"""The schedule and the sensor on a real database: what they ask for, and the sentences with which they do not."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import create_run_for_test

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import DRIFT, FEATURES, MODELS
from tft_pipeline.orchestration import processes, refreshes
from tft_pipeline.orchestration.healing import Step
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.schedules import RANGE_END, RANGE_START, WATCHED, hourly_refresh
from tft_pipeline.orchestration.sensors import drift_sensor
from tft_pipeline.orchestration.upkeep_schedule import daily_upkeep
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.slices import write

NOW = datetime(2026, 1, 8, 15, 3, tzinfo=UTC)


@pytest.fixture
def pipeline(database: Database, tmp_path: Path) -> Callable[..., Pipeline]:
    """A pipeline on an empty, migrated database, shown the world up to NOW."""

    def made(**values: Any) -> Pipeline:
        settings: Settings = config.load(home=tmp_path, **{"start": START, **values})
        return Pipeline(settings, database=database, until=NOW)

    return made


@pytest.fixture(scope="module", autouse=True)
def on_disk() -> Iterator[None]:
    """A schedule's context opens its instance a second time: one in memory will not do, and one on disk takes a second to make."""
    with dg.DagsterInstance.local_temp() as instance:
        _KEPT.append(instance)
        yield
        _KEPT.clear()


_KEPT: list[dg.DagsterInstance] = []


@contextmanager
def kept() -> Iterator[dg.DagsterInstance]:
    """That instance, without a run before and after."""
    (instance,) = _KEPT
    yield instance
    for run in instance.get_runs():
        instance.delete_run(run.run_id)


def tick(pipeline: Pipeline, instance: dg.DagsterInstance | None = None) -> dg.RunRequest | dg.SkipReason:
    with ExitStack() as opened:
        context = dg.build_schedule_context(
            instance=instance or opened.enter_context(kept()),
            scheduled_execution_time=pipeline.now(),
            resources={"pipeline": pipeline},
        )
        found: dg.RunRequest | dg.SkipReason = hourly_refresh(context)
        return found


def said(found: object) -> str:
    assert isinstance(found, dg.SkipReason)
    return str(found.skip_message)


def look(pipeline: Pipeline, going: dg.DagsterRunStatus | None = None) -> dg.SensorResult | dg.SkipReason:
    """What the drift sensor says; going: beside a training in this state."""
    with dg.DagsterInstance.ephemeral() as instance:
        if going is not None:
            create_run_for_test(instance, job_name="retrain", status=going)
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
    write(database, {FEATURES: FEATURES.empty()}, [day.date()], run_id="r", code_version="0")


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


START = date(2025, 12, 1)
DAYS = [START + timedelta(days=n) for n in range(39)]  # to 2026-01-08, today


def test_an_empty_database_is_refreshed_from_the_beginning(pipeline: Callable[..., Pipeline]) -> None:
    request = tick(pipeline())
    assert isinstance(request, dg.RunRequest)
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("2025-12-01", "2026-01-08")
    assert request.tags["tft/reason"] == "2025-12-01 is missing or incomplete; 39 days are behind"
    assert request.run_key == "2026-01-08T15:03"


def test_after_any_downtime_one_run_covers_what_is_missing(
    pipeline: Callable[..., Pipeline], database: Database
) -> None:
    filled(database, DAYS[:20], NOW)
    request = tick(pipeline())
    assert isinstance(request, dg.RunRequest)
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("2025-12-21", "2026-01-08")


def test_a_gap_in_the_middle_is_found(pipeline: Callable[..., Pipeline], database: Database) -> None:
    filled(database, [day for day in DAYS if day != DAYS[9]], NOW)
    request = tick(pipeline())
    assert isinstance(request, dg.RunRequest)
    assert request.tags[RANGE_START] == "2025-12-10"


def test_one_table_that_is_behind_is_enough(pipeline: Callable[..., Pipeline], database: Database) -> None:
    filled(database, DAYS, NOW)
    with database.connect() as connection:
        connection.execute("DELETE FROM ops.slices WHERE table_name = 'forecasts.scores' AND slice_day = '2025-12-24'")
    request = tick(pipeline())
    assert isinstance(request, dg.RunRequest)
    assert request.tags[RANGE_START] == "2025-12-24"


def test_nothing_stale_is_a_sentence(pipeline: Callable[..., Pipeline], database: Database) -> None:
    filled(database, DAYS, NOW)
    assert said(tick(pipeline())) == "all 39 days from 2025-12-01 to 2026-01-08 are complete up to 15:00 UTC"


def test_a_history_that_ended_is_completed_and_then_asks_for_nothing(
    pipeline: Callable[..., Pipeline], database: Database
) -> None:
    ended = pipeline(end=DAYS[9])
    request = tick(ended)
    assert isinstance(request, dg.RunRequest)
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("2025-12-01", "2025-12-10")
    filled(database, DAYS[:10], NOW)
    assert said(tick(ended)) == (
        "all 10 days from 2025-12-01 to 2025-12-10 are complete, and history ends there: nothing new can come"
    )


def test_before_the_first_hour_is_due_there_is_nothing_to_do(pipeline: Callable[..., Pipeline]) -> None:
    shown = pipeline(start=date(2026, 1, 8))
    shown.until = datetime(2026, 1, 8, 0, 13, tzinfo=UTC)
    shown.bars.delay = timedelta(minutes=15)
    assert said(tick(shown)) == "history begins on 2026-01-08, of which nothing is due yet at 2026-01-08 00:13 UTC"


def asked(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    *,
    job: str = "refresh",
    first: date = DAYS[-1],
    last: date = DAYS[-1],
    at: datetime = NOW,
    **tags: str,
) -> dg.DagsterRun:
    """A run as the schedule's requests leave it."""
    step = Step((first, last), "", through=DAYS[-1])
    known = refreshes.tags(step, today=DAYS[-1], asked_at=at, code_version=Pipeline.code_version)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "all"), job)
    return create_run_for_test(
        instance, job_name=job, status=status, tags={**known, **tags}, remote_job_origin=origin, job_code_origin=None
    )


@pytest.mark.parametrize(
    ("job", "status"),
    [
        *(("refresh", status) for status in ("QUEUED", "STARTING", "STARTED", "CANCELING")),
        ("history", "STARTED"),
        ("outcome", "STARTED"),
    ],
)
def test_no_second_refresh_is_asked_for_beside_one_that_is_going(
    pipeline: Callable[..., Pipeline], job: str, status: str
) -> None:
    with kept() as instance:
        run = asked(instance, dg.DagsterRunStatus[status], job=job)
        skip = said(tick(pipeline(), instance))
    assert skip.startswith(f"{job} run {run.run_id[:8]} (2026-01-08 to 2026-01-08) is {status.lower()} since ")
    assert skip.endswith(": the next refresh waits for its end")


@pytest.fixture(scope="module")
def dead() -> dict[str, str]:
    """The tags of a command line's run whose process was killed."""
    code = "import json; from tft_pipeline.orchestration import processes; print(json.dumps(processes.tags()))"
    tags: dict[str, str] = json.loads(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    )
    return tags


@pytest.mark.parametrize("job", refreshes.WRITING_JOBS)
def test_a_command_line_that_was_killed_holds_nothing_up_and_one_that_goes_on_does(
    pipeline: Callable[..., Pipeline], dead: dict[str, str], job: str
) -> None:
    with kept() as instance:
        live = create_run_for_test(instance, job_name=job, status=dg.DagsterRunStatus.STARTED, tags=processes.tags())
        create_run_for_test(instance, job_name=job, status=dg.DagsterRunStatus.STARTED, tags=dead)
        assert said(tick(pipeline(), instance)).startswith(f"{job} run {live.run_id[:8]} (no days) is started since ")
        instance.report_run_failed(live)
        assert isinstance(tick(pipeline(), instance), dg.RunRequest)


def test_a_demo_that_was_killed_holds_up_no_upkeep(pipeline: Callable[..., Pipeline], dead: dict[str, str]) -> None:
    night = datetime(2026, 1, 8, 2, 37, tzinfo=UTC)
    with kept() as instance:
        create_run_for_test(instance, job_name="upkeep", status=dg.DagsterRunStatus.STARTED, tags=dead)
        assert isinstance(nightly(night, pipeline(), instance), dg.RunRequest)


def test_a_run_that_the_daemon_died_before_launching_holds_nothing_up(pipeline: Callable[..., Pipeline]) -> None:
    with kept() as instance:
        asked(instance, dg.DagsterRunStatus.NOT_STARTED)
        assert isinstance(tick(pipeline(), instance), dg.RunRequest)


def test_a_failed_run_is_asked_for_again_in_the_same_hour_under_another_key(pipeline: Callable[..., Pipeline]) -> None:
    shown = pipeline()
    with kept() as instance:
        asked(instance, dg.DagsterRunStatus.FAILURE, at=NOW)
        assert "the newest refresh failed; the next is asked for at 2026-01-08 15:13 UTC" in said(tick(shown, instance))
        shown.until = NOW + timedelta(minutes=10)
        request = tick(shown, instance)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "2026-01-08T15:13"


def test_a_crashed_run_that_dagster_retries_by_itself_is_waited_for(pipeline: Callable[..., Pipeline]) -> None:
    shown = pipeline()
    shown.until = NOW + timedelta(hours=2)
    with kept() as instance:
        run = asked(instance, dg.DagsterRunStatus.FAILURE, **{WILL_RETRY_TAG: "true"})
        assert "crashed, and Dagster is about to retry it" in said(tick(shown, instance))
        instance.add_run_tags(run.run_id, {AUTO_RETRY_RUN_ID_TAG: "another"})
        assert isinstance(tick(shown, instance), dg.RunRequest)


def test_a_day_given_up_is_named_while_younger_ones_go_on(
    pipeline: Callable[..., Pipeline], database: Database
) -> None:
    filled(database, [day for day in DAYS if day != DAYS[9]], NOW)
    with kept() as instance:
        for hour in range(8):
            at = NOW - timedelta(days=2, hours=hour)
            asked(instance, dg.DagsterRunStatus.FAILURE, first=DAYS[9], last=DAYS[9], at=at)
        asked(instance, dg.DagsterRunStatus.SUCCESS, at=NOW - timedelta(hours=1))
        skip = said(tick(pipeline(), instance))
        assert skip.startswith("2025-12-10: given up after 8 runs of this version")
        with database.connect() as connection:
            connection.execute(
                "UPDATE ops.slices SET reaches_to = '2026-01-08 14:00+00' WHERE slice_day = '2026-01-08'"
            )
        request = tick(pipeline(), instance)
    assert isinstance(request, dg.RunRequest)
    assert request.tags[RANGE_START] == "2026-01-08"


def test_what_retention_took_out_is_not_loaded_again(pipeline: Callable[..., Pipeline], database: Database) -> None:
    filled(database, DAYS[31:], NOW)  # January
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO ops.retired (kept_as, table_name, month, row_count, ledger) VALUES ('retired.b', 'market.bars', '2025-12-01', 0, '[]')"
        )
    assert said(tick(pipeline())) == "all 39 days from 2025-12-01 to 2026-01-08 are complete up to 15:00 UTC"


def nightly(now: datetime, pipeline: Pipeline, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    pipeline.until = now
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=now, resources={"pipeline": pipeline}
    )
    found: dg.RunRequest | dg.SkipReason = daily_upkeep(context)
    return found


def kept_up(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, at: datetime) -> None:
    create_run_for_test(instance, job_name="upkeep", status=status, tags={refreshes.ASKED_AT: at.isoformat()})


def test_a_machine_that_slept_at_night_keeps_up_once_when_it_wakes(pipeline: Callable[..., Pipeline]) -> None:
    shown, morning = pipeline(), datetime(2026, 1, 8, 9, 37, tzinfo=UTC)
    with kept() as instance:
        kept_up(instance, dg.DagsterRunStatus.SUCCESS, datetime(2026, 1, 4, 2, 37, tzinfo=UTC))
        request = nightly(morning, shown, instance)
        assert isinstance(request, dg.RunRequest)
        assert request.run_key == "2026-01-08T09:37"
        kept_up(instance, dg.DagsterRunStatus.SUCCESS, morning)
        skip = said(nightly(morning + timedelta(hours=1), shown, instance))
        assert skip == "done at 2026-01-08 09:37 UTC; again from 2026-01-09 02:37 UTC on"
        assert isinstance(nightly(datetime(2026, 1, 9, 1, 37, tzinfo=UTC), shown, instance), dg.SkipReason)
        assert isinstance(nightly(datetime(2026, 1, 9, 2, 37, tzinfo=UTC), shown, instance), dg.RunRequest)


def test_upkeep_that_fails_is_tried_five_times_a_night(pipeline: Callable[..., Pipeline]) -> None:
    shown, night = pipeline(), datetime(2026, 1, 8, 2, 37, tzinfo=UTC)
    with kept() as instance:
        for hour in range(5):
            assert isinstance(nightly(night + timedelta(hours=hour), shown, instance), dg.RunRequest)
            kept_up(instance, dg.DagsterRunStatus.FAILURE, night + timedelta(hours=hour))
        assert "the last 5 runs since 2026-01-08 02:37 UTC failed" in said(
            nightly(night + timedelta(hours=5), shown, instance)
        )
        kept_up(instance, dg.DagsterRunStatus.STARTED, night)
        assert "is going since 2026-01-08 02:37 UTC" in said(nightly(night + timedelta(days=1), shown, instance))


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


def test_after_a_downtime_the_sensor_waits_for_the_refresh(
    pipeline: Callable[..., Pipeline], database: Database
) -> None:
    trained(database, NOW - timedelta(days=30))
    drifted(database, datetime(2026, 1, 4, tzinfo=UTC), share=0.5)
    skip = look(pipeline())
    assert said(skip) == "features.hourly of 2026-01-07 is not complete yet: the hourly refresh comes first"


def test_no_second_training_is_asked_for_beside_one_that_is_going(
    pipeline: Callable[..., Pipeline], database: Database
) -> None:
    trained(database, NOW - timedelta(days=30))
    drifted(database, datetime(2026, 1, 7, tzinfo=UTC), share=0.5)
    assert "is in progress" in said(look(pipeline(), dg.DagsterRunStatus.STARTED))
