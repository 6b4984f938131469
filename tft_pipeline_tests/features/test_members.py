"""Who is no member of the universe moves nobody else's features, and is held against the members."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tft_pipeline.contracts import BARS, FEATURES
from tft_pipeline.features.cross_section import cross_section
from tft_pipeline.features.matrix import feature_matrix
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.schema import validate
from tft_pipeline_tests.features.bars import at, make_actions, random_bars, random_mood, with_actions
from tft_pipeline_tests.features.test_matrix import assert_same_bits

START, END = date(2024, 1, 8), date(2024, 3, 16)
JOINED = at("2024-03-06 18:00")
OWN = ["market_return_1h", "market_return_7h", "relative_return_7h", "breadth_1h"]


def rows(*of_bar: tuple[str, float, float, bool]) -> pd.DataFrame:
    """(ticker, return_1h, return_7h, counts) of one bar."""
    frame = pd.DataFrame(of_bar, columns=["ticker", "return_1h", "return_7h", "counts"])
    return frame.assign(bar_start=at("2024-03-07 15:00"))


def test_the_market_is_the_mean_of_the_members_by_hand():
    of_bar = rows(("AAPL", 0.01, 0.02, True), ("MSFT", -0.03, 0.06, True), ("NVDA", 0.50, 0.70, False))
    found = {name: list(values) for name, values in cross_section(of_bar).items()}
    assert found["market_return_1h"] == pytest.approx([-0.01] * 3)
    assert found["market_return_7h"] == pytest.approx([0.04] * 3)
    assert found["relative_return_7h"] == pytest.approx([-0.02, 0.02, 0.66])
    assert found["breadth_1h"] == pytest.approx([0.5] * 3)


def test_where_nobody_counts_there_is_no_market():
    found = cross_section(rows(("NVDA", 0.01, 0.02, False)))
    assert all(np.isnan(values).all() for values in found.values())


class World:
    """Three members' bars over ten weeks, and a fourth ticker that comes on the way."""

    def __init__(self) -> None:
        self.grid = Calendar("XNYS").bar_grid(START, END, phase_minutes=0)
        tickers = ["AAPL", "IBM", "NVDA", "XOM"]  # the new one sorts among the others
        bars = validate(random_bars(self.grid, tickers), BARS)
        self.bars = bars[np.random.default_rng(3).random(len(bars)) > 0.01].reset_index(drop=True)
        self.mood = random_mood(at(str(START)), at(str(END)), tickers)

    def of(self, bars: pd.DataFrame, counts: pd.Series | None = None) -> pd.DataFrame:
        given = with_actions(bars, make_actions())
        given = given if counts is None else given.assign(counts=counts)
        return validate(feature_matrix(given, self.mood, self.grid), FEATURES)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_a_ticker_that_joins_leaves_all_earlier_rows_of_the_others_to_the_last_bit(world):
    bars = world.bars
    alone = world.of(bars[bars["ticker"] != "NVDA"])
    joined = world.of(bars, (bars["ticker"] != "NVDA") | (bars["bar_end"] >= JOINED))
    others = joined[joined["ticker"] != "NVDA"]
    assert_same_bits(others[others["bar_end"] < JOINED], alone[alone["bar_end"] < JOINED])
    later, before = others[others["bar_end"] >= JOINED], alone[alone["bar_end"] >= JOINED]
    assert_same_bits(later.drop(columns=OWN).assign(**dict.fromkeys(OWN, 0.0)), before.drop(columns=OWN).assign(**dict.fromkeys(OWN, 0.0)))  # fmt: skip
    assert (later["market_return_1h"].to_numpy() != before["market_return_1h"].to_numpy()).all()


def test_a_ticker_that_leaves_stays_in_the_past_s_means(world):
    bars = world.bars
    whole = world.of(bars)
    left = world.of(bars, (bars["ticker"] != "NVDA") | (bars["bar_end"] < JOINED))
    assert_same_bits(left[left["bar_end"] < JOINED], whole[whole["bar_end"] < JOINED])
    # From then on it is as if it had no bars.
    gone = world.of(bars[(bars["ticker"] != "NVDA") | (bars["bar_end"] < JOINED)])
    others = left[(left["bar_end"] >= JOINED) & (left["ticker"] != "NVDA")]
    assert_same_bits(others, gone[gone["bar_end"] >= JOINED])


def test_who_does_not_count_has_rows_of_its_own(world):
    bars = world.bars
    some = world.of(bars, bars["ticker"] != "NVDA")
    whole = world.of(bars)
    mine, theirs = (frame[frame["ticker"] == "NVDA"] for frame in (some, whole))
    assert len(mine) == len(theirs) > 100
    assert_same_bits(mine.assign(**dict.fromkeys(OWN, 0.0)), theirs.assign(**dict.fromkeys(OWN, 0.0)))
    market = some.groupby("bar_start")["market_return_7h"].nunique()
    assert (market == 1).all()
    assert np.allclose(mine["relative_return_7h"], mine["return_7h"] - mine["market_return_7h"], atol=1e-12)


def test_everybody_counting_is_the_same_as_nobody_being_asked(world):
    assert_same_bits(world.of(world.bars, pd.Series(True, index=world.bars.index)), world.of(world.bars))
