"""Whether a run's worker still lives: real processes, killed for real."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import should_retry
from dagster._daemon.monitoring.run_monitoring import monitor_started_run
from dagster._grpc.client import DagsterGrpcClient

from tft_pipeline.orchestration import workers
from tft_pipeline.orchestration.processes import PROCESS
from tft_pipeline.orchestration.workers import WatchfulRunLauncher

SPAWNED = [sys.executable, "-c", "import time; 'as by multiprocessing.spawn'; time.sleep(600)"]
OTHER = [sys.executable, "-c", "import time; time.sleep(600)"]
Started = Callable[..., tuple[dg.DagsterRun, subprocess.Popen[bytes]]]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    own = {
        "run_launcher": {"module": "tft_pipeline.orchestration.workers", "class": "WatchfulRunLauncher"},
        "run_monitoring": {"enabled": True},
        "run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False},
    }
    with dg.instance_for_test(overrides=own) as made:
        yield made


@pytest.fixture
def launcher(instance: dg.DagsterInstance) -> WatchfulRunLauncher:
    found = instance.run_launcher
    assert isinstance(found, WatchfulRunLauncher)
    assert found.supports_check_run_worker_health
    return found


@pytest.fixture
def started(instance: dg.DagsterInstance) -> Iterator[Started]:
    """A run that is STARTED, and the process that wrote down that it works on it."""
    processes = []

    def start(
        tags: dict[str, str] | None = None, home: str | None = None, command: Sequence[str] = SPAWNED
    ) -> tuple[dg.DagsterRun, subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            command, env={**os.environ, "DAGSTER_HOME": instance.root_directory if home is None else home}
        )
        processes.append(process)
        given = {GRPC_INFO_TAG: '{"host": "localhost", "socket": "/nowhere/code.sock"}'} if tags is None else tags
        run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=given)
        instance.report_engine_event("Started process for run", run, EngineEventData.in_process(process.pid))
        return run, process

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def code_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DagsterGrpcClient, "ping", lambda *_: "pong")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.02)


@pytest.mark.usefixtures("code_server")
def test_a_worker_that_lives_is_running_and_one_that_was_killed_is_gone(
    launcher: WatchfulRunLauncher, started: Started
) -> None:
    run, worker = started()
    until(lambda: launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING)
    worker.kill()
    until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_ZOMBIE)
    found = launcher.check_run_worker_health(run)
    assert found.status is WorkerStatus.NOT_FOUND
    assert found.msg == f"its worker, process {worker.pid}, has ended without saying how the run went"
    worker.wait()
    assert launcher.check_run_worker_health(run).status is WorkerStatus.NOT_FOUND


def test_a_run_is_not_given_up_before_its_code_server_is_back_to_try_it_again(
    launcher: WatchfulRunLauncher, started: Started
) -> None:
    run, worker = started()
    worker.kill()
    worker.wait()
    found = launcher.check_run_worker_health(run)
    assert found.status is WorkerStatus.RUNNING
    assert found.msg == f"process {worker.pid} has ended; its code server is awaited"


@pytest.mark.usefixtures("code_server")
@pytest.mark.parametrize("how", [{"home": "/another/home"}, {"command": OTHER}], ids=["another home", "no worker"])
def test_another_programs_process_that_got_the_number_is_not_the_worker(
    launcher: WatchfulRunLauncher, started: Started, how: dict[str, Any]
) -> None:
    run, other = started(**how)
    until(lambda: psutil.Process(other.pid).cmdline()[-1].endswith("sleep(600)"))
    assert launcher.check_run_worker_health(run).status is WorkerStatus.NOT_FOUND
    with pytest.raises(DagsterUserCodeUnreachableError):
        launcher.terminate(run.run_id)
    assert other.poll() is None


@pytest.mark.usefixtures("code_server")
def test_a_run_that_was_started_twice_lives_as_long_as_one_of_its_workers(
    launcher: WatchfulRunLauncher, started: Started, instance: dg.DagsterInstance
) -> None:
    run, first = started()
    _, second = started()
    instance.report_engine_event("Started process for run", run, EngineEventData.in_process(second.pid))
    for worker in (first, second):
        until(lambda: launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING)
        worker.kill()
        worker.wait()
    assert launcher.check_run_worker_health(run).status is WorkerStatus.NOT_FOUND


def test_a_cancel_kills_every_worker_of_a_run(
    launcher: WatchfulRunLauncher, started: Started, instance: dg.DagsterInstance
) -> None:
    run, first = started()
    _, second = started()
    instance.report_engine_event("Started process for run", run, EngineEventData.in_process(second.pid))
    until(lambda: all(launcher._worker(worker.pid) for worker in (first, second)))
    assert launcher.terminate(run.run_id)
    assert [worker.wait(10) for worker in (first, second)] == [-signal.SIGKILL] * 2


@pytest.mark.parametrize("tags", [{}, {GRPC_INFO_TAG: '{"host": "elsewhere", "port": 4000}'}])
def test_a_worker_that_may_be_on_another_machine_is_not_judged(
    launcher: WatchfulRunLauncher, started: Started, tags: dict[str, str]
) -> None:
    run, worker = started(tags)
    worker.kill()
    worker.wait()
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_one_that_has_not_said_its_number_yet_is_waited_for(
    launcher: WatchfulRunLauncher, instance: dg.DagsterInstance
) -> None:
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags={GRPC_INFO_TAG: '{"socket": "/s"}'})
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING


def test_a_worker_whose_code_server_is_gone_is_killed_by_a_cancel(
    launcher: WatchfulRunLauncher, started: Started
) -> None:
    run, worker = started()
    until(lambda: launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING)
    assert launcher.terminate(run.run_id)
    assert worker.wait(10) == -signal.SIGKILL


def test_a_worker_that_was_asked_and_does_not_end_is_killed(
    launcher: WatchfulRunLauncher, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(workers.DefaultRunLauncher, "terminate", lambda *_: True)
    run, worker = started()
    until(lambda: launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING)
    assert launcher.terminate(run.run_id)
    assert worker.wait(10) == -signal.SIGKILL
    assert launcher.terminate(run.run_id), "as Dagster says, where there is nobody to kill"


def test_without_a_worker_a_cancel_fails_as_dagsters_does(launcher: WatchfulRunLauncher, started: Started) -> None:
    run, worker = started()
    worker.kill()
    worker.wait()
    with pytest.raises(DagsterUserCodeUnreachableError, match="Could not reach user code server"):
        launcher.terminate(run.run_id)


# A run of the command line: no code server, but a tag that says which process ---------------------------------------------


SAID = (
    "from tft_pipeline.orchestration import processes; import json; print(json.dumps(processes.tags()), flush=True); "
)
INTERRUPTIBLE = SAID + "import time; time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + INTERRUPTIBLE
Typed = Callable[..., tuple[dg.DagsterRun, subprocess.Popen[bytes]]]


@pytest.fixture
def typed(instance: dg.DagsterInstance) -> Iterator[Typed]:
    """A run that is STARTED, and the process that it goes on in."""
    made = []

    def start(code: str = INTERRUPTIBLE, **changes: object) -> tuple[dg.DagsterRun, subprocess.Popen[bytes]]:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        made.append(process)
        assert process.stdout is not None
        tags = json.loads(process.stdout.readline())
        tags[PROCESS] = json.dumps({**json.loads(tags[PROCESS]), **changes})
        return create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED, tags=tags), process

    yield start
    for process in made:
        process.kill()
        process.communicate()


def test_a_command_line_that_lives_is_running_and_one_that_was_killed_is_gone(
    launcher: WatchfulRunLauncher, typed: Typed
) -> None:
    run, process = typed()
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    process.kill()
    process.wait()
    found = launcher.check_run_worker_health(run)
    assert found.status is WorkerStatus.NOT_FOUND
    name = os.uname().nodename
    assert found.msg == f"its command line, process {process.pid} on {name}, has ended without saying how the run went"


def test_run_monitoring_ends_the_run_of_a_command_line_that_is_gone_and_nothing_tries_it_again(
    instance: dg.DagsterInstance, typed: Typed
) -> None:
    run, process = typed()

    def looked() -> dg.DagsterRun:
        record = instance.get_run_record_by_id(run.run_id)
        assert record is not None
        monitor_started_run(instance, None, record, logging.getLogger("nobody"))  # type: ignore[arg-type]
        left = instance.get_run_by_id(run.run_id)
        assert left is not None
        return left

    assert looked().status is dg.DagsterRunStatus.STARTED
    process.kill()
    process.wait()
    left = looked()
    assert left.status is dg.DagsterRunStatus.FAILURE
    assert left.tags["dagster/will_retry"] == "false"
    assert not should_retry(left, instance)


def test_a_command_line_of_another_machine_is_not_judged_and_not_ended(
    launcher: WatchfulRunLauncher, instance: dg.DagsterInstance, typed: Typed
) -> None:
    run, process = typed(host="elsewhere 0123", boot="another")
    assert not launcher.terminate(run.run_id)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    (said,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    assert said.message == f"Goes on in process {process.pid} on elsewhere, out of reach from here: press ctrl-c there."
    left = instance.get_run_by_id(run.run_id)
    assert left is not None
    assert left.status is dg.DagsterRunStatus.STARTED, "it goes on, so nothing else must be said of it"


def test_a_cancelled_command_line_is_interrupted_as_by_ctrl_c(launcher: WatchfulRunLauncher, typed: Typed) -> None:
    run, process = typed()
    assert launcher.terminate(run.run_id)
    assert process.wait(10) == -signal.SIGINT


def test_a_cancelled_command_line_that_does_not_end_is_killed(
    launcher: WatchfulRunLauncher, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "GRACE_SECONDS", 0.1)
    run, process = typed(STUBBORN)
    assert launcher.terminate(run.run_id)
    assert process.wait(10) == -signal.SIGKILL


def test_a_cancel_of_a_command_line_that_is_gone_ends_its_run(
    launcher: WatchfulRunLauncher, instance: dg.DagsterInstance, typed: Typed
) -> None:
    run, process = typed()
    process.kill()
    process.wait()
    assert launcher.terminate(run.run_id)
    left = instance.get_run_by_id(run.run_id)
    assert left is not None
    assert left.status is dg.DagsterRunStatus.CANCELED
