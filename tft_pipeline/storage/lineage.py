"""What was written last, remembered outside of the database: so that one which has forgotten it is noticed.

A database can lie behind what it has acknowledged: it was restored from a backup, or a standby that had not received everything became
the primary. And a former primary can come back and take writes that its successor will never see. Neither shows from within.
What does not belong here: the fence that refuses stale writers; it needs no memory and is kept by storage.slices.
"""

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from tft_pipeline.config import Settings
from tft_pipeline.errors import PipelineError, StorageError
from tft_pipeline.storage.database import Database

# A promotion begins a new timeline: the first eight digits of the names of its WAL files.
_SERVER = """
    SELECT (SELECT system_identifier::text FROM pg_control_system()),
           ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int"""
# The ledger's row leaves with its month when that is retired; the fence's stays.
_GENERATION = """
    SELECT coalesce((SELECT generation FROM ops.slices WHERE table_name = %(table_name)s AND slice_day = %(slice_day)s),
                    (SELECT generation FROM ops.fences WHERE table_name = %(table_name)s AND slice_day = %(slice_day)s))"""

_REFUSALS = (
    psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported, psycopg.errors.ObjectNotInPrerequisiteState,
)  # fmt: skip


@dataclass(frozen=True)
class LastWrite:
    """A slice whose commit was acknowledged, and by whom. system_identifier: of the cluster; timeline: one more with each promotion."""

    system_identifier: str
    timeline: int
    table_name: str
    slice_day: str
    generation: int
    acknowledged_at: str


def remember(
    database: Database, connection: psycopg.Connection[TupleRow], table: str, day: date, generation: int
) -> None:
    """Note an acknowledged write of table's slice of day. Does nothing where the database has no memory; never raises for its file."""
    server = _server(connection) if database.memory is not None else None
    if database.memory is None or server is None:
        return
    last = LastWrite(*server, table, day.isoformat(), generation, datetime.now(UTC).isoformat(timespec="seconds"))
    making = database.memory.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    with suppress(OSError):
        making.write_text(json.dumps(asdict(last), indent=2))
        making.replace(database.memory)


def check(database: Database, connection: psycopg.Connection[TupleRow]) -> None:
    """Before anything is claimed: refuse a former primary; of a write that this database has forgotten, take note for `doctor`.

    What was lost is made again where it can be, for the schedule looks for slices that are missing: hence no refusal.
    Raises StorageError: the database is of an older timeline than the one written to last.
    """
    last = recall(database.memory)
    server = _server(connection) if last is not None else None
    if database.memory is None or last is None or server is None:
        return
    system_identifier, timeline = server
    if system_identifier == last.system_identifier and timeline < last.timeline:
        raise StorageError(
            f"{database.shown}: this server is a former primary (timeline {timeline}); what was written last, at {last.acknowledged_at}, went to "
            f"its successor (timeline {last.timeline}), which would never see what is written here. Shut it down and let it follow its "
            f"successor (pg_rewind), or connect to that one. If this server is meant to go on alone, remove {database.memory}."
        )
    if (generation := _held(connection, last)) < last.generation:
        with suppress(OSError), _losses(database.memory).open("a") as file:
            file.write(f"{_sentence(database, last, server, generation)}\n")
        with suppress(OSError):
            database.memory.unlink()  # told once; what is written from now on is remembered anew


def found(database: Database) -> str:
    """For `doctor`: that the database still holds what was written last. Raises PipelineError: it does not, or did not at some time."""
    memory = database.memory
    if memory is None:
        return "what was written last is not remembered for this database"
    with database.connect() as connection:
        check(database, connection)
    losses = _losses(memory).read_text().splitlines() if _losses(memory).exists() else []
    if losses:
        raise PipelineError(
            f"{losses[-1]} Slices of which nothing is left are made again by the schedule; for others, refresh the days since. Then remove {_losses(memory)}."
        )
    last = recall(memory)
    if last is None:
        return "nothing was written from here yet"
    return f"{last.table_name} of {last.slice_day}, acknowledged at {last.acknowledged_at}, is there; timeline {last.timeline}"


def memory_of(settings: Settings) -> Path:
    """The file of this home and world: the embedded server keeps a database for each world."""
    return settings.home / f"last-write-{settings.world}.json"


def recall(memory: Path | None) -> LastWrite | None:
    """What the file says; None where there is none, or it makes no sense."""
    if memory is None:
        return None
    with suppress(OSError, ValueError, TypeError):
        return LastWrite(**json.loads(memory.read_text()))
    return None


def _losses(memory: Path) -> Path:
    return memory.with_suffix(".lost")


def _sentence(database: Database, last: LastWrite, server: tuple[str, int], generation: int) -> str:
    system_identifier, timeline = server
    if system_identifier != last.system_identifier:
        what = "this is another server, or one made anew"
    elif timeline != last.timeline:
        what = f"a standby was promoted, or a backup restored (timeline {last.timeline} became {timeline}), without it"
    else:
        what = "an older copy of its files was put in place"
    held = f"holds generation {generation}" if generation else "knows nothing of it"
    return (
        f"{database.shown} lies behind what it acknowledged: {last.table_name} of {last.slice_day} was written as generation "
        f"{last.generation} at {last.acknowledged_at}, and the database {held}: {what}."
    )


def _held(connection: psycopg.Connection[TupleRow], last: LastWrite) -> int:
    row = connection.execute(_GENERATION, {"table_name": last.table_name, "slice_day": last.slice_day}).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _server(connection: psycopg.Connection[TupleRow]) -> tuple[str, int] | None:
    """System identifier and timeline; None where the server does not tell, as some hosted ones, or a standby."""
    try:
        with connection.transaction():
            row = connection.execute(_SERVER).fetchone()
    except _REFUSALS:
        return None
    return (row[0], row[1]) if row else None
