"""What sentiment.coverage says of a stretch of time: how much of it is covered, and where it is not."""

from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from psycopg import sql
from psycopg.sql import Literal

from tft_pipeline.errors import ContractError
from tft_pipeline.schema import UTC
from tft_pipeline.storage.database import Database

# Every hour from the first one asked for on: one without a row was never asked for, and is as little covered as one asked for in vain.
_HOURS = sql.SQL("""
    WITH held AS (
        SELECT channel, kind, hour_start, share FROM sentiment.coverage WHERE hour_start >= {start} AND hour_start < {end}),
    begun AS (SELECT channel, kind, min(hour_start) AS first FROM held GROUP BY channel, kind),
    hours AS (
        SELECT channel, kind, hour_start, coalesce(share, 0) AS share
        FROM (SELECT channel, kind, generate_series(first, {end} - interval '1 hour', interval '1 hour') AS hour_start FROM begun) AS b
        LEFT JOIN held USING (channel, kind, hour_start))""")


@dataclass(frozen=True)
class Standing:
    """Of a channel's posts of one kind: hours asked for, the share of them that is covered (0…1), the first hour that is not, whole."""

    channel: str
    kind: str
    hours: int
    share: float
    oldest_gap: datetime | None


def standing(database: Database, start: datetime, end: datetime) -> list[Standing]:
    """Each channel and kind from its first hour in start <= t < end on, by name. Whole hours, UTC; raises ContractError for other bounds."""
    query = sql.SQL("""
        {hours} SELECT channel, kind, count(*), avg(share), min(hour_start) FILTER (WHERE share < 1) FROM hours
        GROUP BY channel, kind ORDER BY channel COLLATE "C", kind COLLATE "C"
        """).format(hours=_hours(start, end))
    with database.connect() as connection:
        return [Standing(*row) for row in connection.execute(query).fetchall()]


def gaps(database: Database, start: datetime, end: datetime) -> pd.DataFrame:
    """Hours of start <= t < end that are not covered whole: channel, kind, hour_start, share (0…1), by hour; bounds as for standing.

    Their days are what a backfill could still mend, as far as the channel's listing reaches back.
    """
    query = sql.SQL("""
        {hours} SELECT channel, kind, hour_start, share FROM hours WHERE share < 1
        ORDER BY hour_start, channel COLLATE "C", kind COLLATE "C" """).format(hours=_hours(start, end))
    with database.connect() as connection:
        rows = connection.execute(query).fetchall()
    dtypes = {"channel": "str", "kind": "str", "hour_start": UTC, "share": "float64"}
    return pd.DataFrame(rows, columns=list(dtypes)).astype(dtypes)


def _hours(start: datetime, end: datetime) -> sql.Composed:
    for moment in (start, end):
        if moment.tzinfo is None or moment.minute or moment.second or moment.microsecond:
            raise ContractError(
                f"sentiment.coverage: {moment.isoformat()} begins no clock hour; ask from a whole hour, UTC, to another."
            )
    return _HOURS.format(start=Literal(start), end=Literal(end))
