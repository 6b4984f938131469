"""Dagster's record against PostgreSQL, in sentences, and their repair: what `doctor` says of it and `doctor --repair` does.

What belongs here: naming and mending. How the two are compared: reconciling.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from dagster._core.storage.event_log.schema import AssetEventTagsTable, AssetKeyTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from tft_pipeline.config import Settings
from tft_pipeline.errors import PipelineError, StorageError
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.assets import ALL
from tft_pipeline.orchestration.reconciling import GRACE, Records, Unrecorded, compare
from tft_pipeline.orchestration.reporting import partitioned_assets, tables_of
from tft_pipeline.orchestration.schedules import RANGE_END, RANGE_START
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status

MOST_NAMED = 10  # ranges of days in a sentence; what is left is counted
SPARE_SECONDS = 60  # beyond the maximum runtime, for run monitoring to look
_GOING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION
_PARTITION_TAG = "dagster/partition"


@dataclass(frozen=True)
class Overdue:
    """A run that Dagster calls in progress for longer than a run may take."""

    run: dg.DagsterRun
    since: datetime


@dataclass(frozen=True)
class Disagreements:
    """All that Dagster's record and PostgreSQL do not agree on."""

    records: Records
    overdue: Sequence[Overdue]
    allowed_seconds: int

    def sentences(self) -> list[str]:
        """One for each asset and kind, in the order of the flow, then one for each run."""
        return [*self._of_assets(), *(self._of_run(one) for one in self.overdue)]

    def _of_assets(self) -> Iterator[str]:
        unrecorded, differing = _by_asset(self.records.unrecorded), _by_asset(self.records.differing)
        for asset in partitioned_assets():
            if days := [one.day for one in unrecorded.get(asset, [])]:
                yield f"{asset}: {_count(days)} in PostgreSQL without an event in Dagster: {in_ranges(days)}"
            if days := list(self.records.missing.get(asset, [])):
                table = tables_of(asset)[0].name
                yield f"{asset}: {_count(days)} materialized by Dagster's record, of which {table} has no slice: {in_ranges(days)}"
            if found := differing.get(asset, []):
                days = [one.day for one in found]
                yield f"{asset}: {_count(days)} whose event tells of other rows than PostgreSQL holds ({found[0].day}: {found[0].refuted}): {in_ranges(days)}"

    def _of_run(self, one: Overdue) -> str:
        run, tags = one.run, one.run.tags
        first = tags.get(RANGE_START) or tags.get(_PARTITION_TAG)
        last = tags.get(RANGE_END, first)
        about = f", {first}" + (f" to {last}" if last != first else "") if first else ""
        return (
            f"run {run.run_id[:8]} ({run.job_name}{about}): {run.status.value.lower()} since {one.since:%Y-%m-%d %H:%M} UTC, "
            f"longer than the {self.allowed_seconds:,} s that a run may take"
        )


def question(settings: Settings, database: Database, *, repair: bool = False) -> str:
    """That the two agree, in a sentence; repair: after mending what can be, and with what that was.

    Raises StorageError naming every disagreement, or saying why Dagster's tables cannot be read.
    """
    if not _has_tables(database):
        return "no run yet: Dagster has no tables in this database"
    with _words_for_errors(), launch.recorded_in(settings, database.dsn) as instance:
        found = disagreements(instance, database)
        mended = ""
        if repair and found.sentences():
            mended = f"{mend(instance, database, found)}; "
            found = disagreements(instance, database)
    said = found.sentences()
    if said:
        remedy = (
            "what is left needs another look: run it again"
            if repair
            else "`tft-pipeline doctor --repair` writes the events that are missing, takes those without rows out of Dagster's record, and ends those runs"
        )
        raise StorageError("\n".join([f"{mended}Dagster's record and PostgreSQL disagree; {remedy}:", *said]))
    return f"{mended}Dagster's record and PostgreSQL agree on every day of {len(partitioned_assets())} assets"


def disagreements(instance: dg.DagsterInstance, database: Database, *, now: datetime | None = None) -> Disagreements:
    """What does not agree at the moment. What a run in progress has committed and not yet reported is no disagreement.

    partition_upkeep is not asked about: it keeps no rows that its events could be held against.
    """
    now = now or datetime.now(UTC)
    allowed = instance.run_monitoring_max_runtime_seconds
    grace = timedelta(seconds=allowed) if allowed else GRACE
    return Disagreements(
        compare(instance, database, partitioned_assets(), now=now, grace=grace),
        _overdue(instance, now - grace - timedelta(seconds=SPARE_SECONDS)) if allowed else [],
        allowed,
    )
