"""PostgreSQL, the web UI, the daemon and the code server on loopback, kept alive; stops only what it started."""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tft_pipeline.config import Settings
from tft_pipeline.errors import PipelineError
from tft_pipeline.orchestration.launch import prepare_home
from tft_pipeline.orchestration.services import (
    HOST,
    answers,
    code_server,
    code_socket,
    daemon,
    serves,
    web_page,
    workspace_file,
)
from tft_pipeline.orchestration.supervising import (
    STOP_SECONDS,
    Identity,
    Supervisor,
    identity_of,
    is_alive,
    stop_left_behind,
)
from tft_pipeline.storage import embedded
from tft_pipeline.storage.opening import open_database

READY_SECONDS = 180
TENDED_SECONDS = 0.5


def up(settings: Settings, *, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until interrupted; what dies is started again.

    Raises PipelineError: already up, port taken, not ready in time, or dying again and again (with the log's last lines).
    """
    refuse_if_up(settings)
    _stop_left_behind(settings)
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
        log.write_text("")
        with (
            code_socket(settings) as socket_path,
            Supervisor(settings.child_environment(database.dsn), settings.home, log) as services,
        ):
            try:
                services.start("code server", code_server(socket_path))
                _record(settings, services)
                _wait_until(services, "code server", lambda: answers(socket_path))
                workspace = workspace_file(settings, socket_path)
                services.start("web page", web_page(port, workspace))
                services.start("daemon", daemon(workspace))
                _record(settings, services)
                _wait_until(services, "web page", lambda: serves(port))
                on_ready(f"http://{HOST}:{port}")
                while True:
                    if services.tend():
                        _record(settings, services)
                    time.sleep(TENDED_SECONDS)
            except KeyboardInterrupt:
                pass
            finally:
                # A second ctrl-c must not interrupt the clean-up and orphan what is left.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                services.stop()
                _pid_file(settings).unlink(missing_ok=True)


def down(settings: Settings) -> bool:
    """Stop the `up` of this home, and wait until it is gone. False where none runs. Raises PipelineError: it does not stop."""
    running = _running(settings)
    if running is None:
        left = _stop_left_behind(settings)
        return _stop_forgotten_server(settings) or left > 0
    pid, _ = running
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS * 3
    while is_alive(running):
        if time.monotonic() > deadline:
            raise PipelineError(
                f"process {pid} was told to stop, and has not after {STOP_SECONDS * 3} s; see {settings.home}/up.log"
            )
        time.sleep(0.1)
    return True


def refuse_if_up(settings: Settings) -> None:
    if (running := _running(settings)) is not None:
        raise PipelineError(
            f"{settings.home} is already up (process {running[0]}); stop it with ctrl-c there, or tft-pipeline down."
        )


def _stop_forgotten_server(settings: Settings) -> bool:
    """The embedded PostgreSQL of an `up` or a command that was killed: stopped, unless somebody else is using it."""
    data = settings.home / "postgres"
    if settings.postgres_dsn is not None or embedded.postmaster(data) is None:
        return False
    embedded.start(settings.home).stop()
    return embedded.postmaster(data) is None


def _wait_until(services: Supervisor, name: str, ready: Callable[[], bool]) -> None:
    """Raises PipelineError, with the log's last lines: not ready in time, or dead before."""
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        services.refuse_dead(name)
        if time.monotonic() > deadline:
            raise PipelineError(
                f"Dagster's {name} did not answer within {READY_SECONDS} s; the last words:\n{services.tail()}"
            )
        time.sleep(0.3)


# Who else is there ----------------------------------------------------------------------------------------------------


def _pid_file(settings: Settings) -> Path:
    return settings.home / "up.json"


def _record(settings: Settings, services: Supervisor) -> None:
    """Who we are, and whom we started."""
    content = {"up": identity_of(os.getpid()), "services": services.leaders()}
    temporary = _pid_file(settings).with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(_pid_file(settings))


def _recorded(settings: Settings) -> tuple[Identity | None, list[Identity]]:
    try:
        content = json.loads(_pid_file(settings).read_text())
        pid, created = content["up"]
        return (pid, created), [(one, born) for one, born in content["services"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None, []


def _running(settings: Settings) -> Identity | None:
    """The `up` of the pid file, if it is still the one that wrote it."""
    recorded, _ = _recorded(settings)
    return recorded if recorded is not None and is_alive(recorded) else None


def _stop_left_behind(settings: Settings) -> int:
    """An `up` that was killed could not stop what it started: done here. How many processes that was."""
    stopped = stop_left_behind(_recorded(settings)[1])
    _pid_file(settings).unlink(missing_ok=True)
    return stopped


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
