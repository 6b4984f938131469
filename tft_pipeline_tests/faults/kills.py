"""kill -9 at every named point of every asset's run; then what is left, the reconciler, and a rerun."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from tft_pipeline.contracts import ACTIONS, BARS, ISSUES, POSTS, TABLES
from tft_pipeline.crash_points import NAMES
from tft_pipeline.orchestration.assets import HISTORY, OUTCOME, TRAINING
from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline.schema import Table
from tft_pipeline.storage import embedded
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.composed import day_of, qualified
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.faults.nursery import Nursery, nursery
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.faults.world import TEMPLATE, TRAINED_ON, WINDOW, copy_of, duplicates, unbalanced

SEEDS = 10
JOBS = {
    **{asset.key.to_user_string(): "history" for asset in HISTORY},
    **{asset.key.to_user_string(): "retrain" for asset in TRAINING},
    **{asset.key.to_user_string(): "outcome" for asset in OUTCOME},
}
STATES = ("absent", "half there", "stale")
_ALTERED = {BARS.name: "volume", ACTIONS.name: "value", POSTS.name: "score", ISSUES.name: "tickers"}
Hashes = dict[tuple[str, date], str]


def key(asset: str, point: str, seed: int) -> str:
    return f"{asset} | {point} | {seed}"


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    with world() as (server, children):
        yield lambda trial: kill(server, children, *trial.split(" | "))


@contextmanager
def world() -> Iterator[tuple[EmbeddedServer, Nursery]]:
    """A server whose template holds the small world, and a nursery for children in it."""
    with tempfile.TemporaryDirectory(prefix="tft-faults-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with embedded.start(home) as server, nursery(home) as children:
            answer = children.order("prepare", dsn=server.dsn(TEMPLATE))
            if answer["status"]:
                raise RuntimeError((home / "nursery.log").read_text()[-3000:])
            yield server, children


SUITE = Suite(
    "kill -9 at named points",
    f"{len(NAMES)} named points × {len(JOBS)} assets × {SEEDS} seeds: 0 torn, 0 acknowledged rows lost, 0 duplicates; a rerun gives the identical content hash",
    [key(asset, point, seed) for seed in range(SEEDS) for asset in JOBS for point in NAMES],
    session,
)


def kill(server: EmbeddedServer, children: Nursery, asset: str, point: str, seed_text: str) -> Outcome:
    seed = int(seed_text)
    tables = tables_of(asset)
    first, last = (TRAINED_ON, TRAINED_ON) if JOBS[asset] == "retrain" else WINDOW
    days = sorted({first, last})
    with copy_of(server) as database:
        reference = hashes(database, tables, days)
        bring_to(STATES[seed // 2 % len(STATES)], database, tables, days)
        run = {
            "dsn": database.dsn,
            "job": JOBS[asset],
            "asset": asset,
            "first": first.isoformat(),
            "last": last.isoformat(),
        }
        struck = children.order("run", **run, point=point, visit=1 + seed % 2)
        if struck["status"] == 0:  # it passes there once only
            bring_to(STATES[seed // 2 % len(STATES)], database, tables, days)
            struck = children.order("run", **run, point=point, visit=1)
        faults = [] if struck["killed"] else [f"it was not killed: status {struck['status']}"]
        faults += damaged(database, tables) + disagreements(database) + duplicates(database) + unbalanced(database)
        ledger = hashes(database, tables, days)
        lost = [said for said in struck["said"] if ledger.get((said[0], date.fromisoformat(said[1]))) != said[2]]
        faults += [f"acknowledged and lost: {name} on {day}" for name, day, _ in lost]
        reconciled = children.order("reconcile", dsn=database.dsn, assets=[asset])
        emitted, unrecorded, missing = reconciled["said"][0] if reconciled["said"] else (0, -1, {})
        if unrecorded or missing.keys() - {asset}:
            faults.append(f"after the reconciler {unrecorded} commits have no event, and {missing} have no rows")
        again = children.order("run", **run)
        if again["status"]:
            faults.append(f"the rerun failed with status {again['status']}")
        differing = {at for at in reference if hashes(database, tables, days).get(at) != reference[at]}
        faults += [f"after the rerun {name} of {day} is another" for name, day in sorted(differing)]
        faults += damaged(database, tables) + disagreements(database) + duplicates(database) + unbalanced(database)
        return Outcome(
            faults,
            {"kills": float(struck["killed"]), "events re-emitted": emitted, "acknowledged": len(struck["said"])},
        )


def hashes(database: Database, tables: tuple[Table, ...], days: list[date]) -> Hashes:
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT table_name, slice_day, content_hash FROM ops.slices WHERE table_name = ANY(%s) AND slice_day = ANY(%s)",
            ([table.name for table in tables], days),
        ).fetchall()
    return {(name, day): content for name, day, content in rows}


def bring_to(state: str, database: Database, tables: tuple[Table, ...], days: list[date]) -> None:
    """The window's slices gone, the last of them gone, or holding something else than they should."""
    together = len(tables) > 1 and tables[0].name.startswith(
        "portfolio."
    )  # their balance is asserted: no way to write them false
    if state == "stale" and not together:
        for table in tables:
            held = read(database, table, *_span(days))
            if table.mode == "raw":
                name = _ALTERED.get(table.name)
                altered = held.assign(**{name: held[name] + 1}) if name else held
            else:
                altered = (
                    held.groupby(held[table.time].dt.floor("D"), group_keys=False).apply(lambda f: f.iloc[:-1])
                    if len(held)
                    else held
                )
            write(database, {table: altered}, days, run_id="stale", code_version="0")
        return
    gone = days if state == "absent" else days[-1:]
    from psycopg import sql

    with database.connect() as connection:
        connection.execute(
            "SET session_replication_role = replica"
        )  # the balance is only asked of what the writer leaves
        for table in tables:
            names = [table.name] if table.mode == "derived" else [table.name, f"{table.name}_revisions"]
            for name in names:
                connection.execute(
                    sql.SQL("DELETE FROM {} AS t WHERE {} = ANY({})").format(
                        qualified(name), day_of(table, "t"), sql.Literal(gone)
                    )
                )
            connection.execute(
                "DELETE FROM ops.slices WHERE table_name = %s AND slice_day = ANY(%s)", (table.name, gone)
            )


def _span(days: list[date]) -> tuple:  # type: ignore[type-arg]
    from datetime import timedelta

    from tft_pipeline.config import day_start

    return day_start(days[0]), day_start(days[-1] + timedelta(days=1))


assert {table.name for asset in JOBS for table in tables_of(asset)} == {table.name for table in TABLES}
