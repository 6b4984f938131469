"""Rows a second into PostgreSQL: the slice writer against pandas.to_sql and against the server's own COPY, which is the limit."""

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy

from benchmarks.timing import Contender, seconds_in_turn, table
from tft_pipeline.contracts import BARS
from tft_pipeline.storage import embedded
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.migrate import migrate
from tft_pipeline.storage.slices import write

TICKERS, DAYS, HOURS = 50, 120, 7
LIMIT = "COPY of ready bytes into one keyed table, no checks (the limit)"


def bars() -> pd.DataFrame:
    """(42,000 rows) BARS of fifty tickers over four months."""
    generator = np.random.default_rng(7)
    days = [datetime(2026, 1, 1, 14, tzinfo=UTC) + timedelta(days=d) for d in range(DAYS)]
    starts = pd.DatetimeIndex([day + timedelta(hours=h) for day in days for h in range(HOURS)]).as_unit("us")
    frame = pd.MultiIndex.from_product(
        [[f"T{n:02d}" for n in range(TICKERS)], starts], names=["ticker", "bar_start"]
    ).to_frame(index=False)
    close = 50 * np.exp(generator.normal(0, 0.01, len(frame)).cumsum() / 50)
    return frame.assign(
        ticker=frame["ticker"].astype("str"), bar_end=frame["bar_start"] + pd.Timedelta(hours=1), open=close, high=close * 1.01,
        low=close * 0.99, close=close, volume=generator.integers(1, 10**6, len(frame)).astype(float), source="benchmark",
        known_at=frame["bar_start"] + pd.Timedelta(hours=1),
    ).astype({"source": "str"})[BARS.names]  # fmt: skip


def run(runs: int) -> str:
    frame = bars()
    days = [date(2026, 1, 1) + timedelta(days=d) for d in range(DAYS)]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        with embedded.start(home) as server:
            database = Database(server.dsn("benchmark"))
            migrate(database)
            engine = sqlalchemy.create_engine(database.dsn)
            columns = ", ".join(BARS.names)

            def empty() -> None:
                with database.connect() as connection:
                    connection.execute("TRUNCATE market.bars; DELETE FROM ops.slices; DROP TABLE IF EXISTS plain")
                    connection.execute(
                        "CREATE TABLE plain (LIKE market.bars INCLUDING INDEXES INCLUDING DEFAULTS INCLUDING GENERATED)"
                    )

            def slices() -> None:
                write(database, {BARS: frame}, days, run_id="benchmark", code_version="0")

            slices()
            select = f"COPY (SELECT {columns} FROM market.bars) TO STDOUT (FORMAT binary)"  # noqa: S608
            with database.connect() as connection, connection.cursor() as cursor, cursor.copy(select) as copy:
                content = b"".join(bytes(part) for part in copy)

            def server_copy() -> None:
                into = f"COPY plain ({columns}) FROM STDIN (FORMAT binary)"
                with database.connect() as connection, connection.cursor() as cursor, cursor.copy(into) as copy:
                    copy.write(content)

            def to_sql() -> None:
                frame.to_sql("plain", engine, if_exists="append", index=False)

            contenders = {
                LIMIT: Contender(server_copy, prepare=empty),
                "slice writer: contract, hash, ledger, monthly partitions": Contender(slices, prepare=empty),
                "slice writer, nothing changed": Contender(slices, prepare=slices),
                "pandas.to_sql into one keyed table": Contender(to_sql, prepare=empty),
            }
            taken = seconds_in_turn(contenders, runs=runs)
            engine.dispose()
    return table(
        f"Rows into PostgreSQL ({len(frame):,} bars, {DAYS} slices, embedded PostgreSQL 18)", "rows", len(frame), taken,
        reference=LIMIT,
    )  # fmt: skip
