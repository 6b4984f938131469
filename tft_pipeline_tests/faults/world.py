"""A small simulated world with fixed days, the last two on either side of a month's end, and the way to a fresh copy of it."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
from psycopg import sql

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import TABLES
from tft_pipeline.errors import StorageError
from tft_pipeline.storage import partitions
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer

START, LAST = date(2026, 3, 2), date(2026, 7, 1)
UNTIL = datetime(2026, 7, 2, tzinfo=UTC)
WINDOW = (date(2026, 6, 30), LAST)
TRAINED_ON = date(2026, 6, 10)
TEMPLATE = "faults_template"

VALUES = {
    "start": START, "end": LAST, "simulation": {"tickers": 3, "days": 110}, "sentiment": {"scorer": "vader"},
    "training": {
        "encoder_bars": 8, "horizon_hours": 3, "hidden_size": 4, "attention_heads": 1, "max_epochs": 1, "windows_per_epoch": 256, "device": "cpu",
    },
}  # fmt: skip


def settings(home: Path) -> Settings:
    return config.load(home=home, **VALUES)


@contextmanager
def copy_of(server: EmbeddedServer, template: str = TEMPLATE) -> Iterator[Database]:
    """A database with what the template holds, dropped on leaving."""
    name = f"f_{secrets.token_hex(6)}"
    _administer(
        server, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    )
    try:
        yield Database(server.dsn(name))
    finally:
        _administer(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def checkpoint(server: EmbeddedServer) -> None:
    """For a trial that stops the server, after its copy_of.

    PostgreSQL logs a sequence 32 numbers ahead. A copied database's is copied without them: after a crash it would give the numbers since
    the copy out again, for as long as there was no checkpoint.
    """
    _administer(server, sql.SQL("CHECKPOINT"))


def _administer(server: EmbeddedServer, statement: sql.Composable) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            connection = psycopg.connect(server.dsn("postgres"), autocommit=True)
        except (psycopg.OperationalError, StorageError):  # a trial stopped it, and its watchdog is bringing it back
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
            continue
        with connection:
            connection.execute(statement)
        return


def duplicates(database: Database) -> list[str]:
    """Keys that stand twice, of all tables: the primary keys should make this impossible, so it is not asked of them."""
    found = []
    with database.connect() as connection:
        for table in TABLES:
            for name in partitions.of_table(table)[:1]:
                query = sql.SQL(
                    "SELECT count(*) FROM (SELECT 1 FROM {} GROUP BY {} HAVING count(*) > 1) AS twice"
                ).format(sql.Identifier(*name.split(".")), sql.SQL(", ").join(map(sql.Identifier, table.key)))
                row = connection.execute(query).fetchone()
                if row and row[0]:
                    found.append(f"{name}: {row[0]} keys stand twice")
    return found


def unbalanced(database: Database) -> list[str]:
    """Marks whose positions do not add up: a torn write between the portfolio's three tables."""
    query = """
        SELECT e.marked_at FROM portfolio.equity e
        LEFT JOIN (SELECT marked_at, sum(value_cents) AS held FROM portfolio.positions GROUP BY 1) p USING (marked_at)
        WHERE e.positions_cents <> coalesce(p.held, 0) OR e.equity_cents <> e.cash_cents + e.positions_cents"""
    with database.connect() as connection:
        return [
            f"portfolio at {moment}: the positions do not add up" for (moment,) in connection.execute(query).fetchall()
        ]
