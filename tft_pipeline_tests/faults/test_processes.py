"""The part of the process kills that every test run takes: one run, each of its helpers killed in turn, and what they hold meanwhile.

And the pools, in the same yard: who waits for whom.
"""

import concurrent.futures
import urllib.request
from collections.abc import Iterator

import psutil
import pytest
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG
from psycopg.conninfo import conninfo_to_dict

from tft_pipeline.orchestration.services import HOST, PAGE_OVERFLOW
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline_tests.faults import kills
from tft_pipeline_tests.faults.census import counted
from tft_pipeline_tests.faults.nursery import Nursery
from tft_pipeline_tests.faults.yards import (
    DAYS,
    GIVE_UP_SECONDS,
    MAX_RUNTIME_SECONDS,
    Yard,
    resumed,
    settled,
    unsound,
    until,
    yard,
)

# Of PostgreSQL's 100 (max_connections), everything together with a run in progress; a second run adds what one worker takes.
MOST_CONNECTIONS = 30
CROWD = 30
ASK = b'{"query": "{runsOrError(limit: 20) {... on Runs {results {runId status stats {__typename}}}} assetsOrError {__typename}}"}'


@pytest.fixture(scope="module")
def here(filled: tuple[EmbeddedServer, Nursery]) -> Iterator[Yard]:
    with yard(filled[0]) as running:
        yield running


def test_a_run_whose_every_helper_is_killed_in_turn_ends_well_by_itself_on_few_connections(here: Yard) -> None:
    kills.bring_to("absent", here.database, kills.tables_of("features_hourly"), DAYS)
    name = str(conninfo_to_dict(here.database.dsn)["dbname"])
    with counted(here.server.dsn("postgres"), name) as census, concurrent.futures.ThreadPoolExecutor(CROWD) as crowd:
        run_id = here.submit()
        assert here.kill("daemon") == 1
        here.reach("starting", run_id)
        assert here.kill("code server") == 1  # it knew the worker: now only the launcher can tell that this one dies
        here.reach("in an asset", run_id, "market_bars")
        assert here.kill("run worker") >= 1
        until(lambda: len(here.family(run_id)) == 2, here)
        here.reach("in an asset", here.family(run_id)[1].run_id, "features_hourly")
        assert here.kill("all together") >= 5
        until(lambda: len(here.family(run_id)) == 3, here)
        here.reach("in an asset", here.family(run_id)[2].run_id, "features_hourly")
        said = list(crowd.map(lambda _: asked(here), range(2 * CROWD)))
        faults, retries, longest = settled(here, run_id)
    print(f"at most {census.total} connections in {census.looks} looks: {census.of}")  # noqa: T201 - with -s, the figures
    assert not faults
    assert [run.status.value for run in here.family(run_id)] == ["FAILURE", "FAILURE", "SUCCESS"]
    assert retries == 2
    assert longest < MAX_RUNTIME_SECONDS, "not by the clock, but because the worker was seen to be gone"
    assert unsound(here) == []
    assert not any(said)
    assert census.of["tft-pipeline web page"] <= 3 * (1 + PAGE_OVERFLOW) + 1
    assert {"tft-pipeline daemon", "tft-pipeline code server", "tft-pipeline"} <= census.of.keys()
    assert census.total <= MOST_CONNECTIONS


# How to launch a run that wants this pool, and no other.
ALONE: dict[str, tuple[str, list[str]]] = {
    "yahoo": ("history", ["market_bars"]),
    "reddit": ("history", ["social_posts"]),
    "gpu": ("retrain", []),
}


@pytest.mark.parametrize(("pool", "another"), [("yahoo", "reddit"), ("reddit", "gpu"), ("gpu", "yahoo")])
def test_of_two_runs_that_share_a_pool_one_waits_and_a_run_of_another_pool_overtakes_it(
    here: Yard, pool: str, another: str
) -> None:
    (job, assets), (other_job, other_assets) = ALONE[pool], ALONE[another]
    # The worker of the first is stopped while the others have their chance: there is room for two runs.
    first, second, stopped = _two_asked_for(here, job, assets)
    try:
        third = here.submit(other_job, assets=other_assets)
        until(lambda: here.family(third)[0].is_finished, here)
        waits = here.family(second)[0].status
        goes_on = here.family(first)[0].status
    finally:
        resumed(stopped)
    faults = settled(here, first)[0] + settled(here, second)[0] + settled(here, third)[0]
    assert faults == []
    assert (goes_on.value, waits.value) == ("STARTED", "QUEUED")
    records = {one.dagster_run.run_id: one for one in here.records()}
    assert all(records[one].dagster_run.status.value == "SUCCESS" for one in (first, second, third))
    assert records[first].dagster_run.run_op_concurrency.all_pools == {pool}
    assert records[third].dagster_run.run_op_concurrency.all_pools == {another}
    assert records[second].start_time >= records[first].end_time
    assert records[first].start_time < records[third].start_time < records[third].end_time < records[first].end_time
    assert unsound(here) == []


def _two_asked_for(here: Yard, job: str, assets: list[str]) -> tuple[str, str, list[psutil.Process]]:
    """Two runs, and the workers of the first, stopped; others, should the first have been quicker."""
    for _ in range(3):
        until(lambda: not here.workers(), here)
        first = here.submit(job, {MAX_RUNTIME_SECONDS_TAG: str(GIVE_UP_SECONDS)}, assets)  # it is not to end by that
        second = here.submit(job, assets=assets)
        here.reach("started", first)
        stopped = here.stop_workers()
        if stopped and not here.family(first)[0].is_finished:
            return first, second, stopped
        resumed(stopped)
        settled(here, second)
    raise RuntimeError("there was no worker to stop, three times over")


def asked(here: Yard) -> str:
    """What went wrong with one question to the page; nothing, if nothing did."""
    request = urllib.request.Request(f"http://{HOST}:{here.port}/graphql", ASK, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            said: str = answer.read().decode()
    except OSError as error:
        return repr(error)
    return said if '"errors"' in said else ""
