"""A share that changes its name keeps its history: from that day on its features are the new ticker's, up to it the former one's."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tft_pipeline import config
from tft_pipeline.contracts import FEATURES
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.orchestration import launch
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.settling import settle
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.read import read

FIRST, LAST = date(2026, 1, 5), date(2026, 3, 13)
SPLIT_ON, RENAMED_ON = date(2026, 2, 25), date(2026, 3, 11)
SINCE = LAST - timedelta(days=4)


def opening(grid: pd.DataFrame, day: date) -> pd.Timestamp:
    return grid.loc[grid["bar_start"].dt.date == day, "bar_start"].min()


def made(folder: Path, database: Database, *, renames: bool) -> pd.DataFrame:
    """FEATURES of a small world in which the share OLD goes on as NEW, or was NEW all along, and splits before that."""
    folder.mkdir()
    grid = Calendar("XNYS").bar_grid(FIRST, LAST + timedelta(days=1), phase_minutes=0)
    random, parts = np.random.default_rng(3), []
    for ticker in ("NEW", "OTHER"):
        close = 50 * np.exp(random.normal(0, 0.01, len(grid)).cumsum())
        if ticker == "NEW":
            close = np.where(grid["bar_start"].dt.date >= SPLIT_ON, close / 2, close)
        prices = pd.DataFrame({"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": 1e5})
        parts.append(pd.concat([grid[["bar_start", "bar_end"]], prices], axis=1).assign(ticker=ticker))
    bars = pd.concat(parts, ignore_index=True)
    former = (bars["ticker"] == "NEW") & (bars["bar_start"].dt.date < RENAMED_ON)
    actions = [("NEW", opening(grid, SPLIT_ON), "split", 2.0, None)]
    if renames:
        bars.loc[former, "ticker"] = "OLD"
        actions = [("OLD", *actions[0][1:]), ("NEW", opening(grid, RENAMED_ON), "rename", 1.0, "OLD")]
    bars.to_parquet(folder / "bars.parquet", index=False)
    columns = ["ticker", "effective_at", "kind", "value", "former"]
    pd.DataFrame(actions, columns=columns).to_parquet(folder / "actions.parquet", index=False)
    chosen = config.load(home=folder / "home", market=f"files:{folder}", posts="none", sentiment={"scorer": "vader"})
    chosen = settle(chosen)
    pipeline = Pipeline(chosen, database=database)
    with dg.DagsterInstance.ephemeral() as instance:
        launch.run(build(chosen, pipeline), "history", instance, FIRST, LAST)
    return read(database, FEATURES, config.day_start(SINCE))


def test_features_go_on_under_the_new_name_as_if_it_had_never_changed(
    database: Database, postgres_template, tmp_path: Path
) -> None:
    whole = made(tmp_path / "whole", database, renames=False)
    parted = made(tmp_path / "parted", Database(postgres_template()), renames=True)
    assert len(whole) == len(parted) == 2 * 7 * 5  # two shares, seven bars, five days
    later = parted["bar_start"].dt.date >= RENAMED_ON
    assert set(parted.loc[later, "ticker"]) == {"NEW", "OTHER"}
    assert set(parted.loc[~later, "ticker"]) == {"OLD", "OTHER"}
    same_name = parted.assign(ticker=parted["ticker"].replace({"OLD": "NEW"}))
    key = ["ticker", "bar_start"]
    assert_frame_equal(same_name.sort_values(key, ignore_index=True), whole.sort_values(key, ignore_index=True))


def test_a_rename_that_takes_effect_later_changes_nothing_before(database: Database, tmp_path: Path) -> None:
    found = made(tmp_path / "parted", database, renames=True)
    day_before = found[found["bar_start"].dt.date == RENAMED_ON - timedelta(days=1)]
    assert day_before["ticker"].unique().tolist() == ["OLD", "OTHER"]


@pytest.mark.parametrize("column", ["return_1h", "volatility_35h"])
def test_the_name_makes_no_jump(database: Database, tmp_path: Path, column: str) -> None:
    found = made(tmp_path / "parted", database, renames=True)
    first = found[(found["ticker"] == "NEW")].iloc[0]
    assert abs(first[column]) < 0.1  # a hundred per cent and more, were the split before the rename forgotten
