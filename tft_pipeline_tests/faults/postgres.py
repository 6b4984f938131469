"""Immediate stops of PostgreSQL under load: what was acknowledged is there, and it comes back without a hand."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta

from tft_pipeline.contracts import BARS
from tft_pipeline.errors import StorageError
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer, postmaster
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.faults.children import content
from tft_pipeline_tests.faults.scratch import EMPTY, empty_server
from tft_pipeline_tests.faults.trials import Outcome, Suite, raised
from tft_pipeline_tests.faults.world import checkpoint, copy_of

WRITERS = 2
RECOVERED_WITHIN = 10.0
GIVEN_UP_AFTER = 60.0


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    with empty_server() as (server, _):
        yield lambda key: stop(server, int(key))


SUITE = Suite(
    "immediate stop of PostgreSQL under load",
    "100: 0 acknowledged lost, recovered within 10 s without a hand",
    [str(n) for n in range(100)],
    session,
)


def stop(server: EmbeddedServer, seed: int) -> Outcome:
    drawn = random.Random(seed)
    with copy_of(server, EMPTY) as database:
        checkpoint(server)
        return _stopped(server, database, drawn.uniform(0.1, 1.0), signal.SIGKILL if seed % 4 == 3 else signal.SIGQUIT)


def _stopped(server: EmbeddedServer, database: Database, after: float, how: signal.Signals) -> Outcome:
    acknowledged: dict[date, str] = {}
    ended, over, faults = threading.Event(), [0.0], []
    loading = [threading.Event() for _ in range(WRITERS)]  # has had a day acknowledged

    def load(number: int) -> None:
        try:
            write_days(number)
        except Exception as error:  # a thread's would be lost, and the trial go on with less load than it claims
            faults.append(f"a writer ended: {raised(error)}")

    def write_days(number: int) -> None:
        day = date(2026, 1, 1) + timedelta(days=100 * number)
        version = 0
        while not ended.is_set():
            version += 1
            try:
                written = write(
                    database, {BARS: content(version, [day])}, [day], run_id=f"v{version}", code_version="0"
                )[BARS.name]
            except StorageError as error:
                if not error.transient:
                    faults.append(f"not called transient: {error}")
                time.sleep(0.02)
                continue
            acknowledged[day] = written.content_hashes[day]
            loading[number].set()
            # A backend of a killed server lives on until it looks up, and may acknowledge until then: that is no recovery.
            if struck and not over[0] and postmaster(server.data) not in (None, victim):
                over[0] = time.monotonic()
            day += timedelta(days=1)

    struck: list[float] = []
    victim = postmaster(server.data)
    assert victim is not None
    writers = [threading.Thread(target=load, args=(number,)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + GIVEN_UP_AFTER
    try:
        idle = [number for number, event in enumerate(loading) if not event.wait(max(deadline - time.monotonic(), 0))]
        time.sleep(after)
        before = len(acknowledged)
        struck.append(time.monotonic())  # who waits, waits from here: also while the server is still going down
        os.kill(victim, how)
        while not over[0] and time.monotonic() < struck[0] + GIVEN_UP_AFTER:
            time.sleep(0.02)
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    faults += [f"writer {number} had nothing acknowledged before the stop: no load" for number in idle]
    if not before:
        faults.append("nothing was acknowledged before the stop: there was nothing to lose")
    took = over[0] - struck[0] if over[0] else GIVEN_UP_AFTER
    if took > RECOVERED_WITHIN:
        faults.append(f"the next write was acknowledged after {took:.1f} s")
    with database.connect() as connection:
        held = dict(
            connection.execute(
                "SELECT slice_day, content_hash FROM ops.slices WHERE table_name = %s", (BARS.name,)
            ).fetchall()
        )
    lost = [day for day, found in acknowledged.items() if held.get(day) != found]
    faults += [f"acknowledged and lost: {day}" for day in lost] + damaged(database, [BARS]) + disagreements(database)
    return Outcome(faults, {"stops": 1, "acknowledged before": before, "seconds to recover (most)": took})
