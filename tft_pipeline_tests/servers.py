"""A PostgreSQL of the system's, as tests want it: its own data, its own settings, gone afterwards."""

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
from typing import NoReturn

import psycopg
import pytest


@contextlib.contextmanager
def system_postgres(*more: str, prepare: Callable[[Path], None] | None = None) -> Iterator[str]:
    """DSN (`…/postgres`, as its administrator) of a running server with a password and a linguistic collation.

    more: settings. prepare: given the data folder before the server starts; what it makes there belongs to the server's account.
    Skips where the system has no server; fails if TFT_REQUIRE_TOOLS=1.
    """
    programs = system_programs()
    who = account()
    as_account = {"user": who, "group": pwd.getpwnam(who).pw_gid, "extra_groups": []} if who else {}
    home = scratch_folder()
    password = secrets.token_urlsafe(12)
    (home / "password").write_text(password)
    _give(who, home, home / "password")
    data = home / "data"
    options = [
        "--username=postgres", "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={home / 'password'}", "--no-sync",
    ]  # fmt: skip
    locale = ["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
    subprocess.run(
        [programs / "initdb", *options, *locale, data], check=True, capture_output=True, cwd="/", **as_account
    )
    if prepare is not None:
        prepare(data)
        _give(who, *data.iterdir())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = [
        f"port={port}", f"unix_socket_directories={home}", "listen_addresses=127.0.0.1", "fsync=off", "timezone=America/New_York", *more,
    ]  # fmt: skip
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


def missing_tool(reason: str) -> NoReturn:
    """Skip, with the reason: this machine lacks a program that is not ours to bring. Fail if TFT_REQUIRE_TOOLS=1, as in CI."""
    if os.environ.get("TFT_REQUIRE_TOOLS") == "1":
        pytest.fail(f"TFT_REQUIRE_TOOLS=1, but {reason}")
    pytest.skip(reason)


def scratch_folder() -> Path:
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a private folder in it
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 2**30
    return Path(tempfile.mkdtemp(prefix="tft-test-", dir=memory if roomy else None))


def system_programs() -> Path:
    """The folder of the system's PostgreSQL programs. See missing_tool where there is no server."""
    pg_config = shutil.which("pg_config")
    if pg_config is None:
        missing_tool("no pg_config: install a system PostgreSQL (postgresql-15) to test against an external server")
    programs = Path(subprocess.run([pg_config, "--bindir"], check=True, capture_output=True, text=True).stdout.strip())
    if not (programs / "initdb").exists():
        missing_tool(
            f"{programs} has no initdb: install a system PostgreSQL (postgresql-15) to test against an external server"
        )
    return programs


def account() -> str | None:
    """The system user that servers run as; None is ourselves, which PostgreSQL refuses to root."""
    if os.geteuid() != 0:
        return None
    return next((name for name in ("postgres", "nobody") if _has_account(name)), None)


def _has_account(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def _give(account: str | None, *paths: Path) -> None:
    if account:
        for path in paths:
            os.chown(path, pwd.getpwnam(account).pw_uid, pwd.getpwnam(account).pw_gid)
