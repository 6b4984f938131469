"""What must hold in any market, with any decisions and any corporate actions."""

from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from tft_pipeline.config import PortfolioSettings
from tft_pipeline.portfolio.ledger import State, advance
from tft_pipeline_tests.portfolio.examples import actions, assert_balanced, at, bars, day_by_day, decisions, hours

TICKERS = ("AAA", "BBB", "CCC")
STARTS = [
    start for day in ("2026-01-08", "2026-01-09", "2026-01-12") for start in hours(day, 18, 6)
]  # the last bar ends at midnight
ENDS = [*(start + (STARTS[1] - STARTS[0]) for start in STARTS)]

prices = st.floats(0.05, 3_000.0).map(lambda value: round(value, 4))
ratios = st.sampled_from([0.01, 1 / 3, 0.5, 2 / 3, 1.5, 2.0, 7.0])


@st.composite
def markets(draw):
    held = draw(
        st.lists(st.tuples(st.sampled_from(TICKERS), st.sampled_from(STARTS)), min_size=1, max_size=40, unique=True)
    )
    held = [*{(TICKERS[0], STARTS[0]): None} | dict.fromkeys(held)]  # the first day has a mark of its own
    rows = [(ticker, start, draw(prices), draw(prices)) for ticker, start in held]
    kinds = st.one_of(
        st.tuples(st.just("split"), ratios),
        st.tuples(st.just("dividend"), st.floats(0.01, 5.0).map(lambda v: round(v, 4))),
    )
    closed = [at(text) for text in ("2026-01-08 12:00", "2026-01-10 09:00", "2026-01-11 09:00", "2026-01-12 01:00")]
    moments = st.sampled_from([*STARTS, at("2026-01-09 18:30"), *closed])
    acted = draw(
        st.lists(
            st.tuples(st.sampled_from(TICKERS), moments, kinds), max_size=6, unique_by=lambda a: (a[0], a[1], a[2][0])
        )
    )
    decided = draw(
        st.lists(
            st.tuples(st.sampled_from(TICKERS), st.sampled_from(ENDS), st.floats(-1.0, 1.0)),
            max_size=30,
            unique_by=lambda d: d[:2],
        )
    )
    return bars(rows), actions((k, t, *kind) for k, t, kind in acted), decisions(decided)


costs = st.builds(
    PortfolioSettings,
    initial_cash_usd=st.sampled_from([100.0, 10_000.0, 123_456.78]),
    half_spread_bps=st.floats(0.0, 50.0),
    fee_usd_per_share=st.floats(0.0, 0.05),
    minimum_trade_weight=st.sampled_from([0.0, 0.02, 0.1]),
)


@given(markets(), costs)
@settings(max_examples=60, deadline=None)
def test_the_ledger_balances_to_the_cent_whatever_happens(market, chosen):
    opening = State.opening(chosen)
    found = advance(opening, *market, chosen)
    assert_balanced(found, opening.cash_cents)
    assert found.equity["marked_at"].tolist() == sorted(market[0]["bar_end"].unique())


@given(markets(), costs)
@settings(max_examples=60, deadline=None)
def test_every_fill_follows_a_decision_at_a_bar_that_opens_no_earlier(market, chosen):
    frame, _, decided = market
    fills = advance(State.opening(chosen), *market, chosen).trades.query("kind == 'trade'")
    for fill in fills.itertuples():
        [bar] = frame[(frame["ticker"] == fill.ticker) & (frame["bar_start"] == fill.executed_at)].itertuples()
        assert fill.price == bar.open
        assert fill.cost_cents >= 0
        earlier = decided[(decided["ticker"] == fill.ticker) & (decided["issued_at"] <= fill.executed_at)]
        assert len(earlier)
        between = frame["bar_start"].between(earlier["issued_at"].max(), fill.executed_at, inclusive="left")
        assert not (between & (frame["ticker"] == fill.ticker)).any()


@given(markets(), costs)
@settings(max_examples=60, deadline=None)
def test_cash_is_never_driven_below_zero_by_a_purchase(market, chosen):
    trades = advance(State.opening(chosen), *market, chosen).trades
    cash, held = State.opening(chosen).cash_cents, dict.fromkeys(TICKERS, 0)
    for trade in trades.itertuples():
        cash += trade.cash_change_cents
        held[trade.ticker] += trade.quantity
        if trade.kind == "trade" and trade.quantity > 0 and held[trade.ticker] > 0:
            assert cash >= 0


@given(markets(), costs)
@settings(max_examples=30, deadline=None)
def test_a_span_at_once_equals_the_same_day_by_day(market, chosen):
    whole, days = advance(State.opening(chosen), *market, chosen), day_by_day(*market, chosen)
    for name in ("trades", "positions", "equity"):
        assert_frame_equal(getattr(days, name), getattr(whole, name))
