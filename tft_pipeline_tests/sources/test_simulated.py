"""The simulated market keeps what it promises: the planted signal and nothing else, the calendar, and a past that never changes."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tft_pipeline import contracts, schema
from tft_pipeline.config import Settings, SimulationSettings
from tft_pipeline.errors import SourceError
from tft_pipeline.sources import simulated_clock, simulated_prices, simulated_texts
from tft_pipeline.sources.protocols import Span
from tft_pipeline.sources.simulated import SimulatedMarket, ticker_name

START = date(2025, 10, 15)
UNTIL = datetime(2026, 4, 15, 18, 30, tzinfo=UTC)
EVER = Span(datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def world(
    *, until: datetime = UNTIL, calendar: str = "XNYS", seed: int = 7, start: date | None = START, **simulation
) -> SimulatedMarket:
    settings = Settings(
        home=Path("unused"), seed=seed, start=start, calendar=calendar, simulation=SimulationSettings(**simulation)
    )
    return SimulatedMarket(settings, until)


@pytest.fixture(scope="module")
def market() -> SimulatedMarket:
    return world()


@pytest.fixture(scope="module")
def large() -> SimulatedMarket:
    return world(tickers=60)


def bars_of(market: SimulatedMarket, span: Span = EVER) -> pd.DataFrame:
    return market.bars_source().bars(market.tickers, span).frame


def actions_of(market: SimulatedMarket) -> pd.DataFrame:
    return market.bars_source().actions(market.tickers, EVER).frame


def posts_of(market: SimulatedMarket, span: Span = EVER) -> pd.DataFrame:
    return market.posts_source().posts(span).frame


def with_returns(market: SimulatedMarket) -> pd.DataFrame:
    """Truth beside the log return that a holder earned, from bars and actions as anybody sees them; NaN across a missing bar."""
    truth = market.truth().bars
    bars = truth.merge(bars_of(market)[["ticker", "bar_start", "close"]], on=["ticker", "bar_start"], how="left")
    before = bars.groupby("ticker")["close"].shift(1)
    for action in actions_of(market).itertuples():
        row = (bars["ticker"] == action.ticker) & (bars["bar_start"] == action.effective_at)
        if action.kind == "split":
            before[row] /= action.value
        else:
            before[row] -= action.value
    bars["log_return"] = np.log(bars["close"] / before)
    bars["mood_before"] = bars.groupby("ticker")["mood"].shift(1)
    return bars


def correlation(x: pd.Series, y: pd.Series) -> tuple[float, float]:
    """Correlation of what both have, and its standard error where there is none."""
    both = x.notna() & y.notna()
    return float(np.corrcoef(x[both], y[both])[0, 1]), 1 / np.sqrt(both.sum())


def net_mood(posts: pd.DataFrame, market: SimulatedMarket) -> pd.DataFrame:
    """ticker, created_at, net (+1 bullish, 0, -1 bearish), read from the words alone."""
    meaning = {}
    for i, ticker in enumerate(market.tickers):
        other = market.tickers[(i + 1) % len(market.tickers)]
        for net, templates in (
            (1, simulated_texts.BULLISH + simulated_texts.BULLISH_PAIRS),
            (0, simulated_texts.NEUTRAL + simulated_texts.NEUTRAL_PAIRS),
            (-1, simulated_texts.BEARISH + simulated_texts.BEARISH_PAIRS),
        ):
            meaning |= {simulated_texts.filled(t, ticker, other): (ticker, net) for t in templates}
    spoken = posts[posts["text"].isin(list(meaning))]
    read = pd.DataFrame([meaning[text] for text in spoken["text"]], columns=["ticker", "net"], index=spoken.index)
    return read.assign(created_at=spoken["created_at"]).reset_index(drop=True)


def test_frames_keep_their_contracts(market):
    schema.validate(bars_of(market), contracts.BARS)
    schema.validate(actions_of(market), contracts.ACTIONS)
    schema.validate(posts_of(market).assign(text_hash=""), contracts.POSTS)
    assert market.bars_source().simulated
    assert market.posts_source().simulated


def test_empty_answers_keep_their_contracts(market):
    nothing = Span(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC))
    schema.validate(bars_of(market, nothing), contracts.BARS)
    schema.validate(market.bars_source().actions(market.tickers, nothing).frame, contracts.ACTIONS)
    schema.validate(posts_of(market, nothing).assign(text_hash=""), contracts.POSTS)


@pytest.mark.parametrize("strength", [0.0, 0.35, 0.8])
def test_mood_leads_the_next_return_by_the_planted_strength_and_by_no_more(strength):
    bars = with_returns(world(tickers=60, signal_strength=strength))
    found, error = correlation(bars["mood_before"], bars["log_return"] / bars["volatility"])
    assert found == pytest.approx(strength, abs=4 * error)
    assert error < 0.005


def test_scaled_returns_have_the_variance_that_truth_says(large):
    bars = with_returns(large)
    scaled = bars["log_return"] / bars["volatility"]
    assert scaled.std() == pytest.approx(1.0, abs=0.02)
    assert ((bars["log_return"] - bars["expected_return"]) / bars["volatility"]).std() == pytest.approx(
        np.sqrt(1 - 0.35**2), abs=0.02
    )


def test_without_strength_nothing_known_before_a_bar_says_anything_about_it():
    bars = with_returns(world(tickers=60, signal_strength=0.0))
    assert (bars["expected_return"] == 0).all()
    scaled = (bars["log_return"] / bars["volatility"]).groupby(bars["ticker"])
    found, error = correlation(scaled.shift(1), scaled.shift(0))
    assert abs(found) < 4 * error


@pytest.mark.parametrize(("strength", "least"), [(0.35, 0.12), (0.0, None)])
def test_mood_read_from_posts_alone_leads_the_next_bar(strength, least):
    market = world(tickers=30, signal_strength=strength)
    bars = with_returns(market)
    posts = net_mood(posts_of(market), market)
    # What was posted up to a bar's end, since the end of the bar before.
    posts["bar_end"] = posts["created_at"].dt.ceil("h")
    said = posts.groupby(["ticker", "bar_end"], as_index=False)["net"].sum()
    bars = bars.merge(said, on=["ticker", "bar_end"], how="left")
    known_before = bars["net"].fillna(0).groupby(bars["ticker"]).shift(1)
    found, error = correlation(known_before, bars["log_return"] / bars["volatility"])
    assert found > least if least else abs(found) < 4 * error


def test_posts_of_the_night_lead_the_first_bar_of_the_next_session(large):
    bars = with_returns(large)
    posts = net_mood(posts_of(large), large)
    starts = pd.DatetimeIndex(sorted(bars["bar_start"].unique()))
    nxt = starts.searchsorted(pd.DatetimeIndex(posts["created_at"]), side="left")
    posts = posts[nxt < len(starts)].assign(bar_start=starts[nxt[nxt < len(starts)]])
    early = posts["bar_start"] - posts["created_at"] > pd.Timedelta(hours=2)  # nobody waits so long within a session
    night = posts[early].groupby(["ticker", "bar_start"], as_index=False)["net"].sum()
    bars = bars.merge(night, on=["ticker", "bar_start"], how="inner")
    found, error = correlation(bars["net"], bars["log_return"] / bars["volatility"])
    assert found > max(0.12, 4 * error)


def test_more_is_said_when_the_mood_is_loud_and_by_day(market):
    truth = market.truth().bars
    posts = net_mood(posts_of(market), market)
    posts["bar_start"] = posts["created_at"].dt.floor("h")
    count = posts.groupby(["ticker", "bar_start"]).size().rename("posts").reset_index()
    bars = truth.merge(count, on=["ticker", "bar_start"], how="left").fillna({"posts": 0})
    loud, quiet = bars["mood"].abs() > 0.5, bars["mood"].abs() < 0.1
    assert bars.loc[loud, "posts"].mean() > 1.8 * bars.loc[quiet, "posts"].mean()
    weekend = posts["created_at"].dt.dayofweek >= 5
    assert 0 < weekend.mean() < 0.15


def test_time_going_on_leaves_the_past_bit_identical(market):
    later = world(until=UNTIL + timedelta(days=400))
    past = Span(EVER.start, UNTIL)
    known = bars_of(later, past)
    assert_frame_equal(known[known["bar_end"] <= UNTIL].reset_index(drop=True), bars_of(market), check_exact=True)
    assert_frame_equal(posts_of(later, past), posts_of(market), check_exact=True)
    actions = actions_of(later)
    assert_frame_equal(
        actions[actions["effective_at"] <= UNTIL].reset_index(drop=True), actions_of(market), check_exact=True
    )
    truth, longer = market.truth(), later.truth()
    assert_frame_equal(
        longer.bars[longer.bars["bar_end"] <= UNTIL].reset_index(drop=True), truth.bars, check_exact=True
    )
    assert len(bars_of(later)) > 2 * len(bars_of(market))


def test_one_object_grows_with_its_present_like_a_new_one():
    class Replay(SimulatedMarket):
        present = UNTIL

        def until(self) -> datetime:
            return self.present

    moving = Replay(world()._settings)
    bars_of(moving)
    moving.present = UNTIL + timedelta(days=60)
    assert_frame_equal(bars_of(moving), bars_of(world(until=moving.present)), check_exact=True)


def test_two_half_spans_make_the_whole(market):
    middle = datetime(2026, 1, 14, 16, 20, 10, tzinfo=UTC)
    halves = [Span(EVER.start, middle), Span(middle, EVER.end)]
    for read, key in ((bars_of, contracts.BARS.key), (posts_of, contracts.POSTS.key)):
        joined = pd.concat([read(market, half) for half in halves]).sort_values(list(key), ignore_index=True)
        assert_frame_equal(joined, read(market), check_exact=True)


def test_another_seed_makes_another_market(market):
    assert not np.allclose(bars_of(market)["close"].head(100), bars_of(world(seed=8))["close"].head(100))


def test_no_bar_and_no_post_comes_from_the_future(market):
    assert bars_of(market)["bar_end"].max() == pd.Timestamp(
        "2026-04-15 18:00", tz=UTC
    )  # 18:30: the bar in progress is kept back
    assert posts_of(market)["created_at"].max() <= UNTIL
    span = market.bars_source().span()
    assert span == Span(datetime(2025, 10, 15, 13, tzinfo=UTC), datetime(2026, 4, 15, 18, tzinfo=UTC))
    assert world(until=datetime(2025, 10, 15, 13, 30, tzinfo=UTC)).bars_source().span() is None


def test_bars_follow_new_york_through_both_changes_of_the_clock(market):
    starts = market.truth().bars.drop_duplicates("bar_start")["bar_start"]
    local = starts.dt.tz_convert("America/New_York")
    assert set(local.dt.hour) == set(range(9, 16))
    by_day = starts.groupby(local.dt.date).agg(["min", "count"])
    assert by_day.loc[date(2025, 10, 31), "min"].hour == 13  # summer time, UTC-4
    assert by_day.loc[date(2025, 11, 3), "min"].hour == 14  # winter time, UTC-5
    assert by_day.loc[date(2026, 3, 6), "min"].hour == 14
    assert by_day.loc[date(2026, 3, 9), "min"].hour == 13
    assert by_day.loc[date(2025, 11, 28), "count"] == 4  # the day after Thanksgiving ends at 13:00
    assert by_day.loc[date(2025, 12, 24), "count"] == 4
    assert date(2025, 11, 27) not in by_day.index
    assert by_day["count"].value_counts().index[0] == 7


def test_around_the_clock_calendars_have_twenty_four_bars_a_day():
    market = world(calendar="24/7", until=datetime(2025, 11, 1, tzinfo=UTC), days=30, tickers=2)
    truth = market.truth().bars
    assert len(truth) == 2 * 24 * 17
    schema.validate(bars_of(market), contracts.BARS)


def test_missing_bars_are_those_that_truth_lists(market):
    truth = market.truth()
    held = set(zip(bars_of(market)["ticker"], bars_of(market)["bar_start"], strict=True))
    expected = set(zip(truth.bars["ticker"], truth.bars["bar_start"], strict=True))
    assert expected - held == set(zip(truth.missing["ticker"], truth.missing["bar_start"], strict=True))
    assert 0.001 < len(truth.missing) / len(truth.bars) < 0.006


def test_splits_show_in_prices_as_traded_and_leave_no_jump_after_adjustment(market):
    splits = actions_of(market).query("kind == 'split'")
    assert splits[["ticker", "value"]].to_numpy().tolist() == [["SIMC", 4.0]]
    later = world(until=UNTIL + timedelta(days=100))
    assert actions_of(later).query("kind == 'split'")[["ticker", "value"]].to_numpy().tolist() == [
        ["SIMC", 4.0],
        ["SIMD", 0.1],
    ]
    assert market.truth().splits["effective_at"].tolist() == splits["effective_at"].tolist()

    bars = bars_of(market).query("ticker == 'SIMC'").reset_index(drop=True)
    at = bars.index[bars["bar_start"] == splits["effective_at"].iloc[0]][0]
    assert bars["close"][at] / bars["close"][at - 1] == pytest.approx(1 / 4, rel=0.2)
    assert bars["open"][at] / bars["close"][at - 1] == pytest.approx(1 / 4, rel=0.2)
    assert bars["volume"][at : at + 70].median() / bars["volume"][at - 70 : at].median() == pytest.approx(4, rel=0.5)
    returns = with_returns(market).query("ticker == 'SIMC'")
    on_the_day = returns.loc[returns["bar_start"] == splits["effective_at"].iloc[0]].iloc[0]
    assert abs(on_the_day["log_return"]) < 5 * on_the_day["volatility"]


def test_dividends_are_a_small_part_of_the_price_and_quarterly(market):
    dividends = actions_of(market).query("kind == 'dividend'")
    assert {"SIMA", "SIMB"} <= set(dividends["ticker"])
    assert dividends.groupby("ticker").size().between(2, 3).all()
    first = dividends.query("ticker == 'SIMA'").iloc[0]
    before = bars_of(market).query("ticker == 'SIMA' and bar_start < @first.effective_at")["close"].iloc[-1]
    assert first["value"] == pytest.approx(before * 0.015 / 4, abs=0.006)  # 1.5 % a year


def test_volatility_clusters_and_is_highest_where_the_session_begins_and_ends(large):
    bars = with_returns(large)
    assert set(bars["regime"]) == set(simulated_prices.REGIMES)
    by_regime = bars.groupby("regime")["volatility"].mean()
    assert by_regime["calm"] < by_regime["normal"] < by_regime["stressed"]
    hour = bars["bar_start"].dt.tz_convert("America/New_York").dt.hour
    by_hour = bars.groupby(hour)["volatility"].mean()
    assert by_hour[9] > by_hour[15] > by_hour[12]
    volume = bars_of(large)
    by_volume = volume.groupby(volume["bar_start"].dt.tz_convert("America/New_York").dt.hour)["volume"].mean()
    assert by_volume[15] > by_volume[12]
    size = (bars["log_return"].abs() / bars.groupby(hour)["volatility"].transform("mean")).groupby(bars["ticker"])
    found, error = correlation(size.shift(1), size.shift(0))
    assert found > 20 * error


def test_the_first_two_move_with_the_market(large):
    wide = (
        with_returns(large)
        .assign(z=lambda f: f["log_return"] / f["volatility"])
        .pivot(index="bar_start", columns="ticker", values="z")
    )
    rest = wide.drop(columns=["SIMA", "SIMB"]).mean(axis=1)
    assert wide["SIMA"].corr(rest) > 0.7
    assert wide["SIMA"].corr(wide["SIMB"]) > wide["SIME"].corr(wide["SIMF"])


def test_mood_stays_within_one_and_is_rarely_loud(large):
    mood = large.truth().bars["mood"]
    assert mood.abs().max() <= 1
    assert mood.std() == pytest.approx(simulated_prices.MOOD_DEVIATION, rel=0.03)
    assert mood.mean() == pytest.approx(0, abs=0.02)
    assert (mood.abs() > 0.5).mean() == pytest.approx(1 - 0.5 ** (1 / 3), abs=0.02)  # |mood| = u³


def test_texts_are_few_varied_and_name_their_ticker(market):
    posts = posts_of(market)
    assert min(map(len, (simulated_texts.BULLISH, simulated_texts.NEUTRAL, simulated_texts.BEARISH))) >= 40
    assert posts["text"].nunique() < 100 * len(market.tickers)
    assert posts["text"].str.contains(r"\$SIM", regex=True).mean() > 0.4
    assert posts["text"].str.contains(r"(?<!\$)\bSIM[A-Z]\b", regex=True).mean() > 0.2
    assert 0.02 < (~posts["text"].str.contains("SIM")).mean() < 0.2
    assert posts["text"].str.contains(r"SIMA.*SIMB", regex=True).any()
    copies = posts["post_id"].str.endswith("c")
    assert 0.01 < copies.mean() < 0.03
    originals = posts.set_index("post_id")["text"]
    copied = posts[copies].iloc[0]
    assert originals[copied["post_id"][:-1]] == copied["text"]
    assert market.company_names()["SIMA"] == "Acorn"
    assert simulated_texts.company_name("SIMAB") == "Acorn Birch"


def test_five_thousand_tickers_have_short_names_of_their_own():
    names = [ticker_name(i) for i in range(5000)]
    assert names[:2] == ["SIMA", "SIMB"]
    assert names[25:28] == ["SIMZ", "SIMAA", "SIMAB"]
    assert len(set(names)) == 5000
    assert max(map(len, names)) <= 10
    assert pd.Series(names).str.fullmatch(contracts.TICKER_PATTERN).all()


def test_one_ticker_is_a_market_too():
    market = world(tickers=1)
    schema.validate(bars_of(market), contracts.BARS)
    assert actions_of(market).query("kind == 'split'")["ticker"].tolist() == ["SIMA"]
    assert len(posts_of(market)) > 100


def test_universe_is_sorted_and_unknown_tickers_do_not_stop_the_others(market):
    source = market.bars_source()
    assert source.universe() == ("SIMA", "SIMB", "SIMC", "SIMD", "SIME", "SIMF", "SIMG", "SIMH")
    fetched = source.bars(["SIMB", "AAPL"], EVER)
    assert fetched.problems == {"AAPL": "unknown ticker 'AAPL'; the simulated market offers SIMA to SIMH (8)."}
    assert set(fetched.frame["ticker"]) == {"SIMB"}
    with pytest.raises(SourceError, match=r"none of the tickers asked for \(AAPL\) exists; .* Set TFT_TICKERS"):
        source.actions(["AAPL"], EVER)


def test_epoch_without_a_start_is_so_many_days_before_the_present():
    assert world(start=None, days=40).epoch == UNTIL.date() - timedelta(days=40)
    assert SimulatedMarket(Settings(home=Path("unused"))).until().tzinfo is UTC


def test_wrong_settings_say_what_to_do():
    with pytest.raises(
        SourceError, match="begins on 2026-05-01, after the present 2026-04-15 18:30 UTC; set TFT_START"
    ):
        world(start=date(2026, 5, 1))
    with pytest.raises(SourceError, match=r"knows no calendar 'XXXX'; set TFT_CALENDAR"):
        bars_of(world(calendar="XXXX"))
    with pytest.raises(SourceError, match="has no time zone; give it one"):
        simulated_clock.microseconds(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(SourceError, match="offers no sessions from 2026-04-11 to 2026-04-12"):
        simulated_clock.clock("XNYS", date(2026, 4, 11), date(2026, 4, 12))  # a weekend
