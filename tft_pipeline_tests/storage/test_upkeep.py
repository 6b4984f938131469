"""A round of upkeep on both servers; and pg_partman in our stead, as far as an extension that records its calls can show."""

from datetime import date
from pathlib import Path

import pytest

from tft_pipeline import config
from tft_pipeline.contracts import BARS, FEATURES, MODELS, TABLES
from tft_pipeline.errors import StorageError
from tft_pipeline.storage import partitions, partman, retention, roles
from tft_pipeline.storage.audit import disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.embedded import EmbeddedServer
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.upkeep import analyze, ensure_ahead, figures, partitioned, upkeep

from .frames import frame

BY = {"run_id": "r", "code_version": "1"}
DAYS = [date(2019, 1, 31), date(2024, 2, 29)]


def flushed(database: Database) -> None:
    """Statistics reach the views a moment after their transaction."""
    with database.connect() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")


def test_months_are_made_ahead_of_every_table_across_a_new_year(any_database: Database) -> None:
    made = ensure_ahead(any_database, date(2025, 11, 20), months=3)
    assert len(made) == 4 * len(partitioned())
    assert {name[-7:] for name in made} == {"2025_11", "2025_12", "2026_01", "2026_02"}
    assert {"ops.quarantine_2026_02", "market.bars_revisions_2026_02", "training.models_2025_11"} <= set(made)
    assert ensure_ahead(any_database, date(2025, 11, 1), months=3) == []
    assert (
        len(partitioned()) == len(TABLES) + sum(table.mode == "raw" for table in TABLES) + 1
    )  # revisions, and quarantine


def test_a_round_makes_retires_and_analyzes_and_another_changes_nothing(any_database: Database) -> None:
    for table in (BARS, FEATURES, MODELS):
        write(any_database, {table: frame(table, DAYS)}, DAYS, **BY)
    flushed(any_database)
    done = upkeep(any_database, first=DAYS[-1], months=1, before=date(2019, 3, 1))
    assert done.by == "tft-pipeline"
    assert len(done.made) == 2 * len(partitioned()) - 4  # bars, their revisions, features and models were there
    assert [one.table for one in done.retired] == ["features.hourly", "market.bars", "market.bars_revisions"]
    assert {"market.bars", "market.bars_2024_02", "ops.slices", "training.models_2019_01"} <= set(done.analyzed)
    flushed(any_database)
    again = upkeep(any_database, first=DAYS[-1], months=1, before=date(2019, 3, 1))
    assert (again.made, again.retired, again.handed_over) == ([], [], 0)
    assert not [name for name in again.analyzed if name.startswith(("market", "features", "training"))]
    assert disagreements(any_database) == []


def test_figures_are_those_of_the_rows(any_database: Database) -> None:
    tickers = [f"T{n}" for n in range(50)]
    days = [date(2024, 1, 31), date(2024, 2, 1)]
    write(any_database, {FEATURES: frame(FEATURES, days, tickers=tickers)}, days, **BY)
    analyze(any_database)
    write(
        any_database, {FEATURES: frame(FEATURES, days[1:], tickers=tickers[:20])}, days[1:], **BY
    )  # 30 rows go, 20 change
    flushed(any_database)
    found = {one.table: one for one in figures(any_database)}
    features = found["features.hourly"]
    assert (features.partitions, features.live_rows, features.dead_rows) == (2, 70, 50)
    assert features.dead_share == pytest.approx(50 / 120)
    assert features.table_bytes >= 2 * 8192
    assert features.index_bytes >= 6 * 8192
    assert "hourly_bar_start_idx" in features.unused_indexes
    assert "hourly_pkey" not in features.unused_indexes  # it holds up the key
    assert features.unused_index_bytes > 0
    assert features.analyzed_at is not None
    assert (found["signals.decisions"].partitions, found["signals.decisions"].unused_indexes) == (0, ())
    assert found["ops.slices"].live_rows == 2


