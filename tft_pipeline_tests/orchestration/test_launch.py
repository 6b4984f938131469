"""Runs that fail say why in the failed asset's own words."""

import os
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import BARS
from tft_pipeline.errors import PipelineError
from tft_pipeline.orchestration import launch, processes
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.reporting import partitioned_assets
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import Table
from tft_pipeline.storage.audit import rows_written_by
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.slices import Written

DAY = date(2026, 1, 6)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A folder of files of two days, with a home of its own."""
    starts = pd.date_range("2026-01-05 14:00", periods=31, freq="h", tz="UTC").as_unit("us")
    prices = {"open": 10.0, "high": 11.0, "low": 9.0, "volume": 100.0}
    bars = pd.DataFrame({"ticker": "AAA", "bar_start": starts, "bar_end": starts + pd.Timedelta(hours=1), **prices})
    bars["close"] = 10 + bars.index / 1000  # no bar repeats the one before
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


def test_a_run_says_which_process_it_goes_on_in_and_is_not_tried_again(settings: Settings, database: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        definitions = build(settings, Pipeline(settings, database=database))
        for first in (DAY - timedelta(days=1), DAY):
            run = instance.get_run_by_id(launch.run(definitions, "refresh", instance, first, DAY))
            assert run is not None
            process = processes.of(run)
            assert process is not None
            assert process.pid == os.getpid()
            assert run.tags["dagster/max_retries"] == "0"


class Robbed(Pipeline):
    """Somebody deletes a bar by hand right after bars were written."""

    def write(
        self, run_id: str, frames: Mapping[Table, pd.DataFrame], window: Window, **more: Any
    ) -> dict[str, Written]:
        written = super().write(run_id, frames, window, **more)
        if BARS in frames:
            with self.database.connect() as connection:
                connection.execute("DELETE FROM market.bars WHERE bar_start = '2026-01-05 15:00+00'")
        return written


def test_a_contract_check_that_fails_stops_what_comes_after(settings: Settings, database: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(PipelineError) as raised:
            launch.run(
                build(settings, Robbed(settings, database=database)), "refresh", instance, DAY - timedelta(days=1), DAY
            )
        materialized = {
            asset for asset in partitioned_assets() if instance.get_latest_materialization_event(dg.AssetKey(asset))
        }
    said = "market_bars: its check 'contract' failed: the ledger promises 31 rows of market.bars, PostgreSQL holds 30 (run "
    assert str(raised.value).startswith(said)
    # The two branches that do not come after bars go on.
    assert materialized == {"corporate_actions", "market_bars", "social_posts", "ticker_mentions", "sentiment_hourly"}
    with database.connect() as connection:
        rows = connection.execute("SELECT DISTINCT table_name FROM ops.slices").fetchall()
    assert {name for (name,) in rows} == {
        "market.actions", "market.bars", "sentiment.posts", "sentiment.coverage", "sentiment.mentions", "sentiment.hourly",
    }  # fmt: skip
