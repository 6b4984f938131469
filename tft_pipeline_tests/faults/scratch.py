"""A server and a nursery without a world: for what needs tables, not history."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tft_pipeline.storage import embedded
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.migrate import migrate
from tft_pipeline_tests.faults.nursery import Nursery, nursery

EMPTY = "faults_empty"


@contextmanager
def empty_world() -> Iterator[tuple[EmbeddedServer, Nursery]]:
    """A server whose template `faults_empty` has all tables and no rows."""
    with empty_server() as (server, home), nursery(home) as children:
        yield server, children


@contextmanager
def empty_server() -> Iterator[tuple[EmbeddedServer, Path]]:
    with tempfile.TemporaryDirectory(prefix="tft-faults-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with embedded.start(home) as server:
            migrate(Database(server.dsn(EMPTY)))
            yield server, home
