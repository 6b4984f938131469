"""Dagster's record against PostgreSQL, in sentences, and their repair: what `doctor` says of it and `doctor --repair` does.

What belongs here: naming and mending. How the two are compared: reconciling.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from tft_pipeline.config import Settings
from tft_pipeline.errors import StorageError
from tft_pipeline.orchestration import launch, processes
from tft_pipeline.orchestration.forgetting import forget
from tft_pipeline.orchestration.reconciling import GRACE, Records, Unrecorded, compare
from tft_pipeline.orchestration.reporting import partitioned_assets, tables_of
from tft_pipeline.orchestration.schedules import RANGE_END, RANGE_START
from tft_pipeline.storage.database import Database

NO_RUN_YET = "no run yet: Dagster has no tables in this database"
MOST_NAMED = 10  # ranges of days in a sentence; what is left is counted
SPARE_SECONDS = 60  # beyond the maximum runtime, for run monitoring to look
_IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_PARTITION_TAG = "dagster/partition"


@dataclass(frozen=True)
class Overdue:
    """A run that Dagster calls in progress for longer than a run may take, or whose command line has ended without a word."""

    run: dg.DagsterRun
    since: datetime
    why: str


@dataclass(frozen=True)
class Disagreements:
    """All that Dagster's record and PostgreSQL do not agree on."""

    records: Records
    overdue: Sequence[Overdue]

    def sentences(self) -> list[str]:
        """One for each asset and kind, in the order of the flow, then one for each run."""
        return [*self._of_assets(), *(self._of_run(one) for one in self.overdue)]

    def _of_assets(self) -> Iterator[str]:
        unrecorded, differing = _by_asset(self.records.unrecorded), _by_asset(self.records.differing)
        for asset in partitioned_assets():
            if days := [one.day for one in unrecorded.get(asset, [])]:
                yield f"{asset}: {_count(len(days))} in PostgreSQL without an event in Dagster: {stretches(days)}"
            if days := list(self.records.missing.get(asset, [])):
                table = tables_of(asset)[0].name
                yield f"{asset}: {_count(len(days))} materialized by Dagster's record, of which {table} has no slice: {stretches(days)}"
            if found := differing.get(asset, []):
                days = [one.day for one in found]
                yield f"{asset}: {_count(len(days))} whose event tells of other rows than PostgreSQL holds ({found[0].day}: {found[0].refuted}): {stretches(days)}"

    def _of_run(self, one: Overdue) -> str:
        run, tags = one.run, one.run.tags
        first = tags.get(RANGE_START) or tags.get(_PARTITION_TAG)
        last = tags.get(RANGE_END, first)
        about = f", {first}" + (f" to {last}" if last != first else "") if first else ""
        return (
            f"run {run.run_id[:8]} ({run.job_name}{about}): {run.status.value.lower()} since {one.since:%Y-%m-%d %H:%M} UTC, "
            f"{one.why}"
        )


@dataclass(frozen=True)
class Mended:
    """What a repair did."""

    re_emitted: int  # events
    forgotten: int  # days, of all assets together
    ended: int  # runs

    def __str__(self) -> str:
        if self == Mended(0, 0, 0):
            return "there was nothing to mend in Dagster's record"
        again = " (the schedule makes them again; so does `tft-pipeline backfill`, and a model `tft-pipeline train`)"
        forgotten = f"{_count(self.forgotten)} without rows taken out of it" + (again if self.forgotten else "")
        return (
            f"Dagster's record is mended: events re-emitted {self.re_emitted:,}, runs ended {self.ended:,}, {forgotten}"
        )


def agrees(settings: Settings, database: Database) -> str:
    """A sentence that the two agree. Raises StorageError naming every disagreement, or saying why Dagster's tables cannot be read."""
    if not _has_tables(database):
        return NO_RUN_YET
    with _in_words(), launch.recorded_in(settings, database.dsn) as instance:
        said = disagreements(instance, database).sentences()
    if said:
        count = "1 disagreement" if len(said) == 1 else f"{len(said)} disagreements"
        between = "between Dagster's record and PostgreSQL; `tft-pipeline doctor --repair` mends Dagster's record:"
        raise StorageError("\n".join([f"{count} {between}", *said]))
    return f"Dagster's record and ops.slices agree on every slice of {len(partitioned_assets())} assets"


def repair(settings: Settings, database: Database) -> str:
    """What was mended, in a sentence; see mend. Raises StorageError: Dagster's tables cannot be read or written."""
    if not _has_tables(database):
        return NO_RUN_YET
    with _in_words(), launch.recorded_in(settings, database.dsn) as instance:
        return str(mend(instance, database))


