"""The clock: looks six times an hour at what the ledger lacks, and asks for the oldest of it, one run at a time."""

from datetime import date, datetime

import dagster as dg

from tft_pipeline.contracts import MODELS, TABLES
from tft_pipeline.orchestration.healing import Restated, given_up_sentence, next_step
from tft_pipeline.orchestration.jobs import refresh
from tft_pipeline.orchestration.refreshes import RANGE_END, RANGE_START, going, tags, tries
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import Table
from tft_pipeline.storage.restatements import restated_days
from tft_pipeline.storage.staleness import stale_days

__all__ = ["RANGE_END", "RANGE_START", "WATCHED", "hourly_refresh"]

WATCHED: list[Table] = [table for table in TABLES if table is not MODELS]  # a model is trained when it is asked for


@dg.schedule(
    job=refresh,
    # Six looks, one run: the others find all fresh and say so. They take up what a failure, a late source or a downtime left, the next
    # piece of a long gap among it, within ten minutes instead of an hour.
    cron_schedule="3,13,23,33,43,53 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Each hour's data as soon as they are due; then whatever day since the beginning is missing or incomplete, oldest first; then what its source restated.",
)
def hourly_refresh(
    context: dg.ScheduleEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.RunRequest | dg.SkipReason:
    # A tick that comes late, as after a downtime, looks at what is true now: Dagster catches up on five, and the first one does it all.
    now = pipeline.now()
    settings, today = pipeline.settings, now.date()
    first = settings.start or today
    delay = pipeline.bars.delay
    due = (now - delay).replace(minute=0, second=0, microsecond=0)
    last = min(due.date(), settings.end or today)
    if first > last:
        return dg.SkipReason(f"history begins on {first}, of which nothing is due yet at {now:%Y-%m-%d %H:%M} UTC")
    stale = stale_days(pipeline.reader, WATCHED, first=first, last=last, due=due)
    done = tries(context.instance, code_version=pipeline.code_version)
    restated = [Restated(*found) for found in restated_days(pipeline.reader, first=first, last=last)]
    step = next_step(stale, done, last=last, due=due, delay=delay, now=now, restated=restated)
    if step.given_up:
        context.log.warning(given_up_sentence(step.given_up))
    if step.days is None:
        return dg.SkipReason(step.reason or _complete(first, last, due, ended=last == settings.end))
    if (waits_for := going(context.instance)) is not None:
        return dg.SkipReason(waits_for)
    asked = tags(step, today=today, asked_at=now, code_version=pipeline.code_version)
    # Dagster launches no second run of a key, also not after a failure: so each look has its own, and only a tick that the daemon
    # repeats, because it died within, has the same.
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y-%m-%dT%H:%M}", tags=asked)


def _complete(first: date, last: date, due: datetime, *, ended: bool) -> str:
    days = f"all {(last - first).days + 1} days from {first} to {last} are complete"
    return f"{days}, and history ends there: nothing new can come" if ended else f"{days} up to {due:%H}:00 UTC"
