"""Who holds how many connections: asked of PostgreSQL over and over, from outside."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg


@dataclass
class Census:
    """The most connections to one database at any look: in all, and of each application_name by itself."""

    total: int = 0
    of: dict[str, int] = field(default_factory=dict)
    looks: int = 0

    def take(self, rows: list[tuple[str, int]]) -> None:
        self.looks += 1
        self.total = max(self.total, sum(count for _, count in rows))
        for name, count in rows:
            self.of[name] = max(self.of.get(name, 0), count)


@contextlib.contextmanager
def counted(administrator: str, database: str, every_seconds: float = 0.02) -> Iterator[Census]:
    """administrator: the DSN of another database of the same server, from which to look."""
    census, over = Census(), threading.Event()

    def look() -> None:
        while not over.is_set():
            # A server that was killed comes back.
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(administrator, autocommit=True) as own:
                while not over.wait(every_seconds):
                    census.take(
                        own.execute(
                            "SELECT application_name, count(*)::int FROM pg_stat_activity WHERE datname = %s GROUP BY 1",
                            [database],
                        ).fetchall()
                    )
            over.wait(every_seconds)

    watcher = threading.Thread(target=look, name="census")
    watcher.start()
    try:
        yield census
    finally:
        over.set()
        watcher.join()
