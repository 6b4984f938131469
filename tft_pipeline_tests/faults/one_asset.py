"""A Dagster run of one asset, market_bars of one day, against a database in trouble; told of each retry, and of how it ended."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import dagster as dg
import pandas as pd

from tft_pipeline import schema
from tft_pipeline.contracts import BARS
from tft_pipeline.orchestration import reporting
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.launch import own_words
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.database import Database
from tft_pipeline_tests.faults.world import LAST, UNTIL, settings

ASSET = dg.AssetKey("market_bars")
TRIES = 1 + reporting.MAX_RETRIES


@dataclass
class Ran:
    """said: the words of the failures, the last one's last; waits: seconds before each retry."""

    success: bool = False
    said: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    @property
    def tries(self) -> int:
        return len(self.waits) + 1


def run(database: Database, home: Path, *, after_a_try: Callable[[int], None] | None = None, day: date = LAST) -> Ran:
    """Materialize the day's bars. after_a_try: called with how many tries have failed so far, while Dagster waits for the next.

    Dagster's own record lies elsewhere: it is the pipeline's database that is in trouble.
    """
    chosen = settings(home)
    definitions = build(chosen, Pipeline(chosen, database=database, until=UNTIL))
    ran, run_id = Ran(), dg.DagsterRun(job_name="history").run_id

    def heard(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None or event.event_type not in (
            dg.DagsterEventType.STEP_UP_FOR_RETRY,
            dg.DagsterEventType.STEP_FAILURE,
        ):
            return
        data = event.event_specific_data
        ran.said.append(own_words(data.error) if data.error else "")  # type: ignore[union-attr]
        if event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY:
            ran.waits.append(float(data.seconds_to_wait or 0))  # type: ignore[union-attr]
            if after_a_try is not None:
                after_a_try(len(ran.waits))

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_event_listener(run_id, heard)
        outcome = definitions.resolve_job_def("history").execute_in_process(
            instance=instance, asset_selection=[ASSET], partition_key=day.isoformat(), raise_on_error=False, run_id=run_id,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
        ran.success = outcome.success
    return ran


def ledger(database: Database) -> dict[tuple[str, date], tuple[int, str]]:
    """{(table, day): (rows, content hash)} of every slice."""
    with database.connect() as connection:
        rows = connection.execute("SELECT table_name, slice_day, row_count, content_hash FROM ops.slices").fetchall()
    return {(name, day): (count, content) for name, day, count, content in rows}


def bars(days: list[date], tickers: int, *, volume: float = 1000.0) -> pd.DataFrame:
    """Bars of all 24 hours of the days: 24 rows, about 4 kB, a ticker and day."""
    from tft_pipeline_tests.storage.frames import frame

    names = tuple(f"T{number:04}" for number in range(tickers))
    return schema.validate(frame(BARS, days, range(24), tickers=names).assign(volume=volume), BARS)
