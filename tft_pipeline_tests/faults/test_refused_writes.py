"""Locks that somebody else holds, servers that take no writes, servers that go away half way: in words, retried where that helps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import psycopg
import pytest

from tft_pipeline.contracts import BARS
from tft_pipeline.errors import StorageError
from tft_pipeline.orchestration import reporting
from tft_pipeline.storage import blockers, slices
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.migrate import migrate
from tft_pipeline.storage.slices import take_generation, write
from tft_pipeline_tests.faults.clusters import Cluster, cluster, standby_of
from tft_pipeline_tests.faults.one_asset import TRIES, bars, ledger, run
from tft_pipeline_tests.faults.world import LAST

BY = {"run_id": "r", "code_version": "0"}
LOCKS = {
    "the slice": "SELECT pg_advisory_xact_lock(hashtextextended('tft-pipeline slices market.bars 2026-07', 0))",
    "its month": "LOCK TABLE market.bars_2026_07 IN ACCESS EXCLUSIVE MODE",
    "the whole table": "LOCK TABLE market.bars IN ACCESS EXCLUSIVE MODE",
    "its fence": "UPDATE ops.fences SET generation = generation WHERE table_name = 'market.bars'",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with cluster() as made:
        made.execute("CREATE DATABASE empty")
        migrate(Database(made.dsn.removesuffix("postgres") + "empty"))
        yield made


@pytest.fixture
def hurt(server: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty database whose writers wait a third of a second for a lock, and whose runs wait a moment between two tries."""
    monkeypatch.setattr(slices, "_LOCK_SECONDS", 0.3)
    monkeypatch.setattr(reporting, "FIRST_WAIT_SECONDS", 0.05)
    server.execute("CREATE DATABASE hurt TEMPLATE empty")
    yield Database(server.dsn.removesuffix("postgres") + "hurt", lock_timeout_seconds=0.3)
    server.execute("DROP DATABASE hurt WITH (FORCE)")


@contextmanager
def held(database: Database, lock: str) -> Iterator[psycopg.Connection]:
    """Somebody's open transaction that holds the lock."""
    with psycopg.connect(database.dsn, application_name="somebody's psql") as somebody:
        somebody.execute(LOCKS[lock])
        yield somebody
        somebody.rollback()


@pytest.mark.parametrize("lock", list(LOCKS))
def test_who_holds_a_lock_is_named_and_once_it_is_released_the_write_succeeds(hurt: Database, lock: str) -> None:
    write(hurt, {BARS: bars([LAST], 2)}, [LAST], **BY)
    before = ledger(hurt)
    # A busy neighbour that stands in nobody's way is not blamed.
    with psycopg.connect(hurt.dsn, application_name="neighbour") as neighbour:
        neighbour.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('tft-pipeline slices market.bars 2026-06', 0))"
        )
        neighbour.execute("SELECT count(*) FROM ops.slices" if "table" not in lock else "SELECT 1")
        with held(hurt, lock) as somebody:
            with pytest.raises(
                StorageError, match=r"lock timeout.*Another writer holds the lock\. Wait for it"
            ) as caught:
                write(hurt, {BARS: bars([LAST], 3)}, [LAST], **BY)
            assert caught.value.transient
            who = somebody.info.backend_pid
            said = f"It is held by process {who} (somebody's psql of postgres, idle in transaction, its transaction is open since 20"
            assert said in str(caught.value)
            assert str(caught.value).endswith(f"SELECT pg_terminate_backend({who}) ends it).")
            assert str(caught.value).count("process") == 1
    assert ledger(hurt) == before
    assert write(hurt, {BARS: bars([LAST], 3)}, [LAST], **BY)[BARS.name].rows_written > 0
    assert damaged(hurt, [BARS]) + disagreements(hurt) == []


def test_a_holder_that_is_gone_or_may_not_be_looked_for_leaves_the_error_as_it_was(hurt: Database) -> None:
    assert blockers.holders(hurt, [BARS.name], [LAST]) == []
    assert blockers.holders(replace(hurt, dsn="postgresql://postgres@127.0.0.1:1/hurt"), [BARS.name], [LAST]) == []

    def named(statement: str) -> None:
        with blockers.named(hurt, [BARS.name], [LAST]), held(hurt, "the slice"), hurt.connect() as connection:
            connection.execute(statement)

    with pytest.raises(StorageError, match=r"division by zero"):
        named("SELECT 1/0")
    with pytest.raises(StorageError, match=r"run again\.$"):
        named(LOCKS["the slice"])


