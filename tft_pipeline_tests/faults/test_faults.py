"""The part of the fault suites that every test run takes: fixed seeds, and one drawn anew, which a failure prints."""

import random
import re
from collections.abc import Callable

import pytest

from tft_pipeline import crash_points
from tft_pipeline.contracts import BARS, POSITIONS
from tft_pipeline.errors import ConfigError
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline_tests.faults import crowd, kills, orphans, postgres, properties, writes
from tft_pipeline_tests.faults.nursery import Nursery
from tft_pipeline_tests.faults.report import written
from tft_pipeline_tests.faults.trials import Outcome, Results, Suite
from tft_pipeline_tests.faults.world import WINDOW, copy_of, duplicates

DRAWN = random.SystemRandom().randrange(1000, 10**6)
Run = Callable[[str], Outcome]
# Every asset and every point at least once; which goes with which is drawn by the seed.
PAIRS = [
    (asset, crash_points.NAMES[number % len(crash_points.NAMES)])
    for number, asset in enumerate([*kills.JOBS, "market_bars"])
]


@pytest.fixture
def world(filled: tuple[EmbeddedServer, Nursery]) -> Run:
    return lambda trial: kills.kill(*filled, *trial.split(" | "))


def sound(run: Run, key: str) -> Outcome:
    outcome = run(key)
    assert not outcome.faults, f"{key}: {outcome.faults}"
    return outcome


@pytest.mark.parametrize(("asset", "point"), PAIRS)
def test_a_kill_leaves_nothing_torn_and_a_rerun_gives_the_same(world: Run, asset: str, point: str) -> None:
    assert sound(world, kills.key(asset, point, 1 + PAIRS.index((asset, point)) % 6)).counts["kills"] == 1


@pytest.mark.parametrize("point", crash_points.UPKEEP_NAMES)
def test_a_kill_of_upkeep_leaves_every_row_somewhere_and_a_rerun_leaves_the_same_months(world: Run, point: str) -> None:
    seed = crash_points.UPKEEP_NAMES.index(point)
    assert sound(world, kills.key("partition_upkeep", point, seed)).counts["kills"] == 1


def test_kills_are_refused_in_a_world_in_which_nothing_is_at_stake(filled: tuple[EmbeddedServer, Nursery]) -> None:
    with copy_of(filled[0]) as database:
        kills.refuse_idle(database)
        kills.bring_to("half there", database, (POSITIONS,), list(WINDOW))
        with pytest.raises(RuntimeError, match=f"tear nothing: portfolio.positions has no row on {WINDOW[1]}. Change"):
            kills.refuse_idle(database)


def test_a_kill_that_left_a_version_both_held_and_replaced_would_be_seen(
    filled: tuple[EmbeddedServer, Nursery],
) -> None:
    names = ", ".join(BARS.names)
    with copy_of(filled[0]) as database:
        assert duplicates(database) == []
        with database.connect() as connection:
            connection.execute(
                f"""
                INSERT INTO market.bars_revisions ({names}, loaded_at, replaced_at)
                SELECT {names}, loaded_at, now() FROM market.bars ORDER BY bar_start DESC LIMIT 2"""
            )
        assert duplicates(database) == ["market.bars: 2 versions are held and replaced at once"]


def test_a_kill_at_a_place_drawn_anew(world: Run) -> None:
    drawn = random.Random(DRAWN)
    sound(world, kills.key(drawn.choice(list(kills.JOBS)), drawn.choice(crash_points.NAMES), DRAWN))


@pytest.mark.parametrize(
    ("suite", "keys", "counted"),
    [
        (writes.SUITE, ["1", "2", "3", str(DRAWN)], "kills"),
        (orphans.SUITE, ["0", "1", str(DRAWN)], "refused"),
        (crowd.MAKERS_SUITE, ["0"], "rounds"),
        (postgres.SUITE, ["0", "3", str(DRAWN)], "stops"),
    ],
    ids=lambda value: value.name if isinstance(value, Suite) else "",
)
def test_a_few_trials_of_each_suite(suite: Suite, keys: list[str], counted: str) -> None:
    with suite.session() as run:
        for key in keys:
            assert sound(run, key).counts[counted] >= 1


def test_eight_writers_on_one_slice_never_see_a_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "ROUND", 16)
    with crowd.WRITERS_SUITE.session() as run:
        assert sound(run, str(DRAWN)).counts["transactions"] >= 16


@pytest.mark.parametrize("name", list(properties.PROPERTIES))
def test_what_must_hold_of_any_frame(name: str) -> None:
    for seed in (0, DRAWN):
        outcome = properties.check(f"{name} {seed}", examples=60)
        assert not outcome.faults, (seed, outcome.faults)
        assert outcome.counts["examples"] >= 60


def test_a_point_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="no crash point 'nowhere'; there are asset: begun"):
        crash_points.arm("nowhere")


def test_a_long_run_goes_on_where_it_was_and_its_faults_are_listed(tmp_path) -> None:
    results = Results(tmp_path / "orphans.0.jsonl")
    results.add(orphans.SUITE.name, "0", Outcome((), {"refused": 1}), 0.1)
    results.add(orphans.SUITE.name, "1", Outcome(["it was written"], {"refused": 0}), 0.1)
    with results.file.open("a") as file:
        file.write('{"suite": "torn')
    again = Results(results.file)
    assert again.done(orphans.SUITE.name) == {"0", "1"}
    text = written(tmp_path, [orphans.SUITE, writes.SUITE])
    assert "| 2 of 200 | 1 refused | 1 |" in text
    assert "| 0 of 1,000 | nothing yet | 0 |" in text
    assert "- orphan writer against its successor, 1: it was written" in text
    assert "Not the whole run yet" in text
    assert re.search(r"Commits under trial: \S+ \(2 trials\)\.", text)
