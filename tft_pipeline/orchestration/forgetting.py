"""How Dagster is made to forget that it materialized a day: its materializations of that one partition leave the event log.

Dagster 1.13 wipes an asset as a whole, or nothing: `DagsterInstance.wipe_asset_partitions` raises NotImplementedError for every open
storage (dagster#14749). Wiping the asset would hide the events of all its other days and delete the results of its checks, so the rows
are taken out here, in one transaction, as `delete_events_for_run` of Dagster's own storage does it. In their place stands an observation
that says what was forgotten.
"""

from collections.abc import Iterable, Mapping

import dagster as dg
from dagster._core.storage.event_log.schema import AssetEventTagsTable, AssetKeyTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import select

from tft_pipeline.errors import StorageError
from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status

_EVENT = dg.DagsterEventType.ASSET_MATERIALIZATION
_AT_ONCE = 500  # ids in a statement


def forget(instance: dg.DagsterInstance, database: Database, asset: str, days: Iterable[str]) -> int:
    """Take the materializations of these days out of Dagster's record, but for days that have a slice by now; how many days that was.

    Raises StorageError: Dagster's events do not lie in a database.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise StorageError(
            f"Dagster keeps its events in {type(storage).__name__}, from which none can be taken; use dagster-postgres."
        )
    key, wanted = dg.AssetKey(asset), set(days)
    if not wanted:
        return 0
    newest = storage.get_latest_storage_id_by_partition(key, _EVENT, partitions=wanted)
    # The ledger is read last: of every event up to these, the commit would show.
    held = {day.isoformat() for day in slice_status(database, tables_of(asset)[0])["day"]}
    false = {day: last for day, last in newest.items() if day not in held}
    if not false:
        return 0
    runs = _delete(storage, key, false)
    for day in sorted(false):
        instance.report_runless_asset_event(_trace(asset, day, runs[day]))
    return len(false)


def _delete(storage: SqlEventLogStorage, key: dg.AssetKey, days: Mapping[str, int]) -> dict[str, list[str]]:
    """Delete each day's materializations up to this id; {day: runs that they were of}."""
    events, assets = SqlEventLogStorageTable.c, AssetKeyTable.c
    runs: dict[str, list[str]] = {day: [] for day in days}
    ids: list[int] = []
    with storage.index_transaction() as connection:
        for day, newest in days.items():
            of_day = select(events.id, events.run_id).where(
                events.asset_key == key.to_string(),
                events.dagster_event_type == _EVENT.value,
                events.partition == day,
                events.id <= newest,
            )
            for number, run_id in connection.execute(of_day.order_by(events.id)):
                ids.append(number)
                runs[day].append(run_id)
        for table, column in (
            (SqlEventLogStorageTable, events.id),
            (AssetEventTagsTable, AssetEventTagsTable.c.event_id),
        ):
            for start in range(0, len(ids), _AT_ONCE):
                connection.execute(table.delete().where(column.in_(ids[start : start + _AT_ONCE])))
        # Where the asset's newest event is kept a second time, and which days count as materialized: both are looked up again.
        connection.execute(
            AssetKeyTable.update()
            .where(assets.asset_key == key.to_string())
            .values(last_materialization=None, cached_status_data=None)
        )
    return runs


def _trace(asset: str, day: str, runs: list[str]) -> dg.AssetObservation:
    by = ", ".join(sorted({run[:8] for run in runs if run})) or "nobody's run"
    return dg.AssetObservation(
        asset_key=asset,
        partition=day,
        description=f"forgotten: {len(runs)} events (of {by}) called this day materialized, and {tables_of(asset)[0].name} has no slice of it",
        metadata={"forgotten_events": len(runs), "forgotten_runs": sorted({run for run in runs if run})},
    )
