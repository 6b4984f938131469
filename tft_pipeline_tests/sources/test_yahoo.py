"""The Yahoo source against a local server that speaks Yahoo's protocol to the real yfinance."""

import stat
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yfinance
from yfinance.data import SingletonMeta

from tft_pipeline.config import Settings
from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.errors import ConfigError, SourceError
from tft_pipeline.schema import validate
from tft_pipeline.sources import yahoo
from tft_pipeline.sources._patience import OutOfPatienceError, Patience, retry_after_seconds
from tft_pipeline.sources.protocols import BarSource, Fetched, Span
from tft_pipeline.sources.yahoo import YahooBars
from tft_pipeline_tests.sources.servers.yahoo_server import LocalSession, YahooServer

MONDAY, TUESDAY, WEDNESDAY, THURSDAY = (date(2024, 3, day) for day in (4, 5, 6, 7))
AFTERWARDS = datetime(2024, 3, 8, 3, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _fresh_yfinance() -> Iterator[None]:
    SingletonMeta._instances.clear()  # its crumb and cookie would outlive the server that gave them
    yield
    SingletonMeta._instances.clear()


@pytest.fixture
def server() -> Iterator[YahooServer]:
    with YahooServer().running() as running:
        for ticker, price in (("AAPL", 170.0), ("MSFT", 400.0), ("NVDA", 850.0)):
            listing = running.lists(ticker)
            for day in (MONDAY, TUESDAY, WEDNESDAY, THURSDAY):
                listing.session(day, price)
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


Connect = Callable[..., YahooBars]


@pytest.fixture
def connect(server: YahooServer, tmp_path: Path, waits: list[float]) -> Iterator[Connect]:
    sessions: list[LocalSession] = []

    def make(*, now: datetime = AFTERWARDS, url: str | None = None, calendar: str = "XNYS", **more: Any) -> YahooBars:
        sessions.append(LocalSession(url or server.url))
        settings = Settings(home=tmp_path, calendar=calendar)
        more = {"connections": 1, "requests_per_second": 0, **more}
        return YahooBars(settings, session=sessions[-1], now=lambda: now, sleep=waits.append, **more)

    yield make
    for session in sessions:
        session.close()


def days(first: date, last: date | None = None) -> Span:
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = datetime.combine(last or first, datetime.min.time(), UTC) + timedelta(days=1)
    return Span(start, end)


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC").as_unit("us")


# What a healthy Yahoo gives -------------------------------------------------------------------------------------------


def test_it_is_a_source_of_bars(connect: Connect) -> None:
    source: BarSource = connect()
    assert (source.name, source.simulated, source.universe(), source.span()) == ("yahoo", False, (), None)


def test_a_new_york_session_is_six_hours_and_a_half(connect: Connect) -> None:
    fetched = connect().bars(["AAPL"], days(TUESDAY))
    bars = validate(fetched.frame, BARS)
    assert fetched.problems == {}
    assert [f"{t:%H:%M}" for t in bars["bar_start"]] == ["14:30", "15:30", "16:30", "17:30", "18:30", "19:30", "20:30"]
    assert bars["bar_end"].iloc[-1] == utc("2024-03-05 21:00")  # the close, not 21:30
    first = bars.iloc[0]
    assert (first["open"], first["high"], first["low"], first["close"], first["volume"]) == (
        170.0,
        170.5,
        169.5,
        170.0,
        1000.0,
    )
    assert first["known_at"] == utc("2024-03-05 15:45")  # its end and a quarter of an hour


def test_a_half_day_ends_at_one_o_clock(connect: Connect, server: YahooServer) -> None:
    server.lists("HALF").session(date(2023, 11, 24), 10.0, hours=3.5)
    bars = connect().bars(["HALF"], days(date(2023, 11, 24))).frame
    assert [f"{t:%H:%M}" for t in bars["bar_end"]] == ["15:30", "16:30", "17:30", "18:00"]


def test_hours_move_in_utc_when_new_york_changes_its_clocks(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("DST")
    listing.session(date(2024, 3, 8), 10.0)
    listing.session(date(2024, 3, 11), 10.0)
    bars = connect(now=datetime(2024, 3, 12, tzinfo=UTC)).bars(["DST"], days(date(2024, 3, 8), date(2024, 3, 11))).frame
    opened = bars.groupby(bars["bar_start"].dt.date)["bar_start"].min()
    assert [f"{t:%d %H:%M}" for t in opened] == ["08 14:30", "11 13:30"]
    assert not bars.duplicated(["ticker", "bar_start"]).any()


def test_a_market_that_never_closes_has_whole_hours(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("BTC-USD", zone="UTC", kind="CRYPTOCURRENCY")
    listing.session(date(2024, 3, 2), 60_000.0, hours=2)  # for its bars; the period below is what Yahoo calls a day
    midnight = datetime(2024, 3, 2, tzinfo=UTC)
    listing.sessions = [(midnight, midnight + timedelta(hours=23, minutes=59))]
    for hour, bar in enumerate(listing.bars):
        bar.start = midnight + timedelta(hours=22 + hour)
    fetched = connect(calendar="24/7").bars(["BTC-USD"], days(date(2024, 3, 2)))
    assert list(fetched.frame["bar_end"]) == [utc("2024-03-02 23:00"), utc("2024-03-03 00:00")]


def test_whoever_watches_is_told_of_each_ticker_also_of_one_that_fails(connect: Connect, server: YahooServer) -> None:
    source, told = connect(connections=3), list[tuple[int, int]]()
    source.watched = lambda done, total: told.append((done, total))
    server.fault("no_result", "MSFT")
    source.bars(["AAPL", "MSFT", "../x", "NVDA"], days(TUESDAY))
    assert told == [(number, 4) for number in range(5)]


def test_a_currency_pair_is_asked_for_by_yahoos_name_and_stored_by_ours(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("EURUSD=X", zone="Europe/London", kind="CURRENCY")
    listing.session(TUESDAY, 1.08, hours=2, volume=0.0)
    midnight = datetime(2024, 3, 5, tzinfo=UTC)
    listing.sessions = [(midnight, midnight + timedelta(hours=23, minutes=59))]
    for hour, bar in enumerate(listing.bars):
        bar.start = midnight + timedelta(hours=hour)
    fetched = connect(calendar="24/5").bars(["EUR-USD", "EUR-JPY"], days(TUESDAY))
    assert fetched.frame["ticker"].unique().tolist() == ["EUR-USD"]
    assert list(fetched.frame["bar_end"]) == [utc("2024-03-05 01:00"), utc("2024-03-05 02:00")]
    assert "a ticker is a pair in dollars, such as EUR-USD; nothing was asked" in fetched.problems["EUR-JPY"]
    assert {path.rpartition("/")[2] for path in server.paths("/chart/")} <= {"EURUSD=X", "EURUSD%3DX"}


def test_periods_with_pre_and_post_market_are_read(connect: Connect, server: YahooServer) -> None:
    server.fault("periods_with_pre_and_post")
    assert connect().bars(["AAPL"], days(TUESDAY)).frame["bar_end"].iloc[-1] == utc("2024-03-05 21:00")


def test_bars_outside_the_span_are_not_returned(connect: Connect) -> None:
    span = Span(datetime(2024, 3, 5, 15, 0, tzinfo=UTC), datetime(2024, 3, 5, 17, 30, tzinfo=UTC))
    assert [f"{t:%H:%M}" for t in connect().bars(["AAPL"], span).frame["bar_start"]] == ["15:30", "16:30"]


# Splits and dividends -------------------------------------------------------------------------------------------------


def test_prices_before_a_split_come_back_as_they_were_traded(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("SPLT")
    listing.session(TUESDAY, 700.0)
    opening = listing.session(WEDNESDAY, 100.0)
    listing.splits[opening] = (7, 1)
    source = connect()
    bars = source.bars(["SPLT"], days(TUESDAY, WEDNESDAY)).frame.set_index("bar_start")
    assert bars.loc[utc("2024-03-05 20:30"), ["open", "high", "low", "close", "volume"]].tolist() == [
        700,
        700.56,
        699.5,
        700.06,
        1000,
    ]
    assert bars.loc[utc("2024-03-06 14:30"), ["open", "close", "volume"]].tolist() == [100.0, 100.0, 1000.0]
    actions = validate(source.actions(["SPLT"], days(TUESDAY, WEDNESDAY)).frame, ACTIONS)
    assert actions[["effective_at", "kind", "value"]].values.tolist() == [[utc("2024-03-06 14:30"), "split", 7.0]]


def test_a_split_after_the_span_is_taken_back_too(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("SPLT")
    listing.session(TUESDAY, 700.0)
    listing.splits[listing.session(THURSDAY, 350.0)] = (2, 1)
    source = connect()
    bars = source.bars(["SPLT"], days(TUESDAY)).frame
    assert bars["open"].unique().tolist() == [700.0]
    assert source.actions(["SPLT"], days(TUESDAY)).frame.empty  # it belongs to another day


def test_later_splits_are_asked_for_once_for_all_slices_of_a_backfill(connect: Connect, server: YahooServer) -> None:
    source = connect()
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        source.bars(["AAPL"], days(day))
    assert len(server.charts("AAPL", "1d")) == 1


def test_a_reverse_split_is_taken_back(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("RVRS")
    listing.session(TUESDAY, 0.5, volume=90_000.0)
    listing.splits[listing.session(WEDNESDAY, 5.0)] = (1, 10)
    bars = connect().bars(["RVRS"], days(TUESDAY)).frame
    assert (bars["open"].iloc[0], bars["volume"].iloc[0]) == (0.5, 90_000.0)


def test_a_split_that_yahoo_has_not_worked_in_yet_is_not_taken_back(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("LATE")
    listing.session(TUESDAY, 700.0)
    listing.splits[listing.session(WEDNESDAY, 100.0)] = (7, 1)
    server.fault("split_not_restated")
    fetched = connect().bars(["LATE"], days(TUESDAY, WEDNESDAY))
    assert fetched.frame["open"].tolist() == [700.0] * 7 + [100.0] * 7
    assert "split of 2024-03-06" in fetched.problems["LATE"]


def test_a_later_split_not_worked_in_yet_shows_in_the_daily_chart(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("LATE")
    listing.session(TUESDAY, 700.0)
    listing.splits[listing.session(WEDNESDAY, 100.0)] = (7, 1)
    server.fault("split_not_restated")
    fetched = connect(now=datetime(2024, 3, 6, 15, 20, tzinfo=UTC)).bars(["LATE"], days(TUESDAY))
    assert fetched.frame["open"].unique().tolist() == [700.0]  # the split's first bar is still running
    assert "split of 2024-03-06" in fetched.problems["LATE"]


def test_a_small_stock_dividend_is_taken_as_worked_in(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("TINY")
    listing.session(TUESDAY, 105.0)
    listing.splits[listing.session(WEDNESDAY, 100.0)] = (21, 20)
    assert connect().bars(["TINY"], days(TUESDAY, WEDNESDAY)).frame["open"].tolist() == [105.0] * 7 + [100.0] * 7


def test_a_dividend_is_in_dollars_of_a_share_as_it_was(connect: Connect, server: YahooServer) -> None:
    listing = server.lists("DIVI")
    listing.dividends[listing.session(MONDAY, 700.0)] = 3.29
    listing.splits[listing.session(WEDNESDAY, 100.0)] = (7, 1)
    source = connect()
    source.bars(["DIVI"], days(MONDAY, WEDNESDAY))
    actions = validate(source.actions(["DIVI"], days(MONDAY, WEDNESDAY)).frame, ACTIONS)
    assert actions[["kind", "value"]].values.tolist() == [["dividend", 3.29], ["split", 7.0]]


def test_a_dividend_leaves_prices_alone(connect: Connect, server: YahooServer) -> None:
    server.listings["AAPL"].dividends[datetime(2024, 3, 6, 14, 30, tzinfo=UTC)] = 1.0
    assert connect().bars(["AAPL"], days(TUESDAY, WEDNESDAY)).frame["open"].unique().tolist() == [170.0]


def test_bars_and_actions_come_of_one_fetch(connect: Connect, server: YahooServer) -> None:
    source = connect()
    source.actions(["AAPL", "MSFT", "GONE"], days(TUESDAY))  # the order in which the graph asks
    asked = len(server.requests)
    fetched = source.bars(["AAPL", "MSFT", "GONE"], days(TUESDAY))
    assert (len(fetched.frame), list(fetched.problems)) == (14, ["GONE"])
    assert len(server.requests) == asked
    source.bars(["AAPL"], days(TUESDAY))  # a second time they are read anew
    assert len(server.requests) > asked


def test_another_span_is_another_fetch(connect: Connect) -> None:
    source = connect()
    source.actions(["AAPL"], days(TUESDAY))
    assert source.bars(["AAPL"], days(WEDNESDAY)).frame["bar_start"].min() == utc("2024-03-06 14:30")


def test_actions_alone_are_fetched(connect: Connect, server: YahooServer) -> None:
    server.listings["MSFT"].splits[datetime(2024, 3, 6, 14, 30, tzinfo=UTC)] = (2, 1)
    assert connect().actions(["AAPL", "MSFT"], days(WEDNESDAY)).frame["ticker"].tolist() == ["MSFT"]


@pytest.mark.parametrize("fault", ["bad_split", "splits_unreadable"])
def test_bars_behind_a_split_that_cannot_be_read_are_refused(connect: Connect, server: YahooServer, fault: str) -> None:
    server.fault(fault, "AAPL")
    fetched = connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"MSFT"}
    assert list(fetched.problems) == ["AAPL"]


def test_later_splits_that_cannot_be_had_hold_the_bars_back(connect: Connect, server: YahooServer) -> None:
    server.fault("splits_unreadable", "AAPL", after=1)  # the hourly chart is sound, the daily one is not
    fetched = connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"MSFT"}
    assert "one of its splits cannot be read" in fetched.problems["AAPL"]


# The newest bar -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minute", "newest"), [(29, "15:30"), (44, "15:30"), (45, "16:30"), (59, "16:30")])
def test_the_unfinished_bar_is_never_returned(connect: Connect, minute: int, newest: str) -> None:
    now = datetime(2024, 3, 5, 17, minute, tzinfo=UTC)  # the bar of 16:30 ends at 17:30 and settles at 17:45
    assert f"{connect(now=now).bars(['AAPL'], days(TUESDAY)).frame['bar_start'].iloc[-1]:%H:%M}" == newest


def test_a_live_tick_does_not_become_a_bar(connect: Connect, server: YahooServer) -> None:
    server.fault("live_tick", seconds=1234)
    now = datetime(2024, 3, 5, 16, 0, tzinfo=UTC)
    bars = connect(now=now).bars(["AAPL"], days(TUESDAY)).frame
    assert [f"{t:%H:%M:%S}" for t in bars["bar_start"]] == ["14:30:00"]


def test_a_bar_that_just_ended_was_known_when_it_was_read(connect: Connect) -> None:
    now = datetime(2024, 3, 5, 16, 52, tzinfo=UTC)
    bars = connect(now=now).bars(["AAPL"], days(TUESDAY)).frame
    assert bars["known_at"].tolist() == [utc("2024-03-05 16:52"), utc("2024-03-05 16:52")]  # ended 15:30 and 16:30
    later = connect(now=datetime(2024, 3, 5, 20, 50, tzinfo=UTC)).bars(["AAPL"], days(TUESDAY)).frame
    assert later["known_at"].iloc[0] == utc("2024-03-05 15:45")  # history has its nominal time


def test_what_had_to_be_waited_for_was_known_after_the_wait(server: YahooServer, tmp_path: Path) -> None:
    clock = [datetime(2024, 3, 5, 16, 52, tzinfo=UTC)]

    def sleep(seconds: float) -> None:
        clock[0] += timedelta(seconds=seconds)

    server.fault("rate_limited", times=1, retry_after=120)
    source = YahooBars(
        Settings(home=tmp_path),
        session=LocalSession(server.url),
        now=lambda: clock[0],
        sleep=sleep,
        requests_per_second=0,
    )
    bars = source.bars(["AAPL"], days(TUESDAY)).frame
    assert (bars["known_at"] >= utc("2024-03-05 16:54")).all()


def test_nothing_is_known_before_it_ended(connect: Connect) -> None:
    bars = connect().bars(["AAPL", "MSFT", "NVDA"], days(MONDAY, THURSDAY)).frame
    assert (bars["known_at"] >= bars["bar_end"] + pd.Timedelta(minutes=15)).all()


# Bad rows -------------------------------------------------------------------------------------------------------------


def test_a_bar_of_nulls_is_left_out_and_said(connect: Connect, server: YahooServer) -> None:
    server.fault("null_bars", at=2)
    fetched = connect().bars(["AAPL"], days(TUESDAY))
    assert len(validate(fetched.frame, BARS)) == 6
    assert fetched.problems == {"AAPL": "1 bar(s) without a price left out, first at 2024-03-05 16:30Z."}


def test_a_null_volume_does_not_become_zero(connect: Connect, server: YahooServer) -> None:
    server.fault("null_volume", at=0)
    fetched = connect().bars(["AAPL"], days(TUESDAY))
    assert (fetched.frame["volume"] == 1000.0).all()
    assert fetched.problems == {"AAPL": "1 bar(s) without a volume left out, first at 2024-03-05 14:30Z."}


@pytest.mark.parametrize("fault", ["crossed", "hundredfold", "negative"])
def test_wrong_prices_pass_as_given_for_the_quality_rules_to_judge(
    connect: Connect, server: YahooServer, fault: str
) -> None:
    server.fault(fault, at=3)
    bars = connect().bars(["AAPL"], days(TUESDAY)).frame
    row = bars.iloc[3]
    assert len(bars) == 7
    assert {"crossed": row["high"] < row["low"], "hundredfold": row["open"] == 17_000, "negative": row["close"] < 0}[
        fault
    ]


def test_a_repeated_bar_comes_once(connect: Connect, server: YahooServer) -> None:
    server.fault("duplicate_bar")
    assert len(validate(connect().bars(["AAPL"], days(TUESDAY)).frame, BARS)) == 7


# Outages --------------------------------------------------------------------------------------------------------------

TRANSIENT = [
    "server_error", "gateway_html", "html", "truncated", "torn_connection", "reset", "empty_body", "json_list",
    "closed_for_repair", "redirect_loop", "redirect_elsewhere", "no_result", "no_trading_periods", "oversized",
]  # fmt: skip


@pytest.mark.parametrize("fault", TRANSIENT)
def test_one_bad_answer_is_asked_again(connect: Connect, server: YahooServer, waits: list[float], fault: str) -> None:
    server.fault(fault, "AAPL", times=1)
    fetched = connect().bars(["AAPL"], days(TUESDAY))
    assert (len(fetched.frame), fetched.problems) == (7, {})
    assert len(waits) == (0 if fault == "reset" else 1)  # curl itself repeats what a kept-alive connection lost


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_ticker_that_stays_unreadable_never_stops_the_others(
    connect: Connect, server: YahooServer, fault: str
) -> None:
    server.fault(fault, "AAPL")
    fetched = connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"MSFT"}
    assert list(fetched.problems) == ["AAPL"]
    assert "3 times. Run the slice again later." in fetched.problems["AAPL"]
    assert "delisted" not in fetched.problems["AAPL"]


def test_waits_grow_and_are_not_alike(connect: Connect, server: YahooServer, waits: list[float]) -> None:
    server.fault("server_error", status=503)
    with pytest.raises(SourceError, match=r"none of 1 ticker\(s\) could be read; AAPL: HTTP 503, 3 times"):
        connect().bars(["AAPL"], days(TUESDAY))
    first, second = waits
    assert 1.0 <= first <= 2.0 <= second <= 4.0


def test_a_slow_drip_ends_at_the_timeout(connect: Connect, server: YahooServer) -> None:
    server.fault("slow", times=1, seconds=0.6)
    fetched = connect(timeout_seconds=0.3).bars(["AAPL"], days(TUESDAY))
    assert (len(fetched.frame), fetched.problems) == (7, {})


def test_a_rejected_cookie_is_renewed(connect: Connect, server: YahooServer) -> None:
    server.fault("unauthorized", times=1)
    assert len(connect().bars(["AAPL"], days(TUESDAY)).frame) == 7


def test_being_refused_for_good_is_no_delisting(connect: Connect, server: YahooServer) -> None:
    server.fault("unauthorized")
    with pytest.raises(SourceError, match="Yahoo refuses to serve us"):
        connect().bars(["AAPL"], days(TUESDAY))


@pytest.mark.parametrize("fault", ["crumb_limited", "cookie_reset"])
def test_charts_need_neither_cookie_nor_crumb(connect: Connect, server: YahooServer, fault: str) -> None:
    server.fault(fault)
    assert len(connect().bars(["AAPL"], days(TUESDAY)).frame) == 7


# Rate limits ----------------------------------------------------------------------------------------------------------


def test_a_rate_limit_stops_the_batch_and_resumes_at_the_same_ticker(
    connect: Connect, server: YahooServer, waits: list[float]
) -> None:
    server.fault("rate_limited", "MSFT", times=2)
    fetched = connect().bars(["AAPL", "MSFT", "NVDA"], days(TUESDAY))
    assert (fetched.frame.groupby("ticker").size().tolist(), fetched.problems) == ([7, 7, 7], {})
    asked = [request.path.rpartition("/")[2] for request in server.charts()]
    assert asked == ["AAPL", "MSFT", "MSFT", "MSFT", "NVDA"]  # one request an attempt, none of another ticker between
    assert 5.0 <= waits[0] <= 10.0 <= waits[1] <= 20.0


def test_yahoos_retry_after_is_kept(connect: Connect, server: YahooServer, waits: list[float]) -> None:
    server.fault("rate_limited", times=1, retry_after=42)
    connect().bars(["AAPL"], days(TUESDAY))
    assert 42.0 <= waits[0] <= 47.0


def test_a_limit_that_outlasts_patience_leaves_the_rest_unasked(
    connect: Connect, server: YahooServer, waits: list[float]
) -> None:
    server.fault("rate_limited", after=1)
    fetched = connect(patience_seconds=60).bars(["AAPL", "MSFT", "NVDA"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"AAPL"}
    assert list(fetched.problems) == ["MSFT", "NVDA"]
    assert fetched.problems["NVDA"].startswith("not read: Yahoo answers 429")
    assert server.charts("NVDA") == []
    assert sum(waits) <= 60


def test_when_all_is_limited_nothing_is_pretended(connect: Connect, server: YahooServer) -> None:
    server.fault("rate_limited", retry_after=3600)
    with pytest.raises(SourceError, match=r"none of 2 ticker\(s\) .* 429"):
        connect().bars(["AAPL", "MSFT"], days(TUESDAY))


# Several at a time ----------------------------------------------------------------------------------------------------


def test_several_connections_bring_what_one_brings(connect: Connect, server: YahooServer) -> None:
    tickers = [f"T{number:02d}" for number in range(40)]
    for number, ticker in enumerate(tickers):
        server.lists(ticker).session(TUESDAY, 50.0 + number)
    for fault, ticker in (("crossed", "T03"), ("null_bars", "T05"), ("html", "T07"), ("renamed", "T11")):
        server.fault(fault, ticker, to="OTHER")
    one, many = (connect(connections=n).bars([*tickers, "GONE"], days(TUESDAY)) for n in (1, 8))
    pd.testing.assert_frame_equal(one.frame, many.frame)
    assert one.problems == many.problems
    assert set(many.problems) == {"T05", "T07", "T11", "GONE"}
    assert many.frame.groupby("ticker")["open"].first()["T31"] == 81.0


def test_a_limit_stops_all_connections_and_each_ticker_goes_on_where_it_was(
    connect: Connect, server: YahooServer, waits: list[float]
) -> None:
    tickers = [f"T{number:02d}" for number in range(30)]
    for ticker in tickers:
        server.lists(ticker).session(TUESDAY, 50.0)
    server.fault("rate_limited", after=12, times=5)
    fetched = connect(connections=8).bars(tickers, days(TUESDAY))
    assert (fetched.frame["ticker"].nunique(), fetched.problems) == (30, {})
    assert len(server.charts()) == 35  # what was read is not asked for again
    assert 1 <= len(waits) <= 5


def test_requests_keep_to_the_budget(connect: Connect, waits: list[float]) -> None:
    connect(requests_per_second=4).bars(["AAPL", "MSFT", "NVDA"], days(MONDAY, THURSDAY))
    assert len(waits) == 5  # each ticker's chart, and its later splits; these sleeps take no time, so they grow
    assert waits[-1] > 1.0


# Empty is not success -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [None, "no_timestamps", "not_in_range"])
def test_a_weekend_without_bars_is_no_problem(connect: Connect, server: YahooServer, fault: str | None) -> None:
    if fault:
        server.fault(fault)
    fetched = connect().bars(["AAPL"], days(date(2024, 3, 2), date(2024, 3, 3)))
    assert (len(fetched.frame), fetched.problems) == (0, {})
    assert fetched.frame.dtypes.to_dict() == BARS.empty().dtypes.to_dict()


@pytest.mark.parametrize("fault", ["no_timestamps", "not_in_range"])
def test_a_session_without_bars_is_a_problem(connect: Connect, server: YahooServer, fault: str) -> None:
    server.fault(fault, "AAPL")
    fetched = connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert "where the calendar XNYS has 1 session(s)" in fetched.problems["AAPL"]


def test_a_day_that_has_not_finished_an_hour_is_no_problem(connect: Connect) -> None:
    now = datetime(2024, 3, 5, 15, 0, tzinfo=UTC)
    fetched = connect(now=now).bars(["AAPL"], days(TUESDAY))
    assert (len(fetched.frame), fetched.problems) == (0, {})


def test_an_unknown_symbol_is_named_with_the_remedy(connect: Connect) -> None:
    fetched = connect().bars(["GONE", "AAPL"], days(TUESDAY))
    assert "No data found, symbol may be delisted (HTTP 404). Check the symbol" in fetched.problems["GONE"]
    assert set(fetched.frame["ticker"]) == {"AAPL"}


def test_no_tickers_are_no_rows(connect: Connect, server: YahooServer) -> None:
    assert connect().bars([], days(TUESDAY)).frame.empty
    assert connect().bars(["AAPL"], Span(AFTERWARDS, AFTERWARDS)).frame.empty
    assert server.requests == []


def test_a_renamed_ticker_is_not_filed_under_its_old_name(connect: Connect, server: YahooServer) -> None:
    server.fault("renamed", "AAPL", to="APLE")
    fetched = connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"MSFT"}
    assert "answers with 'APLE' instead" in fetched.problems["AAPL"]


def test_prices_in_pence_are_refused(connect: Connect, server: YahooServer) -> None:
    server.lists("VOD.L", currency="GBp").session(TUESDAY, 70.0)
    assert "in GBp, not in USD" in connect().bars(["VOD.L", "AAPL"], days(TUESDAY)).problems["VOD.L"]


# What is asked --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ticker", ["../../v1/evil", "AAPL/../X", "aapl", "", "AAPL\n", "A" * 40, "AAPL?x=1", "BTC USD", "%2e%2e"]
)
def test_what_is_no_ticker_never_becomes_a_path(connect: Connect, server: YahooServer, ticker: str) -> None:
    fetched = connect().bars([ticker, "AAPL"], days(TUESDAY))
    assert "is no ticker; nothing was asked" in fetched.problems[ticker]
    assert {path.rpartition("/")[2] for path in server.paths("/chart/")} == {"AAPL"}


def test_a_span_beyond_the_reach_is_cut_and_says_so(connect: Connect, server: YahooServer) -> None:
    now = datetime(2026, 3, 5, 12, 0, tzinfo=UTC)  # 730 days after the Tuesday at noon, not yet its session
    fetched = connect(now=now).bars(["AAPL"], days(MONDAY, WEDNESDAY))
    assert fetched.frame["bar_start"].min() == utc("2024-03-05 14:30")
    assert fetched.problems["AAPL"] == "hourly bars reach back 730 days: cut to begin 2024-03-05 12:10Z."
    asked = datetime.fromtimestamp(int(server.charts()[0].query["period1"]), UTC)
    assert asked == datetime(2024, 3, 5, 12, 10, tzinfo=UTC)


def test_a_span_wholly_beyond_the_reach_is_refused_unasked(connect: Connect, server: YahooServer) -> None:
    with pytest.raises(SourceError, match=r"reach back 730 days, to 2028-03-10.*TFT_MARKET=files"):
        connect(now=datetime(2030, 3, 10, tzinfo=UTC)).bars(["AAPL"], days(TUESDAY))
    assert server.requests == []


def test_the_future_is_refused_unasked(connect: Connect, server: YahooServer) -> None:
    with pytest.raises(SourceError, match="has not begun"):
        connect().bars(["AAPL"], days(date(2024, 3, 20)))
    assert server.requests == []


def test_a_reach_that_yahoo_shortens_is_told_in_its_words(connect: Connect, server: YahooServer) -> None:
    server.fault("beyond_range", "AAPL")
    assert (
        "must be within the last 730 days. (HTTP 422)"
        in connect().bars(["AAPL", "MSFT"], days(TUESDAY)).problems["AAPL"]
    )


# yfinance's globals ---------------------------------------------------------------------------------------------------


def test_two_sources_do_not_take_each_others_session(connect: Connect, server: YahooServer) -> None:
    with YahooServer().running() as other:
        other.lists("AAPL").session(TUESDAY, 1.0)
        here, there = connect(), connect(url=other.url)
        yfinance.Ticker("AAPL")  # someone else's call, without a session
        assert here.bars(["AAPL"], days(TUESDAY)).frame["open"].iloc[0] == 170.0
        assert there.bars(["AAPL"], days(TUESDAY)).frame["open"].iloc[0] == 1.0
        assert here.bars(["AAPL"], days(TUESDAY)).frame["open"].iloc[0] == 170.0


def test_the_cache_belongs_to_this_process_alone(connect: Connect, tmp_path: Path) -> None:
    connect()
    connect(cache_dir=tmp_path / "another")
    (folder,) = yahoo._CACHES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert yfinance.cache._CookieDBManager.get_location() == str(folder)
    assert not (tmp_path / "another").exists()


def test_a_home_that_cannot_be_written_is_named(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yahoo, "_CACHES", [])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="set TFT_HOME to a place you may write"):
        connect(cache_dir=tmp_path / "file")


# Patience -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0.0), ("", 0.0), ("7", 7.0), ("7.5", 7.5), ("-3", 0.0), ("nan", 0.0), ("inf", 0.0), ("soon", 0.0)],
)
def test_retry_after_is_read_or_ignored(header: str | None, seconds: float) -> None:
    assert retry_after_seconds(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < retry_after_seconds(moment.strftime("%a, %d %b %Y %H:%M:%S GMT")) <= 90


def test_patience_is_never_overdrawn() -> None:
    slept: list[float] = []
    patience = Patience(10, slept.append)
    patience.wait(6, "first")
    with pytest.raises(OutOfPatienceError, match="second; 6 s to wait, 4 s allowed"):
        patience.wait(6, "second")
    assert slept == [6]


def _columns_are_the_contracts(fetched: Fetched) -> bool:
    return list(fetched.frame.columns) == BARS.names


def test_rows_are_sorted_by_key_whatever_the_order_asked(connect: Connect) -> None:
    fetched = connect().bars(["NVDA", "AAPL", "NVDA", "MSFT"], days(MONDAY, TUESDAY))
    assert _columns_are_the_contracts(fetched)
    pd.testing.assert_frame_equal(fetched.frame, validate(fetched.frame, BARS))
