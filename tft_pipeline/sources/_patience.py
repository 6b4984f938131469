"""How long a source waits for the outside world: jittered back-off out of one bounded account a call."""

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

log = logging.getLogger(__name__)

LONGEST_STEP_SECONDS = 60.0


class OutOfPatienceError(Exception):
    """Waiting on would take longer than this call may wait in all."""


class Patience:
    """Seconds that one call may spend waiting, whichever of its threads asks for them."""

    def __init__(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self._whole_seconds = seconds
        self._sleep = sleep
        self._lock = threading.Lock()
        self.renew()

    def renew(self) -> None:
        """Fill the account again, for the next call."""
        self.left_seconds = self._whole_seconds

    def wait(self, seconds: float, why: str) -> None:
        """Sleep and write why. Raises OutOfPatienceError, without sleeping, where the account does not cover it."""
        with self._lock:
            if seconds > self.left_seconds:
                raise OutOfPatienceError(f"{why}; {seconds:.0f} s to wait, {self.left_seconds:.0f} s allowed")
            self.left_seconds -= seconds
        log.warning("%s; waiting %.1f s", why, seconds)
        self._sleep(seconds)

    def back_off(self, attempt: int, why: str, *, base_seconds: float = 1.0, at_least_seconds: float = 0.0) -> None:
        """Wait base x 2^attempt, half of it random: many clients that failed together must not return together.

        `at_least_seconds` is what the server asked for; jitter is added to it, never taken from it.
        Source: Exponential Backoff and Jitter, AWS Architecture Blog ("equal jitter").
        """
        step = min(base_seconds * 2**attempt, LONGEST_STEP_SECONDS)
        self.wait(max(step / 2, at_least_seconds) + random.uniform(0, step / 2), why)


def retry_after_seconds(header: str | None) -> float:
    """Seconds of a Retry-After header, given in seconds or as a date; 0 where it is missing or makes no sense."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return 0.0
    return seconds if 0 <= seconds < float("inf") else 0.0
