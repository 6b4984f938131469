"""`make faults`: every trial that is not done yet, then docs/reliability.md. Cut it off whenever you like: it goes on where it was."""

import argparse
import random
import time
from pathlib import Path

from tft_pipeline_tests.faults import crowd, days, kills, orphans, postgres, processes, properties, writes
from tft_pipeline_tests.faults.report import REPORT, written
from tft_pipeline_tests.faults.trials import Results, Suite

SUITES: dict[str, Suite] = {
    "kills": kills.SUITE, "writes": writes.SUITE, "postgres": postgres.SUITE, "orphans": orphans.SUITE, "writers": crowd.WRITERS_SUITE,
    "partitions": crowd.MAKERS_SUITE, "properties": properties.SUITE, "processes": processes.SUITE, "days": days.SUITE,
}  # fmt: skip


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
        results = Results(given.results / f"{name}.{lane}.jsonl")
        done = results.done(suite.name)
        open_keys = [key for number, key in enumerate(suite.keys) if number % lanes == lane and key not in done]
        if not open_keys or time.monotonic() > ends:
            continue
        print(f"{suite.name}: {len(open_keys)} trials to go", flush=True)
        with suite.session() as run:
            for number, key in enumerate(open_keys):
                if time.monotonic() > ends:
                    break
                began = time.monotonic()
                outcome = run(key)
                results.add(suite.name, key, outcome, time.monotonic() - began)
                for fault in outcome.faults:
                    bad += 1
                    print(f"  FAULT {key}: {fault}", flush=True)
                if number % 50 == 49:
                    print(f"  {number + 1} of {len(open_keys)}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    random.seed()
    raise SystemExit(main())
