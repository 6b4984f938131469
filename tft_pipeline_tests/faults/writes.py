"""kill -9 at random moments of a writer that never stops writing: every month it leaves is whole."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date

from tft_pipeline.contracts import BARS
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.read import read
from tft_pipeline_tests.faults.children import content
from tft_pipeline_tests.faults.nursery import Nursery
from tft_pipeline_tests.faults.scratch import empty_world
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.faults.world import copy_of, duplicates

DAYS = [date(2026, 1, 30), date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 2)]  # two months: two transactions


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    with empty_world() as (server, children):
        yield lambda key: kill(server, children, int(key))


SUITE = Suite("kill -9 at random times during writes", "1,000: 0 torn", [str(n) for n in range(1000)], session)


def kill(server: EmbeddedServer, children: Nursery, seed: int) -> Outcome:
    drawn = random.Random(seed)
    with copy_of(server, "faults_empty") as database:
        struck = children.order(
            "write", dsn=database.dsn, days=[day.isoformat() for day in DAYS], versions=list(range(200)), kill_after=drawn.uniform(0.0, 0.6)
        )  # fmt: skip
        faults = [] if struck["killed"] else [f"it was not killed: status {struck['status']}"]
        faults += damaged(database, [BARS]) + disagreements(database) + duplicates(database)
        acknowledged = struck["said"][1:]  # after "ready"
        last = acknowledged[-1][0] if acknowledged else -1
        held = read(database, BARS)
        for month in (1, 2):
            of_month = held[held["bar_start"].dt.month == month]
            versions = {int(volume) - 1000 for volume in of_month["volume"].unique()}
            # Raw rows stay when a later version lacks them, so up to two versions lie side by side; none older than what was acknowledged
            # may be the newest, and none newer than the one in the making may be there.
            newest = max(versions, default=-1)
            if not last <= newest <= last + 1:
                faults.append(f"month {month} holds version {newest}, acknowledged was {last}")
        # The writer that comes after makes it whole.
        again = children.order("write", dsn=database.dsn, days=[day.isoformat() for day in DAYS], versions=[200])
        expected = content(200, DAYS)
        if again["status"] or not read(database, BARS)["volume"].eq(expected["volume"].iloc[0]).all():
            faults.append(f"the next writer left something else (status {again['status']})")
        faults += damaged(database, [BARS])
        return Outcome(faults, {"kills": float(struck["killed"]), "writes acknowledged": len(acknowledged)})
