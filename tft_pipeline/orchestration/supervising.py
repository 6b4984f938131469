"""Processes that are kept alive: what dies is started again, at once the first time, later and later while it dies quickly.

What belongs here: starting, watching, stopping. What does not: which processes these are, which `up` says.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tft_pipeline.errors import PipelineError

QUICK_SECONDS = 60.0  # who dies sooner than this, has died quickly
MOST_QUICK_DEATHS = 6  # in a row; then something is wrong that starting again does not mend
LONGEST_WAIT_SECONDS = 30.0
STOP_SECONDS = 20  # a run in progress is given so long to end

Identity = tuple[int, float]  # process id, and when it was created: ids are given away again


@dataclass
class _Kept:
    command: Sequence[str]
    process: subprocess.Popen[bytes]
    began: float
    quick_deaths: int = 0
    due: float | None = None  # when it is started again; None while it runs


@dataclass
class Supervisor:
    """Keeps named processes alive until it is left; then stops them, and what they started, and nothing else.

    Each leads a session of its own, so that what it started is known as its own. When a leader dies, the others of its session live
    on: a run in progress ends by itself, and no code server has to be there for it.
    """

    environment: Mapping[str, str]
    folder: Path
    log: Path
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _orphans: list[psutil.Process] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> None:
        self._kept[name] = _Kept(command, self._launched(name, command), time.monotonic())

    def process(self, name: str) -> int:
        """The id of the process of this name, alive or dead."""
        return self._kept[name].process.pid

    def leaders(self) -> list[Identity]:
        """Who runs now, to be found again by another program if we die without having stopped them."""
        running = [kept.process for kept in self._kept.values() if kept.process.poll() is None]
        return [identity for process in running if (identity := identity_of(process.pid)) is not None]

    def refuse_dead(self, name: str) -> None:
        """Raises PipelineError, with the log's last lines, where a process has ended that was never ready yet."""
        status = self._kept[name].process.poll()
        if status is not None:
            raise PipelineError(f"Dagster's {name} did not start (status {status}); the last words:\n{self.tail()}")

    def tend(self) -> bool:
        """Start again what died and whose wait is over; whether something was. To be called several times a second.

        Raises PipelineError, with the log's last lines: a process died quickly, again and again.
        """
        started = False
        for name, kept in self._kept.items():
            if kept.due is None:
                self._mourn(name, kept)
            elif time.monotonic() >= kept.due:
                kept.process, kept.began, kept.due = self._launched(name, kept.command), time.monotonic(), None
                started = True
        return started

    def stop(self) -> None:
        """Ask, wait, and only then kill."""
        alive = [process for kept in self._kept.values() for process in session(kept.process.pid)]
        alive += [orphan for orphan in self._orphans if orphan.is_running()]
        for kept in self._kept.values():
            if kept.process.poll() is None:
                kept.process.terminate()
        _ask(self._orphans)
        alive = _left_after(STOP_SECONDS, alive)
        # What was started while we asked is in the sessions now.
        alive += [process for kept in self._kept.values() for process in session(kept.process.pid)]
        _kill(alive)
        for kept in self._kept.values():
            kept.process.wait(5)
        self._kept.clear()
        self._orphans.clear()

    def tail(self, lines: int = 15) -> str:
        """The log's last lines."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _mourn(self, name: str, kept: _Kept) -> None:
        status = kept.process.poll()
        if status is None:
            return
        lived = time.monotonic() - kept.began
        kept.quick_deaths = kept.quick_deaths + 1 if lived < QUICK_SECONDS else 0
        if kept.quick_deaths > MOST_QUICK_DEATHS:
            raise PipelineError(
                f"the {name} died {kept.quick_deaths} times within {QUICK_SECONDS:g} s of its start (status {status}); the last words:\n{self.tail()}"
            )
        wait = 0.0 if kept.quick_deaths < 2 else min(2.0**kept.quick_deaths / 4, LONGEST_WAIT_SECONDS)
        self._orphans = [orphan for orphan in self._orphans if orphan.is_running()] + session(kept.process.pid)
        kept.due = time.monotonic() + wait
        self._say(
            f"the {name} (process {kept.process.pid}) ended with status {status} after {lived:.0f} s; it is started again in {wait:g} s"
        )

    def _say(self, sentence: str) -> None:
        with self.log.open("a") as output:
            output.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC - tft-pipeline up - {sentence}\n")

    def _launched(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        # libpq tells PostgreSQL this name, so that pg_stat_activity says whose a connection is.
        environment = {**self.environment, "PGAPPNAME": f"tft-pipeline {name}"}
        with self.log.open("a") as output:
            return subprocess.Popen(  # noqa: S603
                command, env=environment, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip


def stop_left_behind(leaders: Sequence[Identity]) -> int:
    """Stop who still runs of another program's leaders, with their sessions; how many processes that was."""
    alive = [process for identity in leaders if is_alive(identity) for process in session(identity[0])]
    _ask(alive)
    _kill(_left_after(STOP_SECONDS, alive))
    return len(alive)


def identity_of(pid: int) -> Identity | None:
    """None: there is no such process."""
    try:
        return pid, psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def is_alive(identity: Identity) -> bool:
    """A process that ended stays in the table until its parent asks for its status, which may be never: that is not alive."""
    pid, created = identity
    try:
        process = psutil.Process(pid)
        # Not to the last digit: the clock by which the system tells it may have been set meanwhile.
        return abs(process.create_time() - created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def session(leader: int) -> list[psutil.Process]:
    """Who lives in the session that this process leads, or led. Its number is not given away while somebody lives there."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        except (OSError, psutil.Error):
            continue  # it has ended meanwhile
    return found


def _ask(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _left_after(5, processes)


def _left_after(seconds: float, processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Who still lives when all have ended, or so many seconds are over. Not psutil.wait_procs: where the first process of a container asks
    for nobody's status, who was adopted by it stays in the table for ever."""
    ends = time.monotonic() + seconds
    while (alive := [process for process in processes if _lives(process)]) and time.monotonic() < ends:
        time.sleep(0.02)
    return alive


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
