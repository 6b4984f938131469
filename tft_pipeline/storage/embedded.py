"""A private PostgreSQL 18 under the project's state folder, from a PyPI wheel, on a Unix socket: for who has no server of their own.

What belongs here: starting, sharing and stopping that one server. What does not: anything an external server needs too.

Only the wheel's programs are used. Its own launcher counts handles by process id, which a kill -9 leaves behind, gives crash
recovery ten seconds, and opens every parent folder for reading. Here the kernel counts: each handle holds a shared lock on a file,
and whoever can have that lock alone on leaving is the last and stops the server.
"""

import atexit
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

import psutil
import psycopg
from psycopg import sql

from tft_pipeline.errors import NO_ROOM, StorageError, in_words
from tft_pipeline.storage.programs import VERSION, open_the_way, run_program, runs_as, tail, uid_of

_PORT = 5432  # only the socket's name; no TCP port is opened
_LONGEST_SOCKET = 103  # bytes; macOS allows 103, Linux 107
_WATCH_SECONDS = 0.5
_START_SECONDS = 120  # crash recovery after a power cut may take this long

_SETTINGS = """\
# Written by tft-pipeline at every start; put your own settings into postgresql.conf below the include.
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket_folder}'
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 128MB
work_mem = 32MB
maintenance_work_mem = 128MB
max_wal_size = 1GB
checkpoint_timeout = 15min
random_page_cost = 1.1
wal_compression = on
fsync = on
synchronous_commit = on
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_checkpoints = off
huge_pages = off
"""


class EmbeddedServer:
    """A handle on the running server. The server stops with its last handle, of whichever process; a context manager stops it too."""

    def __init__(self, data: Path, pid: int, handle: IO[bytes], *, started_here: bool) -> None:
        self.data = data
        self.pid = pid
        self.started_here = started_here
        self.socket_folder = _socket_folder(data)
        self._handle = handle
        self._owner = os.getpid()
        self._leaving = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="embedded-postgres", daemon=True)
        self._watcher.start()
        atexit.register(self.stop)

    def dsn(self, database: str) -> str:
        """`postgresql://` URL for psycopg, psycopg2 and SQLAlchemy. Creates the database when it is missing.

        Raises StorageError: the name is not [a-z][a-z0-9_]* of at most 63 characters, or the server does not answer.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", database):
            raise StorageError(
                f"{database!r} is no database name; use a-z, 0-9 and _, a letter first, at most 63 characters."
            )
        try:
            with _connect(self.socket_folder) as connection:
                if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
                    # Another process may create it in the same moment: then it exists, which is all we want.
                    with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        except psycopg.Error as error:
            raise StorageError(
                f"the embedded PostgreSQL in {self.data} refuses database {database!r}: {error}"
            ) from None
        return f"postgresql://postgres@/{database}?host={self.socket_folder}&port={_PORT}"

    def stop(self) -> None:
        """Let go of the server, and stop it if no other handle holds it. Does nothing a second time or in a forked child."""
        if self._handle.closed or os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        self._leaving.set()
        self._watcher.join()
        # The folder may be gone: somebody removed it while the server ran, and it must end all the same.
        alone = contextlib.nullcontext() if not self.data.parent.is_dir() else _exclusive(self.data.parent)
        with alone, self._handle:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            _stop(self.data, postmaster(self.data) or self.pid)

    def _watch(self) -> None:
        """Start the server again when it died: out of memory, a kill, somebody's immediate stop. Whoever holds a handle wants it to run."""
        while not self._leaving.wait(_WATCH_SECONDS):
            if postmaster(self.data) is not None or not self.data.parent.is_dir():
                continue
            # Should it not start, the next look tries again; whoever needs it meanwhile is told why by its own connection.
            with contextlib.suppress(StorageError, OSError), _exclusive(self.data.parent):
                if not self._leaving.is_set():
                    self.pid, _ = _running(self.data, runs_as())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(home: Path) -> EmbeddedServer:
    """A handle on the server whose data lie in home/postgres: started if it does not run, made if it does not exist.

    Raises StorageError naming the folder and showing the end of the server's log.
    """
    home = home.expanduser().resolve()
    data = home / "postgres"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _exclusive(home):
            handle = (home / "postgres.handles").open("ab")
            try:
                fcntl.flock(handle, fcntl.LOCK_SH)
                account = runs_as()
                _initialise(data, account)
                pid, started_here = _running(data, account)
            except BaseException:
                handle.close()
                raise
            return EmbeddedServer(data, pid, handle, started_here=started_here)
    except OSError as error:
        full = error.errno in NO_ROOM
        raise StorageError(f"the embedded PostgreSQL cannot use {home}: {in_words(error)}", transient=full) from None


