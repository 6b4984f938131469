"""What a child of the nursery does: a whole Dagster run of one asset, or plain writes; it tells its parent what was acknowledged."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import dagster as dg
import pandas as pd

from tft_pipeline import crash_points
from tft_pipeline.config import day_start
from tft_pipeline.contracts import BARS
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.partitions import TRAINING_DAYS
from tft_pipeline.orchestration.reconciling import compare, reconcile
from tft_pipeline.orchestration.reporting import partitioned_assets
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.schedules import RANGE_END, RANGE_START
from tft_pipeline.sources.protocols import Span
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.migrate import migrate
from tft_pipeline.storage.slices import Claim, Written, take_generation, write
from tft_pipeline_tests.faults.world import LAST, START, TRAINED_ON, UNTIL, settings
from tft_pipeline_tests.storage.frames import frame

NO_GRACE = timedelta(0)


class Telling(Pipeline):
    """A pipeline that tells its parent of every write that came back."""

    tell: IO[str] | None = None

    def write(self, *given: Any, **named: Any) -> dict[str, Written]:
        written = super().write(*given, **named)
        if self.tell is not None:
            for name, one in written.items():
                for day, content in one.content_hashes.items():
                    self.tell.write(json.dumps([name, day.isoformat(), content]) + "\n")
        return written

    def use(self, dsn: str) -> None:
        self._database = Database(dsn)


class _Warm:
    """Made before the first fork."""

    pipeline: Telling
    definitions: dg.Definitions


def warm(home: Path) -> None:
    """All that a child would otherwise import and compute before it comes to its work: seconds, thousands of times."""
    import dagster_postgres  # noqa: F401 - imported late by Dagster's instance, as is dotenv
    import dotenv  # noqa: F401
    import matplotlib.pyplot  # noqa: F401 - by the pictures
    import pytorch_forecasting  # noqa: F401 - by whoever loads a model
    import torch

    torch.set_num_threads(1)  # no thread may run when the nursery forks
    chosen = settings(home)
    pipeline = _Warm.pipeline = Telling(chosen, until=UNTIL)
    _Warm.definitions = build(chosen, pipeline)
    for job in ("refresh", "history", "outcome", "retrain", "upkeep"):
        _Warm.definitions.resolve_job_def(job)
    pipeline.calendar.sessions(START, LAST)
    pipeline.bars.bars(pipeline.bars.universe(), Span(day_start(LAST), UNTIL))
    assert pipeline.posts is not None
    pipeline.posts.posts(Span(day_start(LAST), UNTIL))
    assert pipeline.scorer is not None


def obey(order: dict[str, Any], tell: IO[str]) -> None:
    kinds = {
        "prepare": _prepare, "run": _run, "upkeep": _upkeep, "reconcile": _reconcile, "write": _write, "orphan": _orphan,
    }  # fmt: skip
    kinds[order.pop("what")](tell, **order)


def _prepare(tell: IO[str], dsn: str) -> None:
    pipeline = _Warm.pipeline
    pipeline.use(dsn)
    migrate(pipeline.database)
    with launch.recorded_in(pipeline.settings, dsn) as instance:
        launch.run(_Warm.definitions, "history", instance, START, LAST)
        launch.run(_Warm.definitions, "retrain", instance, TRAINED_ON, TRAINED_ON)
        launch.run(_Warm.definitions, "outcome", instance, START, LAST)
        # One run over many days judges drift on the newest only, and the window under test has two.
        launch.run(_Warm.definitions, "outcome", instance, LAST - timedelta(days=1), LAST)


def _run(
    tell: IO[str], *, dsn: str, job: str, asset: str, first: str, last: str, point: str | None = None, visit: int = 1
) -> None:
    """One asset over first to last, dying at the visit-th passing of point."""
    pipeline = _Warm.pipeline
    pipeline.use(dsn)
    pipeline.tell = tell
    resolved = _Warm.definitions.resolve_job_def(job)
    with launch.recorded_in(pipeline.settings, dsn) as instance:
        if job == "retrain":
            instance.add_dynamic_partitions(TRAINING_DAYS.name or "", [first])
        if point is not None:
            crash_points.arm(point, visit)
        days: dict[str, Any] = (
            {"partition_key": first} if first == last else {"tags": {RANGE_START: first, RANGE_END: last}}
        )
        outcome = resolved.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(asset)], raise_on_error=True,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}, **days,
        )  # fmt: skip
        assert outcome.success


def _upkeep(tell: IO[str], *, dsn: str, years: int, point: str | None = None, visit: int = 1) -> None:
    """A round of upkeep that keeps so many years, dying at the visit-th passing of point."""
    pipeline = _Warm.pipeline
    pipeline.use(dsn)
    pipeline.settings = pipeline.settings.changed(storage={"retention_years": years})
    with launch.recorded_in(pipeline.settings, dsn) as instance:
        if point is not None:
            crash_points.arm(point, visit)
        launch.run(_Warm.definitions, "upkeep", instance)


def _reconcile(tell: IO[str], dsn: str, *, assets: list[str]) -> None:
    """How many events were re-emitted for these assets, then what does not agree of any asset: {kind: ["asset of day", …]}."""
    pipeline = _Warm.pipeline
    pipeline.use(dsn)
    with launch.recorded_in(pipeline.settings, dsn) as instance:
        emitted = reconcile(instance, pipeline.database, assets, grace=NO_GRACE)
        left = compare(instance, pipeline.database, partitioned_assets(), now=datetime.now(UTC), grace=NO_GRACE)
    disagreeing = {
        "unrecorded": [f"{one.asset} of {one.day}" for one in left.unrecorded],
        "missing": [f"{asset} of {day}" for asset, days in left.missing.items() for day in days],
        "differing": [f"{one.asset} of {one.day}: {one.refuted}" for one in left.differing],
    }
    tell.write(json.dumps([emitted, disagreeing]) + "\n")


def content(version: int, days: list[date]) -> pd.DataFrame:
    """BARS of three tickers and seven hours a day; another version has other volumes and one row less."""
    rows = frame(BARS, days, hours=range(14, 21), tickers=("AAPL", "BRK.B", "MSFT"))
    return rows.assign(volume=1000.0 + version).iloc[version % 2 :].reset_index(drop=True)


def _write(tell: IO[str], dsn: str, days: list[str], versions: list[int]) -> None:
    """Bars of the days, version after version, each told of once it is acknowledged."""
    wanted = [date.fromisoformat(day) for day in days]
    database = Database(dsn)
    tell.write(json.dumps("ready") + "\n")
    for version in versions:
        written = write(
            database, {BARS: content(version, wanted)}, wanted, run_id=f"version-{version}", code_version="0"
        )
        hashes = {day.isoformat(): found for day, found in written[BARS.name].content_hashes.items()}
        tell.write(json.dumps([version, hashes]) + "\n")


def _orphan(tell: IO[str], dsn: str, day: str, *, generation: int, version: int, more: bool) -> None:
    """A writer whose run was given up, and that goes on to write with the claim it had, or with one for more days. Says how that ended."""
    wanted = [date.fromisoformat(day)]
    try:
        if more:
            longer = [*wanted, wanted[0] + timedelta(days=1)]
            generation = take_generation(Database(dsn), [BARS], longer, holding=Claim(generation, wanted))
        write(
            Database(dsn),
            {BARS: content(version, wanted)},
            wanted,
            run_id="orphan",
            code_version="0",
            generation=generation,
        )
    except Exception as error:
        tell.write(json.dumps([type(error).__name__, str(error)]) + "\n")
    else:
        tell.write(json.dumps(["written", ""]) + "\n")
