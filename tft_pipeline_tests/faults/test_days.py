"""Two of the thirty days, with a machine that is off for most of them; the figures of the whole are in docs/reliability.md."""

import random
from itertools import pairwise

import pytest

from tft_pipeline_tests.faults import days
from tft_pipeline_tests.faults.story import CALM, Story


def test_two_days_with_downtime_a_kill_and_a_silent_source_end_as_if_nothing_had_been() -> None:
    on = {0, 2, 46, 47}
    story = Story(off=set(range(48)) - on, befalls={0: "killed"}, silent={46})
    with days.world(48, trained=False) as world:
        outcome = days.trial(world, 1, story)
    assert not outcome.faults
    counts = outcome.counts
    assert (counts["ticks"], counts["ticks off"]) == (4, 44)
    assert (counts["runs"], counts["runs killed"], counts["runs retried by Dagster"]) == (3, 1, 1)
    assert counts["slices compared"] >= 15 * 2


@pytest.mark.parametrize("seed", range(days.SEEDS))
def test_a_story_has_downtime_of_hours_and_of_days_and_some_of_everything(seed: int) -> None:
    story = Story.drawn(random.Random(seed), days.TICKS)
    off = sorted(story.off)
    stretches = [1]
    for before, after in pairwise(off):
        if after == before + 1:
            stretches[-1] += 1
        else:
            stretches.append(1)
    assert 0.3 < len(off) / days.TICKS < 0.8
    assert min(stretches) < 12
    assert max(stretches) > 40
    assert set(story.befalls.values()) == {"fails", "killed"}
    assert story.silent - story.off
    assert not story.off & set(story.befalls)
    assert max(story.off | set(story.befalls) | story.silent) < days.TICKS - CALM
