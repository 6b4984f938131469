"""How much memory something takes while it runs: an asset's process, or a command with its PostgreSQL."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tft_pipeline.storage import embedded


def of_this_process() -> int:
    """Resident bytes of this process alone."""
    return int(psutil.Process().memory_info().rss)


def of_this_command(home: Path | None) -> int:
    """Bytes of this process, of the processes it started, and of the embedded PostgreSQL whose data lie in home; None: there is none.

    This process counts whole (resident memory), the others by their proportional share (PSS) where the system tells it, else by what
    is theirs alone: so PostgreSQL's buffers, which all its backends map, are counted once. PostgreSQL is looked for by its own process
    id: it is nobody's child, and may have been started anew meanwhile.
    """
    own = psutil.Process()
    others = {process.pid: process for process in own.children(recursive=True)}
    server = embedded.postmaster(home / "postgres") if home is not None else None
    if server is not None:
        try:
            postmaster = psutil.Process(server)
            others |= {process.pid: process for process in (postmaster, *postmaster.children(recursive=True))}
        except psutil.NoSuchProcess:
            pass  # it has ended meanwhile
    return of_this_process() + sum(_share(process) for process in others.values())


def _share(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", 0) or full.uss)
    except psutil.AccessDenied:  # another user's: resident memory is for all to see
        try:
            return int(process.memory_info().rss)
        except psutil.Error:
            return 0
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return 0


class MemoryWatch:
    """Asks how much memory is in use from entering to leaving, every so often, and keeps the most: peak_bytes."""

    def __init__(self, in_use: Callable[[], int], every_seconds: float = 0.5) -> None:
        self._in_use, self._every = in_use, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="memory-watch")
        self.peak_bytes = 0

    @property
    def peak_mib(self) -> float:
        return round(self.peak_bytes / 2**20, 1)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._in_use())
