"""What was known when: raw tables as of a moment, held against the same moment later on."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from psycopg import sql

from tft_pipeline.schema import Table
from tft_pipeline.storage import composed, partitions
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.read import read


@dataclass(frozen=True)
class Past:
    """Raw tables as they were known at a moment that is over."""

    moment: datetime
    frames: dict[Table, pd.DataFrame]

    def changed(self, database: Database) -> list[str]:
        """Nothing that is written later may change it."""
        found = []
        for table, then in self.frames.items():
            now = read(database, table, as_of=self.moment)
            if not now.equals(then):
                found.append(
                    f"{table.name} as of {self.moment} were {len(then)} rows, and are {len(now)}, or other ones"
                )
        return found


def seen(database: Database, tables: Iterable[Table]) -> Past:
    """What is known now, by the server's clock."""
    with database.connect() as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return Past(row[0], {table: read(database, table, as_of=row[0]) for table in _raw(tables)})


def revisions(database: Database, tables: Iterable[Table]) -> dict[str, int]:
    """{raw table: replaced versions that it keeps}"""
    counts = {}
    with database.connect() as connection:
        for table in _raw(tables):
            _, replaced = partitions.of_table(table)
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(composed.qualified(replaced))).fetchone()
            counts[table.name] = int(row[0]) if row else 0
    return counts


def _raw(tables: Iterable[Table]) -> list[Table]:
    return [table for table in tables if table.mode == "raw"]
