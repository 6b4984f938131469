"""Dagster's record against the ledger, on a real instance in PostgreSQL: every disagreement is named, what agrees is not, and all is mended."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus
from dagster._core.test_utils import create_run_for_test
from psycopg.conninfo import conninfo_to_dict

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import ACTIONS, BARS, MODELS
from tft_pipeline.errors import StorageError
from tft_pipeline.orchestration import forgetting, launch, processes, record
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.doctor import Finding, examine
from tft_pipeline.orchestration.forgetting import forget
from tft_pipeline.orchestration.reconciling import compare, reconcile
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage import retention
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.world import claim_world
from tft_pipeline_tests.faults.world import copy_of
from tft_pipeline_tests.storage.frames import frame

DAYS = [date(2026, 1, 5) + timedelta(days=n) for n in range(4)]
NAMES = [day.isoformat() for day in DAYS]
BARS_KEY = dg.AssetKey("market_bars")
AGREE = "Dagster's record and ops.slices agree on every slice of 13 assets"
ONE = "1 disagreement between Dagster's record and PostgreSQL; `tft-pipeline doctor --repair` mends Dagster's record:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small market of files."""
    made = tmp_path_factory.mktemp("market")
    starts = pd.date_range("2026-01-05 14:00", periods=80, freq="h", tz="UTC").as_unit("us")
    prices = {"open": 10.0, "high": 11.0, "low": 9.0, "volume": 100.0}
    bars = pd.DataFrame({"ticker": "AAA", "bar_start": starts, "bar_end": starts + pd.Timedelta(hours=1), **prices})
    bars["close"] = 10 + bars.index / 1000  # no bar repeats the one before
    bars.to_parquet(made / "bars.parquet")
    return made


def configured(folder: Path, home: Path, dsn: str) -> Settings:
    return config.load(
        home=home, market=f"files:{folder}", posts="none", start=DAYS[0], end=DAYS[-1], postgres_dsn=dsn, sentiment={"scorer": "vader"},
    )  # fmt: skip


def name_of(dsn: str) -> str:
    return str(conninfo_to_dict(dsn)["dbname"])


