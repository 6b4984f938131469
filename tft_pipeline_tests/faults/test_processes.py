"""The part of the process kills that every test run takes: one run, each of its helpers killed in turn; and what they hold meanwhile."""

import concurrent.futures
import urllib.request
from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict

from tft_pipeline.orchestration.services import HOST, PAGE_OVERFLOW
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline_tests.faults import kills
from tft_pipeline_tests.faults.census import counted
from tft_pipeline_tests.faults.nursery import Nursery
from tft_pipeline_tests.faults.yards import DAYS, MAX_RUNTIME_SECONDS, Yard, settled, unsound, until, yard

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


def asked(here: Yard) -> str:
    """What went wrong with one question to the page; nothing, if nothing did."""
    request = urllib.request.Request(f"http://{HOST}:{here.port}/graphql", ASK, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            said: str = answer.read().decode()
    except OSError as error:
        return repr(error)
    return said if '"errors"' in said else ""
