"""Everything that `up` runs, kept alive by its supervisor in a small world, for trials that kill and stop pieces of it.

The project's own dagster.yaml holds; only its times are shorter: SHORTER, and a look into the queue every second.
"""

import contextlib
import json
import os
import signal
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import yaml
from dagster._core.storage.dagster_run import ACTIVE_RUN_STATUSES

from tft_pipeline.config import Settings
from tft_pipeline.contracts import TABLES
from tft_pipeline.errors import StorageError
from tft_pipeline.orchestration import launch, services
from tft_pipeline.orchestration.reconciling import compare, reconcile
from tft_pipeline.orchestration.refreshes import GOING
from tft_pipeline.orchestration.reporting import partitioned_assets
from tft_pipeline.orchestration.schedules import RANGE_END, RANGE_START
from tft_pipeline.orchestration.supervising import Supervisor, session
from tft_pipeline.storage import embedded
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline_tests.faults import kills
from tft_pipeline_tests.faults.runs import in_progress, kept_waiting, longest_wait, past_maximum, together
from tft_pipeline_tests.faults.world import (
    TRAINED_ON,
    VALUES,
    WINDOW,
    checkpoint,
    copy_of,
    duplicates,
    settings,
    unbalanced,
)

CHECKOUT = Path(__file__).resolve().parents[2]
MAX_RUNTIME_SECONDS = 60  # in dagster.yaml hours; the bound is the same sum
SHORTER = {
    "max_runtime_seconds": MAX_RUNTIME_SECONDS,
    "start_timeout_seconds": 40,
    "cancel_timeout_seconds": 20,
    "poll_interval_seconds": 2,
    "free_slots_after_run_end_seconds": 2,
}
RETRY_SECONDS = 40.0  # the daemon sees a crash, and asks for another try, within this
GIVE_UP_SECONDS = 300.0
_LAUNCHED = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)
LAUNCH = """mutation ($asked: ExecutionParams!) {launchRun(executionParams: $asked)
    {__typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
ASSETS = [asset for asset, job in kills.JOBS.items() if job != "retrain"]
DAYS = list(WINDOW)


@dataclass
class Yard:
    """A world with everything running: what a trial needs."""

    server: EmbeddedServer
    database: Database
    instance: dg.DagsterInstance
    keeper: Supervisor
    port: int
    reference: dict[tuple[str, date], str]
    known: int = 0  # the newest run that was judged
    struck: list[float] = field(default_factory=list)  # when something was killed, as time.time() tells it
    waited: float = 0.0  # the longest that a run did, with nothing in its way
    emitted: int = 0  # events that the reconciler had to

    def submit(self, job: str = "refresh", more: Mapping[str, str] | None = None, assets: Sequence[str] = ()) -> str:
        """Launch the job, or these assets of it, over the window as the page does, with more tags; its run id. Training has one day."""
        days = {RANGE_START: DAYS[0].isoformat(), RANGE_END: DAYS[-1].isoformat()}
        tags = {**({"dagster/partition": TRAINED_ON.isoformat()} if job == "retrain" else days), **(more or {})}
        selector = {
            "repositoryLocationName": services.LOCATION, "repositoryName": "__repository__", "jobName": job,
            **({"assetSelection": [{"path": [asset]} for asset in assets]} if assets else {}),
        }  # fmt: skip
        asked = {
            "selector": selector, "runConfigData": {}, "mode": "default",
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }  # fmt: skip
        request = urllib.request.Request(
            f"http://{services.HOST}:{self.port}/graphql",
            json.dumps({"query": LAUNCH, "variables": {"asked": asked}}).encode(),
            {"content-type": "application/json"},
        )
        said = ""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                    said = answer.read().decode()
                launched = json.loads(said)["data"]["launchRun"]
                if launched["__typename"] == "LaunchRunSuccess":
                    return str(launched["run"]["runId"])
            except (OSError, TypeError) as error:  # the page, or the code server behind it, may still be coming back
                said = said or repr(error)
            self.wait(0.5)
        raise RuntimeError(f"no run could be launched within {GIVE_UP_SECONDS:g} s: {said}")

    def wait(self, seconds: float) -> None:
        """Let time pass, and the supervisor do its work."""
        ends = time.monotonic() + seconds
        while True:
            self.keeper.tend()
            left = ends - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(0.2, left))

    def family(self, run_id: str) -> list[dg.DagsterRun]:
        """The run and its retries, the newest last."""
        records = self.instance.get_run_records(dg.RunsFilter(tags={"dagster/root_run_id": run_id}))
        first = self.instance.get_run_by_id(run_id)
        retries = sorted((record for record in records), key=lambda record: record.create_timestamp)
        return ([first] if first is not None else []) + [
            record.dagster_run for record in retries if record.dagster_run.run_id != run_id
        ]

    def records(self) -> list[dg.RunRecord]:
        """Of all runs since those that were judged last, whoever launched them; oldest first."""
        found = self.instance.get_run_records(limit=200)
        return sorted((one for one in found if one.storage_id > self.known), key=lambda one: one.storage_id)

    def workers(self) -> list[psutil.Process]:
        """The processes that a code server, dead or alive, started for runs."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            command = " ".join(process.info["cmdline"] or [])
            home = (process.info["environ"] or {}).get("DAGSTER_HOME")
            if home == os.environ["DAGSTER_HOME"] and "multiprocessing.spawn" in command and process.pid != os.getpid():
                found.append(process)
        return found

    def stop_workers(self) -> list[psutil.Process]:
        """Those that are stopped now, until they are `resumed`."""
        stopped = []
        for worker in self.workers():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.suspend()
                stopped.append(worker)
        return stopped

    def reach(self, moment: str, run_id: str, asset: str = "") -> None:
        """Wait until the run is there: queued, starting, started, or in this asset. A run that has ended waits for nothing."""
        statuses = {"starting": _LAUNCHED, "started": (dg.DagsterRunStatus.STARTED,)}

        def there() -> bool:
            run = self.instance.get_run_by_id(run_id)
            if run is None or moment == "queued" or run.is_finished:
                return True
            if moment in statuses:
                return run.status in statuses[moment]
            begun = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)
            return any(entry.dagster_event is not None and entry.dagster_event.step_key == asset for entry in begun)

        until(there, self)

    def kill(self, target: str) -> int:
        """How many processes that was."""
        if target == "run worker":
            victims = self.workers()
        elif target == "all together":
            victims = self.everyone()
        else:
            victims = [psutil.Process(self.keeper.process(target))]
        killed = sum(_killed(process) for process in set(victims))
        if target == "all together" and (postmaster := embedded.postmaster(self.server.data)) is not None:
            os.kill(postmaster, signal.SIGKILL)
            killed += 1
            until(lambda: embedded.postmaster(self.server.data) not in (None, postmaster) and self.answers(), self)
        self.struck.append(time.time())
        return killed

    def everyone(self) -> list[psutil.Process]:
        """All but PostgreSQL."""
        names = ("daemon", "code server", "web page")
        return [process for name in names for process in session(self.keeper.process(name))] + self.workers()

    def answers(self) -> bool:
        try:
            return self.database.check() > 0
        except StorageError:
            return False


