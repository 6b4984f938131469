"""Days and windows: which there are, and up to which moment they are known."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from tft_pipeline import config
from tft_pipeline.errors import ConfigError
from tft_pipeline.orchestration.partitions import TRAINING_DAYS, Window, days, partitioned, window_of

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


def windows(
    definition: dg.PartitionsDefinition, now: datetime, *, key: str | None = None, span: tuple[str, str] | None = None
) -> list[Window]:
    """The windows that an asset over definition sees in a real run."""
    seen = []

    @dg.asset(name="seen")
    def seen_asset(context: dg.AssetExecutionContext) -> None:
        seen.append(window_of(context, now))

    (asset,) = partitioned([seen_asset], definition)
    job = dg.Definitions(assets=[asset], jobs=[dg.define_asset_job("job", [asset])]).resolve_job_def("job")
    with dg.DagsterInstance.ephemeral() as instance:
        if isinstance(definition, dg.DynamicPartitionsDefinition):
            instance.add_dynamic_partitions("training_days", [str(key)])
        if span:
            tags = {"dagster/asset_partition_range_start": span[0], "dagster/asset_partition_range_end": span[1]}
            job.execute_in_process(instance=instance, tags=tags)
        else:
            job.execute_in_process(instance=instance, partition_key=key)
    return seen


def test_days_run_from_start_to_end_both_included(tmp_path: Path) -> None:
    settings = config.load(home=tmp_path, market="files:/x", posts="none", start="2013-07-01", end="2013-07-03")
    assert days(settings).get_partition_keys() == ["2013-07-01", "2013-07-02", "2013-07-03"]


def test_today_exists_from_its_first_minute(tmp_path: Path) -> None:
    settings = config.load(home=tmp_path, start=config.today() - timedelta(days=2))
    assert days(settings).get_partition_keys()[-1] == config.today().isoformat()


def test_without_a_start_two_years_are_offered(tmp_path: Path) -> None:
    assert len(days(config.load(home=tmp_path)).get_partition_keys()) == 730


def test_a_day_that_is_over_is_known_to_its_end_and_no_further() -> None:
    definition = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-10")
    (window,) = windows(definition, NOON, key="2026-01-05")
    assert (window.start, window.end) == (datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC))
    assert window.moment == window.end
    assert window.days == [date(2026, 1, 5)]


def test_a_day_in_progress_is_known_up_to_now() -> None:
    definition = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-10")
    (window,) = windows(definition, NOON, key="2026-01-06")
    assert window.moment == NOON
    assert window.before(10) == datetime(2025, 12, 27, tzinfo=UTC)


def test_a_range_is_one_window() -> None:
    definition = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-10")
    (window,) = windows(definition, NOON, span=("2026-01-02", "2026-01-04"))
    assert window.days == [date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 4)]


def test_a_training_day_is_named_after_the_day() -> None:
    (window,) = windows(TRAINING_DAYS, NOON, key="2026-01-05")
    assert window.days == [date(2026, 1, 5)]


@pytest.mark.parametrize(
    ("key", "message"), [("monday", "partition 'monday' is no day; name it"), ("2026-01-07", "has not begun")]
)
def test_a_training_day_that_cannot_be_is_refused(key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        windows(TRAINING_DAYS, NOON, key=key)