def test_partitions_from_before_the_roles_are_handed_to_the_owner(any_database: Database) -> None:
    write(any_database, {BARS: frame(BARS, DAYS)}, DAYS, **BY)
    with any_database.connect() as connection:
        connection.execute("ALTER TABLE market.bars_2019_01 OWNER TO CURRENT_USER")
    assert upkeep(any_database, first=DAYS[-1], months=0, before=None).handed_over == 1
    with any_database.connect() as connection:
        found = connection.execute(
            "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'bars_2019_01'"
        ).fetchone()
    assert found == (roles.OWNER,)


def test_nothing_is_retired_without_a_limit(database: Database) -> None:
    write(database, {BARS: frame(BARS, DAYS)}, DAYS, **BY)
    assert upkeep(database, first=DAYS[-1], months=0, before=None).retired == []


def test_retention_follows_the_settings(tmp_path: Path) -> None:
    assert config.load(home=tmp_path).retention_years == 5
    assert config.load(home=tmp_path, end=date(2021, 6, 30)).retention_years is None
    assert config.load(home=tmp_path, end=date(2021, 6, 30), storage={"retention_years": 7}).retention_years == 7
    assert config.load(home=tmp_path, storage={"retention_years": 0}).retention_years is None
    with pytest.raises(config.ConfigError, match=r"TFT_STORAGE_RETENTION_YEARS=2 would retire what a fit reads"):
        config.load(home=tmp_path, storage={"retention_years": 2})


# pg_partman ------------------------------------------------------------------------------------------------------------

# Functions by the names and arguments of pg_partman 5, and so much of what they do that ours has to live with: months called _pYYYYMMDD,
# each month made ahead, months past retention detached in place.
_FAKE = r"""
CREATE TABLE calls (n int GENERATED ALWAYS AS IDENTITY, call text);
CREATE TABLE part_config (parent_table text PRIMARY KEY, control text NOT NULL, partition_interval text NOT NULL, premake int NOT NULL,
    retention text, retention_schema text, retention_keep_table boolean NOT NULL DEFAULT true, retention_keep_index boolean NOT NULL DEFAULT true,
    infinite_time_partitions boolean NOT NULL DEFAULT false);
CREATE FUNCTION make(p_parent text, p_month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE child text := p_parent || to_char(p_month, '"_p"YYYYMMDD');
BEGIN
    IF to_regclass(child) IS NULL THEN
        EXECUTE format('CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (%L) TO (%L)', child, p_parent, p_month || ' 00:00+00',
                       (p_month + interval '1 month')::date || ' 00:00+00');
    END IF;
END $$;
CREATE FUNCTION create_parent(p_parent_table text, p_control text, p_interval text, p_type text DEFAULT 'range', p_epoch text DEFAULT 'none',
    p_premake int DEFAULT 4, p_start_partition text DEFAULT NULL, p_default_table boolean DEFAULT true, p_automatic_maintenance text DEFAULT 'on',
    p_constraint_cols text[] DEFAULT NULL, p_template_table text DEFAULT NULL, p_jobmon boolean DEFAULT true, p_date_trunc_interval text DEFAULT NULL)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO partman.calls (call) VALUES (format('create_parent %s by %s from %s, %s ahead, default %s', p_parent_table, p_control,
                                                    left(p_start_partition, 10), p_premake, p_default_table));
    INSERT INTO partman.part_config (parent_table, control, partition_interval, premake) VALUES (p_parent_table, p_control, p_interval, p_premake);
    PERFORM partman.make(p_parent_table, left(p_start_partition, 10)::date);
    RETURN true;
END $$;
CREATE PROCEDURE run_maintenance_proc(p_wait int DEFAULT 0, p_analyze boolean DEFAULT NULL, p_jobmon boolean DEFAULT true) LANGUAGE plpgsql AS $$
DECLARE c record; p record;
BEGIN
    INSERT INTO partman.calls (call) VALUES ('run_maintenance_proc');
    FOR c IN SELECT * FROM partman.part_config WHERE retention IS NOT NULL LOOP
        FOR p IN SELECT i.inhrelid::regclass AS child, regexp_match(pg_get_expr(r.relpartbound, r.oid), 'TO \(''(\d{4}-\d\d-\d\d)') AS upper
                 FROM pg_inherits i JOIN pg_class r ON r.oid = i.inhrelid WHERE i.inhparent = c.parent_table::regclass LOOP
            IF p.upper[1]::date < now() - c.retention::interval THEN
                EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', c.parent_table, p.child);
            END IF;
        END LOOP;
        COMMIT;
    END LOOP;
END $$;
"""