@pytest.mark.parametrize("lock", ["the slice", "its fence"])
def test_a_run_waits_for_a_lock_that_is_released_and_fails_with_its_holder_where_it_is_not(
    hurt: Database, lock: str, tmp_path: Path
) -> None:
    assert run(hurt, tmp_path).success
    good = ledger(hurt)
    with hurt.connect() as connection:
        connection.execute("DELETE FROM market.bars")
    with held(hurt, lock) as somebody:
        ran = run(hurt, tmp_path)
        assert (ran.success, ran.tries) == (False, TRIES)
        assert ran.said[-1].startswith("postgresql://postgres@127.0.0.1:")
        assert f"It is held by process {somebody.info.backend_pid} (somebody's psql" in ran.said[-1]
    with held(hurt, lock) as somebody:
        ran = run(hurt, tmp_path, after_a_try=lambda _: somebody.rollback())
        assert (ran.success, ran.tries) == (True, 2)
    assert ledger(hurt) == good
    assert disagreements(hurt) == []


def test_a_read_only_database_is_said_at_once_and_nothing_is_written(hurt: Database, tmp_path: Path) -> None:
    with psycopg.connect(hurt.dsn, autocommit=True) as connection:
        connection.execute("ALTER DATABASE hurt SET default_transaction_read_only = on")
    said = r"read-only transaction.*is read-only: connect to the primary, as a writer.*Nothing was written"
    with pytest.raises(StorageError, match=said) as caught:
        write(hurt, {BARS: bars([LAST], 3)}, [LAST], **BY)
    assert not caught.value.transient
    ran = run(hurt, tmp_path)
    assert (ran.success, ran.tries) == (False, 1)
    assert "connect to the primary" in ran.said[0]
    assert ledger(hurt) == {}


def test_a_standby_is_told_from_a_primary_and_nothing_is_written(
    server: Cluster, hurt: Database, tmp_path: Path
) -> None:
    with standby_of(server, "reader") as standby:
        there = replace(hurt, dsn=standby.dsn.removesuffix("postgres") + "hurt")
        with pytest.raises(StorageError, match=r"target_session_attrs=read-write\. Nothing was written") as caught:
            write(there, {BARS: bars([LAST], 3)}, [LAST], **BY)
        assert not caught.value.transient
        ran = run(there, tmp_path)
        assert (ran.success, ran.tries) == (False, 1)
        # Asked for a server that takes writes, it may yet be promoted.
        wanted = replace(there, dsn=f"{there.dsn}?target_session_attrs=read-write")
        with pytest.raises(
            StorageError, match=r"None of these servers takes writes now\. Wait until one is promoted"
        ) as caught:
            write(wanted, {BARS: bars([LAST], 3)}, [LAST], **BY)
        assert caught.value.transient
        assert run(wanted, tmp_path).tries == TRIES
    assert ledger(hurt) == {}


def stopped(
    server: Cluster, monkeypatch: pytest.MonkeyPatch, how: Callable[[], None], at: str = "writer: before commit"
) -> None:
    """how, once, when a writer comes to that place."""
    struck: list[str] = []

    def reached(name: str) -> None:
        if name == at and not struck:
            struck.append(name)
            how()

    monkeypatch.setattr(slices, "reached", reached)


def test_a_server_that_crashes_before_the_commit_and_comes_back_is_written_to_again(
    server: Cluster, hurt: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(server, monkeypatch, server.stop)
    ran = run(hurt, tmp_path, after_a_try=lambda tries: server.start() if tries == 2 else None)
    assert (ran.success, ran.tries) == (True, 3)
    assert "What was not committed is undone: run it again." in ran.said[0]
    assert "Connection refused" in ran.said[1]
    again, held_before = run(hurt, tmp_path), ledger(hurt)
    assert (again.success, again.tries) == (True, 1)
    assert ledger(hurt) == held_before != {}
    assert disagreements(hurt) == []


def test_a_server_that_stays_away_fails_the_run_after_so_many_tries(
    server: Cluster, hurt: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(server, monkeypatch, lambda: server.stop(signal.SIGINT))
    ran = run(hurt, tmp_path)
    assert (ran.success, ran.tries) == (False, TRIES)
    assert "What was not committed is undone: run it again." in ran.said[0]
    assert "Check host and port in TFT_POSTGRES_DSN, and that the server runs" in ran.said[-1]
    server.start()
    assert ledger(hurt) == {}


@pytest.mark.parametrize("at", ["writer: staged", "writer: before commit", "writer: month committed"])
def test_a_writer_whose_session_is_ended_is_told_so_and_may_write_again(
    server: Cluster, hurt: Database, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    days = [date(2026, 6, 30), LAST]
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'hurt' AND pid <> pg_backend_pid()"
    stopped(server, monkeypatch, lambda: server.execute(kill), at)
    with pytest.raises(StorageError, match=r"terminating connection.*run it again") as caught:
        write(hurt, {BARS: bars(days, 3)}, days, **BY)
    assert caught.value.transient
    committed = {BARS.name: days[:1]} if at == "writer: month committed" else {}
    assert [day for _, day in ledger(hurt)] == committed.get(BARS.name, [])
    monkeypatch.undo()
    write(hurt, {BARS: bars(days, 3)}, days, generation=take_generation(hurt, [BARS], days), **BY)
    assert damaged(hurt, [BARS]) + disagreements(hurt) == []
