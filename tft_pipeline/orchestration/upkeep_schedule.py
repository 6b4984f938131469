"""The night clock: once a day, months ahead, retention, statistics and figures. Apart from the hourly refresh: neither waits for the other.

Level-triggered as well: a machine that sleeps at night does it when it wakes, once, and a night that failed is tried again.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from tft_pipeline.orchestration.jobs import upkeep
from tft_pipeline.orchestration.refreshes import ASKED_AT, at_work
from tft_pipeline.orchestration.resources import Pipeline

NIGHT = timedelta(hours=2, minutes=37)  # between two refreshes
MOST_TRIES = 5  # a night
_FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dg.schedule(
    name="daily_upkeep",
    job=upkeep,
    cron_schedule="37 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Once a day, from 02:37 UTC on: partitions made ahead, months past retention put aside, statistics and figures.",
)
def daily_upkeep(
    context: dg.ScheduleEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.RunRequest | dg.SkipReason:
    now = pipeline.now()
    night = _night_before(now)
    for record in at_work(context.instance, upkeep.name):
        return dg.SkipReason(
            f"upkeep run {record.dagster_run.run_id[:8]} is going since {_asked_at(record):%Y-%m-%d %H:%M} UTC"
        )
    for record in _newest(context.instance, [dg.DagsterRunStatus.SUCCESS], 1):
        if _asked_at(record) >= night:
            again = night + timedelta(days=1)
            return dg.SkipReason(
                f"done at {_asked_at(record):%Y-%m-%d %H:%M} UTC; again from {again:%Y-%m-%d %H:%M} UTC on"
            )
    failed = [record for record in _newest(context.instance, _FAILED, MOST_TRIES) if _asked_at(record) >= night]
    if len(failed) >= MOST_TRIES:
        return dg.SkipReason(
            f"the last {len(failed)} runs since {night:%Y-%m-%d %H:%M} UTC failed: see run {failed[0].dagster_run.run_id[:8]}; tried again "
            "the next night, or by hand"
        )
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y-%m-%dT%H:%M}", tags={ASKED_AT: now.isoformat()})


def _night_before(now: datetime) -> datetime:
    tonight = datetime(now.year, now.month, now.day, tzinfo=UTC) + NIGHT
    return tonight if tonight <= now else tonight - timedelta(days=1)


def _newest(instance: dg.DagsterInstance, statuses: list[dg.DagsterRunStatus], limit: int) -> list[dg.RunRecord]:
    return list(instance.get_run_records(dg.RunsFilter(job_name=upkeep.name, statuses=statuses), limit=limit))


def _asked_at(record: dg.RunRecord) -> datetime:
    """When it was asked for; of a run that a person launched, when it was made."""
    asked = record.dagster_run.tags.get(ASKED_AT)
    return datetime.fromisoformat(asked) if asked else record.create_timestamp
