"""The same demo on a system PostgreSQL: nothing of it lies under TFT_HOME, and its rows are those of the embedded server, bit for bit."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tft_pipeline.config import today
from tft_pipeline.contracts import TABLES
from tft_pipeline.storage.database import Database
from tft_pipeline_tests.e2e.conftest import SMALL, World, clean_environment, command_line, content_hashes


@pytest.fixture(scope="module")
def external(postgres15_dsn: str) -> Iterator[World]:
    with psycopg.connect(postgres15_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE outside")
    home = Path(tempfile.mkdtemp(prefix="tft-"))
    dsn = postgres15_dsn.removesuffix("postgres") + "outside"
    environment = clean_environment(home, TFT_POSTGRES_DSN=dsn, **SMALL)
    found = command_line("demo", "--json", environment=environment)
    yield World(home, environment, json.loads(found.stdout), content_hashes(Database(dsn)))
    shutil.rmtree(home, ignore_errors=True)


def test_everything_lies_in_the_database_that_was_named(external: World) -> None:
    assert not (external.home / "postgres").exists()
    with psycopg.connect(external.environment["TFT_POSTGRES_DSN"]) as connection:
        version = connection.execute("SHOW server_version_num").fetchone()
        runs = connection.execute("SELECT count(*) FROM runs WHERE status = 'SUCCESS'").fetchone()
    assert version is not None
    assert int(version[0]) >= 150000
    assert runs is not None
    assert runs[0] >= 3


def test_both_servers_hold_the_same_bits(external: World, world: World) -> None:
    midnight = datetime.combine(today(), datetime.min.time(), tzinfo=UTC)
    if world.hashes.keys() != external.hashes.keys() and datetime.now(UTC) - midnight < timedelta(minutes=15):
        pytest.skip("midnight passed between the two demos: their simulated histories are not of the same days")
    differing = [
        key for key in world.hashes.keys() | external.hashes.keys() if world.hashes.get(key) != external.hashes.get(key)
    ]
    assert differing == []
    assert len({table for table, _ in world.hashes}) == len(TABLES)


def test_the_second_run_writes_nothing_there_either(external: World) -> None:
    again = json.loads(external.run("demo", "--json").stdout)
    assert set(again["rows_written"].values()) == {0}
    assert again["decisions"] == external.report["decisions"]


def test_doctor_calls_it_external_and_shows_no_password(external: World) -> None:
    found = external.run("doctor")
    assert "external" in found.stdout
    assert "all is well" in found.stdout
    password = external.environment["TFT_POSTGRES_DSN"].split(":")[2].split("@")[0]
    kept = [path.read_bytes() for path in external.home.rglob("*") if path.is_file()]
    assert not [
        content for content in (found.stdout.encode(), found.stderr.encode(), *kept) if password.encode() in content
    ]


def test_neither_the_log_of_up_nor_dagsters_record_holds_the_password(external: World) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tft_pipeline.cli", "up", "--port", str(port)]
    process = subprocess.Popen(
        command, env=external.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    while "ready" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    external.run("down")
    said += process.communicate(timeout=150)[0]
    dsn = external.environment["TFT_POSTGRES_DSN"]
    password = psycopg.conninfo.conninfo_to_dict(dsn)["password"]
    assert isinstance(password, str)
    assert password not in said
    assert (external.home / "up.log").exists()
    assert not [path for path in external.home.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    with psycopg.connect(dsn) as connection:
        tables = connection.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        ).fetchall()
        assert len(tables) > 10  # Dagster's own
        for (table,) in tables:
            found = connection.execute(
                f"SELECT count(*) FROM {table} AS t WHERE strpos(t::text, %s) > 0", (password,)
            ).fetchone()  # type: ignore[arg-type]
            assert found == (0,), table


def test_another_world_is_refused_this_database(external: World) -> None:
    environment = {**external.environment, "TFT_SEED": "8"}
    found = command_line("demo", environment=environment, check=False)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert "holds simulated data of 'simulated_" in " ".join(found.stderr.split())
    assert "Use another database" in " ".join(found.stderr.split())
