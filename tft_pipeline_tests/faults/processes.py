"""kill -9 of the daemon, the code server, a run's worker, or everything at once, while a run goes on; then what becomes of it.

Everything at once is the three with all that they started, the page, and PostgreSQL: what is left is what a power cut would leave.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
import psycopg
from psycopg.conninfo import conninfo_to_dict

from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline_tests.faults import kills
from tft_pipeline_tests.faults.census import counted
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.faults.yards import ASSETS, DAYS, Yard, settled, unsound, until, yard

TARGETS = ("daemon", "code server", "run worker", "all together")
MOMENTS = ("queued", "starting", "started", "in an asset")
HUNG, FULL = "hung worker", "no connection left"
FULL_SECONDS = 5.0


def trial(here: Yard, key: str) -> Outcome:
    target, seed = key.split(" | ")
    if target in (HUNG, FULL):
        return hung(here) if target == HUNG else full(here)
    drawn = random.Random(f"{target} {seed}")
    moment = drawn.choice(MOMENTS if target != "run worker" else MOMENTS[1:])
    asset = drawn.choice(ASSETS)
    job = drawn.choice(("refresh", kills.JOBS[asset]))
    run_id, killed = _struck(here, target, moment, asset=asset, job=job, drawn=drawn)
    began = time.monotonic()
    faults, retries, longest = settled(here, run_id)
    took = time.monotonic() - began
    if (status := here.family(run_id)[-1].status) is not dg.DagsterRunStatus.SUCCESS:
        faults.append(f"killed {moment}, the run ended as {status.value}, and nothing tried it again")
        again = here.submit(job)
        faults += settled(here, again)[0]
        if (status := here.family(again)[-1].status) is not dg.DagsterRunStatus.SUCCESS:
            faults.append(f"the rerun ended as {status.value}")
    return Outcome(
        [*faults, *unsound(here)],
        {
            "kills": float(killed > 0),
            "processes killed": killed,
            "retries": retries,
            "seconds from the kill to the end of the run (most)": took,
            "seconds in progress of the longest run (most)": longest,
        },
    )


def _struck(here: Yard, target: str, moment: str, *, asset: str, job: str, drawn: random.Random) -> tuple[str, int]:
    """A run that has to mend the asset, and how many processes were killed at its moment; another run, should it have been quicker."""
    for _ in range(3):
        until(lambda: not here.workers(), here)  # those of the trial before
        kills.bring_to(drawn.choice(kills.STATES), here.database, tables_of(asset), DAYS)
        run_id = here.submit(job)
        here.reach(moment, run_id, asset)
        if target == "run worker":
            until(lambda: bool(here.workers()) or here.family(run_id)[0].is_finished, here)  # noqa: B023 - called at once
        here.wait(drawn.uniform(0, 1))
        if killed := here.kill(target):
            return run_id, killed
        settled(here, run_id)
    raise RuntimeError(f"there was no {target} to kill, three times over")


def hung(here: Yard) -> Outcome:
    """A worker that hangs, with the code server that knew it gone: its run ends by its maximum runtime, here 3 s, and it with it."""
    run_id = _begun(here, {"dagster/max_runtime": "3", "dagster/max_retries": "0"})
    here.kill("code server")
    stopped = here.workers()
    for worker in stopped:
        os.kill(worker.pid, signal.SIGSTOP)
    faults, _, longest = settled(here, run_id)
    try:
        until(lambda: not any(worker.is_running() for worker in stopped), here, seconds=60)
    except TimeoutError:
        faults.append("the worker of the run that was ended is still there")
    again = here.submit()
    faults += settled(here, again)[0]
    return Outcome(
        [*faults, *unsound(here)],
        {"workers hung": len(stopped), "seconds in progress of the longest run (most)": longest},
    )


def full(here: Yard) -> Outcome:
    """PostgreSQL without a connection left, for a while, in the middle of a run: it ends well all the same."""
    run_id = _begun(here)
    administrator, taken = here.server.dsn("postgres"), []
    try:
        with contextlib.suppress(psycopg.OperationalError):  # until there is none
            while True:
                taken.append(psycopg.connect(administrator))
        faults = ["there was a connection left"] if here.answers() else []
        here.wait(FULL_SECONDS)
    finally:
        for connection in taken:
            connection.close()
    faults += settled(here, run_id)[0]
    if (status := here.family(run_id)[-1].status) is not dg.DagsterRunStatus.SUCCESS:
        faults.append(f"the run ended as {status.value}")
    return Outcome([*faults, *unsound(here)], {"times without a connection": 1.0})


def _begun(here: Yard, tags: dict[str, str] | None = None) -> str:
    """A refresh that has something to do, started."""
    until(lambda: not here.workers(), here)
    kills.bring_to("absent", here.database, tables_of("features_hourly"), DAYS)
    run_id = here.submit(more=tags)
    here.reach("started", run_id)
    return run_id


@contextmanager
def _session() -> Iterator[Callable[[str], Outcome]]:
    with kills.world() as (server, _), yard(server) as here:

        def watched(key: str) -> Outcome:
            name = str(conninfo_to_dict(here.database.dsn)["dbname"])
            with counted(server.dsn("postgres"), name, every_seconds=0.2) as census:
                outcome = trial(here, key)
            # Those that the trial itself takes are not to this database.
            return Outcome(outcome.faults, {**outcome.counts, "connections held (most)": census.total})

        yield watched


SUITE = Suite(
    "kill of daemon, code server, run worker, and all together",
    "50 each: no run left STARTED past its maximum runtime + 60 s; a rerun gives the identical content hash; besides, 5 workers that hang, "
    "and 5 times no connection left",
    # Turned by one each time: whichever lanes there are, each has every target, and nothing dies twice a minute for ever.
    [f"{TARGETS[(place + number) % len(TARGETS)]} | {number}" for number in range(50) for place in range(len(TARGETS))]
    + [f"{target} | {number}" for number in range(5) for target in (HUNG, FULL)],
    _session,
)
