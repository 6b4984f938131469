"""Days: the one partition dimension. Hours live in the rows, tickers never become a dimension (docs/decisions/0002)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from tft_pipeline import config
from tft_pipeline.config import Settings


def days(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Every UTC day from settings.start to settings.end, or to today, which exists from its first minute."""
    start = settings.start or config.default_start()
    if settings.end is None:
        return dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_offset=1, timezone="UTC")
    after = settings.end + timedelta(days=1)  # end_date is exclusive
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_date=after.isoformat(), timezone="UTC")


def partitioned(
    assets: Sequence[dg.AssetsDefinition], definition: dg.DailyPartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """The assets over the days of this installation: modules declare what is computed, settings say for which days."""
    return [asset.map_asset_specs(lambda spec: spec.replace_attributes(partitions_def=definition)) for asset in assets]


@dataclass(frozen=True)
class Window:
    """The days of a run: start <= t < end, UTC. `moment` is up to when the world is known: the end, or now where that is earlier."""

    start: datetime
    end: datetime
    moment: datetime

    @property
    def days(self) -> list[date]:
        return [(self.start + timedelta(days=i)).date() for i in range((self.end - self.start).days)]

    def before(self, days: int) -> datetime:
        """The start of a warm-up of so many calendar days."""
        return self.start - timedelta(days=days)


def window_of(context: dg.AssetExecutionContext, now: datetime) -> Window:
    """The window of the run's partition, or of its whole range in a single-run backfill."""
    span = context.partition_time_window
    start, end = span.start.astimezone(UTC), span.end.astimezone(UTC)
    return Window(start=start, end=end, moment=min(end, max(now, start)))
