"""Bad input ends with one sentence that names what, where and the remedy; nothing is written, no secret shown, no traceback."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tft_pipeline_tests.e2e.conftest import clean_environment, command_line


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tft-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bars() -> pd.DataFrame:
    starts = pd.date_range("2026-01-05 14:00", periods=7, freq="h", tz="UTC").as_unit("us")
    prices = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 100}
    return pd.DataFrame({"ticker": "AAA", "bar_start": starts, "bar_end": starts + pd.Timedelta(hours=1), **prices})


def refused(home: Path, folder: Path, *more: str) -> str:
    found = command_line("demo", "--market", f"files:{folder}", *more, environment=clean_environment(home), check=False)
    assert found.returncode == 1, found.stderr
    assert "Traceback" not in found.stderr
    assert not (home / "postgres").exists(), "a source that cannot be read must be refused before a database is made"
    return " ".join(found.stderr.split())


def test_an_empty_folder(home: Path, tmp_path: Path) -> None:
    said = refused(home, tmp_path)
    assert "bars*.parquet" in said
    assert str(tmp_path) in said


def test_a_naive_timestamp(home: Path, tmp_path: Path, bars: pd.DataFrame) -> None:
    bars.assign(bar_start=bars["bar_start"].dt.tz_localize(None)).to_parquet(tmp_path / "bars.parquet")
    said = refused(home, tmp_path)
    assert "bars.parquet" in said
    assert "bar_start" in said


def test_a_bar_that_ends_before_it_begins(home: Path, tmp_path: Path, bars: pd.DataFrame) -> None:
    bars.loc[3, "bar_end"] = bars.loc[2, "bar_start"]
    bars.to_parquet(tmp_path / "bars.parquet")
    said = refused(home, tmp_path)
    assert "bars.parquet" in said
    assert "row 3" in said


def test_an_unknown_column(home: Path, tmp_path: Path, bars: pd.DataFrame) -> None:
    bars.rename(columns={"close": "adj_close"}).to_parquet(tmp_path / "bars.parquet")
    said = refused(home, tmp_path)
    assert "adj_close" in said
    assert "close" in said


def test_an_unknown_ticker(home: Path, tmp_path: Path, bars: pd.DataFrame) -> None:
    bars.to_parquet(tmp_path / "bars.parquet")
    said = refused(home, tmp_path, "--tickers", "ZZZ")
    assert "ZZZ" in said
    assert "AAA" in said


def test_too_short_a_history(home: Path, tmp_path: Path, bars: pd.DataFrame) -> None:
    bars.to_parquet(tmp_path / "bars.parquet")
    assert "a demo needs 90" in refused(home, tmp_path)


def test_a_wrong_dsn_never_shows_its_password(home: Path) -> None:
    environment = clean_environment(home, TFT_POSTGRES_DSN="postgresql://tft:hunter2@127.0.0.1:1/nowhere")
    found = command_line("migrate", environment=environment, check=False)
    assert found.returncode == 1
    assert "hunter2" not in found.stdout + found.stderr
    assert "127.0.0.1" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_malformed_dsn_never_shows_its_password(home: Path) -> None:
    environment = clean_environment(home, TFT_POSTGRES_DSN="postgresql://tft:hunter2@[bad/nowhere")
    found = command_line("migrate", environment=environment, check=False)
    assert found.returncode == 1
    assert "hunter2" not in found.stdout + found.stderr
    assert "Traceback" not in found.stderr


def test_a_market_that_does_not_exist(home: Path) -> None:
    found = command_line("demo", "--market", "nasdaq", environment=clean_environment(home), check=False)
    assert found.returncode == 1
    assert "'nasdaq' is no source" in " ".join(found.stderr.split())


def test_days_in_the_wrong_order(home: Path) -> None:
    found = command_line(
        "backfill", "--from", "2026-02-02", "--to", "2026-02-01", environment=clean_environment(home), check=False
    )
    assert found.returncode == 1
    assert "swap them" in found.stderr


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A folder with enough bars for a demo."""
    starts = pd.date_range("2026-01-05 14:00", periods=100, freq="D", tz="UTC").as_unit("us")
    prices = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 100}
    folder = tmp_path / "sound"
    folder.mkdir()
    pd.DataFrame(
        {"ticker": "AAA", "bar_start": starts, "bar_end": starts + pd.Timedelta(hours=1), **prices}
    ).to_parquet(folder / "bars.parquet")
    return folder


def test_bad_posts_are_refused_before_a_bar_is_written(home: Path, sound: Path, tmp_path: Path) -> None:
    posts = pd.DataFrame(
        {"id": ["a"], "created_at": pd.to_datetime(["2026-01-06 10:00"]), "channel": "c", "text": "AAA", "score": 1}
    )
    posts.to_parquet(tmp_path / "posts.parquet")
    said = refused(home, sound, "--posts", f"files:{tmp_path}")
    assert "posts.parquet" in said
    assert "created_at" in said


def test_missing_reddit_credentials_are_named_and_the_choice_is_not_remembered(home: Path, sound: Path) -> None:
    said = refused(home, sound, "--posts", "reddit")
    assert "TFT_REDDIT_CLIENT_ID" in said
    assert not (home / "settings.json").exists()


def test_an_unknown_scorer(home: Path, sound: Path) -> None:
    environment = clean_environment(home, TFT_SENTIMENT_SCORER="no/such model")
    found = command_line("demo", "--market", f"files:{sound}", "--posts", "none", environment=environment, check=False)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert not (home / "postgres").exists()


def test_yahoo_needs_to_be_told_the_tickers(home: Path) -> None:
    found = command_line(
        "demo", "--market", "yahoo", "--posts", "none", environment=clean_environment(home), check=False
    )
    assert found.returncode == 1
    assert "TFT_TICKERS=AAPL,MSFT" in " ".join(found.stderr.split())


@pytest.mark.parametrize("command", ["demo", "migrate", "doctor"])
def test_a_home_that_cannot_be_made(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    environment = clean_environment(home, TFT_SENTIMENT_SCORER="vader")
    found = command_line(command, environment=environment, check=False)
    said = " ".join((found.stdout + found.stderr).split())
    assert found.returncode == 1
    assert "Traceback" not in said
    assert str(home) in said.replace(" ", "")
    assert "set TFT_HOME to a folder" in said


def test_ctrl_c_ends_in_a_sentence(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tft_pipeline.cli", "demo", "--json"],
        env=clean_environment(home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            began = time.monotonic()
            while not (home / "dagster").exists():  # from here on a run is about to begin, or goes on
                assert process.poll() is None, process.communicate()
                assert time.monotonic() - began < 120
                time.sleep(0.1)
            time.sleep(3)
            process.send_signal(signal.SIGINT)
            out, said = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert out == ""
    assert said == "interrupted; what was committed stays, and the same command goes on from there\n"
