"""Days: the one partition dimension. Hours live in the rows, tickers never become a dimension (docs/decisions/0002)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.errors import ConfigError


def days(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Every UTC day from settings.start to settings.end, or to today, which exists from its first minute."""
    start = settings.start or config.default_start()
    if settings.end is None:
        return dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_offset=1, timezone="UTC")
    after = settings.end + timedelta(days=1)  # end_date is exclusive
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_date=after.isoformat(), timezone="UTC")


# A model is trained when somebody or the drift sensor asks, not every day: its partitions are the days it was trained for,
# named 2026-01-09 (docs/decisions/0006).
TRAINING_DAYS = dg.DynamicPartitionsDefinition(name="training_days")


def partitioned(
    assets: Sequence[dg.AssetsDefinition], definition: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """The assets over the days of this installation: modules declare what is computed, settings say for which days.

    Over days, a range is one run; over training days, each is a run of its own.
    """
    single = isinstance(definition, dg.TimeWindowPartitionsDefinition)
    policy = dg.BackfillPolicy.single_run() if single else dg.BackfillPolicy.multi_run(1)
    return [
        asset.map_asset_specs(lambda spec: spec.replace_attributes(partitions_def=definition)).with_attributes(
            backfill_policy=policy
        )
        for asset in assets
    ]


@dataclass(frozen=True)
class Window:
    """The days of a run: start <= t < end, UTC. `moment` is how far it reaches: the end, or now where that is earlier.

    `known` is as of when raw tables are read for it: a source shows what ended at midnight a little later, and that still is the day's.
    `generation` is the run's claim on its slices, taken before it read anything: see storage.slices.take_generation.
    """

    start: datetime
    end: datetime
    moment: datetime
    known: datetime
    generation: int | None = None

    @property
    def days(self) -> list[date]:
        return [(self.start + timedelta(days=i)).date() for i in range((self.end - self.start).days)]

    def before(self, days: int) -> datetime:
        """The start of a warm-up of so many calendar days."""
        return self.start - timedelta(days=days)


def window_of(context: dg.AssetExecutionContext, now: datetime, delay: timedelta = timedelta(0)) -> Window:
    """The window of the run's partition, or of its whole range in a single-run backfill. delay: see BarSource.

    Raises ConfigError for a training day that is no day, and for days that have not begun.
    """
    definition = context.assets_def.partitions_def
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        start = config.day_start(_day(context.partition_key))
        end = start + timedelta(days=1)
    else:
        span = context.partition_time_window
        start, end = span.start.astimezone(UTC), span.end.astimezone(UTC)
    newest = end - timedelta(days=1)
    if newest > now:
        raise ConfigError(f"partition '{newest:%Y-%m-%d}' has not begun; choose days that are known.")
    return spanning(start, end, now, delay)


def spanning(start: datetime, end: datetime, now: datetime, delay: timedelta) -> Window:
    """The window of start <= t < end, as it is known now."""
    return Window(start=start, end=end, moment=min(end, max(now, start)), known=min(end + delay, max(now, start)))


def _day(key: str) -> date:
    try:
        return date.fromisoformat(key)
    except ValueError:
        raise ConfigError(
            f"partition {key!r} is no day; name it after the day whose end the model may know: 2026-01-09."
        ) from None
