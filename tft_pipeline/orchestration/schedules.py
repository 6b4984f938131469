"""The clock: once an hour, whatever is missing or stale among the recent days, oldest first, in one run."""

from datetime import timedelta

import dagster as dg

from tft_pipeline.contracts import BARS, DECISIONS, DRIFT, EQUITY, FEATURES, HOURLY_SENTIMENT, QUANTILES
from tft_pipeline.orchestration.healing import days_to_refresh
from tft_pipeline.orchestration.jobs import refresh
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import Table
from tft_pipeline.storage.audit import reaches_since

LOOKBACK_DAYS = 7
WATCHED: list[Table] = [BARS, HOURLY_SENTIMENT, FEATURES, QUANTILES, DECISIONS, EQUITY, DRIFT]

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dg.schedule(
    job=refresh,
    cron_schedule="3 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Three minutes past each hour: refresh today and repair any of the last seven days that is missing or incomplete.",
)
def hourly_refresh(
    context: dg.ScheduleEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.RunRequest | dg.SkipReason:
    now = context.scheduled_execution_time
    last = min(now.date(), pipeline.settings.end or now.date())
    first = max(now.date() - timedelta(days=LOOKBACK_DAYS), pipeline.settings.start or now.date())
    if first > last:
        return dg.SkipReason(f"the history of {pipeline.settings.market} ends on {last}: nothing new can come")
    stale = days_to_refresh(reaches_since(pipeline.database, first), WATCHED, first=first, last=last, now=now)
    if stale is None:
        return dg.SkipReason(
            f"all {(last - first).days + 1} days from {first} to {last} are complete up to {now:%H}:00 UTC"
        )
    oldest, newest = stale
    return dg.RunRequest(
        run_key=f"{now:%Y-%m-%dT%H}",
        tags={RANGE_START: oldest.isoformat(), RANGE_END: newest.isoformat(), "tft/reason": f"stale since {oldest}"},
    )
