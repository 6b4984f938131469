"""docs/reliability.md: what was aimed at, what was counted, what went wrong, and how to repeat it."""

import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tft_pipeline_tests.faults.trials import Suite, counted, of_all_lanes

# What takes no thousand repetitions: it either holds or not, and is asked in each `make test`.
BESIDES = """\
Besides, in every `make test`:

| what befalls the database | what is asked | where |
| --- | --- | --- |
| its disk is full (a real file system), also the embedded server's own | a sentence, nothing half-written, a retry while there may be room, the same bits once there is | `test_full_disk.py` |
| a lock is held too long | a sentence that names who holds it, a retry, nothing half-written | `test_refused_writes.py` |
| it is read-only, or a standby | a sentence at once, no retry where none helps | `test_refused_writes.py` |
| it crashes before the commit, stays away, ends a session | written again when it is back; the run fails after so many tries | `test_refused_writes.py` |
| a standby is promoted, with or without the last writes; an older copy comes back | what was acknowledged is there, or its lack is noticed; a former primary and stale claims are refused | `test_another_primary.py` |
| a writer that was given up lives on | refused, also where two servers gave the same number | `test_another_primary.py`, `orphans.py` |
"""

REPORT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def written(folder: Path, suites: Sequence[Suite]) -> str:
    rows = counted(of_all_lanes(folder))
    commits = Counter(row["commit"] for row in rows)
    of_commits = ", ".join(f"{name} ({count:,} trials)" for name, count in commits.most_common())
    lines = [
        "# Reliability",
        "",
        "What was done to this pipeline on purpose, and what it lost. Made by `make faults` (hours; it goes on where it was cut off) on "
        f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, embedded PostgreSQL 18.",
        *(["**Not the whole run yet**: `trials done` says how far each test got."] if _open(rows, suites) else []),
        f"Commits under trial: {of_commits or 'none'}. A part of it, with fixed seeds and one drawn anew, runs in `make test`.",
        "",
        "| test | aim | trials done | counted | faults |",
        "| --- | --- | --- | --- | --- |",
    ]
    for suite in suites:
        of_suite = _of(suite, rows)
        counts: dict[str, float] = {}
        for row in of_suite:
            for name, value in row["counts"].items():
                counts[name] = (
                    max(counts.get(name, 0), value) if name.endswith("(most)") else counts.get(name, 0) + value
                )
        summed = (
            ", ".join(f"{value:,.{1 if value % 1 else 0}f} {name}" for name, value in counts.items()) or "nothing yet"
        )
        faults = sum(len(row["faults"]) for row in rows if row["suite"] == suite.name)
        lines.append(
            f"| {suite.name} | {suite.goal} | {len(of_suite):,} of {len(suite.keys):,} | {summed} | {faults} |"
        )
    lines += ["", *BESIDES.splitlines()]
    found = [(row["suite"], row["key"], fault) for row in rows for fault in row["faults"]]
    if found:
        lines += ["", "## Faults found", "", *(f"- {suite}, {key}: {fault}" for suite, key, fault in found[:50])]
    return "\n".join(lines) + "\n"


def _of(suite: Suite, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of trials that belong to the suite: not of such as an older version of it had."""
    keys = set(suite.keys)
    return [row for row in rows if row["suite"] == suite.name and row["key"] in keys]


def _open(rows: Sequence[dict[str, Any]], suites: Sequence[Suite]) -> bool:
    """Whether some suite's trials are not all done."""
    return any(len(_of(suite, rows)) < len(suite.keys) for suite in suites)
