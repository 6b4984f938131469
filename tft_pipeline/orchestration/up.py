"""PostgreSQL, the web UI and the daemon on loopback; stops only what it started."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.errors import PipelineError
from tft_pipeline.orchestration.launch import prepare_home
from tft_pipeline.storage.opening import open_database

HOST = "127.0.0.1"
READY_SECONDS = 180
STOP_SECONDS = 20  # a run in progress is given so long to end


def up(settings: Settings, *, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until interrupted. Raises PipelineError: already up, port taken, or not ready in time (with the log's last lines)."""
    refuse_if_up(settings)
    if _taken(port):
        raise PipelineError(
            f"port {port} on {HOST} is in use by another program; choose another: tft-pipeline up --port {port + 1}"
        )
    # Only this process stops things, so it must hear both signals, also when a shell started it with `&` and SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with open_database(settings) as database:
        prepare_home(settings)
        log = settings.home / "up.log"
        with log.open("w") as output:
            dagster = subprocess.Popen(  # noqa: S603
                _command(port), env=settings.child_environment(database.dsn), cwd=settings.home, stdout=output,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            _pid_file(settings).write_text(
                json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time(), "port": port})
            )
            _wait_until_ready(dagster, port, log)
            on_ready(f"http://{HOST}:{port}")
            status = dagster.wait()
            raise PipelineError(f"Dagster ended by itself with status {status}; its last words:\n{_tail(log)}")
        except KeyboardInterrupt:
            pass
        finally:
            # A second ctrl-c must not interrupt the clean-up and orphan what is left.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _stop(dagster)
            _pid_file(settings).unlink(missing_ok=True)


def down(settings: Settings) -> bool:
    """Stop the `up` of this home, and wait until it is gone. False where none runs. Raises PipelineError: it does not stop."""
    process = _running(settings)
    if process is None:
        return False
    process.terminate()
    deadline = time.monotonic() + STOP_SECONDS * 3
    while _alive(process):
        if time.monotonic() > deadline:
            raise PipelineError(
                f"process {process.pid} was told to stop, and has not after {STOP_SECONDS * 3} s; see {settings.home}/up.log"
            )
        time.sleep(0.1)
    return True


def refuse_if_up(settings: Settings) -> None:
    if (process := _running(settings)) is not None:
        raise PipelineError(
            f"{settings.home} is already up (process {process.pid}); stop it with ctrl-c there, or tft-pipeline down."
        )


def _command(port: int) -> list[str]:
    workspace = str(config.bundled("workspace.yaml"))
    return [
        sys.executable, "-m", "dagster", "dev", "--workspace", workspace, "--host", HOST, "--port", str(port), "--log-level", "warning",
    ]  # fmt: skip


def _pid_file(settings: Settings) -> Path:
    return settings.home / "up.json"


def _running(settings: Settings) -> psutil.Process | None:
    """The process of the pid file, if it is still the one that wrote it: pids are reused."""
    try:
        content = json.loads(_pid_file(settings).read_text())
        process = psutil.Process(content["pid"])
        same = abs(process.create_time() - content["started"]) < 1.0
    except (FileNotFoundError, ValueError, KeyError, psutil.Error):
        return None
    return process if same and _alive(process) else None


def _alive(process: psutil.Process) -> bool:
    """A process that ended stays in the table until its parent asks for its status, which may be never."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _wait_until_ready(dagster: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if dagster.poll() is not None:
            raise PipelineError(f"Dagster did not start (status {dagster.returncode}); its last words:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/server_info", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise PipelineError(f"Dagster's page did not answer within {READY_SECONDS} s; its last words:\n{_tail(log)}")


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _stop(dagster: subprocess.Popen[bytes]) -> None:
    """Ask, wait, and only then kill: all that we started, and nothing else (a plain kill orphans code servers: FAULTS 16)."""
    family = _family(dagster.pid)
    if dagster.poll() is None:
        dagster.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)
    dagster.wait(5)


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