@contextmanager
def yard(server: EmbeddedServer) -> Iterator[Yard]:
    """server: one whose template holds the small world (kills.world)."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tft-yard-")))
        database = stack.enter_context(copy_of(server))
        checkpoint(server)
        stack.callback(_restored, dict(os.environ))
        os.environ.update(_environment())
        chosen = settings(home)
        instance = stack.enter_context(launch.recorded_in(chosen, database.dsn))
        _hurry(chosen)
        keeper = stack.enter_context(
            Supervisor({**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}, home, home / "up.log")
        )
        socket_path, port = chosen.dagster_home / "code.sock", _free_port()
        keeper.start("code server", services.code_server(socket_path))
        until(lambda: keeper.refuse_dead("code server") or services.answers(socket_path))
        keeper.start("web page", services.web_page(port, services.workspace_file(chosen, socket_path)))
        keeper.start("daemon", services.daemon(services.workspace_file(chosen, socket_path)))
        until(lambda: services.serves(port))
        running = Yard(server, database, instance, keeper, port, kills.hashes(database, TABLES, DAYS))
        running.known = max((record.storage_id for record in running.records()), default=0)
        yield running
        for process in running.everyone():  # quicker than asking, and nobody needs what they know
            _killed(process)


def settled(here: Yard, run_id: str) -> tuple[list[str], int, float]:
    """Faults, retries, and the longest that one of the runs was in progress, once the run and its retries have ended.

    Of any run meanwhile, whoever launched it: one past its maximum is a fault, and is not waited for.
    """
    faults: list[str] = []
    asked, quiet_since = time.monotonic(), None
    while True:
        here.wait(0.3)
        family = here.family(run_id)
        active = here.instance.get_run_records(dg.RunsFilter(statuses=ACTIVE_RUN_STATUSES))
        faults += past_maximum(active, MAX_RUNTIME_SECONDS, time.time())
        if time.monotonic() - asked > GIVE_UP_SECONDS:
            faults.append(f"still {[run.status.value for run in family]} after {time.monotonic() - asked:.0f} s")
        if faults:
            break
        if family and all(run.is_finished for run in family):
            last = family[-1]
            done = last.status is dg.DagsterRunStatus.SUCCESS or last.tags.get("dagster/will_retry") == "false"
            quiet_since = quiet_since or time.monotonic()
            if done or time.monotonic() - quiet_since > RETRY_SECONDS:
                break
        else:
            quiet_since = None
    records = [
        record for run in here.family(run_id) if (record := here.instance.get_run_record_by_id(run.run_id)) is not None
    ]
    spans = [in_progress(record, time.time()) for record in records]
    return faults, len(records) - 1, max(spans, default=0.0)


def at_rest(here: Yard) -> list[str]:
    """Wait until no run is going any more; what the record of all of them since the last time shows that it must not."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while True:
        now, records = time.time(), here.records()
        faults = past_maximum(records, MAX_RUNTIME_SECONDS, now) + kept_waiting(records, here.struck, now)
        left = [record.dagster_run for record in records if record.dagster_run.status in GOING]
        if left and time.monotonic() > deadline:
            faults.append(f"still {[f'{run.job_name} {run.status.value}' for run in left]}")
        if faults or not left:
            break
        here.wait(0.5)
    here.waited = max(here.waited, longest_wait(records, here.struck, now)[0])
    here.known = max([here.known, *(record.storage_id for record in records)])
    return faults + together(records, now)


