"""The primary dies and a standby takes over: what was acknowledged is there, the fence holds, and what the new one forgot is noticed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import psycopg
import pytest

from tft_pipeline import config
from tft_pipeline.contracts import BARS
from tft_pipeline.errors import PipelineError, StaleWriterError, StorageError
from tft_pipeline.orchestration import reporting
from tft_pipeline.storage import lineage
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.migrate import migrate
from tft_pipeline.storage.opening import open_database
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import take_generation, write
from tft_pipeline_tests.faults.clusters import Cluster, cluster, standby_of
from tft_pipeline_tests.faults.one_asset import bars, ledger, run

BY = {"run_id": "r", "code_version": "0"}
DAYS = [date(2026, 1, day) for day in range(5, 9)]
NAME = "follower"


@contextmanager
def pair(memory: Path, *, synchronous: bool) -> Iterator[tuple[Cluster, Cluster, Database]]:
    """A primary with all tables, its standby, and a database that names both and wants the one that takes writes."""
    with cluster() as primary:
        migrate(Database(primary.dsn))
        with standby_of(primary, NAME) as standby:
            if synchronous:
                primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'", "SELECT pg_reload_conf()")
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            dsn = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
            yield primary, standby, Database(dsn, memory=memory)


def test_a_promoted_standby_holds_what_was_acknowledged_and_refuses_who_was_stale_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "FIRST_WAIT_SECONDS", 0.1)
    memory = tmp_path / "last-write.json"
    with pair(memory, synchronous=True) as (primary, standby, database):
        stale = take_generation(database, [BARS], DAYS)
        fresh = take_generation(database, [BARS], DAYS)
        acknowledged = {}
        for day in DAYS[:3]:
            written = write(database, {BARS: bars([day], 20)}, [day], generation=fresh, **BY)[BARS.name]
            acknowledged |= {(BARS.name, d): content for d, content in written.content_hashes.items()}
        primary.stop()
        with pytest.raises(
            StorageError, match=r"None of these servers takes writes now\. Wait until one is promoted"
        ) as caught:
            write(database, {BARS: bars(DAYS[3:], 20)}, DAYS[3:], generation=fresh, **BY)
        assert caught.value.transient

        # A run that began while there was no primary ends well on the new one.
        ran = run(database, tmp_path, after_a_try=lambda tries: standby.promote() if tries == 2 else None)
        assert (ran.success, ran.tries) == (True, 3)
        assert {at: content for at, (_, content) in ledger(database).items()}.items() >= acknowledged.items()
        with pytest.raises(StaleWriterError, match=rf"generation {fresh}"):
            write(database, {BARS: bars(DAYS[3:], 5)}, DAYS[3:], generation=stale, **BY)
        write(database, {BARS: bars(DAYS[3:], 20)}, DAYS[3:], generation=fresh, **BY)  # its claim was replicated
        assert lineage.found(database).endswith("is there; timeline 2")
        assert damaged(database, [BARS]) + disagreements(database) == []

        # The former primary comes back, and takes writes as if nothing had been.
        standby.stop()
        primary.start()
        primary.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        before = ledger(Database(primary.dsn))
        said = r"is a former primary \(timeline 1\).*went to its successor \(timeline 2\).*pg_rewind.*remove .*last-write\.json"
        with pytest.raises(StorageError, match=said) as caught:
            write(database, {BARS: bars(DAYS[:1], 4)}, DAYS[:1], **BY)
        assert not caught.value.transient
        with pytest.raises(PipelineError, match=said):
            lineage.found(database)
        assert run(database, tmp_path).tries == 1
        assert ledger(Database(primary.dsn)) == before
        memory.unlink()
        write(database, {BARS: bars(DAYS[:1], 4)}, DAYS[:1], **BY)


def test_a_standby_promoted_without_the_last_writes_is_noticed_and_claims_that_it_never_saw_do_not_count(
    tmp_path: Path,
) -> None:
    memory = tmp_path / "last-write.json"
    with pair(memory, synchronous=False) as (primary, standby, database):
        write(database, {BARS: bars(DAYS[:1], 2)}, DAYS[:1], **BY)
        seen_by = psycopg.connect(standby.dsn, autocommit=True)
        with seen_by:
            while seen_by.execute("SELECT count(*) FROM ops.slices").fetchone() != (1,):
                pass
        standby.stop()
        write(database, {BARS: bars(DAYS[1:2], 2)}, DAYS[1:2], **BY)  # acknowledged by a server that will not come back
        orphan = take_generation(database, [BARS], DAYS[:1])
        last = lineage.recall(memory)
        primary.stop()
        standby.start()
        standby.promote()

        with pytest.raises(
            StorageError, match=rf"does not know the claim \(generation {orphan}\).*2026-01-05.*run it again"
        ) as caught:
            write(database, {BARS: bars(DAYS[:1], 1)}, DAYS[:1], generation=orphan, **BY)
        assert caught.value.transient
        said = (
            rf"lies behind what it acknowledged: market\.bars of 2026-01-06 was written as generation {last.generation} at .*, and the database "
            r"knows nothing of it: a standby was promoted, or a backup restored \(timeline 1 became 2\), without it\..*Then remove"
        )
        write(database, {BARS: bars(DAYS[2:3], 2)}, DAYS[2:3], **BY)  # it goes on, and does not forget
        for _ in range(2):
            with pytest.raises(PipelineError, match=said):
                lineage.found(database)
        assert set(ledger(database)) == {(BARS.name, DAYS[0]), (BARS.name, DAYS[2])}
        memory.with_suffix(".lost").unlink()
        assert "2026-01-07" in lineage.found(database)
        assert len(read(database, BARS)) == 2 * 2 * 24


def test_a_commit_whose_wait_for_the_standby_was_cut_short_is_no_success(tmp_path: Path) -> None:
    """PostgreSQL's own answer is a success with a warning, when somebody cancels the wait."""
    with pair(tmp_path / "last-write.json", synchronous=True) as (primary, standby, database):
        generation = take_generation(database, [BARS], DAYS)
        write(database, {BARS: bars(DAYS[:1], 2)}, DAYS[:1], generation=generation, **BY)
        standby.stop()
        frame, over = bars(DAYS[:1], 3), threading.Event()

        def cancel() -> None:
            while not over.wait(0.05):
                primary.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

        impatient = threading.Thread(target=cancel)
        impatient.start()
        try:
            with pytest.raises(
                StorageError, match=r"no standby of synchronous_standby_names has confirmed it: should"
            ) as caught:
                write(database, {BARS: frame}, DAYS[:1], generation=generation, **BY)
        finally:
            over.set()
            impatient.join()
        assert caught.value.transient
        standby.start()
        assert write(database, {BARS: frame}, DAYS[:1], generation=generation, **BY)[BARS.name].rows_written == 0


