"""kill -9 of the daemon, the code server, a run's worker, or everything at once, while a run goes on; then what becomes of it.

Everything at once is the three with all that they started, the page, and PostgreSQL: what is left is what a power cut would leave.
"""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg
import psutil
import psycopg
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG
from psycopg.conninfo import conninfo_to_dict

from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline_tests.faults import kills
from tft_pipeline_tests.faults.census import counted
from tft_pipeline_tests.faults.command_lines import killed_command_line
from tft_pipeline_tests.faults.runs import SPARE_SECONDS
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.faults.yards import ASSETS, DAYS, Yard, resumed, settled, unsound, until, yard

TARGETS = ("daemon", "code server", "run worker", "all together")
MOMENTS = ("queued", "starting", "started", "in an asset")
HUNG, FULL, LINE = "hung worker", "no connection left", "command line"
FULL_SECONDS = 5.0
HUNG_SECONDS = 3  # the maximum runtime of a run whose worker hangs


def trial(here: Yard, key: str) -> Outcome:
    target, seed = key.split(" | ")
    if target in (HUNG, FULL):
        return hung(here) if target == HUNG else full(here)
    if target == LINE:
        return killed_command_line(here, int(seed))
    drawn = random.Random(f"{target} {seed}")
    moment = drawn.choice(MOMENTS if target != "run worker" else MOMENTS[1:])
    asset = drawn.choice(ASSETS)
    job = drawn.choice(("refresh", kills.JOBS[asset]))
    run_id, killed, faults = _struck(here, target, moment, asset=asset, job=job, drawn=drawn)
    began = time.monotonic()
    unsettled, retries, longest = settled(here, run_id)
    faults += unsettled
    took = time.monotonic() - began
    if (status := here.family(run_id)[-1].status) is not dg.DagsterRunStatus.SUCCESS:
        faults.append(f"killed {moment}, the run ended as {status.value}, and nothing tried it again")
        again = here.submit(job)
        faults += settled(here, again)[0]
        if (status := here.family(again)[-1].status) is not dg.DagsterRunStatus.SUCCESS:
            faults.append(f"the rerun ended as {status.value}")
    faults += unsound(here)
    return Outcome(
        faults,
        {
            "kills": 1.0,
            "processes killed": killed,
            "retries": retries,
            "seconds from the kill to the end of the run (most)": took,
            "seconds in progress of the longest run (most)": longest,
            "seconds that a run waited with nothing in its way (most)": here.waited,
            "events re-emitted": here.emitted,
        },
    )


def _struck(
    here: Yard, target: str, moment: str, *, asset: str, job: str, drawn: random.Random
) -> tuple[str, int, list[str]]:
    """A run that has to mend the asset, how many processes were killed before it had ended, and what was wrong with the runs before it:
    another is drawn where one was quicker than the kill."""
    faults: list[str] = []
    for _ in range(3):
        until(lambda: not here.workers(), here)  # those of the trial before
        kills.bring_to(drawn.choice(kills.STATES), here.database, tables_of(asset), DAYS)
        run_id = here.submit(job)
        here.reach(moment, run_id, asset)
        if target == "run worker":
            until(lambda: bool(here.workers()) or here.family(run_id)[0].is_finished, here)  # noqa: B023 - called at once
        here.wait(drawn.uniform(0, 1))
        before = time.time()
        if (killed := here.kill(target)) and going_at(here, run_id, before):
            return run_id, killed, faults
        faults += settled(here, run_id)[0]
    raise RuntimeError(f"there was no {target} to kill, three times over")


def going_at(here: Yard, run_id: str, moment: float) -> bool:
    """Whether the run had not ended yet. moment: as time.time() told it."""
    record = here.instance.get_run_record_by_id(run_id)
    return record is not None and (not record.dagster_run.is_finished or (record.end_time or 0.0) > moment)


def hung(here: Yard) -> Outcome:
    """A worker that hangs, with the code server that knew it gone: its run fails by its own maximum runtime, and it ends with it."""
    run_id, stopped, faults = _hung(here)
    unsettled, _, longest = settled(here, run_id)
    faults += unsettled
    if longest > HUNG_SECONDS + SPARE_SECONDS:
        faults.append(f"the run was in progress for {longest:.0f} s, and may be for {HUNG_SECONDS} s")
    if (status := [run.status for run in here.family(run_id)]) != [dg.DagsterRunStatus.FAILURE]:
        faults.append(f"the run and its retries ended as {[one.value for one in status]}")
    try:
        until(lambda: not any(worker.is_running() for worker in stopped), here, seconds=60)
    except TimeoutError:
        faults.append("the worker of the run that was ended is still there")
    again = here.submit()
    faults += settled(here, again)[0]
    if (status_again := here.family(again)[-1].status) is not dg.DagsterRunStatus.SUCCESS:
        faults.append(f"the run after it ended as {status_again.value}")
    return Outcome(
        [*faults, *unsound(here)],
        {"workers hung": len(stopped), "seconds in progress of the longest run (most)": longest},
    )


def _hung(here: Yard) -> tuple[str, list[psutil.Process], list[str]]:
    """A run in progress, its workers, stopped, and what was wrong with the runs before it; another, should it have been quicker."""
    faults: list[str] = []
    for _ in range(3):
        run_id = _begun(here, {MAX_RUNTIME_SECONDS_TAG: str(HUNG_SECONDS), "dagster/max_retries": "0"})
        here.kill("code server")
        stopped = here.stop_workers()
        if stopped and going_at(here, run_id, time.time()):
            return run_id, stopped, faults
        resumed(stopped)
        faults += settled(here, run_id)[0]
    raise RuntimeError("there was no worker to stop, three times over")


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
            here.waited, here.emitted = 0.0, 0
            with counted(server.dsn("postgres"), name, every_seconds=0.2) as census:
                outcome = trial(here, key)
            # Those that the trial itself takes are not to this database.
            return Outcome(outcome.faults, {**outcome.counts, "connections held (most)": census.total})

        yield watched


SUITE = Suite(
    "kill of daemon, code server, run worker, and all together",
    "50 each: no run left STARTED past its maximum runtime + 60 s; a rerun gives the identical content hash; besides, 5 workers that hang, "
    "5 times no connection left, and 10 command lines killed",
    # Turned by one each time: whichever lanes there are, each has every target, and nothing dies twice a minute for ever.
    [f"{TARGETS[(place + number) % len(TARGETS)]} | {number}" for number in range(50) for place in range(len(TARGETS))]
    + [f"{target} | {number}" for number in range(5) for target in (HUNG, FULL)]
    + [f"{LINE} | {number}" for number in range(10)],
    _session,
)