def disagreeing(here: Yard) -> list[str]:
    """What Dagster's record and the ledger disagree on, after the reconciler did what its sensor does every five minutes."""
    here.emitted += reconcile(here.instance, here.database, partitioned_assets())
    left = compare(here.instance, here.database, partitioned_assets(), now=datetime.now(UTC))
    return [
        *(f"{one.asset} of {one.day} was committed, and Dagster does not know" for one in left.unrecorded),
        *(
            f"Dagster calls {asset} of {days} materialized, and there are no rows"
            for asset, days in left.missing.items()
        ),
        *(f"Dagster says of {one.asset} of {one.day}: {one.refuted}" for one in left.differing),
    ]


def unsound(here: Yard) -> list[str]:
    """What is not as it was before anything was killed; nothing, if all is well."""
    faults = at_rest(here)
    held = kills.hashes(here.database, TABLES, DAYS)
    faults += [
        f"after the rerun {name} of {day} is another"
        for name, day in sorted(here.reference)
        if held.get((name, day)) != here.reference[name, day]
    ]
    faults += (
        damaged(here.database) + disagreements(here.database) + duplicates(here.database) + unbalanced(here.database)
    )
    return faults + disagreeing(here)


def resumed(stopped: Iterable[psutil.Process]) -> None:
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def _killed(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def _environment() -> dict[str, str]:
    """The small world's settings as a person would export them."""
    flat: dict[str, Any] = {}
    for name, value in VALUES.items():
        inner = {f"{name}_{part}": one for part, one in value.items()} if isinstance(value, dict) else {name: value}
        flat |= inner
    return {
        f"TFT_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in flat.items()
    }


def _hurry(chosen: Settings) -> None:
    file = chosen.dagster_home / "dagster.yaml"
    content = yaml.safe_load(file.read_text())
    content["run_monitoring"] |= SHORTER
    content["run_coordinator"]["config"] |= {"dequeue_interval_seconds": 1}
    file.write_text(yaml.safe_dump(content))


def until(true: Callable[[], bool], here: Yard | None = None, seconds: float = GIVE_UP_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        here.wait(0.2) if here is not None else time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _restored(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
