"""kill -9 at every named point of every asset's run; then what is left, the reconciler, a rerun, and what the past looks like then."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path

import pandas as pd
from psycopg import sql

from tft_pipeline.config import day_start
from tft_pipeline.contracts import ACTIONS, BARS, COVERAGE, EQUITY, ISSUES, POSITIONS, POSTS, TABLES, TRADES
from tft_pipeline.crash_points import NAMES, UPKEEP_NAMES
from tft_pipeline.orchestration.assets import HISTORY, OUTCOME, TRAINING
from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline.schema import Table
from tft_pipeline.storage import embedded, partitions
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.composed import day_of, qualified
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.faults import retirements
from tft_pipeline_tests.faults.nursery import Nursery, nursery
from tft_pipeline_tests.faults.past import revisions, seen
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.faults.world import (
    TEMPLATE,
    TRAINED_ON,
    WINDOW,
    copy_of,
    duplicates,
    nothing_at_stake,
    unbalanced,
)

SEEDS = 10
JOBS = {
    **{asset.key.to_user_string(): "history" for asset in HISTORY},
    **{asset.key.to_user_string(): "retrain" for asset in TRAINING},
    **{asset.key.to_user_string(): "outcome" for asset in OUTCOME},
}
STATES = ("absent", "half there", "stale")
_ALTERED = {
    BARS.name: "volume", ACTIONS.name: "value", POSTS.name: "text", COVERAGE.name: "minutes", ISSUES.name: "tickers",
}  # fmt: skip
Hashes = dict[tuple[str, date], str]


def key(asset: str, point: str, seed: int) -> str:
    return f"{asset} | {point} | {seed}"


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    with world() as (server, children):
        yield lambda trial: kill(server, children, *trial.split(" | "))


@contextmanager
def world() -> Iterator[tuple[EmbeddedServer, Nursery]]:
    """A server whose template holds the small world, and a nursery for children in it.

    Raises RuntimeError: the world could not be made, or has nothing at stake somewhere.
    """
    with tempfile.TemporaryDirectory(prefix="tft-faults-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with embedded.start(home) as server, nursery(home) as children:
            answer = children.order("prepare", dsn=server.dsn(TEMPLATE))
            if answer["status"]:
                raise RuntimeError((home / "nursery.log").read_text()[-3000:])
            refuse_idle(Database(server.dsn(TEMPLATE)))
            yield server, children


def refuse_idle(database: Database) -> None:
    """Raises RuntimeError naming the tables that hold no row on a day under kill."""
    found = nothing_at_stake(database)
    if found:
        raise RuntimeError(f"kills would tear nothing: {'; '.join(found)}. Change VALUES in world.py.")


SUITE = Suite(
    "kill -9 at named points",
    f"{len(NAMES)} named points × {len(JOBS)} assets, and {len(UPKEEP_NAMES)} of {retirements.ASSET}, × {SEEDS} seeds: 0 torn, 0 acknowledged "
    "rows lost, 0 duplicates; a rerun gives the identical content hash",
    [
        *(key(asset, point, seed) for seed in range(SEEDS) for asset in JOBS for point in NAMES),
        *(key(retirements.ASSET, point, seed) for seed in range(SEEDS) for point in UPKEEP_NAMES),
    ],
    session,
)  # fmt: skip


def kill(server: EmbeddedServer, children: Nursery, asset: str, point: str, seed_text: str) -> Outcome:
    seed = int(seed_text)
    if asset == retirements.ASSET:
        return retirements.kill(server, children, point, seed)
    state = STATES[seed // 2 % len(STATES)]
    for visit in (2, 1) if seed % 2 else (1,):  # some places are passed once only
        with copy_of(server) as database:
            outcome = _killed(server, children, database, asset, state=state, point=point, visit=visit)
        if outcome is not None:
            return outcome
    return Outcome([f"it was not killed: {asset} never came to {point!r}"], {"kills": 0.0})


def _killed(
    server: EmbeddedServer, children: Nursery, database: Database, asset: str, *, state: str, point: str, visit: int
) -> Outcome | None:
    """None: its run ended well before it came there so often."""
    tables, days = tables_of(asset), days_of(asset)
    reference = hashes(database, tables, days)
    pasts = [seen(database, tables)]
    bring_to(state, database, tables, days)
    _refuse_unaltered(state, reference, hashes(database, tables, days))
    if state == "stale":  # what was only taken away comes back as it was known before
        pasts.append(seen(database, tables))
    run = _run_of(database, asset)
    struck = children.order("run", **run, point=point, visit=visit)
    if struck["status"] == 0:
        return None
    faults = [] if struck["killed"] else [f"it was not killed: status {struck['status']}"]
    faults += damaged(database, tables) + disagreements(database) + duplicates(database) + unbalanced(database)
    ledger = hashes(database, tables, days)
    lost = [said for said in struck["said"] if ledger.get((said[0], date.fromisoformat(said[1]))) != said[2]]
    faults += [f"acknowledged and lost: {name} on {day}" for name, day, _ in lost]
    gone = [f"{asset} of {day}" for day in days if (tables[0].name, day) not in ledger]  # not yet made again
    emitted, disagreeing = agreed(children, database, reconciling=[asset], missing=gone)
    faults += [f"after the reconciler {fault}" for fault in disagreeing]
    again = children.order("run", **run)
    if again["status"]:
        faults.append(f"the rerun failed with status {again['status']}")
    faults += [f"after the rerun {fault}" for fault in agreed(children, database)[1]]
    left = hashes(database, tables, days)
    faults += [
        f"after the rerun {name} of {day} is another"
        for name, day in sorted(reference)
        if left.get((name, day)) != reference[name, day]
    ]
    faults += [fault for past in pasts for fault in past.changed(database)]
    expected = _undisturbed(server, children, asset, state)
    faults += [
        f"{name} has {count} replaced versions after the rerun, {expected[name]} without a kill"
        for name, count in revisions(database, tables).items()
        if count != expected[name]
    ]
    faults += damaged(database, tables) + disagreements(database) + duplicates(database) + unbalanced(database)
    return Outcome(
        faults, {"kills": float(struck["killed"]), "events re-emitted": emitted, "acknowledged": len(struck["said"])}
    )


def agreed(
    children: Nursery, database: Database, *, reconciling: Sequence[str] = (), missing: Sequence[str] = ()
) -> tuple[int, list[str]]:
    """(events re-emitted for the assets named, what Dagster's record and the ledger then disagree on, of any asset).

    missing: what must be called materialized without rows, as "asset of day".
    """
    answer = children.order("reconcile", dsn=database.dsn, assets=list(reconciling))
    if not answer["said"]:
        return 0, [f"the reconciler failed with status {answer['status']}"]
    emitted, found = answer["said"][0]
    expected = {"missing": sorted(missing)}
    return emitted, [
        f"{kind}: {sorted(names)}, expected {expected.get(kind, [])}"
        for kind, names in found.items()
        if sorted(names) != expected.get(kind, [])
    ]


@cache
def _undisturbed(server: EmbeddedServer, children: Nursery, asset: str, state: str) -> dict[str, int]:
    """How many replaced versions the raw tables hold after a run from this state that nobody kills."""
    tables = tables_of(asset)
    if all(table.mode == "derived" for table in tables):
        return {}
    with copy_of(server) as database:
        bring_to(state, database, tables, days_of(asset))
        done = children.order("run", **_run_of(database, asset))
        if done["status"]:
            raise RuntimeError(f"an undisturbed run of {asset} failed with status {done['status']}")
        return revisions(database, tables)


def _run_of(database: Database, asset: str) -> dict[str, str]:
    days = days_of(asset)
    return {
        "dsn": database.dsn, "job": JOBS[asset], "asset": asset, "first": days[0].isoformat(), "last": days[-1].isoformat(),
    }  # fmt: skip


def days_of(asset: str) -> list[date]:
    return [TRAINED_ON] if JOBS[asset] == "retrain" else list(WINDOW)


def hashes(database: Database, tables: tuple[Table, ...], days: list[date]) -> Hashes:
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT table_name, slice_day, content_hash FROM ops.slices WHERE table_name = ANY(%s) AND slice_day = ANY(%s)",
            ([table.name for table in tables], days),
        ).fetchall()
    return {(name, day): content for name, day, content in rows}


def _refuse_unaltered(state: str, reference: Hashes, brought: Hashes) -> None:
    unaltered = {name for name, _ in reference} - {name for name, day in reference if brought.get((name, day)) != reference[name, day]}  # fmt: skip
    if unaltered:
        raise RuntimeError(
            f"{sorted(unaltered)} were to be {state}, and are as they should be: a run would change nothing"
        )


def bring_to(state: str, database: Database, tables: tuple[Table, ...], days: list[date]) -> None:
    """The window's slices gone, the last of them gone, or holding something else than they should."""
    if state == "stale":
        held = {table: read(database, table, *_span(days)) for table in tables}
        if EQUITY in tables:
            write(database, _richer(held), days, run_id="stale", code_version="0", at_once=True)
            return
        for table, frame in held.items():
            write(database, {table: _altered(table, frame)}, days, run_id="stale", code_version="0")
        return
    gone = days if state == "absent" else days[-1:]
    with database.connect() as connection:
        connection.execute(
            "SET session_replication_role = replica"
        )  # the balance is only asked of what the writer leaves
        for table in tables:
            for name in partitions.of_table(table):
                connection.execute(
                    sql.SQL("DELETE FROM {} AS t WHERE {} = ANY({})").format(
                        qualified(name), day_of(table, "t"), sql.Literal(gone)
                    )
                )
            connection.execute(
                "DELETE FROM ops.slices WHERE table_name = %s AND slice_day = ANY(%s)", (table.name, gone)
            )


def _altered(table: Table, held: pd.DataFrame) -> pd.DataFrame:
    """Raw: every row another; derived: the last row of each day missing."""
    if held.empty:
        return held
    if table.mode == "raw":
        name = _ALTERED[table.name]
        if table is COVERAGE:  # fewer minutes: more could never be unsaid
            return held.assign(minutes=held["minutes"] // 2)
        return held.assign(**{name: held[name] + ("?" if table is POSTS else 1)})
    return held.groupby(held[table.time].dt.floor("D"), group_keys=False).apply(lambda of_day: of_day.iloc[:-1])


def _richer(held: dict[Table, pd.DataFrame]) -> dict[Table, pd.DataFrame]:
    """A cent more from the first trade on, and other prices: it balances, as PostgreSQL asks of every commit, and is not what it should be.

    held: with nothing after it, for money that changes on one day is other money on all days after.
    """
    trades, positions, equity = (held[table].copy() for table in (TRADES, POSITIONS, EQUITY))
    first = trades["executed_at"].idxmin()
    trades.loc[first, "cash_change_cents"] += 1
    equity.loc[equity["marked_at"] > trades.loc[first, "executed_at"], ["cash_cents", "equity_cents"]] += 1
    return {EQUITY: equity, TRADES: trades, POSITIONS: positions.assign(price=positions["price"] + 1e-4)}


def _span(days: list[date]) -> tuple[datetime, datetime]:
    return day_start(days[0]), day_start(days[-1] + timedelta(days=1))


assert {table.name for asset in JOBS for table in tables_of(asset)} == {table.name for table in TABLES}
