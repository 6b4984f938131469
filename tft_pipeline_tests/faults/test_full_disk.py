"""Disks that are really full: the database's, and the embedded server's own. In words, nothing half-written, identical when there is room."""

import os
import pwd
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psycopg
import pytest

from tft_pipeline.contracts import BARS
from tft_pipeline.errors import StorageError
from tft_pipeline.orchestration import reporting
from tft_pipeline.storage import embedded
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.migrate import migrate
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.faults.clusters import cluster, fill, small_disk
from tft_pipeline_tests.faults.one_asset import TRIES, bars, ledger, run
from tft_pipeline_tests.servers import account, scratch_folder

DAYS = [date(2026, 1, 30), date(2026, 2, 2)]  # two months, two transactions
BY = {"run_id": "r", "code_version": "0"}
SAID = r"No space left on device.*The server's disk is full\. Make room there, then run it again\. Nothing of this transaction was written"


@dataclass
class Crowded:
    database: Database
    disk: Path
    roomy: Database


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Path]]:
    """A server with a tablespace on a disk of 64 MiB."""
    with cluster() as made, small_disk(made.folder / "disk", 64) as disk:
        space = disk / "space"
        space.mkdir()
        if who := account():
            os.chown(space, pwd.getpwnam(who).pw_uid, pwd.getpwnam(who).pw_gid)
        made.execute("CREATE DATABASE roomy")
        migrate(Database(made.dsn.replace("/postgres", "/roomy").replace("//roomy", "//postgres")))
        made.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
        yield made.dsn.removesuffix("/postgres"), disk


@pytest.fixture
def crowded(server: tuple[str, Path]) -> Iterator[Crowded]:
    """An empty database on the small disk, and one that is just as empty elsewhere."""
    address, disk = server
    with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE crowded TEMPLATE roomy TABLESPACE small")
        connection.execute("CREATE DATABASE elsewhere TEMPLATE roomy")
        yield Crowded(Database(f"{address}/crowded"), disk, Database(f"{address}/elsewhere"))
        connection.execute("DROP DATABASE crowded WITH (FORCE)")
        connection.execute("DROP DATABASE elsewhere WITH (FORCE)")
    (disk / "somebody-elses").unlink(missing_ok=True)


def test_a_write_that_fills_the_disk_leaves_nothing_and_gives_the_same_when_there_is_room(crowded: Crowded) -> None:
    small, large = bars(DAYS[:1], 3), bars(DAYS[:1], 400)
    write(crowded.database, {BARS: small}, DAYS[:1], **BY)
    before = ledger(crowded.database)
    ballast = fill(crowded.disk, leaving=2**20)
    with pytest.raises(StorageError, match=SAID) as caught:
        write(crowded.database, {BARS: large}, DAYS[:1], **BY)
    assert caught.value.transient
    assert caught.value.__cause__.sqlstate == "53100"
    assert ledger(crowded.database) == before
    assert len(read(crowded.database, BARS)) == len(small)
    ballast.unlink()
    again = write(crowded.database, {BARS: large}, DAYS[:1], **BY)[BARS.name]
    write(crowded.roomy, {BARS: small}, DAYS[:1], **BY)
    assert again.content_hashes == write(crowded.roomy, {BARS: large}, DAYS[:1], **BY)[BARS.name].content_hashes
    assert damaged(crowded.database, [BARS]) + disagreements(crowded.database) == []


def test_of_two_months_the_one_that_had_room_stays_and_the_other_leaves_nothing(crowded: Crowded) -> None:
    frame = bars(DAYS, 300)
    frame = frame[(frame["bar_start"] >= "2026-02-01") | frame["ticker"].isin(["T0000", "T0001"])].reset_index(
        drop=True
    )
    ballast = fill(crowded.disk, leaving=2**20)
    with pytest.raises(StorageError, match=SAID):
        write(crowded.database, {BARS: frame}, DAYS, **BY)
    assert list(ledger(crowded.database)) == [(BARS.name, DAYS[0])]
    assert set(read(crowded.database, BARS)["ticker"]) == {"T0000", "T0001"}
    ballast.unlink()
    write(crowded.database, {BARS: frame}, DAYS, **BY)
    write(crowded.roomy, {BARS: frame}, DAYS, **BY)
    assert ledger(crowded.database) == ledger(crowded.roomy)


@pytest.mark.parametrize("in_time", [True, False])
def test_a_run_waits_for_room_and_not_for_ever(
    crowded: Crowded, in_time: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "FIRST_WAIT_SECONDS", 0.05)
    ballast = fill(crowded.disk)  # to the last byte: then not even a connection may be had

    def make_room(tries: int) -> None:
        if in_time and tries == 2:
            ballast.unlink()

    ran = run(crowded.database, tmp_path, after_a_try=make_room)
    assert all("The server's disk is full. Make room there, then run it again." in said for said in ran.said)
    assert (ran.success, ran.tries) == ((True, 3) if in_time else (False, TRIES))
    if in_time:
        assert run(crowded.roomy, tmp_path).success
        assert ledger(crowded.database) == ledger(crowded.roomy) != {}
    else:
        ballast.unlink()
        assert ledger(crowded.database) == {}


def test_the_embedded_server_comes_back_by_itself_when_its_disk_has_room_again() -> None:
    """Its log of writes cannot go on: it stops at once, and cannot start either for as long as the disk is full."""
    home = scratch_folder()
    home.chmod(0o755)
    try:
        with small_disk(home / "disk", 160) as disk, embedded.start(disk) as server:
            database = Database(server.dsn("full"))
            migrate(database)
            acknowledged = write(database, {BARS: bars(DAYS[:1], 50)}, DAYS[:1], **BY)[BARS.name].content_hashes
            ballast = fill(disk)

            def write_on() -> None:
                for number in range(20):
                    with database.connect() as connection:
                        connection.execute("SELECT pg_switch_wal()")
                    write(database, {BARS: bars(DAYS[:1], 50, volume=float(number))}, DAYS[:1], **BY)

            with pytest.raises(StorageError) as caught:
                write_on()
            said = [caught.value]
            deadline = time.monotonic() + 30
            while embedded.postmaster(server.data) is not None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert embedded.postmaster(server.data) is None
            for call in (database.check, lambda: embedded.start(disk)):
                with pytest.raises(StorageError) as caught:
                    call()
                said.append(caught.value)
            assert all(error.transient for error in said)
            assert "No space left on device" in str(said[-1])
            assert "Make room" in str(said[-1])
            ballast.unlink()
            deadline = time.monotonic() + 30
            while True:
                try:
                    database.check()
                    break
                except StorageError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            held = {day: content for (_, day), (_, content) in ledger(database).items()}
            assert held.keys() == acknowledged.keys()
            assert damaged(database, [BARS]) + disagreements(database) == []
            again = write(database, {BARS: bars(DAYS[:1], 50, volume=7.0)}, DAYS[:1], **BY)[BARS.name]
            assert again.slices_changed == 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
