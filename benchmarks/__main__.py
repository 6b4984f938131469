"""`make bench`: run every comparison, print it, and write docs/benchmarks.md with how to repeat it."""

import argparse
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import fetching, storage, training

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each contender; medians are shown")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    given = parser.parse_args()
    parts = [part(given.runs) for part in (storage.run, fetching.run, training.run)]
    content = "\n".join(parts)
    print(content)
    if given.write:
        head = (
            "# Benchmarks\n\n"
            f"Made by `.venv/bin/python -m benchmarks --write` (`make bench` only prints) on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, {platform.machine()}, "
            f"Python {platform.python_version()}; medians of {given.runs} runs in turn. The machine was shared: trust ratios, not absolutes.\n\n"
        )
        OUTPUT.write_text(head + content)


if __name__ == "__main__":
    main()
