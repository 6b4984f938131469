"""Migrations: forward only, each with its record in one transaction, whoever applies them and how many at once."""

import threading
from datetime import UTC, date, datetime

import psycopg
import pytest

from tft_pipeline import config
from tft_pipeline.contracts import COVERAGE
from tft_pipeline.errors import StorageError
from tft_pipeline.storage.audit import damaged
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.migrate import migrate, pending


@pytest.fixture(params=["embedded", "system"])
def bare(request):
    """A database that no migration has seen."""
    if request.param == "embedded":
        dsn = request.getfixturevalue("postgres_server").dsn("tft_bare")
    else:
        dsn = request.getfixturevalue("postgres15_dsn").removesuffix("postgres") + "tft_bare"
        with psycopg.connect(dsn.replace("tft_bare", "postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE tft_bare")
    yield Database(dsn)
    with psycopg.connect(dsn.replace("tft_bare", "postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE tft_bare WITH (FORCE)")


@pytest.fixture
def folder(tmp_path):
    """The first of the real files, and room for more."""
    (tmp_path / "0001_ops.sql").write_bytes((config.bundled("sql") / "0001_ops.sql").read_bytes())
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.glob("*.sql"))


def test_all_files_are_applied_once_in_order(bare):
    every = names(config.bundled("sql"))
    assert pending(bare) == every
    assert migrate(bare) == every
    assert migrate(bare) == []
    assert pending(bare) == []


def test_days_read_before_their_coverage_was_kept_are_not_asked_for_again(bare, tmp_path):
    every = names(config.bundled("sql"))
    for name in every[: every.index("0014_coverage.sql")]:
        (tmp_path / name).write_bytes((config.bundled("sql") / name).read_bytes())
    migrate(bare, tmp_path)
    with bare.connect() as connection:
        connection.execute(
            """
            INSERT INTO ops.slices (table_name, slice_day, generation, run_id, code_version, row_count, content_hash, reaches_to, written_rows)
            VALUES ('sentiment.posts', '2026-01-05', 1, 'r', '0', 7, 'h', '2026-01-06+00', 7),
                   ('market.bars', '2026-01-06', 1, 'r', '0', 7, 'h', '2026-01-07+00', 7)"""
        )
    migrate(bare)
    found = slice_status(bare, COVERAGE)
    assert found[["day", "row_count"]].to_numpy().tolist() == [[date(2026, 1, 5), 0]]
    assert found["reaches_to"].tolist() == [datetime(2026, 1, 6, tzinfo=UTC)]
    assert damaged(bare, [COVERAGE]) == []


def test_eight_processes_may_migrate_at_once(bare):
    applied, errors = [], []

    def run():
        try:
            applied.extend(migrate(bare))
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(applied) == names(config.bundled("sql"))


def test_a_file_that_fails_leaves_nothing_and_may_be_mended(bare, folder):
    (folder / "0002_two.sql").write_text("CREATE TABLE ops.two (n int); CREATE TABLE ops.two (n int);")
    with pytest.raises(
        StorageError, match=r'sql/0002_two.sql failed, nothing of it remains.*relation "two" already exists'
    ):
        migrate(bare, folder)
    with bare.connect() as connection:
        assert connection.execute(
            "SELECT to_regclass('ops.two'), (SELECT max(name) FROM ops.migrations)"
        ).fetchone() == (None, "0001_ops.sql")
    (folder / "0002_two.sql").write_text("CREATE TABLE ops.two (n int); -- 100 % plain")
    assert migrate(bare, folder) == ["0002_two.sql"]


def test_history_may_not_be_changed_removed_or_slipped_in(bare, folder):
    migrate(bare, folder)
    original = (folder / "0001_ops.sql").read_bytes()
    (folder / "0001_ops.sql").write_bytes(original + b"-- a comment\n")
    with pytest.raises(StorageError, match=r"sql/0001_ops.sql was changed after it was applied. Restore the file"):
        migrate(bare, folder)
    (folder / "0001_ops.sql").rename(folder / "0001_renamed.sql")
    with pytest.raises(
        StorageError, match=r"has seen sql/0001_ops.sql, which this code does not have. Install the newer version"
    ):
        migrate(bare, folder)
    (folder / "0001_renamed.sql").unlink()
    (folder / "0001_ops.sql").write_bytes(original)
    (folder / "0000_early.sql").write_text("SELECT 1;")
    with pytest.raises(StorageError, match=r"sql/0000_early.sql sorts before 0001_ops.sql, which is applied already"):
        migrate(bare, folder)


def test_every_file_says_what_why_locks_and_the_way_back():
    for path in config.bundled("sql").glob("*.sql"):
        head = path.read_text().splitlines()[:5]
        assert head[0] == f"-- {path.stem.replace('_', ' ', 1)}"
        assert [line[:9] for line in head[1:]] == ["-- What: ", "-- Why:  ", "-- Locks:", "-- Back: "]
