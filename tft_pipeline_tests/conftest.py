"""Fixtures that every test folder may use."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tft_pipeline.storage import embedded
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.migrate import migrate

CHECKOUT = Path(__file__).resolve().parent.parent


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
    folder = _scratch()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[embedded.EmbeddedServer]:
    """The embedded PostgreSQL 18, one for the session, in a short folder that its system user may reach."""
    home = _scratch()
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
    programs = _system_programs()
    root = os.geteuid() == 0
    account = next((name for name in ("postgres", "nobody") if _has_account(name)), None) if root else None
    as_account = {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []} if account else {}
    home = _scratch()
    password = secrets.token_urlsafe(12)
    (home / "password").write_text(password)
    if account:
        for path in (home, home / "password"):
            os.chown(path, pwd.getpwnam(account).pw_uid, pwd.getpwnam(account).pw_gid)
    data = home / "data"
    options = [
        "--username=postgres",
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        f"--pwfile={home / 'password'}",
        "--no-sync",
    ]
    locale = ["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
    subprocess.run(
        [programs / "initdb", *options, *locale, data], check=True, capture_output=True, cwd="/", **as_account
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = [
        f"port={port}",
        f"unix_socket_directories={home}",
        "listen_addresses=127.0.0.1",
        "fsync=off",
        "timezone=America/New_York",
    ]
    command = [programs / "postgres", "-D", data, *(part for setting in settings for part in ("-c", setting))]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **as_account)
    try:
        dsn = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn):
                break
            assert time.monotonic() < deadline, (home / "log").read_text()
            assert server.poll() is None, (home / "log").read_text()
            time.sleep(0.05)
        yield dsn
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(home)


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


def _scratch() -> Path:
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a private folder in it
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 2**30
    return Path(tempfile.mkdtemp(prefix="tft-test-", dir=memory if roomy else None))


def _system_programs() -> Path:
    """The folder of the system's PostgreSQL programs. Skips where there is no server."""
    pg_config = shutil.which("pg_config")
    if pg_config is None:
        pytest.skip("no pg_config: install a system PostgreSQL (postgresql-15) to test against an external server")
    programs = Path(subprocess.run([pg_config, "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
    if not (programs / "initdb").exists():
        pytest.skip(
            f"{programs} has no initdb: install a system PostgreSQL (postgresql-15) to test against an external server"
        )
    return programs


def _has_account(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def _copied(template_dsn: str) -> str:
    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(template_dsn.replace("/tft_template", "/postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE tft_template")
    return template_dsn.replace("/tft_template", f"/{name}")


def _drop(dsn: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(dsn.replace(f"/{name}", "/postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
