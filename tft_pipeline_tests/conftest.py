"""Fixtures that every test folder may use."""

import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tft_pipeline.storage import embedded
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.migrate import migrate
from tft_pipeline_tests import together
from tft_pipeline_tests.servers import scratch_folder, system_postgres

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> together.Together:
    return together.scheduler(config, log)


def pytest_configure() -> None:
    """What a shell started in the background has SIGINT ignored, and so would every program that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = together.in_order(items)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """`../shared`, where real bars and posts lie. Skips with a reason where it is missing; fails if TFT_REQUIRE_SHARED=1."""
    folder = CHECKOUT.parent / "shared"
    if folder.is_dir():
        return folder
    if os.environ.get("TFT_REQUIRE_SHARED") == "1":
        pytest.fail(f"TFT_REQUIRE_SHARED=1, but {folder} is missing")
    pytest.skip(f"{folder} with real bars and posts is missing")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for clusters: short, for a socket to lie in, where PostgreSQL's system user may reach, and in memory where there is room."""
    folder = scratch_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[embedded.EmbeddedServer]:
    """The embedded PostgreSQL 18, one for the session, in a short folder that its system user may reach."""
    home = scratch_folder()
    with embedded.start(home) as server:
        with psycopg.connect(server.dsn("tft_template"), autocommit=True) as connection:
            connection.execute(
                "ALTER SYSTEM SET fsync = off"
            )  # a database a test, and none of them outlives a power cut
            connection.execute("SELECT pg_reload_conf()")
        yield server
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres15_dsn() -> Iterator[str]:
    """A system PostgreSQL (Debian's 15, say) on loopback with a password and a linguistic collation; `…/postgres` as its administrator."""
    with system_postgres() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def postgres_template(postgres_server: embedded.EmbeddedServer) -> Callable[[], str]:
    """A function that makes a fresh migrated database on the embedded server and returns its DSN."""
    admin = postgres_server.dsn("tft_template")
    migrate(Database(admin))
    return lambda: _copied(admin)


@pytest.fixture(scope="session")
def postgres15_template(postgres15_dsn: str) -> Callable[[], str]:
    """The same on the system's PostgreSQL."""
    with psycopg.connect(postgres15_dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE tft_template")
    admin = postgres15_dsn.removesuffix("postgres") + "tft_template"
    migrate(Database(admin))
    return lambda: _copied(admin)


@pytest.fixture
def database(postgres_template: Callable[[], str]) -> Iterator[Database]:
    """A fresh migrated database on the embedded PostgreSQL 18."""
    dsn = postgres_template()
    yield Database(dsn)
    _drop(dsn)


@pytest.fixture(params=["embedded", "system"])
def any_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A fresh migrated database, on the embedded PostgreSQL 18 and on the system's in turn."""
    dsn = request.getfixturevalue("postgres_template" if request.param == "embedded" else "postgres15_template")()
    yield Database(dsn)
    _drop(dsn)


def _copied(template_dsn: str) -> str:
    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(template_dsn.replace("/tft_template", "/postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE tft_template")
    return template_dsn.replace("/tft_template", f"/{name}")


def _drop(dsn: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(dsn.replace(f"/{name}", "/postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
