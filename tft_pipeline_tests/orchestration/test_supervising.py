"""Processes kept alive: real ones, small ones, killed for real."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tft_pipeline.errors import PipelineError
from tft_pipeline.orchestration import supervising
from tft_pipeline.orchestration.supervising import Supervisor, identity_of, is_alive, session, stop_left_behind

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
PARENT = [
    sys.executable, "-c", "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).wait()",
]  # fmt: skip


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(dict(os.environ), tmp_path, tmp_path / "up.log") as supervisor:
        yield supervisor


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.02)


def tended(keeper: Supervisor) -> Callable[[], bool]:
    def look() -> bool:
        return keeper.tend()

    return look


def test_what_is_killed_runs_again_at_once_and_the_log_says_so(keeper: Supervisor) -> None:
    keeper.start("sleeper", SLEEPER)
    first = keeper.process("sleeper")
    assert keeper.tend() is False
    os.kill(first, signal.SIGKILL)
    until(tended(keeper))
    second = keeper.process("sleeper")
    assert second != first
    assert is_alive(keeper.leaders()[0])
    assert f"the sleeper (process {first}) ended with status -9 after 0 s; it is started again in 0 s" in keeper.tail()


def test_who_dies_quickly_is_waited_for_longer_each_time_and_in_the_end_given_up(
    keeper: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "LONGEST_WAIT_SECONDS", 0.05)
    keeper.start("oracle", [sys.executable, "-c", "print('these are my last words'); raise SystemExit(3)"])
    with pytest.raises(PipelineError, match=r"the oracle died 7 times within 60 s of its start \(status 3\)") as caught:
        until(lambda: keeper.tend() and False)
    assert "these are my last words" in str(caught.value)
    assert keeper.tail(100).count("started again in 0 s") == 1
    assert keeper.tail(100).count("started again in 0.05 s") == 5


def test_who_lived_long_is_forgiven_its_earlier_deaths(keeper: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "QUICK_SECONDS", 0.0)
    keeper.start("mayfly", [sys.executable, "-c", ""])
    for _ in range(supervising.MOST_QUICK_DEATHS + 2):
        until(tended(keeper))


def test_one_that_never_starts_is_told_with_its_last_words(keeper: Supervisor) -> None:
    keeper.start("broken", [sys.executable, "-c", "raise SystemExit('no such module')"])
    with pytest.raises(
        PipelineError, match=r"Dagster's broken did not start \(status 1\); the last words:\nno such module"
    ):
        until(lambda: keeper.refuse_dead("broken") is not None)


def test_each_tells_postgresql_its_name(keeper: Supervisor) -> None:
    keeper.start("clerk", [sys.executable, "-c", "import os; print(os.environ['PGAPPNAME'])"])
    until(lambda: keeper.tail() == "tft-pipeline clerk")


def test_a_killed_leaders_children_live_on_and_are_stopped_with_the_rest(keeper: Supervisor) -> None:
    bystander = subprocess.Popen(SLEEPER, start_new_session=True)
    try:
        keeper.start("parent", PARENT)
        leader = keeper.process("parent")
        until(lambda: len(session(leader)) == 2)
        child = next(process for process in session(leader) if process.pid != leader)
        os.kill(leader, signal.SIGKILL)
        until(tended(keeper))
        assert child.is_running()
        keeper.stop()
        assert not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_what_another_program_left_behind_is_stopped_but_no_process_that_got_its_number(tmp_path: Path) -> None:
    left = subprocess.Popen(PARENT, start_new_session=True)
    try:
        until(lambda: len(session(left.pid)) == 2)
        identity = identity_of(left.pid)
        assert identity is not None
        assert stop_left_behind([(left.pid, identity[1] - 100)]) == 0
        assert left.poll() is None
        assert stop_left_behind([identity]) == 2
        left.wait(5)
        assert identity_of(left.pid) is None
        assert not is_alive(identity)
    finally:
        left.kill()
        left.wait()
