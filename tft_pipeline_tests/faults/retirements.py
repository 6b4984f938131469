"""kill -9 in the upkeep asset while it retires old months: no row lost, none twice, and a rerun leaves what an undisturbed one leaves."""

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache

import pandas as pd
from psycopg import sql

from tft_pipeline.contracts import BARS, QUALITY
from tft_pipeline.errors import StorageError
from tft_pipeline.storage import retention
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.upkeep import partitioned
from tft_pipeline_tests.faults.nursery import Nursery
from tft_pipeline_tests.faults.trials import Outcome
from tft_pipeline_tests.faults.world import copy_of, duplicates, unbalanced
from tft_pipeline_tests.storage.frames import frame

ASSET = "partition_upkeep"
YEARS = 5  # back from the world's last day: what is planted is past that, the world itself is not
OLD = [date(2020, 1, 30), date(2020, 1, 31), date(2020, 2, 1)]
STATES = ("nothing begun", "half detached", "detached")  # how an earlier round was interrupted


@dataclass(frozen=True)
class Left:
    """What there is to see of a round of upkeep."""

    months: list[tuple[str, str, date]]  # table, partition, month
    half_detached: list[str]
    beside_their_tables: list[str]
    retired: list[tuple[str, str, date, int, int]]  # as, table, month, rows, days that left the ledger with it
    ledger: list[tuple[str, date, str]]


def kill(server: EmbeddedServer, children: Nursery, point: str, seed: int) -> Outcome:
    state = STATES[seed // 2 % len(STATES)]
    with copy_of(server) as database:
        planted = plant(state, children, database)
        struck = children.order("upkeep", dsn=database.dsn, years=YEARS, point=point, visit=1 + seed % 4)
        faults = [] if struck["killed"] else [f"it was not killed: status {struck['status']}"]
        faults += [] if contents(database) == planted else ["rows of the old months are lost, or stand twice"]
        faults += _torn(database)
        again = children.order("upkeep", dsn=database.dsn, years=YEARS)
        if again["status"]:
            faults.append(f"the rerun failed with status {again['status']}")
        faults += [] if contents(database) == planted else ["after the rerun rows of the old months are lost, or twice"]
        expected, found = (asdict(one) for one in (_undisturbed(server, children, state), left(database)))
        faults += [
            f"after the rerun, {name.replace('_', ' ')}: {found[name]}, without a kill {expected[name]}"
            for name in expected
            if found[name] != expected[name]
        ]
        faults += damaged(database) + disagreements(database) + duplicates(database) + unbalanced(database)
        compared = children.order("reconcile", dsn=database.dsn, assets=[])
        _, record = compared["said"][0] if compared["said"] else (0, {"record": [f"status {compared['status']}"]})
        faults += [f"after the rerun {kind}: {names}" for kind, names in record.items() if names]
        return Outcome(faults, {"kills": float(struck["killed"]), "events re-emitted": 0, "acknowledged": 0})


def plant(state: str, children: Nursery, database: Database) -> list[tuple[int, str]]:
    """Old months of a raw and of a derived table, with replaced versions, refused rows and events; what they hold."""
    refused = pd.DataFrame({"day": OLD, "ticker": "AAPL", "reason": "low > high", "row": "{}"})
    for volume in (1000.0, 1001.0):
        bars = frame(BARS, OLD, hours=range(14, 21)).assign(volume=volume)
        write(database, {BARS: bars}, OLD, run_id="old", code_version="0", quarantined=refused)
    write(database, {QUALITY: frame(QUALITY, OLD, hours=(0,))}, OLD, run_id="old", code_version="0")
    emitted = children.order("reconcile", dsn=database.dsn, assets=["market_bars", "bar_quality"])["said"][0][0]
    if emitted != 2 * len(OLD):
        raise RuntimeError(f"{emitted} events for {2 * len(OLD)} old slices")
    planted = contents(database)
    before = OLD[-1].replace(day=1)
    if state == "half detached":
        # A reader holds one month, so that its DETACH CONCURRENTLY is given up between its two transactions.
        with database.connect() as connection, suppress(StorageError):
            connection.execute("SELECT count(*) FROM market.bars WHERE bar_start < '2020-02-01'")
            retention.retire(replace(database, lock_timeout_seconds=0.3), before=before)
        if not [part for part in retention.listed(database) if part.detaching]:
            raise RuntimeError("no month is half detached")
    elif state == "detached":  # as pg_partman leaves it
        with database.connect() as connection:
            connection.execute("ALTER TABLE market.bars DETACH PARTITION market.bars_2020_01")
    return planted


def contents(database: Database) -> list[tuple[int, str]]:
    """(rows, digest) of every table that is, or was, an old month, wherever it lies now, sorted."""
    found = []
    with database.connect() as connection:
        names = connection.execute(
            r"""
            SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'r' AND c.relname ~ '_2020_\d\d$'"""
        ).fetchall()
        for name in names:
            query = sql.SQL(
                "SELECT count(*), coalesce(md5(string_agg(t::text, ' ' ORDER BY t::text)), '') FROM {} AS t"
            )
            found += connection.execute(query.format(sql.Identifier(*name))).fetchall()
    return sorted(found)


def left(database: Database) -> Left:
    parts = retention.listed(database, partitioned())
    with database.connect() as connection:
        retired = connection.execute(
            "SELECT kept_as, table_name, month, row_count, jsonb_array_length(ledger) FROM ops.retired ORDER BY 1"
        ).fetchall()
        ledger = connection.execute(
            "SELECT table_name, slice_day, content_hash FROM ops.slices ORDER BY 1, 2"
        ).fetchall()
    return Left(
        months=sorted((part.table, part.name, part.month) for part in parts),
        half_detached=[part.name for part in parts if part.detaching],
        beside_their_tables=retention.loose(database),
        retired=retired,
        ledger=ledger,
    )


def _torn(database: Database) -> list[str]:
    """Where table and ledger disagree, but for months that are on their way: their ledger rows leave when they are put aside."""
    leaving = [part.name for part in retention.listed(database) if part.detaching] + retention.loose(database)
    excused = tuple(f"{name[:-8]} on {name[-7:].replace('_', '-')}" for name in leaving)
    said = damaged(database) + disagreements(database) + duplicates(database) + unbalanced(database)
    return [sentence for sentence in said if not sentence.startswith(excused or ("nothing",))]


@cache
def _undisturbed(server: EmbeddedServer, children: Nursery, state: str) -> Left:
    with copy_of(server) as database:
        plant(state, children, database)
        done = children.order("upkeep", dsn=database.dsn, years=YEARS)
        found = left(database)
        if done["status"] or not found.retired or found.half_detached or found.beside_their_tables:
            raise RuntimeError(f"an undisturbed round ended with status {done['status']} and left {asdict(found)}")
        return found
