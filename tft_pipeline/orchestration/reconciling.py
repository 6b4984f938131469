"""Dagster's record held against the ledger: commits whose event a crash swallowed, events that tell of other rows, events without rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.retention import retired_days

# A run that is still going reports by itself; one that was killed is freed by run monitoring after this time (dagster.yaml).
GRACE = timedelta(seconds=7200)


@dataclass(frozen=True)
class Unrecorded:
    """A day that was committed to PostgreSQL, and of which Dagster's newest event says nothing, or what is not so."""

    asset: str
    day: str
    run_id: str
    committed_at: datetime
    rows: int
    content_hashes: Mapping[str, str]  # by table
    refuted: str = ""  # what the newest event says, where it is as young as the commit

    def event(self) -> dg.AssetMaterialization:
        """What the run would have said, as far as the ledger knows."""
        committed = f"run {self.run_id} committed these rows at {self.committed_at:%Y-%m-%d %H:%M:%S} UTC"
        why = (
            f"and the event before this one says {self.refuted}"
            if self.refuted
            else "and no event of this day followed"
        )
        return dg.AssetMaterialization(
            asset_key=self.asset,
            partition=self.day,
            description=f"re-emitted: {committed} {why}",
            metadata={
                "dagster/row_count": self.rows, "rows": self.rows, "reconciled_from_run": self.run_id, "content_hashes": dict(self.content_hashes),
            },
        )  # fmt: skip


@dataclass(frozen=True)
class Records:
    """unrecorded: commits without events, oldest first. missing: {asset: days} that Dagster calls materialized and the ledger never saw.
    differing: commits whose event, young enough, tells of other rows."""

    unrecorded: Sequence[Unrecorded]
    missing: Mapping[str, Sequence[str]]
    differing: Sequence[Unrecorded]


def compare(
    instance: dg.DagsterInstance, database: Database, assets: Iterable[str], *, now: datetime, grace: timedelta = GRACE
) -> Records:
    """Both directions, for the partitioned assets named. Slices of runs still in progress are left out until grace is over."""
    unrecorded: list[Unrecorded] = []
    differing: list[Unrecorded] = []
    missing: dict[str, list[str]] = {}
    going: dict[str, bool] = {}

    def in_progress(run_id: str) -> bool:
        if run_id not in going:
            run = instance.get_run_by_id(run_id)
            going[run_id] = run is not None and not run.is_finished
        return going[run_id]

    for asset in assets:
        main = tables_of(asset)[0].name
        commits = _commits(database, asset)
        events = _latest_events(instance, dg.AssetKey(asset))
        untrue: dict[str, str] = {}
        unheard: list[Unrecorded] = []
        for day, commit in commits.items():
            event = events.get(day)
            if event is not None and event.covers(commit):
                untrue[day] = event.refuted_by(commit)
            elif now - commit.committed_at >= grace or not in_progress(commit.run_id):
                unheard.append(commit)
        if unheard:
            # The run of one of these may have reported, and ended, since its events were read: asked in this order, it has not.
            heard = _latest_events(instance, dg.AssetKey(asset), {commit.day for commit in unheard})
            unrecorded += [one for one in unheard if one.day not in heard or not heard[one.day].covers(one)]
        absent = {day for day in events if day not in commits or main not in commits[day].content_hashes}
        suspects = absent | {day for day, said in untrue.items() if said}
        if not suspects:
            continue
        # Runs go on meanwhile, and an event follows its commit: what it should not say is judged by a ledger that was read after it.
        again = _commits(database, asset)
        retired = {day.isoformat() for table in tables_of(asset) for day in retired_days(database, table)}
        gone = sorted(day for day in absent - retired if day not in again or main not in again[day].content_hashes)
        if gone:
            missing[asset] = gone
        differing += [
            replace(commits[day], refuted=untrue[day])
            for day in sorted(suspects - absent)
            if again.get(day) == commits[day]
        ]
    return Records(_oldest_first(unrecorded), missing, _oldest_first(differing))


def reconcile(
    instance: dg.DagsterInstance, database: Database, assets: Iterable[str], *, grace: timedelta = GRACE
) -> int:
    """Re-emit what is missing; how many events. Doing it twice emits nothing more."""
    found = compare(instance, database, assets, now=datetime.now(UTC), grace=grace).unrecorded
    for one in found:
        instance.report_runless_asset_event(one.event())
    return len(found)


def _commits(database: Database, asset: str) -> dict[str, Unrecorded]:
    """What the ledger holds of each of the asset's days, all its tables together."""
    slices: dict[Any, dict[str, Any]] = {}  # by day and table
    for table in tables_of(asset):
        for one in slice_status(database, table).itertuples():
            slices.setdefault(one.day, {})[table.name] = one
    found: dict[str, Unrecorded] = {}
    for day in sorted(slices):
        of_day = slices[day]
        newest = max(of_day.values(), key=lambda one: one.committed_at)
        found[day.isoformat()] = Unrecorded(
            asset,
            day.isoformat(),
            newest.run_id,
            newest.committed_at.to_pydatetime(),
            sum(one.row_count for one in of_day.values()),
            {name: one.content_hash for name, one in of_day.items()},
        )
    return found


@dataclass(frozen=True)
class _Event:
    """The newest materialization of a day, and what it says of this very day, as far as it does: a run over many days tells of all."""

    run_id: str
    timestamp: float
    rows: int | None
    content_hashes: Mapping[str, str] | None  # by table

    @classmethod
    def of(cls, record: dg.EventLogRecord) -> "_Event":
        said = record.asset_materialization.metadata if record.asset_materialization else {}
        values: dict[str, Any] = {
            name: said[name].value for name in ("rows", "slices", "content_hashes") if name in said
        }
        hashes = values.get("content_hashes")
        return cls(
            record.run_id,
            record.timestamp,
            rows=values.get("rows") if values.get("slices") == 1 else None,
            content_hashes=hashes if isinstance(hashes, dict) else None,
        )

    def covers(self, commit: Unrecorded) -> bool:
        """Whether it is the commit's own, or younger."""
        return self.run_id == commit.run_id or self.timestamp >= commit.committed_at.timestamp()

    def refuted_by(self, commit: Unrecorded) -> str:
        """What it says that is not so; empty where there is nothing."""
        if self.rows is not None and self.rows != commit.rows:
            return f"{self.rows:,} rows instead of {commit.rows:,}"
        told, held = self.content_hashes or {}, commit.content_hashes
        # Of a table that the asset writes only since a later version, it says nothing.
        others = sorted(name for name in told if told[name] != held.get(name))
        if others:
            return f"other content of {', '.join(others)}"
        return ""


def _latest_events(instance: dg.DagsterInstance, key: dg.AssetKey, days: set[str] | None = None) -> dict[str, _Event]:
    """The newest materialization of each partition, or of these."""
    storage_ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, partitions=days
    )
    ids = sorted(storage_ids.values())
    found: dict[str, _Event] = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        records = instance.fetch_materializations(dg.AssetRecordsFilter(key, storage_ids=part), limit=len(part)).records
        for record in records:
            found[str(record.partition_key)] = _Event.of(record)
    return found


def _oldest_first(found: Iterable[Unrecorded]) -> list[Unrecorded]:
    return sorted(found, key=lambda one: (one.committed_at, one.asset, one.day))