@contextlib.contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    """One process at a time starts or stops."""
    with (home / "postgres.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _initialise(data: Path, account: str | None) -> None:
    """A new cluster, made beside its place and moved there whole: a killed initdb leaves nothing half made."""
    version = data / "PG_VERSION"
    if version.exists():
        found = version.read_text().strip()
        if found != str(VERSION):
            raise StorageError(
                f"{data} was made by PostgreSQL {found}, this package brings {VERSION}. "
                "Dump it with the older version, or set TFT_HOME to a new folder."
            )
        return
    if data.exists() and any(data.iterdir()):
        raise StorageError(
            f"{data} is no PostgreSQL data folder, yet not empty. Move it away or set TFT_HOME to another folder."
        )
    making = data.with_name("postgres.new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    if account is not None:
        shutil.chown(making, account, account)
        open_the_way(making, account)
    # C ordering by the built-in provider: the same order on every machine, and the order Python sorts strings in.
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
    run_program(
        "initdb", [*options, "--builtin-locale=C.UTF-8", f"--pgdata={making}"], account, what=f"cannot make {data}"
    )
    with (making / "postgresql.conf").open("a") as file:
        file.write("\ninclude 'tft.conf'\n")
    if data.exists():
        data.rmdir()
    making.rename(data)


def _running(data: Path, account: str | None) -> tuple[int, bool]:
    """Process id of a server that answers, and whether we started it. One that dies while we wait for it is started again."""
    started_here = False
    for _ in range(3):
        if postmaster(data) is None:
            _launch(data, account)
            started_here = True
        pid = _await(data)
        if pid is not None:
            return pid, started_here
    raise StorageError(f"the embedded PostgreSQL in {data} dies as soon as it runs.\n{tail(data / 'server.log')}")


def _launch(data: Path, account: str | None) -> None:
    if account is not None:
        open_the_way(data, account)
    folder = _socket_folder(data)
    if (pid := _recorded_pid(data)) is not None and psutil.pid_exists(pid):
        # Another program has the id by now, or a zombie that nobody buried. PostgreSQL would take either for a running server; the
        # backends of a killed one, which matter, it knows by their shared memory.
        for stale in (data / "postmaster.pid", folder / f".s.PGSQL.{_PORT}.lock"):
            stale.unlink(missing_ok=True)
    if folder != data:
        _private_folder(folder, account)
    (data / "tft.conf").write_text(_SETTINGS.format(port=_PORT, socket_folder=folder))
    if account is not None:
        shutil.chown(data / "tft.conf", account, account)
    log = data / "server.log"
    options = [f"--pgdata={data}", f"--log={log}", "--wait", f"--timeout={_START_SECONDS}", "--silent", "start"]
    for attempt in range(10):
        try:
            return run_program("pg_ctl", options, account, what=f"cannot start in {data}", log=log)
        except StorageError as error:
            # Backends outlive a killed postmaster for a moment and still hold its shared memory.
            if "shared memory block" not in str(error) or attempt == 9:
                raise
            time.sleep(0.5)
    raise AssertionError("unreachable")  # pragma: no cover


def _await(data: Path) -> int | None:
    """The server's process id, once it answers: whoever started it may have been killed before it was ready. None when it died."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with _connect(_socket_folder(data)):
                return postmaster(data)
        except psycopg.OperationalError as error:
            if postmaster(data) is None:
                return None
            if time.monotonic() > deadline:
                raise StorageError(
                    f"the embedded PostgreSQL in {data} does not answer: {error}\n{tail(data / 'server.log')}"
                ) from None
        time.sleep(0.1)


def _stop(data: Path, pid: int) -> None:
    """Fast shutdown: open transactions roll back, everything committed is on disk."""
    try:
        process = psutil.Process(pid)
        if not process.name().startswith("postgres"):
            return
        for signal_number, seconds in ((signal.SIGINT, 60), (signal.SIGQUIT, 10)):
            process.send_signal(signal_number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                    return
                time.sleep(0.02)
    except psutil.NoSuchProcess:
        return
    raise StorageError(f"the embedded PostgreSQL in {data} (process {pid}) does not end; see {data / 'server.log'}.")


def postmaster(data: Path) -> int | None:
    """Process id of the server that runs on data, or None. An id that now belongs to something else does not count."""
    pid = _recorded_pid(data)
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        ours = process.name().startswith("postgres") and any(str(data) in part for part in process.cmdline())
    except psutil.NoSuchProcess:  # a zombie counts as gone, too: psutil's ZombieProcess is one of these
        return None
    return pid if ours else None


def _recorded_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _socket_folder(data: Path) -> Path:
    """The data folder, or where its path is too long for a socket or needs quoting, a private folder among the temporary files."""
    plain = re.fullmatch(r"[A-Za-z0-9._/\-]+", str(data)) is not None
    if plain and len(os.fsencode(data / f".s.PGSQL.{_PORT}.lock")) <= _LONGEST_SOCKET:
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"tft-postgres-{digest}"


def _private_folder(folder: Path, account: str | None) -> None:
    """folder, ours alone. Among the temporary files anybody may have made it first, to read our passwordless socket."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if account is not None:
            shutil.chown(folder, account, account)
    found = folder.lstat()
    ours = {os.geteuid(), uid_of(account)}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours or stat.S_IMODE(found.st_mode) & 0o077:
        raise StorageError(f"{folder} is not a private folder of ours; remove it, or set TFT_HOME to a shorter path.")


def _connect(folder: Path) -> psycopg.Connection:
    return psycopg.connect(
        host=str(folder), port=_PORT, user="postgres", dbname="postgres", connect_timeout=10, autocommit=True
    )
