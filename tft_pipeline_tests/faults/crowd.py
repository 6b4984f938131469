"""Eight at once: on one slice, and on the same partitions that nobody has made yet."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

from tft_pipeline.contracts import ACTIONS, BARS, FEATURES
from tft_pipeline.storage import partitions
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.slices import take_generation, write
from tft_pipeline_tests.faults.children import content
from tft_pipeline_tests.faults.scratch import EMPTY, empty_server
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.faults.world import copy_of
from tft_pipeline_tests.storage.frames import frame

WRITERS = 8
ROUND = 100  # transactions of a trial: rounds of eight writers each
DAY = date(2026, 1, 30)


def at_once(count: int, do: Callable[[int], Any]) -> list[Any]:
    """What each of count threads returned or raised, all let go in the same moment."""
    gate, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        gate.wait()
        try:
            results[number] = do(number)
        except Exception as error:
            results[number] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@contextmanager
def _writers() -> Iterator[Callable[[str], Outcome]]:
    with empty_server() as (server, _), copy_of(server, EMPTY) as database:
        yield lambda key: write_at_once(database, int(key))


WRITERS_SUITE = Suite(
    "8 concurrent writers on one slice",
    "10,000 transactions: 0 deadlocks surface",
    [str(n) for n in range(10_000 // ROUND)],
    _writers,
)


def write_at_once(database: Database, seed: int) -> Outcome:
    """Rounds of eight who bring other values for the same day, rows in shuffled order, raw and derived tables in any order."""
    faults: list[str] = []
    transactions = 0
    generation = take_generation(
        database, [BARS, FEATURES, ACTIONS], [DAY]
    )  # of one claim: none is another's successor
    drawn = random.Random(seed)
    while transactions < ROUND:
        orders = [drawn.sample([BARS, FEATURES, ACTIONS], 3) for _ in range(WRITERS)]
        salts = [drawn.randrange(1000) for _ in range(WRITERS)]

        def one(number: int, orders: list[Any] = orders, salts: list[int] = salts) -> None:
            frames = {
                table: (
                    content(salts[number], [DAY])
                    if table is BARS
                    else frame(table, [DAY], (14, 15, 16), tickers=("AAPL", "MSFT")).assign()
                )
                for table in orders[number]
            }
            shuffled = {table: rows.sample(frac=1, random_state=salts[number]) for table, rows in frames.items()}
            write(database, shuffled, [DAY], run_id=f"w{number}", code_version="0", generation=generation)

        for outcome in at_once(WRITERS, one):
            transactions += 1
            if isinstance(outcome, Exception):
                faults.append(f"{type(outcome).__name__}: {outcome}")
    faults += damaged(database, [BARS, FEATURES, ACTIONS]) + disagreements(database)
    return Outcome(faults, {"transactions": transactions})


@contextmanager
def _makers() -> Iterator[Callable[[str], Outcome]]:
    with empty_server() as (server, _):
        yield lambda key: make_at_once(server, int(key))


ROUNDS = 20  # of a trial
MAKERS_SUITE = Suite(
    "partition creation raced by 8", "1,000 rounds: 0 errors", [str(n) for n in range(1000 // ROUNDS)], _makers
)


def make_at_once(server: EmbeddedServer, seed: int) -> Outcome:
    faults: list[str] = []
    made = 0
    with copy_of(server, EMPTY) as database:
        for number in range(ROUNDS):
            months = [date(2030 + number // 12, number % 12 + 1, 1)]
            names = ["market.bars", "market.bars_revisions", "features.hourly"]
            results = at_once(WRITERS, lambda _, names=names, months=months: partitions.ensure(database, names, months))
            errors = [f"{type(found).__name__}: {found}" for found in results if isinstance(found, Exception)]
            faults += errors
            if not errors:
                every = sorted(name for found in results for name in found)
                made += len(every)
                if len(every) != len(names):
                    faults.append(f"{months[0]}: made were {every}")
    return Outcome(faults, {"rounds": ROUNDS, "partitions": made})
