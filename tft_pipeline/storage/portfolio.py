"""The portfolio's last mark before a moment: where the ledger goes on from."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from tft_pipeline.contracts import EQUITY, POSITIONS
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.read import read


@dataclass(frozen=True)
class Mark:
    """marked_at; positions: POSITIONS of that moment, maybe none; equity: the one EQUITY row."""

    marked_at: datetime
    positions: pd.DataFrame
    equity: pd.DataFrame


def last_mark(database: Database, *, before: datetime) -> Mark | None:
    """The newest mark earlier than before; None where there is none."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT max(marked_at) FROM portfolio.equity WHERE marked_at < %s", (before,)
        ).fetchone()
        if row is None or row[0] is None:
            return None
        moment, after = row[0], row[0] + timedelta(microseconds=1)
        return Mark(moment, read(connection, POSITIONS, moment, after), read(connection, EQUITY, moment, after))


def peak_equity_cents(database: Database, *, before: datetime) -> int | None:
    """The highest equity ever marked before; None where nothing was."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT max(equity_cents) FROM portfolio.equity WHERE marked_at < %s", (before,)
        ).fetchone()
    return int(row[0]) if row and row[0] is not None else None
