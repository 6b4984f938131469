"""`make faults`: every trial that is not done yet, then docs/reliability.md. Cut it off whenever you like: it goes on where it was."""

import argparse
import random
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tft_pipeline_tests.faults import crowd, days, kills, orphans, postgres, processes, properties, writes
from tft_pipeline_tests.faults.report import REPORT, written
from tft_pipeline_tests.faults.trials import Outcome, Results, Suite, of_all_lanes, raised

SUITES: dict[str, Suite] = {
    "kills": kills.SUITE, "writes": writes.SUITE, "postgres": postgres.SUITE, "orphans": orphans.SUITE, "writers": crowd.WRITERS_SUITE,
    "partitions": crowd.MAKERS_SUITE, "properties": properties.SUITE, "processes": processes.SUITE, "days": days.SUITE,
}  # fmt: skip

# Times in a row, at most: then what the trials need is broken, and each further one would only say so again.
REOPENED = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", default=",".join(SUITES), help=f"of {', '.join(SUITES)}")
    parser.add_argument("--results", type=Path, default=Path("build/faults"), help="folder of what was done so far")
    parser.add_argument("--minutes", type=float, default=180.0, help="stop taking new trials after so long")
    parser.add_argument("--lane", default="0/1", help="k/n: this process takes every n-th trial, from the k-th on")
    parser.add_argument("--report", action="store_true", help="write docs/reliability.md from the results, run nothing")
    given = parser.parse_args()
    if given.report:
        REPORT.write_text(written(given.results, list(SUITES.values())))
        return 0
    lane, lanes = map(int, given.lane.split("/"))
    ends, bad = time.monotonic() + given.minutes * 60, 0
    for name in given.suites.split(","):
        suite = SUITES[name]
        done = {row["key"] for row in of_all_lanes(given.results) if row["suite"] == suite.name}
        open_keys = [key for number, key in enumerate(suite.keys) if number % lanes == lane and key not in done]
        if not open_keys or time.monotonic() > ends:
            continue
        print(f"{suite.name}: {len(open_keys)} trials to go", flush=True)
        bad += take(suite, open_keys, Results(given.results / f"{name}.{lane}.jsonl"), ends)
    return 1 if bad else 0


def take(suite: Suite, keys: Sequence[str], results: Results, ends: float) -> int:
    """Take the trials of keys until `ends`, by time.monotonic; how many faults there were.

    A trial that raises is a fault; the next has its session opened anew, for who knows what the last left behind.
    """
    faults = taken = in_a_row = 0
    while taken < len(keys) and time.monotonic() <= ends and in_a_row <= REOPENED:
        try:
            with suite.session() as run:
                while taken < len(keys) and time.monotonic() <= ends:
                    key = keys[taken]
                    began = time.monotonic()
                    outcome, survived = _tried(run, key)
                    results.add(suite.name, key, outcome, time.monotonic() - began)
                    taken += 1
                    faults += len(outcome.faults)
                    for fault in outcome.faults:
                        print(f"  FAULT {key}: {fault}", flush=True)
                    if taken % 50 == 0:
                        print(f"  {taken} of {len(keys)}", flush=True)
                    if not survived:
                        in_a_row += 1
                        break
                    in_a_row = 0
        except Exception as error:
            # What the trials need could not be opened, or not be closed: no trial's fault, hence in no row.
            faults += 1
            in_a_row += 1
            traceback.print_exception(error)
            print(f"  FAULT of the session: {raised(error)}", flush=True)
    if in_a_row > REOPENED:
        print(f"  given up after {in_a_row} failures in a row; {len(keys) - taken} trials are left", flush=True)
    return faults


def _tried(run: Callable[[str], Outcome], key: str) -> tuple[Outcome, bool]:
    """What came of it, and whether it came to its end."""
    try:
        return run(key), True
    except Exception as error:
        traceback.print_exception(error)
        return Outcome([raised(error)]), False


if __name__ == "__main__":
    random.seed()
    raise SystemExit(main())
