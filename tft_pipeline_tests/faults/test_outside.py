"""The part of the outside world's trials that every test run takes: each fault once, by a fixed seed, and some by one drawn anew."""

import random

import pytest

from tft_pipeline_tests.faults import outside_massive, outside_reddit, outside_yahoo
from tft_pipeline_tests.faults.trials import Suite

SUITES = [outside_yahoo.SUITE, outside_reddit.SUITE, outside_massive.SUITE]
DRAWN = random.SystemRandom().randrange(1000, 10**6)
FEW = 5


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_fault_ends_in_a_retry_a_quarantined_row_or_a_clear_error(suite: Suite) -> None:
    faults = sorted({key.split(" | ")[0] for key in suite.keys})
    assert len(faults) >= 30
    chosen = [f"{fault} | 0" for fault in faults]
    chosen += [f"{fault} | {DRAWN}" for fault in random.Random(DRAWN).sample(faults, FEW)]
    with suite.session() as run:
        found = {key: run(key) for key in chosen}
    assert {key: outcome.faults for key, outcome in found.items() if outcome.faults} == {}
    assert sum(outcome.counts["runs"] for outcome in found.values()) == len(chosen)
