"""Which tests run in the same process, and in which order files are handed out.

xdist's own `--dist loadgroup` is deaf under pytest 9.2: it appends the group to item._nodeid, which nothing reads any more. So the groups
are told to its scheduler here, by file.
"""

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling

# They look at one world, which takes half a minute to fill.
ONE_WORLD = [f"tft_pipeline_tests/e2e/test_{name}.py" for name in ("demo", "up", "replay", "external")]
# They kill things in one world (faults/conftest.py).
ONE_YARD = [f"tft_pipeline_tests/faults/test_{name}.py" for name in ("faults", "processes")]
# Nothing is shared within: any process may take any of them.
EACH_ALONE = ["tft_pipeline_tests/e2e/test_bad_input.py"]
# What takes long is begun first, so that no process is left with it at the end.
LONGEST_FIRST = [
    *ONE_WORLD,
    "tft_pipeline_tests/faults/",
    "tft_pipeline_tests/e2e/",
    "tft_pipeline_tests/orchestration/",
]


class Together(LoadScopeScheduling):
    """Files stay whole, save those above."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", maxsplit=1)[0]
        if file in EACH_ALONE:
            return nodeid
        return "one world" if file in ONE_WORLD else "one yard" if file in ONE_YARD else file


def scheduler(config: pytest.Config, log: object) -> Together:
    config.option.loadscopereorder = False  # the order is ours
    return Together(config, log)


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    def rank(item: pytest.Item) -> int:
        return next(
            (number for number, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start)), len(LONGEST_FIRST)
        )

    return sorted(items, key=rank)
