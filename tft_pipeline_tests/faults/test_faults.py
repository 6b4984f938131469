"""The part of the fault suites that every test run takes: fixed seeds, and one drawn anew, which a failure prints."""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tft_pipeline import crash_points
from tft_pipeline.contracts import BARS, POSITIONS
from tft_pipeline.errors import ConfigError
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline_tests.faults import crowd, kills, orphans, postgres, properties, writes
from tft_pipeline_tests.faults.__main__ import REOPENED, take
from tft_pipeline_tests.faults.nursery import Nursery
from tft_pipeline_tests.faults.report import written
from tft_pipeline_tests.faults.trials import Outcome, Results, Suite, counted, of_all_lanes
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


@pytest.fixture(scope="module")
def holding() -> Iterator[Run]:
    with properties.SUITE.session() as run:
        yield run


@pytest.mark.parametrize("name", list(properties.PROPERTIES))
def test_what_must_hold_of_any_frame(holding: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(properties, "EXAMPLES", 60)
    for seed in (0, DRAWN):
        counts = sound(holding, f"{name} {seed}").counts
        assert counts["examples"] >= 60
        assert counts[properties.PROPERTIES[name].seen] >= 1


def test_properties_are_tried_with_fifty_thousand_examples() -> None:
    assert len(set(properties.SUITE.keys)) * properties.EXAMPLES == 50_000


def test_properties_that_hold_of_nothing_are_a_fault(holding: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = properties.Property(lambda _: 0, lambda _: st.integers(), "good rows")
    monkeypatch.setitem(properties.PROPERTIES, "quarantine", idle)
    assert list(holding("quarantine 0").faults) == ["in 1000 examples there were no good rows"]


def test_properties_that_do_not_hold_say_of_what(holding: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_small(number: int) -> int:
        if number > 12:
            raise ValueError("too large")
        return 1

    broken = properties.Property(is_small, lambda _: st.integers(0, 100), "good rows")
    monkeypatch.setitem(properties.PROPERTIES, "quarantine", broken)
    (fault,) = holding("quarantine 0").faults
    assert fault.startswith("ValueError: too large")
    assert "drawn=13" in fault


def test_a_point_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="no crash point 'nowhere'; there are asset: begun"):
        crash_points.arm("nowhere")


def test_a_long_run_goes_on_where_it_was_and_its_faults_are_listed(tmp_path: Path) -> None:
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


def test_a_long_run_that_was_cut_off_in_a_row_spoils_no_later_one(tmp_path: Path) -> None:
    results = Results(tmp_path / "orphans.0.jsonl")
    results.add("a", "0", Outcome(), 0.1)
    for torn in ('{"suite": "a", "key": "1"', '{"suite": "a", "counts": {"refused": 1}'):
        with results.file.open("a") as file:
            file.write(torn)
        Results(results.file).add("a", "2", Outcome(), 0.1)
    assert [row["key"] for row in Results(results.file).rows] == ["0", "2", "2"]


def test_trials_of_any_number_of_lanes_count_once_and_faults_stay(tmp_path: Path) -> None:
    suite = Suite("a", "3", ["0", "1", "2"], _Counting(lambda _: Outcome()))
    for lane, key, faults, seen in [
        (0, "0", [], 1), (0, "1", ["torn", "lost"], 5), (0, "2", ["twice"], 2), (1, "0", [], 3), (1, "1", [], 7), (1, "2", ["late", "twice"], 4),
        (2, "of an older suite", ["old"], 100),
    ]:  # fmt: skip
        Results(tmp_path / f"a.{lane}.jsonl").add("a", key, Outcome(faults, {"seen": seen}), 0.1)
    rows = {row["key"]: (row["counts"]["seen"], row["faults"]) for row in counted(of_all_lanes(tmp_path))}
    assert rows == {
        "0": (3, []), "1": (5, ["torn", "lost"]), "2": (4, ["twice", "late"]), "of an older suite": (100, ["old"]),
    }  # fmt: skip
    text = written(tmp_path, [suite])
    assert "| 3 of 3 | 12 seen | 5 |" in text
    assert "- a, 1: torn" in text
    assert "- a, of an older suite: old" in text
    assert "Not the whole run yet" not in text


def test_trials_that_raise_are_faults_and_the_next_has_a_new_session(tmp_path: Path) -> None:
    def run(key: str) -> Outcome:
        if key in "1478":
            raise OSError("the server is gone")
        return Outcome((), {"seen": 1})

    session = _Counting(run)
    suite = Suite("a", "", list("0123456789"), session)
    results = Results(tmp_path / "a.0.jsonl")
    assert take(suite, suite.keys, results, time.monotonic() + 60) == 4
    assert [row["key"] for row in results.rows] == list("0123456789")
    assert {row["key"] for row in results.rows if row["faults"]} == set("1478")
    assert re.fullmatch(r"OSError: the server is gone \(test_faults.py:\d+\)", results.rows[1]["faults"][0])
    assert session.opened == session.closed == 5


def test_trials_are_given_up_when_every_new_session_fails(tmp_path: Path) -> None:
    def run(key: str) -> Outcome:
        raise AssertionError

    results = Results(tmp_path / "a.0.jsonl")
    session = _Counting(run)
    suite = Suite("a", "", [str(n) for n in range(20)], session)
    assert take(suite, suite.keys, results, time.monotonic() + 60) == 1 + REOPENED
    assert session.opened == len(results.rows) == 1 + REOPENED
    assert "raise AssertionError" in results.rows[0]["faults"][0]


def test_trials_whose_session_does_not_open_are_not_done(tmp_path: Path) -> None:
    def closed() -> AbstractContextManager[Run]:
        raise OSError("no room")

    results = Results(tmp_path / "a.0.jsonl")
    suite = Suite("a", "", ["0", "1"], closed)
    assert take(suite, suite.keys, results, time.monotonic() + 60) == 1 + REOPENED
    assert results.rows == []


def test_trials_end_when_somebody_wants_them_to(tmp_path: Path) -> None:
    def run(key: str) -> Outcome:
        raise KeyboardInterrupt

    session = _Counting(run)
    suite = Suite("a", "", ["0", "1"], session)
    with pytest.raises(KeyboardInterrupt):
        take(suite, suite.keys, Results(tmp_path / "a.0.jsonl"), time.monotonic() + 60)
    assert session.closed == 1


class _Counting:
    """A session that counts how often it is opened and closed."""

    def __init__(self, run: Run) -> None:
        self.run, self.opened, self.closed = run, 0, 0

    @contextmanager
    def __call__(self) -> Iterator[Run]:
        self.opened += 1
        try:
            yield self.run
        finally:
            self.closed += 1
