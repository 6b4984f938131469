"""From settings to a database that is ready: running, migrated, and of this world."""

from collections.abc import Iterator
from contextlib import contextmanager

from tft_pipeline.config import Settings
from tft_pipeline.storage import embedded
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.lineage import memory_of
from tft_pipeline.storage.migrate import migrate
from tft_pipeline.storage.world import claim_world, demand_world


@contextmanager
def open_database(settings: Settings, *, as_it_is: bool = False) -> Iterator[Database]:
    """The external database of settings.postgres_dsn, or the embedded server's database of this world.

    Migrated and claimed; as_it_is: neither, for who only reads, as from a standby. An embedded server that was started here is stopped
    on leaving.
    Raises StorageError: not reachable, too old, or holding another world; as_it_is: or none yet.
    """
    ready = _found if as_it_is else _made
    if settings.postgres_dsn is not None:
        yield ready(Database(settings.postgres_dsn.get_secret_value(), memory=memory_of(settings)), settings)
        return
    settings.home.mkdir(parents=True, exist_ok=True)
    with embedded.start(settings.home) as server:
        yield ready(Database(server.dsn(settings.world), memory=memory_of(settings)), settings)


def _made(database: Database, settings: Settings) -> Database:
    database.check()
    migrate(database)
    claim_world(database, settings)
    return database


def _found(database: Database, settings: Settings) -> Database:
    database.check()
    demand_world(database, settings)
    return database
