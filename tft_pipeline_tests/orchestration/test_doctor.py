"""What the doctor says of things that are wrong: each a sentence with its remedy, never a traceback."""

import shutil
from collections import namedtuple
from datetime import date
from pathlib import Path

import pytest

from tft_pipeline import config
from tft_pipeline.contracts import BARS
from tft_pipeline.orchestration.doctor import Finding, examine
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.world import claim_world
from tft_pipeline_tests.storage.frames import frame

Usage = namedtuple("Usage", "total used free")


def found(home: Path, **values: object) -> dict[str, Finding]:
    settings = config.load(home=home, **{"sentiment": {"scorer": "vader"}, **values})
    return {finding.subject: finding for finding in examine(settings)}


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    findings = found(tmp_path, postgres_dsn="postgresql://tft:hunter2@127.0.0.1:1/nowhere")
    assert [subject for subject, finding in findings.items() if not finding.well] == ["postgres"]
    assert "127.0.0.1" in findings["postgres"].sentence
    assert "hunter2" not in findings["postgres"].sentence


def test_a_folder_without_bars(tmp_path: Path, database: Database) -> None:
    findings = found(tmp_path, market=f"files:{tmp_path}", posts="none", postgres_dsn=database.dsn)
    assert not findings["bars"].well
    assert "bars*.parquet" in findings["bars"].sentence
    assert findings["posts"].sentence == "none configured: the mood stays neutral"


def test_a_full_disk(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**40, 2**40 - 2**29, 2**29))
    finding = found(tmp_path, postgres_dsn=database.dsn)["disk"]
    assert not finding.well
    assert finding.sentence == f"only 0.5 GiB free under {tmp_path}; free some, or set TFT_HOME to another disk."


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    findings = found(home)
    assert [subject for subject, finding in findings.items() if not finding.well] == ["disk", "postgres"]
    for subject in ("disk", "postgres"):
        assert findings[subject].sentence == (
            f"{home}: Not a directory. Mend that path, or set TFT_HOME to a folder that you may write to."
        )


def test_rows_that_vanished_behind_the_ledger(tmp_path: Path, database: Database) -> None:
    claim_world(database, config.load(home=tmp_path))
    days = [date(2024, 1, 31)]
    write(database, {BARS: frame(BARS, days)}, days, run_id="r", code_version="1")
    assert found(tmp_path, postgres_dsn=database.dsn)["ledger"].well
    with database.connect() as connection:
        connection.execute("TRUNCATE market.bars")
    findings = found(tmp_path, postgres_dsn=database.dsn)
    assert [subject for subject, finding in findings.items() if not finding.well] == ["ledger"]
    assert findings["ledger"].sentence == (
        "1 slices hold other rows than ops.slices says, first market.bars on 2024-01-31: the ledger says 1 rows, the table holds 0; "
        "refresh those days."
    )
