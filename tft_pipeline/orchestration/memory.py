"""How much memory a command takes: this process, and the processes it started."""

import threading
from types import TracebackType
from typing import Self

import psutil


class MemoryWatch:
    """Samples resident memory of this process and its children, and of the embedded PostgreSQL's processes as their own share.

    Shared pages are counted once (PSS where the system offers it), so PostgreSQL's buffers are not counted for each backend.
    """

    def __init__(self, every_seconds: float = 0.5) -> None:
        self._every = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="memory-watch")
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sample()
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        own = psutil.Process()
        total = own.memory_info().rss
        for child in own.children(recursive=True):
            try:
                total += _share(child)
            except psutil.Error:
                continue  # it has ended meanwhile
        self.peak_bytes = max(self.peak_bytes, total)


def _share(process: psutil.Process) -> int:
    full = process.memory_full_info()
    return int(getattr(full, "pss", 0) or full.uss)
