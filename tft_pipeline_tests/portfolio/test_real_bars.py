"""Real bars with AAPL's seven-for-one split inside: the ledger neither gains nor loses by it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tft_pipeline.config import PortfolioSettings, load
from tft_pipeline.portfolio.ledger import State, advance
from tft_pipeline.sources.opening import open_bars
from tft_pipeline_tests.portfolio.examples import assert_balanced, decisions


@pytest.mark.shared
def test_a_real_split_moves_no_equity(shared_data: Path, tmp_path: Path):
    settings = load(home=tmp_path, market=f"files:{shared_data / 'real' / 'us5_2013_2016'}", posts="none")
    source = open_bars(settings)
    span = source.span()
    assert span is not None
    bars, actions = (read(source.universe(), span).frame for read in (source.bars, source.actions))
    bars = bars[(bars["bar_start"] >= "2014-05-20") & (bars["bar_start"] < "2014-06-20")]
    actions = actions[(actions["effective_at"] >= "2014-05-20") & (actions["effective_at"] < "2014-06-20")]
    aapl = bars[bars["ticker"] == "AAPL"]
    bought = decisions([("AAPL", aapl["bar_end"].iloc[0], 0.9)])
    chosen = PortfolioSettings()
    found = advance(State.opening(chosen), bars, actions, bought, chosen)
    assert_balanced(found, 100_000_000)
    split = found.trades[found.trades["kind"] == "split"]
    assert split["price"].tolist() == [7.0]
    held = found.positions["quantity"]
    assert held.iloc[-1] == 7 * held.iloc[0]
    moves = np.diff(np.log(found.equity["equity_cents"].to_numpy()))
    assert np.abs(moves).max() < 0.03
    assert pd.Timestamp("2014-06-09 13:00", tz="UTC") in set(split["executed_at"])
