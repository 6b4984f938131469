"""Servers to be hurt: on a disk that is too small, with a standby beside them, promoted, killed, and started again."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tft_pipeline_tests.servers import account, scratch_folder, system_programs


@contextlib.contextmanager
def small_disk(place: Path, mebibytes: int) -> Iterator[Path]:
    """place as a disk of its own of so many MiB. Skips where nothing may be mounted: no program is lacking then, but the right."""
    place.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=755", "tmpfs", place], capture_output=True, text=True, check=False
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip(f"no disk of limited size can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path, *, leaving: int = 0) -> Path:
    """Somebody else's file, as large as there is room but for `leaving` bytes."""
    ballast = place / "somebody-elses"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        room = shutil.disk_usage(place).free - leaving
        while room > 0:
            room -= file.write(bytes(min(room, 2**18)))
    return ballast


@dataclass
class Cluster:
    """One server's folder, port and process. synchronous: the application_name of the standby that each commit waits for."""

    folder: Path
    port: int
    settings: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        settings = [
            f"port={self.port}", f"unix_socket_directories={self.folder}", "listen_addresses=127.0.0.1", "fsync=off", "max_wal_senders=4",
            "hot_standby=on", "wal_receiver_status_interval=1s", "max_connections=40", *self.settings,
        ]  # fmt: skip
        command = [
            system_programs() / "postgres", "-D", self.folder / "data", *(part for setting in settings for part in ("-c", setting)),
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **_as(account()))
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn):
                return
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """At once, as a crash does, unless another signal is given."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def promote(self) -> None:
        self.execute("SELECT pg_promote(true, 30)")


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A fresh server of the system's PostgreSQL; anybody on this machine is its administrator."""
    home = scratch_folder()
    _give(home)
    made = Cluster(home, _free_port())
    _program(
        "initdb", "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", home / "data"
    )
    with _stopped_in_the_end(made):
        yield made


@contextlib.contextmanager
def standby_of(primary: Cluster, name: str) -> Iterator[Cluster]:
    """A hot standby that streams from primary under this name."""
    home = scratch_folder()
    _give(home)
    made = Cluster(home, _free_port())
    source = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
    _program(
        "pg_basebackup", "-D", home / "data", "-d", source, "--write-recovery-conf", "--checkpoint=fast", "--no-sync"
    )
    with _stopped_in_the_end(made):
        yield made


@contextlib.contextmanager
def _stopped_in_the_end(made: Cluster) -> Iterator[None]:
    try:
        made.start()
        yield
    finally:
        made.stop()
        shutil.rmtree(made.folder)


def _program(name: str, *arguments: object) -> None:
    subprocess.run(
        [system_programs() / name, *map(str, arguments)], check=True, capture_output=True, cwd="/", **_as(account())
    )


def _as(who: str | None) -> dict:  # type: ignore[type-arg]
    return {"user": who, "group": pwd.getpwnam(who).pw_gid, "extra_groups": []} if who else {}


def _give(path: Path) -> None:
    if who := account():
        os.chown(path, pwd.getpwnam(who).pw_uid, pwd.getpwnam(who).pw_gid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
