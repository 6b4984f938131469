"""The matrix as a whole: its contract, and that nothing after a bar's end, nor the length of history, moves a single bit."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from tft_pipeline.contracts import BARS, FEATURES, HOURLY_SENTIMENT
from tft_pipeline.features.matrix import WARMUP_BARS, WARMUP_DAYS, feature_matrix
from tft_pipeline.features.mood import mood
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.schema import validate
from tft_pipeline_tests.features.bars import (
    FEATURE_NAMES,
    HOUR,
    at,
    make_actions,
    make_bars,
    random_bars,
    random_mood,
    with_actions,
)  # fmt: skip

TICKERS = ["AAPL", "BAC", "IBM"]
START, END = date(2024, 1, 8), date(2024, 3, 16)  # daylight saving begins in the last week
ACTIONS = [
    ("AAPL", "2024-02-14 14:00", "split", 7.0), ("BAC", "2024-02-26 14:00", "split", 0.1),
    ("IBM", "2024-02-20 14:00", "dividend", 1.5), ("BAC", "2024-03-08 14:00", "dividend", 0.3),
]  # fmt: skip


class World:
    """Three tickers' bars, actions and mood over ten weeks, with a few bars missing, and their matrix."""

    def __init__(self, phase: int) -> None:
        self.grid = Calendar("XNYS").bar_grid(START, END, phase_minutes=phase)
        bars = validate(random_bars(self.grid, TICKERS), BARS)
        random = np.random.default_rng(3)
        self.bars = bars[random.random(len(bars)) > 0.01].reset_index(drop=True)
        self.mood = random_mood(at(str(START)), at(str(END)), TICKERS[:2])
        self.actions = make_actions(*ACTIONS)
        self.matrix = self.of(self.bars, self.actions, self.mood)

    def of(self, bars, actions, mood) -> pd.DataFrame:
        return validate(feature_matrix(with_actions(bars, actions), mood, self.grid), FEATURES)


@pytest.fixture(scope="module", params=[0, 30], ids=["clock-hour", "half-past"])
def world(request) -> World:
    return World(request.param)


