"""A run was given up, its process lives on; its successor has begun. The orphan is refused, whenever it comes."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date

from tft_pipeline.contracts import BARS
from tft_pipeline.storage.audit import damaged
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import take_generation, write
from tft_pipeline_tests.faults.children import content
from tft_pipeline_tests.faults.nursery import Nursery
from tft_pipeline_tests.faults.scratch import empty_world
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.faults.world import copy_of

DAY = date(2026, 1, 30)
MOMENTS = ("before the successor's write", "after it")
MANNERS = ("with the claim it had", "claiming more days")  # as the portfolio does, up to its last mark


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    with empty_world() as (server, children):
        yield lambda key: pair(server, children, int(key))


SUITE = Suite(
    "orphan writer against its successor",
    "200 pairs: the stale one is refused every time",
    [str(n) for n in range(200)],
    session,
)


def pair(server: EmbeddedServer, children: Nursery, seed: int) -> Outcome:
    drawn = random.Random(seed)
    moment, manner, wrote_before = MOMENTS[seed % 2], MANNERS[seed // 2 % 2], drawn.random() < 0.5
    with copy_of(server, "faults_empty") as database:
        by = {"run_id": "parent", "code_version": "0"}
        if wrote_before:
            write(database, {BARS: content(1, [DAY])}, [DAY], **by)
        stale = take_generation(database, [BARS], [DAY])
        fresh = take_generation(database, [BARS], [DAY])
        if moment == MOMENTS[1]:
            write(database, {BARS: content(2, [DAY])}, [DAY], generation=fresh, **by)
        orphan = children.order(
            "orphan", dsn=database.dsn, day=DAY.isoformat(), generation=stale, version=3, more=manner == MANNERS[1]
        )
        if moment == MOMENTS[0]:
            write(database, {BARS: content(2, [DAY])}, [DAY], generation=fresh, **by)
        said, sentence = orphan["said"][0] if orphan["said"] else ("nothing", "")
        faults = (
            []
            if said == "StaleWriterError"
            else [f"the orphan that came {moment} {manner} was not refused: {said} {sentence}"]
        )
        volumes = set(read(database, BARS)["volume"])
        if not volumes <= {1001.0, 1002.0} or 1002.0 not in volumes:
            faults.append(f"the slice holds {volumes}, the successor wrote 1002")
        return Outcome([*faults, *damaged(database, [BARS])], {"refused": float(said == "StaleWriterError")})
