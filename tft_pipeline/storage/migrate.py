"""Bring a database's tables up to this code: apply the files of sql/ that it has not seen, in order, each with its record."""

import hashlib
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from tft_pipeline import config
from tft_pipeline.errors import StorageError
from tft_pipeline.storage.database import Database

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('tft-pipeline migrations', 0))"


def migrate(database: Database, folder: Path | None = None) -> list[str]:
    """Names of the files applied now; empty when there was nothing to do. Safe to run in many processes at once.

    folder: where the `.sql` files lie; None: those of this package. A file and its record are one transaction: a failing file leaves
    what came before it applied and itself without a trace.
    Raises StorageError: a file fails, was changed after it was applied, is missing, or sorts before one that is applied already.
    """
    files = {path.name: path.read_bytes() for path in sorted((folder or config.bundled("sql")).glob("*.sql"))}
    applied: list[str] = []
    with database.connect() as connection:
        while True:
            with connection.transaction():
                connection.execute(_LOCK)
                name = _next(files, _history(connection), database)
                if name is None:
                    return applied
                try:
                    connection.execute(files[name])
                    _cover(connection)
                except psycopg.Error as error:
                    raise StorageError(
                        f"sql/{name} failed, nothing of it remains. {database.explained(error)}"
                    ) from error
                digest = hashlib.sha256(files[name]).hexdigest()
                connection.execute("INSERT INTO ops.migrations (name, sha256) VALUES (%s, %s)", (name, digest))
            applied.append(name)


def applied(database: Database) -> list[str]:
    """Names of the migrations that this database has seen, in order."""
    with database.connect() as connection:
        return sorted(_history(connection))


def pending(database: Database) -> list[str]:
    """Names of the files that migrate would apply. Raises StorageError where it would refuse."""
    files = {path.name: path.read_bytes() for path in sorted(config.bundled("sql").glob("*.sql"))}
    with database.connect() as connection:
        history = _history(connection)
    _next(files, history, database)
    return [name for name in files if name not in history]


def _cover(connection: psycopg.Connection[TupleRow]) -> None:
    """Give the three roles their rights on what a file has made. What is not permitted here, `doctor` names."""
    if connection.execute("SELECT to_regprocedure('ops.apply_roles()')").fetchone() != (None,):
        connection.execute("SELECT ops.apply_roles()")


def _history(connection: psycopg.Connection[TupleRow]) -> dict[str, str]:
    """{name: sha256} of what was applied."""
    if connection.execute("SELECT to_regclass('ops.migrations')").fetchone() == (None,):
        return {}
    return dict(connection.execute("SELECT name, sha256 FROM ops.migrations ORDER BY name").fetchall())


def _next(files: dict[str, bytes], history: dict[str, str], database: Database) -> str | None:
    for name, digest in history.items():
        if name not in files:
            raise StorageError(
                f"{database.shown}: has seen sql/{name}, which this code does not have. Install the newer version."
            )
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise StorageError(
                f"{database.shown}: sql/{name} was changed after it was applied. Restore the file and put the change into a new one."
            )
    waiting = [name for name in files if name not in history]
    if waiting and history and waiting[0] < max(history):
        raise StorageError(
            f"sql/{waiting[0]} sorts before {max(history)}, which is applied already. Number it after that."
        )
    return waiting[0] if waiting else None
