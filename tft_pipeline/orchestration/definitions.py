"""What Dagster loads: assets over this installation's days, jobs, the schedule and the sensor. Start it with `tft-pipeline up`."""

import dagster as dg

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.orchestration import assets
from tft_pipeline.orchestration.jobs import JOBS
from tft_pipeline.orchestration.partitions import TRAINING_DAYS, days, partitioned
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.schedules import hourly_refresh
from tft_pipeline.orchestration.sensors import drift_sensor, record_reconciler
from tft_pipeline.orchestration.settling import settle
from tft_pipeline.orchestration.upkeep_schedule import daily_upkeep


def build(settings: Settings, pipeline: Pipeline | None = None) -> dg.Definitions:
    """Definitions for these settings. pipeline: given by whoever runs jobs in this very process."""
    return dg.Definitions(
        assets=[
            *partitioned([*assets.HISTORY, *assets.OUTCOME], days(settings)),
            *partitioned(assets.TRAINING, TRAINING_DAYS),
            *assets.UPKEEP,
        ],
        jobs=JOBS,
        schedules=[hourly_refresh, daily_upkeep],
        sensors=[drift_sensor, record_reconciler],
        resources={"pipeline": pipeline or Pipeline(settings)},
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    return build(settle(config.load()))
