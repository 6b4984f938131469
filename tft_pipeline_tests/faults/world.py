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
from tft_pipeline.contracts import MODELS, TABLES
from tft_pipeline.errors import StorageError
from tft_pipeline.schema import Table
from tft_pipeline.storage import composed, partitions
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer

START, LAST = date(2026, 3, 12), date(2026, 7, 1)
UNTIL = datetime(2026, 7, 2, tzinfo=UTC)
WINDOW = (date(2026, 6, 30), LAST)
TRAINED_ON = date(2026, 6, 10)
TEMPLATE = "faults_template"

# Every table has rows on the days under kill, or a kill would tear nothing. The second ticker's dividend falls on the first day of WINDOW,
# 12 + 7 + 91 days after START, and the third's split on the last, at 45 % of simulation.days. A mood that leads strongly, and a model that
# reads little else, give an edge that is measured, not claimed: so there are trades and positions.
VALUES = {
    "start": START, "end": LAST, "simulation": {"tickers": 3, "days": 247, "signal_strength": 0.9}, "sentiment": {"scorer": "vader"},
    "signals": {"minimum_confidence": 0.5},
    "training": {
        "encoder_bars": 4, "horizon_hours": 3, "hidden_size": 4, "attention_heads": 1, "max_epochs": 2, "windows_per_epoch": 512,
        "batch_size": 16, "learning_rate": 0.03, "device": "cpu",
        "inputs": ("sentiment_score", "sentiment_momentum", "return_1h", "volatility_7h", "session_progress"),
    },
}  # fmt: skip


def settings(home: Path) -> Settings:
    return config.load(home=home, **VALUES)


def days_under_kill(table: Table) -> list[date]:
    return [TRAINED_ON] if table is MODELS else list(WINDOW)


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


def _administer(server: EmbeddedServer, statement: sql.Composed | sql.SQL) -> None:
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


def nothing_at_stake(database: Database) -> list[str]:
    """Days under kill on which a table has no row: whatever is killed there, nothing can be torn."""
    found = []
    with database.connect() as connection:
        for table in TABLES:
            days = days_under_kill(table)
            query = sql.SQL("SELECT DISTINCT {day} FROM {table} AS t WHERE {day} = ANY({days})").format(
                day=composed.day_of(table, "t"), table=composed.qualified(table.name), days=sql.Literal(days)
            )
            held = {day for (day,) in connection.execute(query).fetchall()}
            found += [f"{table.name} has no row on {day}" for day in days if day not in held]
    return found


def duplicates(database: Database) -> list[str]:
    """Keys, and versions of raw rows, that stand twice: the primary keys should make this impossible, so it is not asked of them."""
    found = []
    with database.connect() as connection:
        for table in TABLES:
            for name in partitions.of_table(table):
                key = table.key if name == table.name else (*table.key, "loaded_at")
                query = sql.SQL(
                    "SELECT count(*) FROM (SELECT 1 FROM {} GROUP BY {} HAVING count(*) > 1) AS twice"
                ).format(composed.qualified(name), composed.listed(key))
                row = connection.execute(query).fetchone()
                if row and row[0]:
                    found.append(f"{name}: {row[0]} keys stand twice")
            if table.mode == "raw":
                query = sql.SQL("SELECT count(*) FROM {} AS t JOIN {} AS v ON {} AND v.loaded_at = t.loaded_at").format(
                    *map(composed.qualified, partitions.of_table(table)), composed.same_key(table, "v", "t")
                )
                row = connection.execute(query).fetchone()
                if row and row[0]:
                    found.append(f"{table.name}: {row[0]} versions are held and replaced at once")
    return found


def unbalanced(database: Database) -> list[str]:
    """Moments at which the portfolio's three tables do not add up: a torn write between them.

    PostgreSQL's own triggers (0008_portfolio.sql) refuse such commits, so they are not asked.
    """
    queries = {
        "positions and marks differ": """
            SELECT marked_at FROM portfolio.equity e
            FULL JOIN (SELECT marked_at, sum(value_cents) AS held FROM portfolio.positions GROUP BY 1) p USING (marked_at)
            WHERE e.marked_at IS NULL OR e.positions_cents <> coalesce(p.held, 0) OR e.equity_cents <> e.cash_cents + e.positions_cents""",
        "cash moved by something else than trades": """
            SELECT m.marked_at FROM (SELECT marked_at, lag(marked_at) OVER w AS before, cash_cents - lag(cash_cents) OVER w AS moved
                                     FROM portfolio.equity WINDOW w AS (ORDER BY marked_at)) m
            WHERE m.moved <> (SELECT coalesce(sum(t.cash_change_cents), 0) FROM portfolio.trades t
                              WHERE t.executed_at >= m.before AND t.executed_at < m.marked_at)""",
        "trades that no mark follows": """
            SELECT DISTINCT t.executed_at FROM portfolio.trades t
            WHERE NOT EXISTS (SELECT FROM portfolio.equity e WHERE e.marked_at > t.executed_at)""",
    }
    with database.connect() as connection:
        return [
            f"portfolio at {moment}: {fault}"
            for fault, query in queries.items()
            for (moment,) in connection.execute(query).fetchall()
        ]
