"""Upkeep as an asset: what it decides from settings and models, what it shows, and what the doctor says of the same."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from tft_pipeline import config
from tft_pipeline.contracts import BARS, MODELS
from tft_pipeline.errors import PipelineError, StorageError
from tft_pipeline.orchestration import doctor_storage, launch
from tft_pipeline.orchestration.assets import upkeep as asset
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.upkeep_schedule import daily_upkeep
from tft_pipeline.storage import retention
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.upkeep import partitioned
from tft_pipeline_tests.servers import system_postgres
from tft_pipeline_tests.storage.frames import frame

NOW = datetime(2026, 3, 10, 2, 37, tzinfo=UTC)
DAYS = [date(2019, 1, 31), date(2026, 3, 9)]


def pipeline(database: Database, home: Path, **values: Any) -> Pipeline:
    return Pipeline(config.load(home=home, start=date(2018, 1, 1), **values), database=database, until=NOW)


def ran(pipeline: Pipeline) -> dict[str, Any]:
    """Metadata of the one materialization."""
    with dg.DagsterInstance.ephemeral() as instance:
        launch.run(build(pipeline.settings, pipeline), "upkeep", instance)
        event = instance.get_latest_materialization_event(dg.AssetKey("partition_upkeep"))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: found.value for name, found in event.asset_materialization.metadata.items()}


def filled(database: Database, *tables: Any) -> None:
    for table in tables:
        write(database, {table: frame(table, DAYS)}, DAYS, run_id="r", code_version="1")


def test_it_makes_retires_and_shows_its_figures(database: Database, tmp_path: Path) -> None:
    filled(database, BARS)
    shown = ran(pipeline(database, tmp_path))
    assert shown["retention"] == "months before 2021-03-09 are retired: 5 years back from the newest day with rows"
    assert (shown["partitions_retired"], shown["rows_retired"], shown["made_by"]) == (2, 1, "tft-pipeline")
    assert shown["partitions_made"] == 4 * len(partitioned()) - 2
    assert shown["table_bytes"] > 0
    tables = {record.data["table"]: record.data for record in shown["tables"].records}
    assert tables["market.bars"]["partitions"] == 4
    assert next(record.data["kept_as"] for record in shown["retired"].records) == "retired.market_bars_2019_01"
    again = ran(pipeline(database, tmp_path))
    assert (again["partitions_made"], again["partitions_retired"]) == (0, 0)


def test_what_the_serving_model_was_trained_on_stays(database: Database, tmp_path: Path) -> None:
    filled(database, BARS)
    trained = [date(2022, 6, 1)]
    write(database, {MODELS: frame(MODELS, trained)}, trained, run_id="r", code_version="1")
    first, why = asset.keep_from(pipeline(database, tmp_path))
    assert first == trained[0] - timedelta(days=1461)
    assert "the serving model was trained" in why


def test_a_history_that_has_an_end_is_kept_whole_and_needs_no_month_ahead(database: Database, tmp_path: Path) -> None:
    filled(database, BARS)
    ended = pipeline(database, tmp_path, end=date(2026, 3, 9))
    assert asset.keep_from(ended) == (None, "nothing is retired: history ends on 2026-03-09")
    assert ran(ended)["partitions_made"] == len(partitioned()) - 2  # its last month, of the tables that lack it
    assert (
        "TFT_STORAGE_RETENTION_YEARS=0"
        in asset.keep_from(pipeline(database, tmp_path, storage={"retention_years": 0}))[1]
    )


def test_nothing_is_retired_before_there_are_rows(database: Database, tmp_path: Path) -> None:
    assert asset.keep_from(pipeline(database, tmp_path)) == (None, "nothing is retired: there are no rows yet")


def test_what_passes_is_tried_again_and_what_does_not_fails_at_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asset, "WAIT_SECONDS", 0.0)
    tried = []

    def busy(*_: object, **__: object) -> None:
        tried.append(1)
        raise StorageError("somebody holds the table.", transient=len(tried) < 3)

    monkeypatch.setattr(asset, "upkeep", busy)
    with pytest.raises(PipelineError, match="somebody holds the table"):
        ran(pipeline(database, tmp_path))
    assert len(tried) == 3


def test_its_schedule_is_on_and_looks_every_hour(database: Database, tmp_path: Path) -> None:
    definitions = build(config.load(home=tmp_path, start=date(2026, 1, 1)))
    schedule = definitions.resolve_schedule_def("daily_upkeep")
    assert (schedule.cron_schedule, schedule.default_status) == ("37 * * * *", dg.DefaultScheduleStatus.RUNNING)
    assert daily_upkeep.execution_timezone == "UTC"


# Doctor ----------------------------------------------------------------------------------------------------------------


def asked(database: Database, home: Path, **values: Any) -> dict[str, str]:
    """What doctor says, by subject; what is wrong begins with ✗."""
    found = {}
    for subject, question in doctor_storage.questions(config.load(home=home, **values), database):
        try:
            found[subject] = question()
        except PipelineError as error:
            found[subject] = f"✗ {error}"
    return found


def test_a_fresh_database_is_well_and_says_what_could_be_switched_on(any_database: Database, tmp_path: Path) -> None:
    found = asked(any_database, tmp_path)
    assert not [sentence for sentence in found.values() if sentence.startswith("✗")]
    assert "tft_owner, tft_writer, tft_reader are there" in found["roles"]
    assert "ALTER SYSTEM SET log_min_duration_statement = '1s'" in found["slow queries"]
    assert "CREATE EXTENSION pg_stat_statements" in found["statements"]
    assert found["months ahead"].startswith(f"0 of {len(partitioned())} tables")
    assert found["retention"] == "5 years back from the newest day with rows; nothing was retired yet"


def test_after_upkeep_it_counts_what_there_is(database: Database, tmp_path: Path) -> None:
    filled(database, BARS)
    assert "2 past it wait for the next upkeep" in asked(database, tmp_path)["retention"]
    ran(Pipeline(config.load(home=tmp_path, start=date(2018, 1, 1)), database=database))
    found = asked(database, tmp_path)
    assert found["months ahead"].startswith(f"all {len(partitioned())} tables have the partition of")
    assert found["retention"].endswith("2 months with 1 rows lie in the schema retired")
    ended = asked(database, tmp_path, end=date(2021, 6, 30))
    assert ended["months ahead"] == "none are needed: history ends on 2021-06-30"
    assert ended["retention"].startswith("everything is kept; 2 months")


def test_missing_rights_half_retired_months_and_invalid_indexes_are_named_with_the_remedy(
    database: Database, tmp_path: Path
) -> None:
    filled(database, BARS)
    with database.connect() as connection:
        connection.execute("REVOKE SELECT ON market.bars FROM tft_reader")
        connection.execute("ALTER TABLE market.bars DETACH PARTITION market.bars_2019_01")
        connection.execute("CREATE INDEX half ON ONLY market.bars (volume)")
    with database.connect(autocommit=True) as connection:
        connection.execute("INSERT INTO ops.fences SELECT 'a', '2024-01-01'::date + n, 1 FROM generate_series(0, 1) n")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON ops.fences (table_name)")
    found = asked(database, tmp_path)
    assert found["roles"].startswith("✗ rights are missing")
    assert "GRANT SELECT ON market.bars TO tft_reader;" in found["roles"]
    assert found["detaching"].startswith("✗ 1 months are half retired, first market.bars_2019_01")
    assert "REINDEX INDEX CONCURRENTLY ops.broken" in found["indexes"]
    retention.finish(database)
    assert asked(database, tmp_path)["detaching"] == "no month is half retired"


def test_the_slowest_statements_are_ours_and_slow_logging_shows_its_limit(tmp_path: Path) -> None:
    with system_postgres("shared_preload_libraries=pg_stat_statements", "log_min_duration_statement=250ms") as dsn:
        database = Database(dsn)
        from tft_pipeline.storage.migrate import migrate

        with database.connect() as connection:
            connection.execute("CREATE EXTENSION pg_stat_statements")
        assert asked_one(database, tmp_path, "statements") == "pg_stat_statements has seen none of our statements yet"
        migrate(database)
        filled(database, BARS)
        with database.connect() as connection:
            connection.execute("SELECT count(*) AS theirs FROM pg_class, pg_sleep(0.3)")
            connection.execute("SELECT count(*) FROM market.bars, pg_sleep(0.2) WHERE source <> 'password=hunter2'")
        said = asked_one(database, tmp_path, "statements")
        assert asked_one(database, tmp_path, "slow queries").startswith("statements of 250 ms and more are written")
    slowest = said.split(": ", 1)[1].split(" | ")
    assert len(slowest) == 5
    assert any("pg_sleep" in statement and "market.bars" in statement for statement in slowest)
    assert "theirs" not in said
    assert "hunter2" not in said


def asked_one(database: Database, home: Path, subject: str) -> str:
    return dict(doctor_storage.questions(config.load(home=home), database))[subject]()


def test_statements_without_the_library_say_so(postgres15_template: Any, tmp_path: Path) -> None:
    database = replace(Database(postgres15_template()))
    with database.connect() as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
    assert "installed but not loaded" in asked_one(database, tmp_path, "statements")
