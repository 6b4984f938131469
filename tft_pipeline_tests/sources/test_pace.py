"""One door for all threads of a fetch."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tft_pipeline.sources._pace import Door
from tft_pipeline.sources._patience import OutOfPatienceError, Patience


def test_no_more_than_so_many_requests_begin_in_a_second() -> None:
    now, waited = [100.0], []
    door = Door(Patience(60), per_second=10, sleep=waited.append, clock=lambda: now[0])
    for _ in range(3):
        door.enter()
    assert waited == pytest.approx([0.1, 0.2])
    now[0] = 200.0  # what was not used is not saved up
    door.enter()
    door.enter()
    assert waited[2:] == pytest.approx([0.1])


def test_without_a_budget_nobody_waits() -> None:
    door = Door(Patience(60), per_second=0, sleep=lambda _: pytest.fail("waited"))
    for _ in range(100):
        door.enter()


def test_of_requests_that_were_limited_together_one_waits_for_all() -> None:
    slept: list[float] = []
    door = Door(Patience(600, slept.append), per_second=0)
    tickets = [door.enter() for _ in range(3)]
    for ticket in tickets:
        door.limited(ticket, "429", at_least_seconds=20)
    assert len(slept) == 1
    door.limited(door.enter(), "429", at_least_seconds=0)  # asked after the wait, and limited again
    assert 10.0 <= slept[1] <= 20.0


def test_an_answer_in_between_begins_the_waits_anew() -> None:
    slept: list[float] = []
    door = Door(Patience(600, slept.append), per_second=0)
    door.limited(door.enter(), "429", at_least_seconds=0)
    door.limited(door.enter(), "429", at_least_seconds=0)
    door.enter()
    door.passed()
    door.limited(door.enter(), "429", at_least_seconds=0)
    assert [5 <= slept[0] <= 10, 10 <= slept[1] <= 20, 5 <= slept[2] <= 10] == [True] * 3


def test_a_limit_that_outlasts_patience_shuts_the_door_for_all() -> None:
    door = Door(Patience(30, lambda _: None), per_second=0)
    ticket, other = door.enter(), door.enter()
    with pytest.raises(OutOfPatienceError, match="429; "):
        door.limited(ticket, "429", at_least_seconds=3600)
    with pytest.raises(OutOfPatienceError):
        door.limited(other, "429", at_least_seconds=0)
    with pytest.raises(OutOfPatienceError):
        door.enter()


def test_nobody_enters_while_a_limit_is_waited_out() -> None:
    waiting, over = threading.Event(), threading.Event()

    def sleep(_: float) -> None:
        waiting.set()
        assert over.wait(10)

    door = Door(Patience(600, sleep), per_second=0)
    with ThreadPoolExecutor(2) as pool:
        limited = pool.submit(door.limited, door.enter(), "429", at_least_seconds=0)
        assert waiting.wait(10)
        entering = pool.submit(door.enter)
        time.sleep(0.05)
        assert not entering.done()
        over.set()
        assert entering.result(10) == 1
        limited.result(10)
