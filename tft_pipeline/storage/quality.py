"""How far the bars of some days can be trusted, as their quality scores say."""

from datetime import datetime

from tft_pipeline.storage.database import Database


def mean_score(database: Database, start: datetime, end: datetime) -> float | None:
    """The mean of market.quality's scores, 0 to 1, over all tickers and days of start <= day < end; None where no day was judged."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT avg(score) FROM market.quality WHERE day_start >= %s AND day_start < %s", (start, end)
        ).fetchone()
    return None if row is None or row[0] is None else float(row[0])