def disagreements(instance: dg.DagsterInstance, database: Database) -> Disagreements:
    """What does not agree at the moment. What a run in progress has committed and not yet reported is no disagreement.

    partition_upkeep is not asked about: it keeps no rows that its events could be held against.
    """
    allowed = instance.run_monitoring_max_runtime_seconds
    grace = timedelta(seconds=allowed) if allowed else GRACE
    records = compare(instance, database, partitioned_assets(), now=datetime.now(UTC), grace=grace)
    return Disagreements(records, overdue(instance))


def overdue(instance: dg.DagsterInstance) -> list[Overdue]:
    """Runs in progress that nothing will end where no daemon looks, oldest first.

    They have been at it for longer than run monitoring allows, which may be any time, or their process is gone.
    """
    allowed = instance.run_monitoring_max_runtime_seconds
    before = datetime.now(UTC) - timedelta(seconds=allowed + SPARE_SECONDS)
    found = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_IN_PROGRESS)):
        # A run that did not come to start has been at it since its status last changed.
        started = record.start_time
        since = datetime.fromtimestamp(started, UTC) if started is not None else record.update_timestamp
        if processes.ended(record.dagster_run) and _goes_on(instance, record.dagster_run):
            why = f"but {processes.of(record.dagster_run)}, which it went on in, has ended"
        elif allowed and since < before:
            why = f"longer than the {allowed:,} s that a run may take"
        else:
            continue
        found.append(Overdue(record.dagster_run, since, why))
    return sorted(found, key=lambda one: one.since)


def mend(instance: dg.DagsterInstance, database: Database) -> Mended:
    """End the runs that nothing else ended, write the events that are missing or untrue, and forget those without rows.

    What is already so, is left alone: doing it twice changes nothing.
    """
    endless = overdue(instance)
    for one in endless:
        _end(instance, one)
    # Only now: what those runs committed and did not report counts from here on.
    records = disagreements(instance, database).records
    untold = [*records.unrecorded, *records.differing]
    for commit in untold:
        instance.report_runless_asset_event(commit.event())
    forgotten = sum(forget(instance, database, asset, days) for asset, days in records.missing.items())
    return Mended(len(untold), forgotten, len(endless))


def stretches(days: Iterable[str]) -> str:
    """2026-01-05 … 2026-01-09, 2026-01-12 and 3 days more; what is no day stands for itself."""
    ranges: list[list[str]] = []
    for day in sorted(set(days)):
        if ranges and _follows(ranges[-1][-1], day):
            ranges[-1].append(day)
        else:
            ranges.append([day])
    named = [found[0] if len(found) == 1 else f"{found[0]} … {found[-1]}" for found in ranges[:MOST_NAMED]]
    rest = sum(len(found) for found in ranges[MOST_NAMED:])
    return ", ".join(named) + (f" and {_count(rest)} more" if rest else "")


def _follows(day: str, other: str) -> bool:
    try:
        return date.fromisoformat(day) + timedelta(days=1) == date.fromisoformat(other)
    except ValueError:
        return False


def _count(days: int) -> str:
    return f"{days:,} day" + ("" if days == 1 else "s")


def _by_asset(found: Iterable[Unrecorded]) -> dict[str, list[Unrecorded]]:
    by_asset: dict[str, list[Unrecorded]] = {}
    for one in found:
        by_asset.setdefault(one.asset, []).append(one)
    return by_asset


def _goes_on(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Still, after its process was seen to be gone: else it had just said how it ended."""
    now = instance.get_run_by_id(run.run_id)
    return now is not None and not now.is_finished


def _end(instance: dg.DagsterInstance, one: Overdue) -> None:
    """As run monitoring would; a process that lives on finds its claims on slices taken by the next run (storage.slices)."""
    why = f"ended by `tft-pipeline doctor --repair`: in progress since {one.since:%Y-%m-%d %H:%M} UTC, {one.why}"
    if one.run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(one.run, why)
    else:
        instance.report_run_failed(one.run, why)


def _has_tables(database: Database) -> bool:
    """Asked before an instance is opened, which would make them."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT to_regclass('event_logs') IS NOT NULL AND to_regclass('runs') IS NOT NULL"
        ).fetchone()
    return bool(row and row[0])


@contextmanager
def _in_words() -> Iterator[None]:
    """What Dagster or its storage raises becomes a sentence: the doctor raises nothing else."""
    try:
        yield
    except (SQLAlchemyError, dg.DagsterError) as error:
        first = str(error).strip().splitlines()[0]
        raise StorageError(
            f"Dagster's tables cannot be read: {first}. Let the user of TFT_POSTGRES_DSN own them, or run `dagster instance migrate`."
        ) from error
