"""kill -9 of a command line in the middle of its run, beside everything that `up` runs: nobody's worker, in nobody's care."""

import os
import random
import subprocess
import sys
import tempfile
import time

import dagster as dg

from tft_pipeline.orchestration.processes import PROCESS
from tft_pipeline.orchestration.refreshes import going
from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline_tests.faults import kills
from tft_pipeline_tests.faults.trials import Outcome
from tft_pipeline_tests.faults.yards import ASSETS, CHECKOUT, DAYS, SHORTER, Yard, settled, unsound, until

SPARE_SECONDS = 15.0  # beyond one look of run monitoring, on a busy machine
WATCHED_SECONDS = 12.0  # two looks of the daemon for runs to try again
_COMMAND = (
    *(sys.executable, "-m", "tft_pipeline.cli", "backfill", "--json"),
    *("--from", DAYS[0].isoformat(), "--to", DAYS[-1].isoformat()),
)


def killed_command_line(here: Yard, seed: int = 0) -> Outcome:
    """Its run ends as failed by the next look of run monitoring, nothing tries it again or waits for it, and a refresh makes all good."""
    drawn = random.Random(f"command line {seed}")
    run_id, killed = _struck(here, drawn.choice(ASSETS), drawn)
    faults = [] if going(here.instance) is None else ["the schedule waits for a run whose process is gone"]
    try:
        until(
            lambda: here.family(run_id)[-1].is_finished, here, seconds=SHORTER["poll_interval_seconds"] + SPARE_SECONDS
        )
    except TimeoutError:
        faults.append(f"its run is still {here.family(run_id)[-1].status.value}")
    took = time.monotonic() - killed
    here.wait(WATCHED_SECONDS)
    family = here.family(run_id)
    if [run.status for run in family] != [dg.DagsterRunStatus.FAILURE]:
        faults.append(f"its run and what tried it again: {[run.status.value for run in family]}")
    if (said := family[0].tags.get("dagster/will_retry")) != "false":
        faults.append(f"will it be tried again? Dagster says {said}")
    again = here.submit()
    faults += settled(here, again)[0]
    if (status := here.family(again)[-1].status) is not dg.DagsterRunStatus.SUCCESS:
        faults.append(f"the refresh after it ended as {status.value}")
    return Outcome(
        [*faults, *unsound(here)],
        {"command lines killed": 1.0, "seconds from the kill of a command line to the end of its run (most)": took},
    )


def _struck(here: Yard, asset: str, drawn: random.Random) -> tuple[str, float]:
    """A run that has to mend the asset, and when its process was killed; another run, should it have been quicker."""
    for _ in range(3):
        kills.bring_to(drawn.choice(kills.STATES), here.database, tables_of(asset), DAYS)
        known = {run.run_id for run in _ours(here)}
        with tempfile.TemporaryDirectory(prefix="tft-line-") as home:
            # A home of its own: it would put the project's own dagster.yaml, with its longer times, into the yard's.
            environment = {
                **os.environ, "TFT_HOME": home, "DAGSTER_HOME": f"{home}/dagster", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT),
            }  # fmt: skip
            process = subprocess.Popen(_COMMAND, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                until(lambda: process.poll() is not None or bool({run.run_id for run in _ours(here)} - known), here)  # noqa: B023 - called at once
                begun = [run.run_id for run in _ours(here) if run.run_id not in known]
                if not begun:
                    raise RuntimeError(f"the command line began no run: {process.stderr.read().decode()[-2000:]}")  # type: ignore[union-attr]
                here.reach("in an asset", begun[0], asset)
                here.wait(drawn.uniform(0, 0.5))
            finally:
                process.kill()
                killed = time.monotonic()
                process.communicate()
        run = here.instance.get_run_by_id(begun[0])
        if run is not None and run.status is dg.DagsterRunStatus.STARTED:
            return begun[0], killed
        if run is not None and run.status is not dg.DagsterRunStatus.SUCCESS:
            raise RuntimeError(f"the run of a command line that was not killed yet ended as {run.status.value}")
    raise RuntimeError("the command line was done before it could be killed, three times over")


def _ours(here: Yard) -> list[dg.DagsterRun]:
    """Runs of command lines."""
    return [run for run in here.instance.get_runs(dg.RunsFilter(job_name="refresh")) if PROCESS in run.tags]