def test_a_number_that_two_servers_gave_tells_two_claims_apart(database: Database) -> None:
    """A backup from before the claim gives the same number again, to somebody else."""
    with database.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT last_value, is_called FROM ops.generations")
    orphan = take_generation(database, [BARS], DAYS[:1])
    with database.connect() as connection:
        connection.execute("DELETE FROM ops.fences")
        connection.execute("SELECT setval('ops.generations', last_value, is_called) FROM kept")
    successor = take_generation(database, [BARS], DAYS[:1])
    assert orphan != successor
    assert orphan >> 20 == successor >> 20
    write(database, {BARS: bars(DAYS[:1], 3)}, DAYS[:1], generation=successor, **BY)
    with pytest.raises(StorageError, match=r"does not know the claim|a later writer"):
        write(database, {BARS: bars(DAYS[:1], 2)}, DAYS[:1], generation=orphan, **BY)


def test_an_older_copy_or_another_server_behind_the_same_home_is_noticed(database: Database, tmp_path: Path) -> None:
    told = Database(database.dsn, memory=tmp_path / "last-write.json")
    assert lineage.found(database) == "what was written last is not remembered for this database"
    assert lineage.found(told) == "nothing was written from here yet"
    write(told, {BARS: bars(DAYS[:1], 1)}, DAYS[:1], **BY)
    write(told, {BARS: bars(DAYS[:1], 2)}, DAYS[:1], **BY)
    assert lineage.found(told).startswith("market.bars of 2026-01-05, acknowledged at 20")
    write(told, {BARS: bars(DAYS[:1], 2)}, DAYS[:1], **BY)  # nothing new: the ledger keeps who wrote last
    assert "is there" in lineage.found(told)
    text = told.memory.read_text()
    with database.connect() as connection:
        connection.execute("UPDATE ops.slices SET generation = 1")  # as an older copy of the files would have it
    with pytest.raises(PipelineError, match=r"holds generation 1: an older copy of its files was put in place"):
        lineage.found(told)
    told.memory.with_suffix(".lost").unlink()
    told.memory.write_text(text.replace('"system_identifier": "', '"system_identifier": "9'))
    with pytest.raises(PipelineError, match=r"holds generation 1: this is another server, or one made anew"):
        lineage.found(told)
    told.memory.with_suffix(".lost").unlink()
    told.memory.write_text("torn {")
    assert lineage.found(told) == "nothing was written from here yet"
    take_generation(told, [BARS], DAYS)


def test_a_server_that_does_not_tell_who_it_is_and_a_home_that_takes_no_file_are_no_hindrance(
    database: Database, tmp_path: Path
) -> None:
    nowhere = Database(database.dsn, memory=tmp_path / "gone" / "last-write.json")
    write(nowhere, {BARS: bars(DAYS[:1], 1)}, DAYS[:1], **BY)
    assert lineage.found(nowhere) == "nothing was written from here yet"
    with database.connect() as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system FROM PUBLIC")
    silent = Database(database.dsn, role="tft_writer", memory=tmp_path / "last-write.json")
    write(silent, {BARS: bars(DAYS[:1], 2)}, DAYS[:1], **BY)
    assert not silent.memory.exists()
    write(Database(database.dsn, memory=silent.memory), {BARS: bars(DAYS[:1], 3)}, DAYS[:1], **BY)
    assert silent.memory.exists()
    take_generation(silent, [BARS], DAYS)


def test_every_world_of_a_home_has_a_memory_of_its_own(database: Database, tmp_path: Path) -> None:
    settings = config.load(home=tmp_path, postgres_dsn=database.dsn)
    with open_database(settings) as opened:
        assert opened.memory == tmp_path / f"last-write-{settings.world}.json"
        write(opened, {BARS: bars(DAYS[:1], 1)}, DAYS[:1], **BY)
        assert "is there; timeline 1" in lineage.found(opened)
