"""How fast a source is asked, and how far that is: one door and one tally for all threads of a fetch."""

import threading
import time
from collections.abc import Callable
from typing import Self

from tft_pipeline.sources._patience import OutOfPatienceError, Patience
from tft_pipeline.sources.protocols import Watched


class Tally:
    """Tells whoever watches a fetch how far it is, from however many threads."""

    def __init__(self, watched: Watched, total: int) -> None:
        self._watched, self._total, self._done = watched, total, 0
        self._lock = threading.Lock()
        watched(0, total)

    def one_more(self) -> None:
        with self._lock:
            self._done += 1
            self._watched(self._done, self._total)


class Door:
    """Lets no more than so many requests a second through, and none while the server has asked us to wait.

    Every request passes it: `ticket = door.enter()`, then the request, then `door.limited(ticket, …)` where the answer was a 429.
    Whoever reports a limit first waits it out, and holds the door shut for all; of requests that were under way at the same time, none
    waits for itself a second time.
    """

    def __init__(
        self,
        patience: Patience,
        *,
        per_second: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        after: Self | None = None,
    ) -> None:
        """per_second: 0 for no limit of ours. after: the door of the fetch before, whose pace goes on."""
        self._patience = patience
        self._step = 1.0 / per_second if per_second else 0.0
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._next: float = after._next if after else 0.0
        self._limits = 0  # so far
        self._in_a_row = 0
        self._shut: OutOfPatienceError | None = None

    def enter(self) -> int:
        """Wait for one's turn; the ticket of this request. Raises OutOfPatienceError once a limit has outlasted our patience."""
        with self._lock:
            if self._shut:
                raise self._shut
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._step
            ticket = self._limits
        if turn > now:
            self._sleep(turn - now)
        return ticket

    def passed(self) -> None:
        """The answer was no limit."""
        with self._lock:
            self._in_a_row = 0

    def limited(self, ticket: int, why: str, *, at_least_seconds: float) -> None:
        """Wait, with the door shut. Raises OutOfPatienceError, now and for whoever comes after, where that would take too long."""
        with self._lock:
            if self._shut:
                raise self._shut
            if ticket < self._limits:
                return  # asked before the last wait
            try:
                self._patience.back_off(self._in_a_row, why, base_seconds=10.0, at_least_seconds=at_least_seconds)
            except OutOfPatienceError as error:
                self._shut = error
                raise
            self._limits += 1
            self._in_a_row += 1
