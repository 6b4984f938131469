"""Medians of runs in turn: A B C, A B C, …, so that a machine whose speed drifts is fair to all."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Contender:
    """run is timed; prepare, before each run, is not."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def seconds_in_turn(contenders: Mapping[str, Contender], *, runs: int) -> dict[str, float]:
    """{name: median seconds} of runs rounds, after one that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for counted in range(runs + 1):
        for name, contender in contenders.items():
            contender.prepare()
            started = time.perf_counter()
            contender.run()
            if counted:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def table(title: str, unit: str, amount: int, seconds: Mapping[str, float], *, reference: str) -> str:
    """A markdown table of rates, the reference's as 1.00."""
    lines = [f"### {title}", "", f"| contender | {unit}/s | of {reference} |", "| --- | --- | --- |"]
    for name, taken in seconds.items():
        lines.append(f"| {name} | {amount / taken:,.0f} | {seconds[reference] / taken:.2f} |")
    return "\n".join(lines) + "\n"
