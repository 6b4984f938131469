"""One small simulated world, gone through once by the real command line in a real Dagster instance; tests look at what it left."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.opening import open_database

SMALL = {
    "TFT_SIMULATION_TICKERS": "3",
    "TFT_SIMULATION_DAYS": "110",
    "TFT_TRAINING_ENCODER_BARS": "8",
    "TFT_TRAINING_HORIZON_HOURS": "3",
    "TFT_TRAINING_HIDDEN_SIZE": "4",
    "TFT_TRAINING_ATTENTION_HEADS": "1",
    "TFT_TRAINING_MAX_EPOCHS": "2",
    "TFT_TRAINING_WINDOWS_PER_EPOCH": "512",
    "TFT_SENTIMENT_SCORER": "vader",
}


@dataclass(frozen=True)
class World:
    """A home with a database that a first demo has filled."""

    home: Path
    environment: dict[str, str]
    report: dict[str, Any]
    hashes: dict[tuple[str, str], str]  # content hash by table and day, as the first demo left them; days that are over

    @property
    def settings(self) -> Settings:
        given = {
            "simulation": {"tickers": 3, "days": 110},
            "training": {
                "encoder_bars": 8, "horizon_hours": 3, "hidden_size": 4, "attention_heads": 1, "max_epochs": 2, "windows_per_epoch": 512,
            },
            "sentiment": {"scorer": "vader"},
        }  # fmt: skip
        return config.load(home=self.home, **given)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """tft-pipeline with these arguments, in this world."""
        return command_line(*arguments, environment=self.environment, check=check)


def command_line(*arguments: str, environment: dict[str, str], check: bool = True) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, "-m", "tft_pipeline.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if check and found.returncode != 0:
        pytest.fail(f"tft-pipeline {' '.join(arguments)} ended with {found.returncode}:\n{found.stderr[-3000:]}")
    return found


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TFT_", "DAGSTER_"))}
    # One thread: another test is running on the other core, and torch's threads wait for each other.
    return {**kept, "TFT_HOME": str(home), "PYTHONPATH": str(config.CHECKOUT), "OMP_NUM_THREADS": "1", **more}


def content_hashes(database: Database) -> dict[tuple[str, str], str]:
    """Of every slice of a day that is over: today's grows while tests run."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT table_name, slice_day::text, content_hash FROM ops.slices WHERE slice_day < %s", (config.today(),)
        ).fetchall()
    return {(table, day): content for table, day, content in rows}


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    # Short, and open to the account that PostgreSQL runs under when the tests run as root.
    home = Path(tempfile.mkdtemp(prefix="tft-"))
    home.chmod(0o755)
    environment = clean_environment(home, **SMALL)
    found = command_line("demo", "--json", environment=environment)
    fresh = World(home, environment, json.loads(found.stdout), {})
    with open_database(fresh.settings) as database:
        hashes = content_hashes(database)
    yield replace(fresh, hashes=hashes)
    shutil.rmtree(home, ignore_errors=True)
