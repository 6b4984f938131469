"""Trials, their outcomes, and the files that let a long run be taken up again."""

import json
import subprocess
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

_SHOWN = 1200  # characters of an exception


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
            self.rows = [row for line in file.read_text().splitlines() if (row := _parsed(line)) is not None]

    def done(self, suite: str) -> set[str]:
        return {row["key"] for row in self.rows if row["suite"] == suite}

    def add(self, suite: str, key: str, outcome: Outcome, seconds: float) -> None:
        row = {
            "suite": suite, "key": key, "seconds": round(seconds, 3), "ended": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "commit": commit(), **asdict(outcome),
        }  # fmt: skip
        self.rows.append(row)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+b") as file:
            file.seek(max(file.tell() - 1, 0))
            torn = file.read(1) not in (b"", b"\n")  # the next row must not become part of one that was cut off
            file.write(b"\n" * torn + json.dumps(row).encode() + b"\n")


def _parsed(line: str) -> dict[str, Any] | None:
    """None: a line that was cut off."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return None


def of_all_lanes(folder: Path) -> list[dict[str, Any]]:
    """Every row of every lane's file, in the order in which the trials ended."""
    rows = [row for file in sorted(folder.glob("*.jsonl")) for row in Results(file).rows]
    return sorted(rows, key=lambda row: row.get("ended", ""))


def counted(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each suite and key: of a trial that was run twice, the later; but one with faults is never hidden by a later one
    without, and the faults of all are kept."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        name = row["suite"], row["key"]
        before = found.get(name)
        if before is None:
            found[name] = row
        else:
            faults = list(dict.fromkeys([*before["faults"], *row["faults"]]))
            found[name] = {**(before if before["faults"] and not row["faults"] else row), "faults": faults}
    return list(found.values())


def raised(error: Exception) -> str:
    """What an exception says in a report: its type, its text (a bare assertion's is its line of code), its notes, where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    said = [str(error) or place.line or "", *getattr(error, "__notes__", ())]
    text = " ".join(" ".join(said).split())[:_SHOWN]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"


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