@pytest.fixture
def with_partman(database: Database, postgres_server: EmbeddedServer, scratch: Path) -> Database:
    """A database with an extension called pg_partman. PostgreSQL 18 takes extensions from any folder that a superuser names."""
    folder = scratch / "extension"
    folder.mkdir()
    for path in (scratch, folder):
        path.chmod(0o755)
    (folder / "pg_partman.control").write_text("default_version = '5.2.4'\nrelocatable = false\nschema = partman\n")
    (folder / "pg_partman--5.2.4.sql").write_text(_FAKE)
    (folder / "pg_partman--4.7.4.sql").write_text("SELECT 1;")
    with database.connect() as connection:
        connection.execute(f"SET extension_control_path = '{scratch}:$system'")
        connection.execute("CREATE EXTENSION pg_partman")
        connection.execute("GRANT USAGE ON SCHEMA partman TO tft_owner")
    return database


def calls(database: Database) -> list[str]:
    with database.connect() as connection:
        return [call for (call,) in connection.execute("SELECT call FROM partman.calls ORDER BY n")]


def test_no_extension_is_no_partman(any_database: Database) -> None:
    assert partman.installed(any_database) is None


def test_tables_are_handed_to_partman_and_what_it_detaches_is_put_aside(with_partman: Database) -> None:
    database = with_partman
    write(database, {BARS: frame(BARS, DAYS)}, DAYS, **BY)
    write(database, {MODELS: frame(MODELS, DAYS)}, DAYS, **BY)
    done = upkeep(database, first=date(2026, 1, 1), months=3, before=date(2019, 3, 1))
    assert done.by == "pg_partman 5.2.4"
    said = calls(database)
    assert len(said) == len(partitioned()) + 1
    assert (
        said[0] == "create_parent market.bars by bar_start from 2024-03-01, 3 ahead, default f"
    )  # after our newest month
    assert said[-1] == "run_maintenance_proc"
    assert "market.bars_p20240301" in done.made
    assert [one.kept_as for one in done.retired][:1] == ["retired.market_bars_2019_01"]
    assert "training.models" not in {one.table for one in done.retired}
    assert disagreements(database) == []
    with database.connect() as connection:
        config = dict(connection.execute("SELECT parent_table, retention FROM partman.part_config").fetchall())
    assert config["market.bars"].endswith(" days")
    assert config["training.models"] is None

    again = upkeep(database, first=date(2026, 1, 1), months=3, before=date(2019, 3, 1))
    assert (again.made, again.retired) == ([], [])
    assert calls(database)[len(said) :] == ["run_maintenance_proc"]  # registered once

    # Its months are ours to write into, and to put aside when it takes them out.
    march = [date(2024, 3, 4)]
    write(database, {BARS: frame(BARS, march)}, march, **BY)
    assert partitions.ensure(database, ["market.bars"], march) == []
    later = upkeep(database, first=date(2026, 1, 1), months=3, before=date(2024, 4, 1))
    assert "retired.market_bars_2024_03" in [one.kept_as for one in later.retired]
    assert disagreements(database) == []
    assert retention.loose(database) == []


def test_an_older_partman_is_refused_with_the_way_out(with_partman: Database, scratch: Path) -> None:
    with with_partman.connect() as connection:
        connection.execute(f"SET extension_control_path = '{scratch}:$system'")
        connection.execute("DROP EXTENSION pg_partman")
        connection.execute("CREATE EXTENSION pg_partman SCHEMA partman VERSION '4.7.4'")
    with pytest.raises(StorageError, match=r"pg_partman 4\.7\.4 is too old; install 5 or newer"):
        upkeep(with_partman, first=date(2026, 1, 1), months=1, before=None)
