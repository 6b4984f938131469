"""The refreshes that the schedule asked for so far, as Dagster remembers them: their days, when, and how they ended."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG

from tft_pipeline.orchestration import processes
from tft_pipeline.orchestration.healing import Step, Try

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
THROUGH, ASKED_AT, CODE, REPAIR = "tft/through", "tft/asked_at", "tft/code_version", "tft/repair"

# Whatever writes the slices that a refresh would: the younger of two writers is the one that is heard.
WRITING_JOBS = ("refresh", "history", "outcome")
# Not NOT_STARTED: the daemon died before it could launch that one; when it takes up its tick, it has to be let through to do so.
GOING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_RETRIED_WITHIN = timedelta(minutes=5)
_NEWEST, _MOST = 50, 500


def tags(step: Step, *, today: date, asked_at: datetime, code_version: str) -> Mapping[str, str]:
    """Of the run that does the step: what `tries` will want to know of it."""
    if step.days is None:
        return {}
    first, last = step.days
    found = {
        RANGE_START: first.isoformat(), RANGE_END: last.isoformat(), THROUGH: (step.through or last).isoformat(),
        ASKED_AT: asked_at.isoformat(), CODE: code_version, "tft/reason": step.reason,
    }  # fmt: skip
    return found if first == last == today else {**found, REPAIR: "yes"}


def tries(instance: dg.DagsterInstance, *, code_version: str) -> Sequence[Try]:
    """Refreshes of this version that ended, by when they were asked for: all repairs and failures within reason, of the others the newest."""
    mine = {CODE: code_version}
    asked = (
        (dg.RunsFilter(job_name="refresh", tags=mine), _NEWEST),
        (dg.RunsFilter(job_name="refresh", tags={**mine, REPAIR: "yes"}), _MOST),
        (dg.RunsFilter(job_name="refresh", tags=mine, statuses=_FAILED), _MOST),
    )
    runs = {run.run_id: run for filters, limit in asked for run in instance.get_runs(filters, limit=limit)}
    found = [_try(run) for run in runs.values() if run.is_finished]
    return sorted(found, key=lambda one: one.asked_at)


def going(instance: dg.DagsterInstance) -> str | None:
    """A sentence about the run that a further refresh has to wait for; None where there is none."""
    for job in WRITING_JOBS:
        for record in at_work(instance, job):
            run = record.dagster_run
            return (
                f"{job} run {run.run_id[:8]} ({_days(run)}) is {run.status.value.lower().replace('_', ' ')} since "
                f"{record.update_timestamp:%Y-%m-%d %H:%M} UTC: the next refresh waits for its end"
            )
    newest = instance.get_run_records(dg.RunsFilter(job_name="refresh", statuses=_FAILED), limit=1)
    for record in newest:
        run, ended = record.dagster_run, record.update_timestamp.replace(tzinfo=UTC)
        retried = run.tags.get(WILL_RETRY_TAG) == "true" and AUTO_RETRY_RUN_ID_TAG not in run.tags
        if retried and datetime.now(UTC) - ended < _RETRIED_WITHIN:
            return f"refresh run {run.run_id[:8]} ({_days(run)}) crashed, and Dagster is about to retry it"
    return None


def at_work(instance: dg.DagsterInstance, job: str) -> Sequence[dg.RunRecord]:
    """Runs of the job that are going, newest first. A command line's whose process is gone is not: run monitoring ends it at its next look."""
    records = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=GOING))
    return [record for record in records if not processes.ended(record.dagster_run)]


def _try(run: dg.DagsterRun) -> Try:
    first, last = (date.fromisoformat(run.tags[tag]) for tag in (RANGE_START, RANGE_END))
    return Try(
        first, last, date.fromisoformat(run.tags[THROUGH]), datetime.fromisoformat(run.tags[ASKED_AT]),
        failed=run.status is not dg.DagsterRunStatus.SUCCESS,
    )  # fmt: skip


def _days(run: dg.DagsterRun) -> str:
    if RANGE_START in run.tags:
        return f"{run.tags[RANGE_START]} to {run.tags[RANGE_END]}"
    return run.tags.get("dagster/partition", "no days")
