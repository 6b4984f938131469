"""The night clock: once a day, months ahead, retention, statistics and figures. Apart from the hourly refresh: neither waits for the other."""

import dagster as dg

from tft_pipeline.orchestration.jobs import upkeep

daily_upkeep = dg.ScheduleDefinition(
    name="daily_upkeep",
    job=upkeep,
    cron_schedule="37 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="At 02:37 UTC, between two refreshes: partitions made ahead, months past retention put aside, statistics and figures.",
)
