"""Dagster's record held against the ledger: commits whose event a crash swallowed, and events whose rows are not there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import pandas as pd

from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline.schema import Table
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.retention import retired_days

# A run that is still going reports by itself; one that was killed is freed by run monitoring after this time (dagster.yaml).
GRACE = timedelta(seconds=7200)


@dataclass(frozen=True)
class Unrecorded:
    """A day that was committed to PostgreSQL, of which Dagster holds no event that is as young."""

    asset: str
    day: str
    run_id: str
    committed_at: datetime
    rows: int
    content_hashes: Mapping[str, str]  # by table

    def event(self) -> dg.AssetMaterialization:
        """What the run would have said, as far as the ledger knows."""
        return dg.AssetMaterialization(
            asset_key=self.asset,
            partition=self.day,
            description=f"re-emitted: run {self.run_id} committed these rows at {self.committed_at:%Y-%m-%d %H:%M:%S} UTC and died before it could say so",
            metadata={
                "dagster/row_count": self.rows, "rows": self.rows, "reconciled_from_run": self.run_id, "content_hashes": dict(self.content_hashes),
            },
        )  # fmt: skip


@dataclass(frozen=True)
class Records:
    """unrecorded: commits without events, oldest first. missing: {asset: days} that Dagster calls materialized and the ledger never saw."""

    unrecorded: Sequence[Unrecorded]
    missing: Mapping[str, Sequence[str]]


def compare(
    instance: dg.DagsterInstance, database: Database, assets: Iterable[str], *, now: datetime, grace: timedelta = GRACE
) -> Records:
    """Both directions, for the partitioned assets named. Slices of runs still in progress are left out until grace is over."""
    unrecorded: list[Unrecorded] = []
    missing: dict[str, list[str]] = {}
    for asset in assets:
        key = dg.AssetKey(asset)
        committed = _commits(database, tables_of(asset))
        events = _latest_events(instance, key)
        retired = {day.isoformat() for table in tables_of(asset) for day in retired_days(database, table)}
        absent = sorted(set(events) - set(committed["day"]) - retired)
        if absent:
            missing[asset] = absent
        for day, of_day in committed.groupby("day", sort=True):
            newest = of_day.sort_values("committed_at").iloc[-1]
            found = events.get(str(day))
            if found is not None and (
                found.run_id == newest.run_id or found.timestamp >= newest.committed_at.timestamp()
            ):
                continue
            if now - newest.committed_at < grace and _in_progress(instance, str(newest.run_id)):
                continue
            hashes = dict(zip(of_day["table"], of_day["content_hash"], strict=True))
            unrecorded.append(
                Unrecorded(
                    asset,
                    str(day),
                    str(newest.run_id),
                    newest.committed_at.to_pydatetime(),
                    int(of_day["row_count"].sum()),
                    hashes,
                )
            )
    return Records(sorted(unrecorded, key=lambda one: (one.committed_at, one.asset, one.day)), missing)


def reconcile(
    instance: dg.DagsterInstance, database: Database, assets: Iterable[str], *, grace: timedelta = GRACE
) -> int:
    """Re-emit what is missing; how many events. Doing it twice emits nothing more."""
    found = compare(instance, database, assets, now=datetime.now(UTC), grace=grace).unrecorded
    for one in found:
        instance.report_runless_asset_event(one.event())
    return len(found)


def _commits(database: Database, tables: Sequence[Table]) -> pd.DataFrame:
    parts = [slice_status(database, table).assign(table=table.name) for table in tables]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(day=[day.isoformat() for day in frame["day"]])


@dataclass(frozen=True)
class _Event:
    run_id: str
    timestamp: float


def _latest_events(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, _Event]:
    """The newest materialization of each partition."""
    storage_ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    ids = sorted(storage_ids.values())
    found: dict[str, _Event] = {}
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        records = instance.fetch_materializations(dg.AssetRecordsFilter(key, storage_ids=part), limit=len(part)).records
        for record in records:
            found[str(record.partition_key)] = _Event(record.run_id, record.timestamp)
    return found


def _in_progress(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and not run.is_finished
