"""Runs that fail say why in the failed asset's own words."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.errors import PipelineError
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.storage.audit import rows_written_by
from tft_pipeline.storage.database import Database

DAY = date(2026, 1, 6)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A folder of files of two days, with a home of its own."""
    starts = pd.date_range("2026-01-05 14:00", periods=31, freq="h", tz="UTC").as_unit("us")
    prices = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 100.0}
    bars = pd.DataFrame({"ticker": "AAA", "bar_start": starts, "bar_end": starts + pd.Timedelta(hours=1), **prices})
    bars.to_parquet(tmp_path / "bars.parquet")
    return config.load(
        home=tmp_path / "home", market=f"files:{tmp_path}", posts="none", start=DAY - timedelta(days=1), end=DAY
    )


@pytest.mark.parametrize("first", [DAY - timedelta(days=1), DAY], ids=["a range", "a day"])
def test_the_failed_assets_own_words_are_the_message(settings: Settings, database: Database, first: date) -> None:
    pipeline = Pipeline(settings, database=database)
    (Path(settings.market.removeprefix("files:")) / "bars.parquet").write_bytes(b"not parquet")
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(PipelineError) as raised:
        launch.run(build(settings, pipeline), "refresh", instance, first, DAY)
    said = str(raised.value)
    assert "bars.parquet" in said
    assert "Traceback" not in said
    assert "tft-pipeline up` shows it in full" in said
    assert sum(rows_written_by(database, [said.split("(run ")[1].split(";", maxsplit=1)[0]]).values()) == 0
