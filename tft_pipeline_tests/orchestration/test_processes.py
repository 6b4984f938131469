"""Which process a run goes on in: real processes, told from all others, also from who gets their number later."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG

from tft_pipeline.orchestration import processes
from tft_pipeline.orchestration.processes import PROCESS, Process

HERE = "import json, time; from tft_pipeline.orchestration import processes; print(json.dumps(processes.tags()), flush=True); time.sleep(600)"


@pytest.fixture(params=["proc", "psutil"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As on Linux, and as where there is no /proc."""
    if request.param == "psutil":
        monkeypatch.setattr(processes, "_PROC", Path("/nowhere"))
    elif not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    return str(request.param)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def tagged(**tags: str) -> dg.DagsterRun:
    return dg.DagsterRun(job_name="refresh", run_id="r", tags=tags)


def ours(**changes: object) -> Process:
    told = processes.of(tagged(**processes.tags()))
    assert told is not None
    return dataclasses.replace(told, **changes)


def of_child(pid: int) -> Process:
    return ours(pid=pid, born=processes._born(pid))


@pytest.mark.usefixtures("system")
def test_this_process_is_not_gone_and_is_found() -> None:
    assert ours().pid == os.getpid()
    assert not processes.gone(ours())
    assert processes.found(ours()) == psutil.Process()
    assert processes.tags() == processes.tags()


@pytest.mark.usefixtures("system")
def test_a_process_that_was_killed_is_gone_as_a_zombie_and_afterwards(child: subprocess.Popen[bytes]) -> None:
    told = of_child(child.pid)
    assert not processes.gone(told)
    child.kill()
    deadline = time.monotonic() + 20
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
    assert processes.gone(told)
    assert processes.found(told) is None
    child.wait()
    assert processes.gone(told)
    assert processes.found(told) is None


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("later", [-1.0, 1.0])
def test_another_process_that_got_the_number_is_not_the_one(child: subprocess.Popen[bytes], later: float) -> None:
    told = of_child(child.pid)
    another = dataclasses.replace(told, born=told.born + later)
    assert processes.gone(another)
    assert processes.found(another) is None


def test_after_another_start_of_the_same_machine_it_is_gone() -> None:
    assert processes.gone(ours(boot="00000000-0000-4000-8000-000000000000"))


@pytest.mark.parametrize(
    "where", [{"host": "elsewhere 0123"}, {"host": "elsewhere 0123", "boot": "b"}, {"space": "pid:[1]"}]
)
def test_of_another_machine_or_container_nothing_is_known(where: dict[str, str]) -> None:
    told = ours(pid=2**22 + 1, **where)
    assert not processes.gone(told)
    assert processes.found(told) is None


def test_what_the_system_does_not_show_may_live(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = of_child(child.pid)

    def hidden(pid: int) -> float:
        raise FileNotFoundError(pid)

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError(pid, signal)

    here = ours()
    monkeypatch.setattr(processes, "_this", lambda: here)
    monkeypatch.setattr(processes, "_born", hidden)
    assert not processes.gone(told)
    with monkeypatch.context() as another_users:
        another_users.setattr(os, "kill", refuse)
        assert not processes.gone(told)
    child.kill()
    child.wait()
    assert processes.gone(told)


def test_the_clock_has_no_part_in_it_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system has no /proc")
    told = ours()
    ticks = float(Path("/proc/self/stat").read_bytes().rpartition(b") ")[2].split()[19])
    assert told.born == ticks
    assert told.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)
    assert not processes.gone(told)


def test_the_machines_id_is_not_told() -> None:
    file = Path("/etc/machine-id")
    if not file.exists() or not file.read_text().strip():
        pytest.skip("this system has no machine-id")
    assert file.read_text().strip() not in processes.tags()[PROCESS]
    assert str(ours()) == f"process {os.getpid()} on {os.uname().nodename}"


def test_another_program_reads_what_one_wrote_of_itself() -> None:
    child = subprocess.Popen([sys.executable, "-c", HERE], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        run = tagged(**json.loads(child.stdout.readline()))
        told = processes.of(run)
        assert told is not None
        assert told.pid == child.pid
        assert not processes.ended(run)
    finally:
        child.kill()
        child.communicate()
    assert processes.ended(run)


@pytest.mark.parametrize(
    "tag",
    [
        "", "no JSON", "[]", "7", '{"host": "vm"}', '{"host": "vm", "boot": "", "space": "", "pid": "x", "born": 0}',
        '{"host": "vm", "boot": "", "space": "", "pid": -1, "born": 0}', '{"host": "vm", "boot": "", "space": "", "pid": 0, "born": 0}',
    ],
)  # fmt: skip
def test_a_tag_that_is_not_ours_says_nothing(tag: str) -> None:
    assert processes.of(tagged(**{PROCESS: tag})) is None
    assert not processes.ended(tagged(**{PROCESS: tag}))


def test_a_run_made_from_a_command_lines_is_its_workers() -> None:
    copied = {**processes.tags(), GRPC_INFO_TAG: '{"host": "localhost", "socket": "/s"}'}
    assert processes.of(tagged(**copied)) is None
    assert processes.of(tagged()) is None
