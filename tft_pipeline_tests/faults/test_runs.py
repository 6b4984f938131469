"""What the judges of Dagster's record of runs say of records made by hand."""

from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import RunOpConcurrency

from tft_pipeline.orchestration.processes import PROCESS
from tft_pipeline_tests.faults.runs import kept_waiting, longest_wait, past_maximum, together

SUCCESS, FAILURE, STARTED, QUEUED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.QUEUED,
)


def record(
    asked: float,
    started: float | None,
    ended: float | None,
    status: dg.DagsterRunStatus = SUCCESS,
    *,
    pool: str = "gpu",
    tags: dict[str, str] | None = None,
) -> dg.RunRecord:
    """Moments in seconds since 1970."""
    wants = RunOpConcurrency(all_pools={pool}, root_key_counts={}, has_unconstrained_root_nodes=False) if pool else None
    begun, over = (None if one is None else float(one) for one in (started, ended))
    moment = datetime.fromtimestamp(asked, UTC)
    run = dg.DagsterRun("retrain", tags=tags, run_op_concurrency=wants)._replace(status=status)
    return dg.RunRecord(
        storage_id=1, dagster_run=run, create_timestamp=moment, update_timestamp=moment, start_time=begun, end_time=over
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "tags", "late"),
    [
        (None, {}, True),  # 121 s by now, and may be for 60 + 60
        (221, {}, True),
        (220, {}, False),
        (None, {"dagster/max_runtime": "62"}, False),
        (165, {"dagster/max_runtime": "3"}, True),
    ],
)
def test_a_run_may_be_in_progress_for_its_own_maximum_and_a_minute(
    ended: float | None, tags: dict[str, str], late: bool
) -> None:
    one = record(90, 100, ended, STARTED if ended is None else FAILURE, tags=tags)
    assert bool(past_maximum([one], 60, now=221)) is late


def test_a_run_that_never_started_is_past_no_maximum() -> None:
    assert past_maximum([record(0, None, None, QUEUED), record(0, None, 5, FAILURE)], 60, now=1000) == []


def test_a_run_waits_from_when_the_one_before_it_has_ended() -> None:
    before, after = record(10, 20, 90, FAILURE), record(30, 100, 110)
    assert longest_wait([before, after], [], now=200)[0] == 10  # both: 10 to 20, and 90 to 100
    assert kept_waiting([before, after], [], now=200) == []


def test_a_run_that_is_queued_still_a_minute_after_the_one_before_it_is_kept_waiting() -> None:
    before, after = record(10, 20, 90, FAILURE), record(30, None, None, QUEUED)
    assert kept_waiting([before, after], [], now=150) == []
    assert kept_waiting([before, after], [], now=151) == [
        f"retrain {after.dagster_run.run_id[:8]} (QUEUED) waited 61 s with nothing in its way"
    ]
    assert longest_wait([before, after], [100.0], now=151)[0] == 11, "what was killed at 100 may take 40 s to come back"
    assert kept_waiting([before, after], [100.0], now=201) != []
    assert kept_waiting([before, record(30, 151, 160)], [], now=200) != []


def test_no_run_waits_that_wants_no_pool_or_that_ended_before_it_started() -> None:
    assert longest_wait([record(0, 500, 510, pool=""), record(0, None, 400, FAILURE)], [], now=900) == (0.0, "")


def test_runs_that_share_a_pool_are_not_in_progress_together() -> None:
    one, next_one, other = record(0, 10, 20), record(0, 20, 30), record(0, 10, 30, pool="yahoo")
    assert together([one, next_one, other], now=100) == []
    (said,) = together([one, record(0, 19, None, STARTED)], now=100)
    assert said.endswith("were in progress at the same time, and share gpu")


def test_a_run_of_the_command_line_waits_for_no_pool() -> None:
    assert together([record(0, 10, 20), record(0, 15, 18, tags={PROCESS: "{}"})], now=100) == []
