"""The demo on real bars, splits and tweets, by the command line as a user runs it; small settings and the last six months, to be quick."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tft_pipeline.contracts import TABLES
from tft_pipeline_tests.e2e.conftest import clean_environment, command_line

pytestmark = pytest.mark.shared

SMALL = {
    "TFT_START": "2015-10-01",
    "TFT_TRAINING_MAX_EPOCHS": "1",
    "TFT_TRAINING_WINDOWS_PER_EPOCH": "512",
    "TFT_TRAINING_HIDDEN_SIZE": "4",
    "TFT_TRAINING_ATTENTION_HEADS": "1",
    "TFT_SENTIMENT_SCORER": "vader",
}


@pytest.fixture(scope="module")
def reports(shared_data: Path) -> Iterator[list[dict[str, Any]]]:
    """What the command says the first time and the second."""
    home = Path(tempfile.mkdtemp(prefix="tft-"))
    home.chmod(0o755)
    folder = shared_data / "real" / "us5_2013_2016"
    command = ("demo", "--market", f"files:{folder}", "--posts", f"files:{folder}", "--json")
    environment = clean_environment(home, **SMALL)
    yield [json.loads(command_line(*command, environment=environment).stdout) for _ in range(2)]
    shutil.rmtree(home, ignore_errors=True)


def test_the_report_is_whole_and_about_real_data(reports: list[dict[str, Any]]) -> None:
    first = reports[0]
    assert set(first) == {
        "simulated", "market", "posts", "history", "rows", "rows_written", "forecast", "decisions", "portfolio", "seconds",
        "peak_memory_bytes",
    }  # fmt: skip
    assert first["simulated"] is False
    assert (first["history"]["from"], first["history"]["to"]) == ("2015-10-01", "2016-03-31")
    assert set(first["rows"]) == {table.name for table in TABLES}
    assert first["rows_written"]["market.bars"] == first["rows"]["market.bars"] > 4000
    assert first["rows"]["sentiment.mentions"] > 1000
    assert {decision["ticker"] for decision in first["decisions"]} == {"AAPL", "AIG", "BAC", "IBM", "SPY"}
    forecast = first["forecast"]
    assert forecast["n"] > 1000
    assert forecast["pinball"] > 0
    assert forecast["baseline_pinball"] > 0
    assert 0.5 < forecast["coverage_80"] <= 1.0


def test_the_same_command_again_writes_no_row_and_says_the_same(reports: list[dict[str, Any]]) -> None:
    first, second = reports
    assert set(second["rows_written"].values()) == {0}
    for part in ("history", "rows", "forecast", "decisions", "portfolio"):
        assert second[part] == first[part]
