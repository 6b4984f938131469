"""What Dagster's record of runs must never show, whoever launched them: judged from the record alone."""

from collections.abc import Collection, Sequence
from itertools import combinations

import dagster as dg
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG

from tft_pipeline.orchestration.processes import PROCESS

SPARE_SECONDS = 60.0  # beyond a run's maximum runtime, until it has ended
WAITING_SECONDS = 60.0  # from when nothing stood in a run's way until it has started
BACK_SECONDS = 40.0  # what was killed is back within this, and Dagster asks a code server again that it did not reach


def maximum(run: dg.DagsterRun, of_all: float) -> float:
    """The seconds that the run may take: its own tag's, else of_all."""
    return float(run.tags.get(MAX_RUNTIME_SECONDS_TAG, of_all))


def past_maximum(records: Sequence[dg.RunRecord], of_all: float, now: float) -> list[str]:
    """Runs that were, or are, in progress for longer than they may."""
    return [
        f"{_name(record)} was in progress for {seconds:.0f} s, and may be for {may:g} s + {SPARE_SECONDS:g} s"
        for record in records
        if (seconds := in_progress(record, now)) > (may := maximum(record.dagster_run, of_all)) + SPARE_SECONDS
    ]


def in_progress(record: dg.RunRecord, now: float) -> float:
    """Seconds from start to end, or to now; 0 for a run that never started."""
    return (record.end_time or now) - record.start_time if record.start_time else 0.0


def longest_wait(records: Sequence[dg.RunRecord], kills: Collection[float], now: float) -> tuple[float, str]:
    """Seconds, and whose: from when a run was asked for, the one before it had ended and what was killed was back, to its start.

    A pool's place that somebody still held, though all that had it ended, would keep the next run waiting for ever.
    """
    waits = [(0.0, "")]
    for record in records:
        if not _pools(record):
            continue
        queued = record.dagster_run.status is dg.DagsterRunStatus.QUEUED
        started = now if queued else record.start_time
        if not started:  # it ended before, or is being started: then it waits for no place
            continue
        ends = [other.end_time for other in records if other is not record and other.end_time]
        back = [min(kill + BACK_SECONDS, started) for kill in kills if kill <= started]
        free = max([record.create_timestamp.timestamp(), *(end for end in ends if end <= started), *back])
        waits.append((started - free, _name(record)))
    return max(waits)


def kept_waiting(records: Sequence[dg.RunRecord], kills: Collection[float], now: float) -> list[str]:
    seconds, name = longest_wait(records, kills, now)
    return [f"{name} waited {seconds:.0f} s with nothing in its way"] if seconds > WAITING_SECONDS else []


def together(records: Sequence[dg.RunRecord], now: float) -> list[str]:
    """Runs in progress at the same time, though they share a pool, each of which has one place. A command line's asks for none."""
    started = [record for record in records if record.start_time]
    return [
        f"{_name(one)} and {_name(other)} were in progress at the same time, and share {', '.join(sorted(shared))}"
        for one, other in combinations(started, 2)
        if (shared := _pools(one) & _pools(other)) and _overlap(one, other, now)
    ]


def _overlap(one: dg.RunRecord, other: dg.RunRecord, now: float) -> bool:
    begins = max(one.start_time or now, other.start_time or now)
    return begins < min(one.end_time or now, other.end_time or now)


def _pools(record: dg.RunRecord) -> set[str]:
    """That the run has to wait for."""
    run = record.dagster_run
    if PROCESS in run.tags or run.run_op_concurrency is None:
        return set()
    return set(run.run_op_concurrency.all_pools or ())


def _name(record: dg.RunRecord) -> str:
    run = record.dagster_run
    return f"{run.job_name} {run.run_id[:8]} ({run.status.value})"