@contextmanager
def environment_put_back() -> Iterator[None]:
    """Dagster reads the environment, which `recorded_in` sets."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def templates(
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: EmbeddedServer,
    postgres_template: Callable[[], str],
) -> Iterator[dict[str, str]]:
    """Names of databases in which Dagster has its tables: before any run; after a real range, and two of its days again."""
    home = tmp_path_factory.mktemp("template")
    with environment_put_back():
        claim_world(Database(dsn := postgres_template()), configured(folder, home, dsn))
        with launch.recorded_in(configured(folder, home, dsn), dsn):
            pass
        names = {"no run": name_of(dsn)}
        with copy_of(postgres_server, names["no run"]) as database:
            settings = configured(folder, home, database.dsn)
            with launch.recorded_in(settings, database.dsn) as instance:
                ran(settings, database, instance, DAYS[0], DAYS[-1])
                for day in (DAYS[0], DAYS[3]):
                    ran(settings, database, instance, day, day)
            yield {**names, "a range": name_of(database.dsn)}


@pytest.fixture
def database(
    request: pytest.FixtureRequest, postgres_server: EmbeddedServer, templates: dict[str, str]
) -> Iterator[Database]:
    with copy_of(postgres_server, templates[getattr(request, "param", "no run")]) as made:
        yield made


after_a_range = pytest.mark.parametrize("database", ["a range"], indirect=True)


@pytest.fixture
def settings(folder: Path, tmp_path: Path, database: Database) -> Iterator[Settings]:
    with environment_put_back():
        yield configured(folder, tmp_path / "home", database.dsn)


@pytest.fixture
def instance(settings: Settings, database: Database) -> Iterator[dg.DagsterInstance]:
    with launch.recorded_in(settings, database.dsn) as found:
        yield found


def ran(settings: Settings, database: Database, instance: dg.DagsterInstance, first: date, last: date) -> None:
    """A real run of everything up to features."""
    launch.run(build(settings, Pipeline(settings, database=database)), "history", instance, first, last)


def committed(database: Database, days: list[date], run_id: str = "died") -> None:
    """Bars of these days, and no event."""
    write(database, {BARS: frame(BARS, days)}, days, run_id=run_id, code_version="1")


def said(instance: dg.DagsterInstance, asset: str, days: list[str]) -> None:
    """What a run would report of these days."""
    for day in days:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=day))


def complaint(settings: Settings, database: Database) -> str:
    with pytest.raises(StorageError) as raised:
        record.agrees(settings, database)
    return str(raised.value)


def materialized(instance: dg.DagsterInstance, asset: str = "market_bars") -> set[str]:
    return set(instance.get_materialized_partitions(dg.AssetKey(asset)))


def test_where_dagster_never_ran_it_is_not_set_up_to_be_asked(
    folder: Path, tmp_path: Path, postgres_template: Callable[[], str]
) -> None:
    database = Database(postgres_template())
    settings = configured(folder, tmp_path / "home", database.dsn)
    committed(database, DAYS)
    said = "no run yet: Dagster has no tables in this database"
    assert (record.agrees(settings, database), record.repair(settings, database)) == (said, said)
    with database.connect() as connection:
        assert connection.execute("SELECT to_regclass('event_logs')").fetchone() == (None,)
    assert not settings.dagster_home.exists()


@after_a_range
def test_nothing_is_wrong_after_a_range_a_day_again_a_retirement_and_beside_a_run(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    assert materialized(instance) == set(NAMES)
    assert record.agrees(settings, database) == AGREE
    long_ago = date(2019, 1, 31)
    committed(database, [long_ago], "then")
    said(instance, "market_bars", [long_ago.isoformat()])
    retention.retire(database, before=date(2020, 1, 1))
    assert record.agrees(settings, database) == AGREE
    going = create_run_for_test(instance, job_name="refresh", status=DagsterRunStatus.STARTED)
    committed(database, DAYS[:2], going.run_id)
    assert record.agrees(settings, database) == AGREE
    assert record.repair(settings, database) == "there was nothing to mend in Dagster's record"


def test_commits_that_nobody_reported_are_named_and_reported(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    committed(database, DAYS)
    said(instance, "market_bars", NAMES[2:3])
    sentence = "market_bars: 3 days in PostgreSQL without an event in Dagster: 2026-01-05 … 2026-01-06, 2026-01-08"
    assert complaint(settings, database) == f"{ONE}\n{sentence}"
    mended = "Dagster's record is mended: events re-emitted 3, runs ended 0, 0 days without rows taken out of it"
    assert record.repair(settings, database) == mended
    assert record.agrees(settings, database) == AGREE
    event = instance.get_latest_materialization_event(BARS_KEY)
    assert event is not None
    assert event.asset_materialization is not None
    assert "run died committed these rows" in str(event.asset_materialization.description)
    assert record.repair(settings, database) == "there was nothing to mend in Dagster's record"


def test_a_run_that_ends_while_it_is_looked_at_is_no_disagreement(
    settings: Settings, database: Database, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(database, DAYS[:1])
    asked = instance.get_run_by_id

    def ends(run_id: str) -> dg.DagsterRun | None:
        said(instance, "market_bars", NAMES[:1])
        return asked(run_id)

    monkeypatch.setattr(instance, "get_run_by_id", ends)
    assert compare(instance, database, ["market_bars"], now=datetime.now(UTC)).unrecorded == []


@after_a_range
def test_days_without_rows_are_named_and_forgotten_and_no_other(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    # The last of these days has two events, one of which is the newest of its asset.
    with database.connect() as connection:
        connection.execute("DELETE FROM market.bars WHERE bar_start >= '2026-01-07'")
        connection.execute("DELETE FROM ops.slices WHERE table_name = 'market.bars' AND slice_day >= '2026-01-07'")
    sentence = "market_bars: 2 days materialized by Dagster's record, of which market.bars has no slice: 2026-01-07 … 2026-01-08"
    assert complaint(settings, database) == f"{ONE}\n{sentence}"
    checks = [dg.AssetCheckKey(BARS_KEY, "contract")]
    before = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    assert record.repair(settings, database) == (
        "Dagster's record is mended: events re-emitted 0, runs ended 0, 2 days without rows taken out of it "
        "(the schedule makes them again; so does `tft-pipeline backfill`, and a model `tft-pipeline train`)"
    )
    assert record.agrees(settings, database) == AGREE
    assert materialized(instance) == set(NAMES[:2])
    assert materialized(instance, "bar_quality") == set(NAMES)
    newest = instance.get_latest_materialization_event(BARS_KEY)
    assert newest is not None
    assert newest.asset_materialization is not None
    assert newest.asset_materialization.partition in NAMES[:2]
    assert instance.event_log_storage.get_latest_asset_check_execution_by_key(checks) == before
    traces = instance.fetch_observations(BARS_KEY, limit=10).records
    assert {trace.partition_key for trace in traces} == set(NAMES[2:])
    observed = traces[0].asset_observation
    assert observed is not None
    assert str(observed.description).startswith("forgotten: 2 events (of ")
    ran(settings, database, instance, DAYS[2], DAYS[3])
    assert materialized(instance) == set(NAMES)
    assert record.agrees(settings, database) == AGREE


def test_a_day_that_was_made_in_the_meantime_is_not_forgotten(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    said(instance, "market_bars", NAMES)
    committed(database, DAYS[:3])
    assert forget(instance, database, "market_bars", NAMES[:3]) == 0
    assert forget(instance, database, "market_bars", []) == 0
    assert materialized(instance) == set(NAMES)
    assert forget(instance, database, "market_bars", NAMES) == 1
    assert materialized(instance) == set(NAMES[:3])


def test_only_a_database_can_be_made_to_forget(
    database: Database, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "SqlEventLogStorage", type("Other", (), {}))
    with pytest.raises(StorageError, match="keeps its events in PostgresEventLogStorage, from which none can be taken"):
        forget(instance, database, "market_bars", NAMES)


@after_a_range
def test_an_event_of_one_day_that_counts_other_rows_is_named_and_written_anew(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    with database.connect() as connection:
        # Of both days, but the event of the second is the range's: it tells of all four.
        connection.execute(
            "UPDATE ops.slices SET row_count = 3 WHERE table_name = 'market.bars' AND slice_day < '2026-01-07'"
        )
    sentence = "market_bars: 1 day whose event tells of other rows than PostgreSQL holds (2026-01-05: 10 rows instead of 3): 2026-01-05"
    assert complaint(settings, database) == f"{ONE}\n{sentence}"
    assert "events re-emitted 1," in record.repair(settings, database)
    assert record.agrees(settings, database) == AGREE


def test_an_event_of_other_content_is_named_and_written_anew(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    committed(database, DAYS[:2])
    assert [reconcile(instance, database, ["market_bars"]) for _ in range(2)] == [2, 0]
    with database.connect() as connection:
        connection.execute("UPDATE ops.slices SET content_hash = repeat('0', 64) WHERE slice_day = '2026-01-06'")
    found = compare(instance, database, ["market_bars"], now=datetime.now(UTC))
    assert (found.unrecorded, found.missing, [one.day for one in found.differing]) == ([], {}, ["2026-01-06"])
    assert complaint(settings, database).endswith("(2026-01-06: other content of market.bars): 2026-01-06")
    assert "events re-emitted 1," in record.repair(settings, database)
    assert record.agrees(settings, database) == AGREE
    event = instance.get_latest_materialization_event(BARS_KEY)
    assert event is not None
    assert event.asset_materialization is not None
    assert str(event.asset_materialization.description).endswith("says other content of market.bars")


@after_a_range
def test_rows_of_other_content_behind_a_days_own_event_are_named(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    newest = instance.get_latest_materialization_event(BARS_KEY)
    assert newest is not None
    other = frame(BARS, DAYS[3:], hours=range(14), tickers=("AAA",))  # of bars that are there
    write(database, {BARS: other}, DAYS[3:], run_id=newest.run_id, code_version="1")
    found = compare(instance, database, ["market_bars"], now=datetime.now(UTC))
    assert [(one.day, one.refuted) for one in found.differing] == [("2026-01-08", "other content of market.bars")]


@after_a_range
def test_a_run_that_was_ended_while_its_process_lives_on_claims_nothing_more(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    class GivenUp(Pipeline):
        """Its run is ended, as run monitoring would, while the first asset writes."""

        def write(self, run_id: str, *given: Any, **named: Any) -> Any:
            run = instance.get_run_by_id(run_id)
            assert run is not None
            if not run.is_finished:
                instance.report_run_failed(run)
            return super().write(run_id, *given, **named)

    def fences() -> list[tuple[Any, ...]]:
        with database.connect() as connection:
            return connection.execute("SELECT * FROM ops.fences ORDER BY 1, 2").fetchall()

    job = build(settings, GivenUp(settings, database=database)).resolve_job_def("history")
    before = {row[:2]: row[2] for row in fences()}
    result = job.execute_in_process(
        instance=instance, partition_key=NAMES[1], raise_on_error=False,
        asset_selection=[dg.AssetKey("corporate_actions"), BARS_KEY],
    )  # fmt: skip
    (failure,) = result.get_step_failure_events()
    told = str(failure.step_failure_data.error)
    assert failure.step_key == "market_bars"
    assert "StaleWriterError: market_bars: run " in told
    assert "was ended as FAILURE while its process lived on" in told
    moved = {row[:2] for row in fences() if before.get(row[:2]) != row[2]}
    assert moved == {("market.actions", DAYS[1])}


def test_models_are_asked_about_by_training_day_and_upkeep_has_no_rows(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    write(database, {MODELS: frame(MODELS, DAYS[:1])}, DAYS[:1], run_id="died", code_version="1")
    said(instance, "tft_model", [NAMES[3], "no day"])
    instance.report_runless_asset_event(dg.AssetMaterialization("partition_upkeep"))
    assert complaint(settings, database).splitlines()[1:] == [
        "tft_model: 1 day in PostgreSQL without an event in Dagster: 2026-01-05",
        "tft_model: 2 days materialized by Dagster's record, of which training.models has no slice: 2026-01-08, no day",
    ]
    assert "events re-emitted 1, runs ended 0, 2 days without rows" in record.repair(settings, database)
    assert record.agrees(settings, database) == AGREE
    assert materialized(instance, "tft_model") == {NAMES[0]}


@pytest.mark.parametrize("status", ["STARTING", "STARTED", "CANCELING"])
def test_a_run_that_nobody_ended_is_named_and_ended_and_what_it_committed_reported(
    settings: Settings, database: Database, instance: dg.DagsterInstance, status: str
) -> None:
    tags = {"dagster/asset_partition_range_start": NAMES[0], "dagster/asset_partition_range_end": NAMES[1]}
    run = create_run_for_test(instance, job_name="refresh", status=DagsterRunStatus[status], tags=tags)
    committed(database, DAYS[:1], run.run_id)

    def since(seconds: int) -> None:
        started = "start_time = extract(epoch FROM now()) - %(s)s, " if status != "STARTING" else ""
        with database.connect() as connection:
            connection.execute(
                f"UPDATE runs SET {started}update_timestamp = (now() AT TIME ZONE 'UTC') - make_interval(secs => %(s)s)",
                {"s": seconds},
            )

    since(7200)
    assert record.agrees(settings, database) == AGREE
    since(7300)
    told = complaint(settings, database)
    assert f"\nrun {run.run_id[:8]} (refresh, 2026-01-05 to 2026-01-06): {status.lower()} since " in told
    assert told.endswith(" UTC, longer than the 7,200 s that a run may take")
    assert "events re-emitted 1, runs ended 1, 0 days" in record.repair(settings, database)
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is (DagsterRunStatus.CANCELED if status == "CANCELING" else DagsterRunStatus.FAILURE)
    assert record.agrees(settings, database) == AGREE


def test_every_kind_at_once_is_named_in_the_order_of_the_flow(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    committed(database, DAYS[:1])
    said(instance, "market_bars", NAMES[1:2])
    said(instance, "corporate_actions", NAMES[:1])
    create_run_for_test(instance, job_name="upkeep", status=DagsterRunStatus.STARTED)
    with database.connect() as connection:
        connection.execute("UPDATE runs SET start_time = 0")
    lines = complaint(settings, database).splitlines()
    assert lines[0].startswith("4 disagreements between")
    assert [line.split(":")[0].split()[0] for line in lines[1:]] == [
        "corporate_actions", "market_bars", "market_bars", "run",
    ]  # fmt: skip
    assert "(upkeep): started since 1970-01-01 00:00 UTC" in lines[-1]
    write(database, {ACTIONS: frame(ACTIONS, DAYS[:1])}, DAYS[:1], run_id="again", code_version="1")
    # The slice is younger than what was said of its day.
    assert "events re-emitted 2, runs ended 1, 1 day without rows" in record.repair(settings, database)
    assert record.agrees(settings, database) == AGREE


def test_a_command_line_that_ended_without_a_word_is_named_at_once_and_its_run_ended(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    tags = {
        **processes.tags(),
        "dagster/asset_partition_range_start": NAMES[0],
        "dagster/asset_partition_range_end": NAMES[1],
    }
    create_run_for_test(instance, job_name="refresh", status=DagsterRunStatus.STARTED, tags=tags)
    told = json.loads(tags[processes.PROCESS])
    died = {**tags, processes.PROCESS: json.dumps({**told, "born": told["born"] - 1})}
    run = create_run_for_test(instance, job_name="refresh", status=DagsterRunStatus.STARTED, tags=died)
    committed(database, DAYS[:1], run.run_id)
    sentences = complaint(settings, database).splitlines()
    assert len(sentences) == 2, "the other one goes on"
    assert sentences[1].startswith(f"run {run.run_id[:8]} (refresh, 2026-01-05 to 2026-01-06): started since ")
    assert sentences[1].endswith(
        f" UTC, but process {os.getpid()} on {os.uname().nodename}, which it went on in, has ended"
    )
    assert "events re-emitted 1, runs ended 1, 0 days" in record.repair(settings, database)
    left = instance.get_run_by_id(run.run_id)
    assert left is not None
    assert left.status is DagsterRunStatus.FAILURE
    assert record.agrees(settings, database) == AGREE


def test_a_command_line_that_said_how_it_ended_just_before_it_did_is_believed(
    settings: Settings, database: Database, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run_for_test(instance, job_name="refresh", status=DagsterRunStatus.STARTED, tags=processes.tags())

    def meanwhile(seen: dg.DagsterRun) -> bool:
        instance.report_run_canceled(seen)
        return True

    monkeypatch.setattr(processes, "ended", meanwhile)
    assert record.agrees(settings, database) == AGREE
    left = instance.get_run_by_id(run.run_id)
    assert left is not None
    assert left.status is DagsterRunStatus.CANCELED


def test_tables_that_cannot_be_read_are_a_sentence(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    with database.connect() as connection:
        connection.execute("ALTER TABLE event_logs RENAME COLUMN partition TO part")
    told = complaint(settings, database)
    assert told.startswith("Dagster's tables cannot be read: ")
    assert "partition" in told
    assert told.endswith("own them, or run `dagster instance migrate`.")


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

    first = findings()
    assert not first["record"].well
    assert "repair" not in first
    mended = findings(mending=True)
    assert "events re-emitted 4," in mended["repair"].sentence
    assert mended["record"].well
    assert findings(mending=True)["repair"].sentence == "there was nothing to mend in Dagster's record"
    assert "content" not in mended


def test_doctor_reads_every_row_when_asked(settings: Settings, database: Database) -> None:
    def content() -> Finding:
        return next(finding for finding in examine(settings, deep=True) if finding.subject == "content")

    committed(database, DAYS)
    assert content() == Finding("content", True, "every row of every slice is what was written, by its hash")
    with database.connect() as connection:  # as many rows as before
        connection.execute("UPDATE market.bars SET volume = volume + 1 WHERE bar_start < '2026-01-06'")
    found = content()
    assert not found.well
    assert found.sentence.startswith("1 slices hold other content than was written, first market.bars on 2026-01-05")
