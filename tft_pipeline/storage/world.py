"""One database holds one world: simulated and real data, or two simulations, never mix."""

from typing import Any

from tft_pipeline.config import Settings
from tft_pipeline.errors import StorageError
from tft_pipeline.storage.database import Database


def claim_world(database: Database, settings: Settings) -> None:
    """Note that this database holds settings' world; the first claim decides. Safe to call at every start, from many processes.

    Raises StorageError: it holds another one.
    """
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO ops.worlds (world, simulated, market, posts) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (settings.world, settings.simulated, settings.market, settings.posts),
        )
        row = connection.execute("SELECT world, simulated, market FROM ops.worlds FOR UPDATE").fetchone()
        _demand_same(database, row, settings)
        connection.execute(
            "UPDATE ops.worlds SET posts = %(posts)s WHERE posts <> %(posts)s", {"posts": settings.posts}
        )


def demand_world(database: Database, settings: Settings) -> None:
    """Raises StorageError unless this database holds settings' world already. Writes nothing."""
    with database.connect() as connection:
        there = connection.execute("SELECT to_regclass('ops.worlds')").fetchone()
        row = there and there[0] and connection.execute("SELECT world, simulated, market FROM ops.worlds").fetchone()
    if not row:
        raise StorageError(
            f"{database.shown}: holds no world yet; fill it first, with `tft-pipeline demo` or `tft-pipeline up`."
        )
    _demand_same(database, row, settings)


def _demand_same(database: Database, row: tuple[Any, ...] | None, settings: Settings) -> None:
    held, simulated, market = row or (settings.world, settings.simulated, settings.market)
    if (held, simulated, market) != (settings.world, settings.simulated, settings.market):
        raise StorageError(
            f"{database.shown}: holds {_kind(simulated)} data of {held!r} (market={market}); these settings mean {_kind(settings.simulated)} "
            f"data of {settings.world!r} (market={settings.market}). Use another database: set TFT_POSTGRES_DSN, or unset it for the "
            "embedded server, which keeps a database for each world."
        )


def world(database: Database) -> dict[str, object] | None:
    """{world, simulated, market, posts} of this database; None while nobody has claimed it."""
    with database.connect() as connection:
        row = connection.execute("SELECT world, simulated, market, posts FROM ops.worlds").fetchone()
    return dict(zip(("world", "simulated", "market", "posts"), row, strict=True)) if row else None


def _kind(simulated: bool) -> str:
    return "simulated" if simulated else "real"
