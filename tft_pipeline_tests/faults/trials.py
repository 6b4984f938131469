"""Trials, their outcomes, and the file that lets a long run be taken up again."""

import json
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """faults: what went wrong, a sentence each; none is a success. counts: what is summed up in the report; of a name that ends
    with (most), the most is shown."""

    faults: Sequence[str] = ()
    counts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """keys: every trial of a full run, in the order in which they are taken. session: what they need, opened once."""

    name: str
    goal: str
    keys: Sequence[str]
    session: Callable[[], AbstractContextManager[Callable[[str], Outcome]]]


class Results:
    """One line of JSON a trial, appended when it ended: a run that was cut off goes on where it was."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = []
        if file.exists():
            lines = file.read_text().splitlines()
            self.rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last may be torn

    def done(self, suite: str) -> set[str]:
        return {row["key"] for row in self.rows if row["suite"] == suite}

    def add(self, suite: str, key: str, outcome: Outcome, seconds: float) -> None:
        row = {"suite": suite, "key": key, "seconds": round(seconds, 3), "commit": commit(), **asdict(outcome)}
        self.rows.append(row)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")


@cache
def commit() -> str:
    """The commit under trial, `+` where files differ from it; `unknown` outside of git."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
