"""Dagster's record against the ledger, on a real instance in PostgreSQL: every disagreement is named, and what can be mended is."""

import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.errors import PipelineError
from tft_pipeline.orchestration import launch, record
from tft_pipeline.orchestration.doctor import Finding, examine
from tft_pipeline.orchestration.reporting import tables_of
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.world import claim_world
from tft_pipeline_tests.storage.frames import frame

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(4)]


@pytest.fixture
def settings(tmp_path: Path, database: Database) -> Iterator[Settings]:
    """An installation on this database. Dagster reads the environment, which is put back."""
    before = dict(os.environ)
    chosen = config.load(
        home=tmp_path / "home", postgres_dsn=database.dsn, sentiment={"scorer": "vader"}, simulation={"tickers": 3, "days": 110}
    )  # fmt: skip
    claim_world(database, chosen)
    yield chosen
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def instance(settings: Settings, database: Database) -> Iterator[dg.DagsterInstance]:
    with launch.recorded_in(settings, database.dsn) as found:
        yield found


def said(instance: dg.DagsterInstance, asset: str, days: list[date]) -> None:
    """What a run would report of these days."""
    for day in days:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=day.isoformat()))


def committed(database: Database, days: list[date]) -> None:
    """Bars of these days, and no event."""
    assert BARS in tables_of("market_bars")
    write(database, {BARS: frame(BARS, days)}, days, run_id="died", code_version="1")


def complaint(settings: Settings, database: Database) -> str:
    with pytest.raises(PipelineError) as raised:
        record.agrees(settings, database)
    return str(raised.value)


def test_where_dagster_never_ran_it_is_not_set_up_to_be_asked(settings: Settings, database: Database) -> None:
    committed(database, DAYS)
    assert record.agrees(settings, database) == "no run yet"
    assert record.repair(settings, database) == 0
    with database.connect() as connection:
        assert connection.execute("SELECT to_regclass('public.event_logs')").fetchone() == (None,)


def test_what_was_committed_and_reported_agrees(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    committed(database, DAYS)
    said(instance, "market_bars", DAYS)
    assert record.agrees(settings, database).startswith("Dagster's record and ops.slices agree on every slice")


def test_commits_that_nobody_reported_are_named_and_reported_by_the_repair(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    committed(database, DAYS)
    said(instance, "market_bars", DAYS[2:3])
    assert complaint(settings, database).startswith(
        "market_bars: 3 days are committed, and no event says so: 2026-01-05 … 2026-01-06, 2026-01-08."
    )
    assert record.repair(settings, database) == 3
    assert record.repair(settings, database) == 0
    assert "agree on every slice" in record.agrees(settings, database)
    event = instance.get_latest_materialization_event(dg.AssetKey("market_bars"))
    assert event is not None
    assert event.asset_materialization is not None
    assert "run died committed these rows" in str(event.asset_materialization.description)


def test_an_event_without_a_slice_is_named_with_the_days_to_run_again(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    said(instance, "corporate_actions", DAYS[:1])
    sentence = complaint(settings, database)
    assert (
        "corporate_actions: 1 day is materialized in Dagster's record, and ops.slices knows nothing of it: 2026-01-05."
        in sentence
    )
    assert sentence.endswith("tft-pipeline backfill --from 2026-01-05 --to 2026-01-05`.")
    write(database, {ACTIONS: frame(ACTIONS, DAYS[:1])}, DAYS[:1], run_id="again", code_version="1")
    assert record.repair(settings, database) == 1  # the slice is younger than what was said
    assert "agree on every slice" in record.agrees(settings, database)


def test_a_run_that_nobody_ended_is_named(settings: Settings, database: Database, instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance, job_name="refresh", status=dg.DagsterRunStatus.STARTED)

    def since(seconds: int) -> None:
        with database.connect() as connection:
            connection.execute("UPDATE runs SET start_time = extract(epoch FROM now()) - %s", (seconds,))

    since(7200)
    assert "agree on every slice" in record.agrees(settings, database)
    since(3 * 3600)
    assert f"run {run.run_id[:8]} of refresh is started for 3.0 h, longer than any run may take" in complaint(
        settings, database
    )


def test_many_days_are_told_in_stretches_and_the_rest_counted() -> None:
    every_other = [(date(2026, 1, 1) + timedelta(days=2 * n)).isoformat() for n in range(12)]
    assert record.stretches(every_other).endswith("2026-01-19 and 2 days more")
    assert record.stretches(["2026-01-02", "2026-01-01"]) == "2026-01-01 … 2026-01-02"


def test_doctor_says_it_and_repairs_when_asked(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    committed(database, DAYS)

    def findings(*, mending: bool = False) -> dict[str, Finding]:
        return {finding.subject: finding for finding in examine(settings, mending=mending)}

    assert not findings()["record"].well
    mended = findings(mending=True)
    assert mended["repair"].sentence == "4 events re-emitted"
    assert mended["record"].well
    assert findings(mending=True)["repair"].sentence == "there was no event to re-emit"
