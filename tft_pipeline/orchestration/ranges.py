"""One job over a range of days, in this process, recorded in the instance: what `backfill` and `train` do."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from tft_pipeline.config import Settings
from tft_pipeline.errors import ConfigError
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.partitions import days
from tft_pipeline.orchestration.resources import Pipeline, Progress
from tft_pipeline.orchestration.settling import check_sources, settle
from tft_pipeline.storage.audit import rows_written_by
from tft_pipeline.storage.opening import open_database


def run_range(
    settings: Settings, job: str, first: date, last: date, *, run_config: Mapping[str, Any] | None, progress: Progress
) -> dict[str, Any]:
    """Run job over first to last; its run id, rows written by table, seconds by asset. Raises ConfigError: days that do not exist."""
    check_sources(settings)
    settings = settle(settings)
    known = days(settings).get_partition_keys()
    for day in (first, last):
        if day.isoformat() not in known:
            raise ConfigError(f"{day} is no day of {settings.market}: its days run from {known[0]} to {known[-1]}.")
    with open_database(settings) as database:
        pipeline = Pipeline(settings, database=database, progress=progress)
        with launch.recorded_in(settings, database.dsn) as instance:
            run_id = launch.run(build(settings, pipeline), job, instance, first, last, run_config=run_config)
        written = rows_written_by(database, [run_id])
    return {
        "job": job, "from": first.isoformat(), "to": last.isoformat(), "run_id": run_id, "rows_written": written,
        "seconds": pipeline.seconds, "simulated": settings.simulated,
    }  # fmt: skip
