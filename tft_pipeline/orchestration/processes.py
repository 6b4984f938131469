"""Which process a run of the command line goes on in, as a tag of the run, and whether that process is gone.

What belongs here: telling one process from all others, before and after a restart. What does not: what becomes of its run, which
workers, refreshes and record say, and the workers of code servers, which write down themselves who they are.
"""

import hashlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg
import psutil
from dagster._core.storage.tags import GRPC_INFO_TAG

PROCESS = "tft/process"
_PROC, _MACHINE_ID = Path("/proc"), Path("/etc/machine-id")


@dataclass(frozen=True)
class Process:
    """One process among all that there ever were.

    host: the machine's name, with what tells it from its namesakes. boot and space: which start of the machine, and among which process
    ids; empty where the system does not say, as on macOS. born: on Linux in ticks since the machine started, which setting its clock
    does not move; elsewhere in seconds since 1970, as they were told at birth.
    """

    host: str
    boot: str
    space: str
    pid: int
    born: float

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.split()[0]}"


def tags() -> dict[str, str]:
    """For a run that goes on in this process. No code server knows it, so none could be asked to try it again."""
    return {PROCESS: json.dumps(asdict(_this())), "dagster/max_retries": "0"}


def of(run: dg.DagsterRun) -> Process | None:
    """None: a code server's worker does it, also where a person had it made from one of ours, tags and all; or the tag is not of our making."""
    if GRPC_INFO_TAG in run.tags:
        return None
    try:
        found = json.loads(run.tags[PROCESS])
        text = {name: str(found[name]) for name in ("host", "boot", "space")}
        told = Process(**text, pid=int(found["pid"]), born=float(found["born"]))
    except (KeyError, TypeError, ValueError):
        return None
    return told if told.pid > 0 else None  # no process, but to signals a group of them


def gone(process: Process) -> bool:
    """Surely: of another machine, or of another container on this one, nobody here can tell."""
    return _lives(process) is False


def ended(run: dg.DagsterRun) -> bool:
    """Whether the run went on in a process that is gone. Where it said before how it ended, `run` may be too old to know."""
    process = of(run)
    return process is not None and gone(process)


def found(process: Process) -> psutil.Process | None:
    """The process itself, to be sent signals; None: it is gone, or out of our reach, on another machine or another user's."""
    try:
        handle = psutil.Process(process.pid)
        handle.send_signal(0)  # sends nothing, but asks whether we may
    except psutil.Error:
        return None
    return handle if _lives(process) else None  # asked afterwards: from here on psutil sees to it that the id stays his


def _lives(process: Process) -> bool | None:
    """None: not known."""
    here = _this()
    if process.host != here.host:
        return None
    if process.boot != here.boot:
        return False
    if process.space != here.space:
        return None
    try:
        born = _born(process.pid)
    except (OSError, psutil.Error):
        # Some systems do not show one user the processes of another.
        return None if _exists(process.pid) else False
    return born is not None and abs(born - process.born) < 1.0


def _this() -> Process:
    machine = hashlib.sha256(_read(_MACHINE_ID)).hexdigest()[:12]  # it is not for everybody's eyes
    try:
        space = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        space = ""
    boot = _read(_PROC / "sys/kernel/random/boot_id").decode().strip()
    return Process(f"{platform.node() or '?'} {machine}", boot, space, os.getpid(), _born(os.getpid()) or 0.0)


def _born(pid: int) -> float | None:
    """None: it has ended, and only its status waits to be asked for. Raises OSError or psutil.Error: it cannot be seen."""
    if (_PROC / "self/stat").exists():
        # After the program's name, which is in brackets and may hold any: 3 the state, …, 22 when it started (man 5 proc).
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else float(fields[19])
    process = psutil.Process(pid)
    return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
