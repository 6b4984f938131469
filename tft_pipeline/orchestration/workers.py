"""How runs are launched: as Dagster does by itself, with an eye on whether a run's worker still lives.

Dagster's own launcher leaves that to the code server which started the worker. Where both were killed, or the machine went down, the
run would stay STARTED, and keep its pools from the next one, for all of max_runtime_seconds. So would a run of the command line, which
goes on in that process and has no worker, where the process was killed.
"""

import contextlib
import json
import signal
import threading

import dagster as dg
import psutil
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from tft_pipeline.orchestration import processes

GRACE_SECONDS = 30.0  # from being told to end to being killed
_SPAWNED = "multiprocessing.spawn"  # in the command of what a code server starts


class WatchfulRunLauncher(DefaultRunLauncher):
    """Knows a worker by the process id that it recorded as it began, and only one that a code server on this machine started.

    A run of the command line it knows by the process that the run's tag names.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """NOT_FOUND: it has ended without a word; run monitoring then fails the run as crashed, and it is tried again.

        A run of the command line is not: whoever typed it sees that it was killed, and the schedule makes what days it left.
        """
        if (process := processes.of(run)) is not None:
            if processes.gone(process):
                return CheckRunHealthResult(
                    WorkerStatus.NOT_FOUND, f"its command line, {process}, has ended without saying how the run went"
                )
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(process.pid))
        pids = self._recorded(run)
        if not pids:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "not started by a code server of this machine: not known")
        pid = pids[0]
        if not any(self._worker(one) for one in pids):
            if not self._can_try_again(run):
                return CheckRunHealthResult(
                    WorkerStatus.RUNNING, f"process {pid} has ended; its code server is awaited"
                )
            return CheckRunHealthResult(
                WorkerStatus.NOT_FOUND, f"its worker, process {pid}, has ended without saying how the run went"
            )
        return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid))

    def terminate(self, run_id: str) -> bool:
        """Ask as Dagster does; a worker that does not end by that, or whose code server does not know it, is killed."""
        run = self._instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished and (process := processes.of(run)) is not None:
            return self._interrupt(run, process)
        alive = [worker for pid in (self._recorded(run) if run is not None else ()) if (worker := self._worker(pid))]
        try:
            asked: bool = super().terminate(run_id)  # type: ignore[no-untyped-call]
        except Exception:
            if not alive:
                raise
            asked = False
        if not alive:
            return asked
        for worker in alive:
            if asked:
                _kill_later(worker)
            else:
                _kill(worker)
        return True

    def _interrupt(self, run: dg.DagsterRun, process: processes.Process) -> bool:
        """As ctrl-c would, where the command line was typed; what does not end by that is killed."""
        if processes.gone(process):
            self._instance.report_run_canceling(run)
            self._instance.report_run_canceled(run, f"Its command line, {process}, had ended before.")
            return True
        if (handle := processes.found(process)) is None:
            self._instance.report_engine_event(
                f"Goes on in {process}, out of reach from here: press ctrl-c there.", run
            )
            return False
        self._instance.report_run_canceling(run)
        with contextlib.suppress(psutil.NoSuchProcess):
            handle.send_signal(signal.SIGINT)
        _kill_later(handle)
        return True

    def _recorded(self, run: dg.DagsterRun) -> list[int]:
        """The process ids that workers wrote down before anything else, the newest first.

        Of a run whose code server died as it answered, Dagster starts another: the first sees that, and ends, and the second does the run.
        """
        if "socket" not in json.loads(run.tags.get(GRPC_INFO_TAG, "{}")):
            return []
        found: list[int] = []
        for entry in self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            pid = event.engine_event_data.metadata.get("pid") if event is not None else None
            if isinstance(pid, dg.TextMetadataValue) and pid.text is not None:
                found.insert(0, int(pid.text))
        return list(dict.fromkeys(found))

    def _can_try_again(self, run: dg.DagsterRun) -> bool:
        """Dagster asks for another try once: while the code server is away, that fails, and it never asks again."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        try:
            return client is not None and client.ping("") is not None
        except DagsterUserCodeUnreachableError:
            return False

    def _worker(self, pid: int) -> psutil.Process | None:
        """None: it has ended, also where another program has its id by now."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            # Not told by when it was born: the system's clock may have been set since.
            ours = process.environ().get("DAGSTER_HOME") == self._instance.root_directory
            return process if ours and any(_SPAWNED in part for part in process.cmdline()) else None
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None


def _kill_later(worker: psutil.Process) -> None:
    later = threading.Timer(GRACE_SECONDS, _kill, [worker])
    later.daemon = True
    later.start()


def _kill(worker: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.kill()