def assert_same_bits(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    keys = ["ticker", "bar_start", "bar_end"]
    pd.testing.assert_frame_equal(found[keys].reset_index(drop=True), expected[keys].reset_index(drop=True))
    names = ["close", "log_price", *FEATURE_NAMES]
    one, other = (np.ascontiguousarray(frame[names].to_numpy(np.float64)).view(np.int64) for frame in (found, expected))
    differing = [name for name, same in zip(names, (one == other).all(axis=0), strict=True) if not same]
    assert not differing, f"{differing} are not the same to the last bit"


def cuts(world: World) -> list[pd.Timestamp]:
    """Twenty-four bar ends spread over the matrix; among them those just before each late action."""
    ends = sorted(world.matrix["bar_end"].unique())
    spread = [ends[i] for i in np.linspace(0, len(ends) - 2, 22).astype(int)]
    eves = [max(end for end in ends if end <= at(text)) for text in ("2024-02-26 14:00", "2024-03-08 14:00")]
    return sorted({*spread, *eves})


def test_every_feature_of_the_contract_is_there_and_finite(world):
    assert list(world.matrix.columns) == FEATURES.names
    assert np.isfinite(world.matrix[FEATURE_NAMES].to_numpy()).all()
    assert (world.matrix[FEATURE_NAMES].std() > 0).all()
    assert set(world.matrix["ticker"]) == set(TICKERS)


def test_a_row_for_every_bar_with_enough_history_and_for_no_other(world):
    for ticker, bars in world.bars.groupby("ticker"):
        rows = world.matrix[world.matrix["ticker"] == ticker]
        assert rows["bar_start"].tolist() == bars["bar_start"].tolist()[WARMUP_BARS:]


def test_the_index_differs_by_the_return_where_nothing_was_paid(world):
    rows = world.matrix[world.matrix["ticker"] == "AAPL"]
    np.testing.assert_allclose(rows["log_price"].diff()[1:], rows["return_1h"][1:], atol=1e-12)


def test_nothing_after_a_bars_end_changes_it_when_history_stops_there(world):
    moments = cuts(world)
    assert len(moments) >= 20
    for cut in moments:
        found = world.of(
            world.bars[world.bars["bar_end"] <= cut], world.actions[world.actions["effective_at"] < cut],
            world.mood[world.mood["hour_end"] <= cut],
        )  # fmt: skip
        assert_same_bits(found, world.matrix[world.matrix["bar_end"] <= cut])


def test_nothing_after_a_bars_end_changes_it_when_the_future_is_another(world):
    for number, cut in enumerate(cuts(world)):
        random = np.random.default_rng(number)
        bars, mood_then = world.bars.copy(), world.mood.copy()
        later = (bars["bar_end"] > cut).to_numpy()
        bars.loc[later, ["open", "high", "low", "close"]] *= np.exp(random.normal(0, 1, (later.sum(), 1)))
        bars.loc[later, "volume"] *= random.integers(0, 5, later.sum())
        known_later = (mood_then["hour_end"] > cut).to_numpy()
        counts = ["bullish_count", "bearish_count", "neutral_count"]
        mood_then.loc[known_later, counts] = random.integers(0, 99, (known_later.sum(), 3))
        mood_then.loc[known_later, "confidence"] = 0.01
        next_start = bars.loc[later, "bar_start"].min()
        more = make_actions(
            *(row for row in ACTIONS if at(row[1]) < cut),
            *((ticker, str(next_start), kind, 3.0) for ticker in TICKERS for kind in ("split", "dividend")),
        )
        found = world.of(bars, more, validate(mood_then, HOURLY_SENTIMENT))
        before = found["bar_end"] <= cut
        assert_same_bits(found[before], world.matrix[world.matrix["bar_end"] <= cut])
        after = world.matrix["bar_end"] > cut
        assert not found.loc[~before, "return_1h"].equals(world.matrix.loc[after, "return_1h"])


def test_the_comparison_sees_one_bit(world):
    other = world.matrix.copy()
    other.loc[5, "macd"] = np.nextafter(other.loc[5, "macd"], 1.0)
    with pytest.raises(AssertionError, match=r"\['macd'\] are not the same"):
        assert_same_bits(other, world.matrix)


@pytest.mark.parametrize("first", ["2024-01-09", "2024-01-12", "2024-01-16", "2024-01-23", "2024-01-29 16:00"])
def test_five_lengths_of_history_give_the_same_bits(world, first):
    bars = world.bars[world.bars["bar_start"] >= at(first)]
    found = world.of(bars, world.actions, world.mood[world.mood["hour_start"] >= at(first)])
    common = found["bar_start"].min()
    starts = {ticker: part["bar_start"].tolist()[WARMUP_BARS] for ticker, part in bars.groupby("ticker")}
    assert found.groupby("ticker")["bar_start"].min().to_dict() == starts
    expected = world.matrix[world.matrix["bar_start"] >= world.matrix["ticker"].map(starts)]
    assert common in set(expected["bar_start"])
    assert_same_bits(found, expected)


def test_the_days_of_warm_up_hold_enough_bars_in_the_sparsest_weeks():
    calendar = Calendar("XNYS")
    starts = calendar.bar_grid(date(2012, 1, 1), date(2025, 1, 1), phase_minutes=0)["bar_start"]
    for day in pd.date_range("2013-01-01", "2024-12-31", freq="D", tz="UTC"):
        warm = np.searchsorted(starts, [day - pd.Timedelta(days=WARMUP_DAYS), day])
        assert np.diff(warm).item() >= WARMUP_BARS, day


def test_bars_outside_the_calendar_have_no_row_and_change_none(world):
    early = make_bars(["2024-03-05 03:00", "2024-03-09 15:00"], 1.0)
    found = world.of(pd.concat([world.bars, early], ignore_index=True), world.actions, world.mood)
    assert_same_bits(found, world.matrix)


def test_bars_in_any_order_give_the_same_matrix(world):
    shuffled = world.bars.sample(frac=1, random_state=1)
    assert_same_bits(world.of(shuffled, world.actions, world.mood.sample(frac=1, random_state=2)), world.matrix)


def test_a_halt_and_a_thin_ticker_give_the_same_rows_by_the_day_and_in_a_range():
    grid = Calendar("XNYS").bar_grid(date(2024, 1, 2), date(2024, 5, 25), phase_minutes=0)
    bars = random_bars(grid, TICKERS)
    halted = bars["bar_start"].between(at("2024-03-01"), at("2024-05-10")) & (bars["ticker"] == "BAC")
    thin = (np.random.default_rng(0).random(len(bars)) > 0.33) & (bars["ticker"] == "IBM")
    bars = with_actions(bars[~halted & ~thin], make_actions())
    ranged = feature_matrix(bars, HOURLY_SENTIMENT.empty(), grid)
    days = pd.date_range(at("2024-05-09"), at("2024-05-17"))
    for day in days:
        loaded = bars[
            bars["bar_start"].between(day - pd.Timedelta(days=WARMUP_DAYS), day + HOUR * 24, inclusive="left")
        ]
        alone = feature_matrix(loaded, HOURLY_SENTIMENT.empty(), grid)
        of_day = [
            frame[frame["bar_start"].between(day, day + HOUR * 24, inclusive="left")] for frame in (alone, ranged)
        ]
        assert_same_bits(*of_day)
    inside = ranged[ranged["bar_start"].between(days[0], days[-1])]
    assert set(inside["ticker"]) == {"AAPL"}
    # The first bar after the halt has a return across it, which is nobody's market.
    first = inside[inside["bar_start"] == at("2024-05-10 13:00")]
    assert first["market_return_1h"].notna().all()


def test_too_little_history_gives_no_row(world):
    assert world.of(world.bars.groupby("ticker").head(WARMUP_BARS), world.actions, world.mood).empty
    assert len(world.of(world.bars.groupby("ticker").head(WARMUP_BARS + 1), world.actions, world.mood)) == 3
    assert world.of(BARS.empty(), world.actions, world.mood).empty


def test_weekend_posts_show_in_mondays_first_row_and_not_in_fridays_last(world):
    weekend = (world.mood["hour_start"] >= at("2024-03-09")) & (world.mood["hour_end"] <= at("2024-03-11"))
    found = world.of(world.bars, world.actions, world.mood[~weekend])
    same = (found[FEATURE_NAMES].to_numpy() == world.matrix[FEATURE_NAMES].to_numpy()).all(axis=1)
    changed = world.matrix.loc[~same]
    assert set(changed["ticker"]) == {"AAPL", "BAC"}
    monday = world.grid["bar_start"][world.grid["bar_start"] >= at("2024-03-11")].iloc[0]
    assert changed["bar_start"].min() == monday


def test_the_rows_mood_is_that_of_its_own_ticker(world):
    for ticker in TICKERS:
        rows = world.matrix[world.matrix["ticker"] == ticker]
        ends = world.bars.loc[world.bars["ticker"] == ticker, "bar_end"]
        alone = mood(ends, world.mood[world.mood["ticker"] == ticker])
        assert rows["mentions_log"].tolist() == alone["mentions_log"][WARMUP_BARS:].tolist()
    assert (world.matrix.loc[world.matrix["ticker"] != "IBM", "mentions_log"] > 0).any()


def test_a_whole_flat_market_without_trade_is_finite(world):
    flat = pd.concat([make_bars(world.grid["bar_start"], 12.34, ticker=ticker, volume=0.0,
                                bar_end=world.grid["bar_end"].to_numpy()) for ticker in TICKERS])  # fmt: skip
    matrix = world.of(flat, make_actions(), HOURLY_SENTIMENT.empty())
    assert len(matrix) == len(TICKERS) * (len(world.grid) - WARMUP_BARS)
    assert (matrix["bar_end"] - matrix["bar_start"]).max() == HOUR
    assert (matrix[["bollinger_position_20h", "macd", "volume_deviation_70h", "breadth_1h"]] == 0).all(axis=None)
