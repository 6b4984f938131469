"""Settings to sources: each spec opens what it names, a simulated market and its posts share one world, nonsense ends before any work."""

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from tft_pipeline.config import Settings, SimulationSettings
from tft_pipeline.errors import ConfigError, SourceError
from tft_pipeline.sources.opening import open_bars, open_posts
from tft_pipeline.sources.protocols import Span

UNTIL = datetime(2026, 4, 15, 18, 30, tzinfo=UTC)
EVER = Span(datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def settings(tmp_path: Path, **values) -> Settings:
    simulation = SimulationSettings(tickers=3, days=40)
    return Settings(**{"home": tmp_path, "start": date(2026, 3, 1), "simulation": simulation, **values})


@pytest.fixture
def folder(tmp_path) -> Path:
    start = pd.DatetimeIndex([pd.Timestamp("2024-01-02 14:00", tz=UTC)])
    bar = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1}
    pd.DataFrame({"ticker": "AAPL", "bar_start": start, "bar_end": start + pd.Timedelta(hours=1), **bar}).to_parquet(
        tmp_path / "bars.parquet", index=False
    )
    pd.DataFrame({"id": "1", "created_at": start, "channel": "wsb", "text": "hi", "score": 1}).to_parquet(
        tmp_path / "posts.parquet", index=False
    )
    return tmp_path


def test_simulated_bars_and_posts_share_one_world(tmp_path):
    chosen = settings(tmp_path)
    bars, posts = open_bars(chosen, until=UNTIL), open_posts(chosen, until=UNTIL)
    assert bars.market is posts.market
    assert (
        open_bars(chosen.changed(tickers=("SIMA",)), until=UNTIL).market is bars.market
    )  # what is asked for decides nothing
    assert open_bars(chosen.changed(seed=8), until=UNTIL).market is not bars.market
    assert bars.universe() == ("SIMA", "SIMB", "SIMC")
    assert len(bars.bars(["SIMA"], EVER).frame) > 200
    assert len(posts.posts(EVER).frame) > 200


def test_simulated_bars_may_stand_without_posts(tmp_path):
    chosen = settings(tmp_path, posts="none")
    assert open_bars(chosen, until=UNTIL).simulated
    assert open_posts(chosen, until=UNTIL) is None


def test_files_open_from_their_folder(folder, tmp_path):
    chosen = settings(tmp_path, market=f"files:{folder}", posts=f"files:{folder}", tickers=("AAPL",))
    assert open_bars(chosen).bars(["AAPL"], EVER).problems == {}
    assert len(open_posts(chosen).posts(Span(datetime(2024, 1, 1, tzinfo=UTC), UNTIL)).frame) == 1


def test_a_ticker_that_the_source_does_not_hold_ends_the_opening(folder, tmp_path):
    with pytest.raises(SourceError) as caught:
        open_bars(settings(tmp_path, market=f"files:{folder}", posts="none", tickers=("AAPL", "AAPLE")))
    assert str(caught.value) == (
        f"{folder}: unknown ticker 'AAPLE'; the bars are of AAPL; did you mean AAPL? "
        "Set TFT_TICKERS to some of these, or leave it empty for all."
    )
    with pytest.raises(
        SourceError, match=r"^simulated: unknown ticker 'SPY'; it offers SIMA, SIMB, SIMC\. Set TFT_TICKERS"
    ):
        open_bars(settings(tmp_path, tickers=("SPY",)), until=UNTIL)


@pytest.mark.parametrize("ticker", ["../../v1/evil", "aapl", "AAPL\n", ""])
def test_a_ticker_that_cannot_be_one_ends_the_opening_of_any_source(tmp_path, ticker):
    for market, posts in (("yahoo", "reddit"), ("simulated", "simulated")):
        for opened in (open_bars, open_posts):
            with pytest.raises(ConfigError, match=r"setting TFT_TICKERS: .* is no ticker; tickers are upper case"):
                opened(settings(tmp_path, market=market, posts=posts, tickers=(ticker,)))


def test_live_sources_open_by_name(tmp_path):
    chosen = settings(
        tmp_path,
        market="yahoo",
        posts="reddit",
        tickers=("AAPL",),
        reddit={"client_id": "id", "client_secret": "secret"},
    )
    assert open_bars(chosen).name == "yahoo"
    assert open_posts(chosen).name == "reddit"


def test_massive_opens_by_name_and_wants_tickers_and_a_key(tmp_path):
    chosen = settings(tmp_path, market="massive", posts="none", tickers=("AAPL",), massive={"api_key": "key"})
    assert open_bars(chosen).name == "massive"
    with pytest.raises(ConfigError, match="setting TFT_TICKERS: Massive has no list of its own; name the tickers"):
        open_bars(chosen.changed(tickers=()))
    with pytest.raises(ConfigError, match="setting TFT_MASSIVE_API_KEY is missing"):
        open_bars(settings(tmp_path, market="massive", posts="none", tickers=("AAPL",)))


def test_a_simulated_market_loads_no_client_of_the_outside_world(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tft_pipeline.config import Settings\n"
        "from tft_pipeline.sources.opening import open_bars, open_posts\n"
        f"s = Settings(home=Path({str(tmp_path)!r})); open_bars(s).universe(); open_posts(s)\n"
        "print(sorted({'yfinance', 'praw', 'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
