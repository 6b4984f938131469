"""Which days a world has, and what of it is remembered."""

from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from tft_pipeline import config
from tft_pipeline.orchestration.settling import settle


def bars(folder: Path, name: str, day: str) -> None:
    start = pd.DatetimeIndex([f"{day} 14:00"], tz="UTC").as_unit("us")
    prices = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 100}
    frame = pd.DataFrame({"ticker": "AAA", "bar_start": start, "bar_end": start + pd.Timedelta(hours=1), **prices})
    frame.to_parquet(folder / f"bars_{name}.parquet")


def test_a_folder_that_grew_has_more_days(tmp_path: Path) -> None:
    home, market = tmp_path / "home", f"files:{tmp_path}"
    bars(tmp_path, "a", "2026-01-05")
    first = settle(config.load(home=home, market=market, posts="none"))
    assert (first.start, first.end) == (date(2026, 1, 5), date(2026, 1, 5))
    bars(tmp_path, "b", "2026-02-03")
    again = settle(config.load(home=home))
    assert (again.market, again.start, again.end) == (market, date(2026, 1, 5), date(2026, 2, 3))


def test_a_span_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    bars(tmp_path, "a", "2026-01-05")
    asked = settle(config.load(home=tmp_path / "home", market=f"files:{tmp_path}", posts="none", end=date(2026, 3, 1)))
    assert (asked.start, asked.end) == (date(2026, 1, 5), date(2026, 3, 1))


def test_a_simulated_market_begins_once_and_is_chosen_again_when_asked_for(tmp_path: Path) -> None:
    bars(tmp_path, "a", "2026-01-05")
    home = tmp_path / "home"
    simulated = settle(config.load(home=home, simulation={"days": 40}))
    assert simulated.start == config.today() - timedelta(days=40)
    settle(config.load(home=home, market=f"files:{tmp_path}", posts="none"))
    assert config.load(home=home).market == f"files:{tmp_path}"
    back = settle(config.load(home=home, market="simulated", posts="simulated", simulation={"days": 40}))
    assert back.start == simulated.start
    assert config.load(home=home).simulated
