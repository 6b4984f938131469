"""The Massive source against a local server that speaks its protocol to the real client."""

import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest

from tft_pipeline.config import Settings
from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.errors import ConfigError, SourceError
from tft_pipeline.schema import validate
from tft_pipeline.sources._massive_client import ENTRY_BYTES, Kept
from tft_pipeline.sources.massive import MassiveBars
from tft_pipeline.sources.opening import open_bars
from tft_pipeline.sources.protocols import BarSource, Fetched, Span
from tft_pipeline_tests.sources.servers.massive_server import KEY, Listing, MassiveServer

MONDAY, TUESDAY, WEDNESDAY, THURSDAY = (date(2024, 3, day) for day in (4, 5, 6, 7))
AFTERWARDS = datetime(2024, 3, 9, 3, 0, tzinfo=UTC)
IN_SESSION = ["14:30", "15:30", "16:30", "17:30", "18:30", "19:30", "20:30"]


@pytest.fixture
def server() -> Iterator[MassiveServer]:
    with MassiveServer().running() as running:
        for ticker, price in (("AAPL", 170.0), ("MSFT", 400.0), ("NVDA", 850.0)):
            running.lists(ticker).session(TUESDAY, price)
        running.lists("AAPL").session(WEDNESDAY, 180.0)
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


Connect = Callable[..., MassiveBars]


@pytest.fixture
def connect(server: MassiveServer, tmp_path: Path, waits: list[float]) -> Connect:
    def make(*, now: datetime = AFTERWARDS, calendar: str = "XNYS", key: str = KEY, **more: Any) -> MassiveBars:
        chosen = {name: more.pop(name) for name in ("bars", "requests_per_minute") if name in more}
        massive = {"api_key": key, "base_url": server.url, "requests_per_minute": 0, **chosen}
        settings = Settings(
            home=tmp_path, market="massive", posts="none", tickers=("AAPL",), calendar=calendar, massive=massive
        )
        return MassiveBars(settings, now=lambda: now, sleep=waits.append, **more)

    return make


def days(first: date, last: date | None = None) -> Span:
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = datetime.combine(last or first, datetime.min.time(), UTC) + timedelta(days=1)
    return Span(start, end)


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC").as_unit("us")


def starts(fetched: Fetched) -> list[str]:
    return [f"{t:%H:%M}" for t in fetched.frame["bar_start"]]


# What a healthy Massive gives -----------------------------------------------------------------------------------------


def test_it_is_a_source_of_bars(connect: Connect) -> None:
    source: BarSource = connect()
    assert (source.name, source.simulated, source.universe(), source.span()) == ("massive", False, (), None)


def test_minutes_become_the_hours_of_the_session(connect: Connect) -> None:
    fetched = connect().bars(["AAPL"], days(TUESDAY))
    bars = validate(fetched.frame, BARS)
    assert fetched.problems == {}
    assert starts(fetched) == IN_SESSION
    assert bars["bar_end"].iloc[-1] == utc("2024-03-05 21:00")  # the close, not 21:30
    second = bars.iloc[1]  # minutes 60 to 119, each 0.01 above the last
    assert second[["open", "high", "low", "close", "volume"]].tolist() == pytest.approx(
        [170.60, 171.19 + 0.25, 170.60 - 0.25, 171.19 + 0.05, 600.0]
    )
    assert second["source"] == "massive"
    assert second["known_at"] == utc("2024-03-05 16:45")  # its end and a quarter of an hour


def test_the_last_bar_holds_half_an_hour_and_no_trade_after_the_close(connect: Connect) -> None:
    last = connect().bars(["AAPL"], days(TUESDAY)).frame.iloc[-1]
    assert last[["open", "close", "volume"]].tolist() == pytest.approx([173.60, 173.89 + 0.05, 300.0])


def test_trade_before_and_after_the_session_is_left_out(connect: Connect, server: MassiveServer) -> None:
    server.lists("LONG").session(TUESDAY, 100.0, before=300, after=240)
    fetched = connect().bars(["LONG"], days(TUESDAY))
    assert starts(fetched) == IN_SESSION
    assert fetched.frame["low"].min() == 99.75  # half of it before the opening


def test_prices_are_asked_for_as_traded_and_the_key_is_not_in_the_url(connect: Connect, server: MassiveServer) -> None:
    connect().bars(["AAPL"], days(TUESDAY))
    (request,) = server.requests
    assert request.query == {"adjusted": "false", "sort": "asc", "limit": "50000"}
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert (
        request.path == "/v2/aggs/ticker/AAPL/range/1/minute/1709649000000/1709675999999"
    )  # 14:30 to 22:00, inclusive


def test_a_half_day_ends_at_one_o_clock(connect: Connect, server: MassiveServer) -> None:
    server.lists("HALF").session(date(2023, 11, 24), 10.0, hours=3.5)
    bars = connect().bars(["HALF"], days(date(2023, 11, 24))).frame
    assert [f"{t:%H:%M}" for t in bars["bar_end"]] == ["15:30", "16:30", "17:30", "18:00"]


def test_hours_move_in_utc_when_new_york_changes_its_clocks(connect: Connect, server: MassiveServer) -> None:
    for day in (date(2024, 3, 8), date(2024, 3, 11)):
        server.lists("DST").session(day, 10.0)
    span = days(date(2024, 3, 8), date(2024, 3, 11))
    bars = connect(now=datetime(2024, 3, 13, tzinfo=UTC)).bars(["DST"], span).frame
    opened = bars.groupby(bars["bar_start"].dt.date)["bar_start"].min()
    assert [f"{t:%d %H:%M}" for t in opened] == ["08 14:30", "11 13:30"]
    assert not bars.duplicated(["ticker", "bar_start"]).any()


def test_an_hour_without_a_trade_gives_no_bar(connect: Connect, server: MassiveServer) -> None:
    for minute in ("14:31", "14:50", "17:00"):
        server.lists("THIN").minute(utc(f"2024-03-05 {minute}"), 9.0)
    fetched = connect().bars(["THIN"], days(TUESDAY))
    assert (starts(fetched), fetched.problems) == (["14:30", "16:30"], {})
    assert fetched.frame["volume"].tolist() == [20.0, 10.0]


def test_a_minute_belongs_to_the_bar_that_it_begins_in(connect: Connect, server: MassiveServer) -> None:
    for minute, price in (("15:29", 1.0), ("15:30", 2.0), ("20:59", 3.0), ("21:00", 4.0), ("14:29", 5.0)):
        server.lists("EDGE").minute(utc(f"2024-03-05 {minute}"), price)
    assert connect().bars(["EDGE"], days(TUESDAY)).frame["open"].tolist() == [1.0, 2.0, 3.0]


def test_a_fraction_of_a_share_is_kept(connect: Connect, server: MassiveServer) -> None:
    server.lists("FRAC").minute(utc("2024-03-05 15:00"), 9.0, volume=0.125)
    assert connect().bars(["FRAC"], days(TUESDAY)).frame["volume"].tolist() == [0.125]


def test_bars_outside_the_span_are_not_returned(connect: Connect) -> None:
    span = Span(datetime(2024, 3, 5, 15, 0, tzinfo=UTC), datetime(2024, 3, 5, 17, 30, tzinfo=UTC))
    fetched = connect().bars(["AAPL"], span)
    assert starts(fetched) == ["15:30", "16:30"]
    assert fetched.frame["volume"].tolist() == [600.0, 600.0]  # the hour that the span's end cuts is whole


def test_hours_come_as_massive_serves_them(connect: Connect, server: MassiveServer) -> None:
    server.lists("HOUR").session(TUESDAY, 100.0, before=60)
    fetched = connect(bars="hour").bars(["HOUR"], days(TUESDAY))
    assert starts(fetched) == ["14:00", "15:00", "16:00", "17:00", "18:00", "19:00", "20:00"]
    first = fetched.frame.iloc[0]
    assert (first["open"], first["volume"]) == (50.0, 600.0)  # half an hour of it before the opening
    assert (first["bar_end"] - first["bar_start"]) == pd.Timedelta(hours=1)
    assert "/range/1/hour/" in server.requests[0].path


def test_pages_are_read_to_the_end(connect: Connect, server: MassiveServer) -> None:
    server.page_rows = 100
    fetched = connect().bars(["AAPL"], days(TUESDAY))
    assert len(server.aggregates("AAPL")) == 5
    assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)
    server.page_rows = 50_000
    pd.testing.assert_frame_equal(fetched.frame, connect().bars(["AAPL"], days(TUESDAY)).frame)


def test_rows_are_sorted_by_key_whatever_the_order_asked(connect: Connect) -> None:
    fetched = connect().bars(["NVDA", "AAPL", "NVDA", "MSFT"], days(TUESDAY))
    pd.testing.assert_frame_equal(fetched.frame, validate(fetched.frame, BARS))
    assert len(fetched.frame) == 21


def test_many_tickers_are_read_at_once_and_problems_keep_the_order_asked(
    connect: Connect, server: MassiveServer
) -> None:
    names = [f"T{number}" for number in range(24)]
    for name in names[::2]:
        server.lists(name).session(TUESDAY, 10.0, every=10)
    fetched = connect().bars(names, days(TUESDAY))
    assert fetched.frame["ticker"].nunique() == 12
    assert list(fetched.problems) == names[1::2]


def test_no_tickers_and_no_hours_are_no_requests(connect: Connect, server: MassiveServer) -> None:
    source = connect()
    saturday = days(date(2024, 3, 2), date(2024, 3, 3))
    for fetched in (source.bars([], days(TUESDAY)), source.actions([], days(TUESDAY)), source.bars(["AAPL"], saturday)):
        assert (len(fetched.frame), fetched.problems) == (0, {})
    assert source.bars(["AAPL"], saturday).frame.dtypes.to_dict() == BARS.empty().dtypes.to_dict()
    assert source.bars(["AAPL"], days(date(2024, 4, 2))).frame.empty  # the future
    assert server.requests == []


# Symbols --------------------------------------------------------------------------------------------------------------


def test_share_classes_take_massives_dot_and_keep_our_name(connect: Connect, server: MassiveServer) -> None:
    server.lists("BRK.B").session(TUESDAY, 410.0)
    assert set(connect().bars(["BRK-B", "BRK.B"], days(TUESDAY)).frame["ticker"]) == {"BRK-B", "BRK.B"}
    assert len(server.aggregates("BRK.B")) == 2


@pytest.mark.parametrize(
    ("calendar", "ticker", "symbol"), [("24/7", "BTC-USD", "X:BTCUSD"), ("24/5", "EUR-USD", "C:EURUSD")]
)
def test_a_market_that_never_closes_has_clock_hours(
    connect: Connect, server: MassiveServer, calendar: str, ticker: str, symbol: str
) -> None:
    for minute in ("00:00", "13:15", "13:59", "23:59"):
        server.lists(symbol).minute(utc(f"2024-03-05 {minute}"), 60_000.0)
    source = connect(calendar=calendar)
    fetched = source.bars([ticker], days(TUESDAY))
    assert starts(fetched) == ["00:00", "13:00", "23:00"]
    assert fetched.frame["bar_end"].iloc[-1] == utc("2024-03-06 00:00")
    assert source.actions([ticker], days(TUESDAY)).frame.empty
    assert len(server.requests) == 1


def test_the_weekend_of_currencies_is_left_out(connect: Connect, server: MassiveServer) -> None:
    for moment in ("2024-03-01 21:00", "2024-03-03 23:00", "2024-03-04 00:00"):
        server.lists("C:EURUSD").minute(utc(moment), 1.08)
    fetched = connect(calendar="24/5").bars(["EUR-USD"], days(date(2024, 3, 1), MONDAY))
    assert [f"{t:%d %H}" for t in fetched.frame["bar_start"]] == ["01 21", "04 00"]


@pytest.mark.parametrize("ticker", ["BTC", "BTC-EUR", "USD-JPY"])
def test_a_pair_that_is_not_in_dollars_is_refused_unasked(connect: Connect, server: MassiveServer, ticker: str) -> None:
    with pytest.raises(SourceError, match="a ticker is a pair in dollars, such as BTC-USD"):
        connect(calendar="24/7").bars([ticker], days(TUESDAY))
    assert server.requests == []


@pytest.mark.parametrize(
    "ticker",
    ["../../v1/evil", "AAPL/../X", "aapl", "", "AAPL\n", "A" * 40, "AAPL?x=1", "BTC USD", "%2e%2e", "X:BTCUSD"],
)
def test_what_is_no_ticker_never_becomes_a_path(connect: Connect, server: MassiveServer, ticker: str) -> None:
    for ask in (connect().bars, connect().actions):
        assert "is no ticker; nothing was asked" in ask([ticker, "AAPL"], days(TUESDAY)).problems[ticker]
    assert all(request.query.get("ticker", "AAPL") == "AAPL" for request in server.requests)
    assert {request.path.split("/")[4] for request in server.aggregates()} == {"AAPL"}


# The newest bar -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("minute", "newest"), [(29, "15:30"), (44, "15:30"), (45, "16:30"), (59, "16:30")])
def test_the_unfinished_bar_is_never_returned(
    connect: Connect, server: MassiveServer, minute: int, newest: str
) -> None:
    server.fault("unfinished")
    now = datetime(2024, 3, 5, 17, minute, tzinfo=UTC)  # the bar of 16:30 ends at 17:30 and settles at 17:45
    assert starts(connect(now=now).bars(["AAPL"], days(TUESDAY)))[-1] == newest


def test_a_bar_that_just_ended_was_known_when_it_was_read(connect: Connect) -> None:
    bars = connect(now=datetime(2024, 3, 5, 16, 52, tzinfo=UTC)).bars(["AAPL"], days(TUESDAY)).frame
    assert bars["known_at"].tolist() == [utc("2024-03-05 16:52"), utc("2024-03-05 16:52")]


def minutes_until(listing: Listing, moment: str) -> None:
    """The listing as a plan that serves late shows it."""
    listing.minutes = {t: row for t, row in listing.minutes.items() if t < utc(moment).timestamp() * 1000}


def test_a_bar_that_a_late_answer_may_have_cut_is_left_out(connect: Connect, server: MassiveServer) -> None:
    server.fault("delayed")
    minutes_until(server.listings["AAPL"], "2024-03-05 17:20")
    minutes_until(server.listings["MSFT"], "2024-03-05 15:00")
    fetched = connect(now=datetime(2024, 3, 5, 17, 50, tzinfo=UTC)).bars(["AAPL", "MSFT"], days(TUESDAY))
    held = fetched.frame.groupby("ticker")["bar_start"].max().map("{:%H:%M}".format).to_dict()
    assert held == {"AAPL": "15:30", "MSFT": "14:30"}  # AAPL's trade shows that the answer reaches past 15:30
    assert fetched.problems == {
        "AAPL": "1 bar(s) left out: the key's plan serves late, and its trade ends 2024-03-05 17:19Z."
    }


def test_a_late_answer_is_whole_after_a_day(connect: Connect, server: MassiveServer) -> None:
    server.fault("delayed")
    minutes_until(server.listings["AAPL"], "2024-03-05 20:50")  # and no trade afterwards
    fetched = connect(now=datetime(2024, 3, 6, 22, 0, tzinfo=UTC)).bars(["AAPL"], days(TUESDAY))
    assert (starts(fetched), fetched.problems) == (IN_SESSION, {})


def test_late_hours_need_an_hour_after_them(connect: Connect, server: MassiveServer) -> None:
    server.fault("delayed")
    minutes_until(server.listings["AAPL"], "2024-03-05 16:59")
    fetched = connect(now=datetime(2024, 3, 5, 17, 20, tzinfo=UTC), bars="hour").bars(["AAPL"], days(TUESDAY))
    assert starts(fetched) == ["14:00", "15:00"]


# Empty is not success -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["results_missing", "results_null"])
def test_an_answer_without_the_rows_that_it_counts_is_asked_for_again(
    connect: Connect, server: MassiveServer, fault: str
) -> None:
    server.fault(fault, "AAPL", times=1)
    server.fault(fault, "splits:MSFT", times=1)
    server.lists("MSFT").split("MSFT", "2024-03-05", 2, 1)
    assert len(connect().bars(["AAPL"], days(TUESDAY)).frame) == 7
    assert connect().actions(["MSFT"], days(TUESDAY)).frame["value"].tolist() == [2.0]
    server.fault(fault)
    fetched = connect().bars
    with pytest.raises(SourceError, match=r"it counts 4\d\d results and holds 0, 3 times"):
        fetched(["AAPL"], days(TUESDAY))
    with pytest.raises(SourceError, match=r"it holds no results, not even an empty list, 3 times"):
        connect().actions(["MSFT"], days(TUESDAY))


def test_a_session_without_bars_is_a_problem(connect: Connect, server: MassiveServer) -> None:
    server.lists("AAPL").minutes.clear()
    fetched = connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"MSFT"}
    assert fetched.problems["AAPL"] == (
        "Massive has no bars from 2024-03-05 14:30Z to 2024-03-05 21:00Z, where the calendar XNYS has 7 hour(s) of trade. "
        "Check the symbol at massive.com (share classes take a dot: BRK.B) or take it out of TFT_TICKERS."
    )


def test_a_plan_of_the_end_of_the_day_is_named_where_today_is_empty(connect: Connect, server: MassiveServer) -> None:
    server.fault("delayed", "AAPL")
    server.listings["AAPL"].minutes.clear()
    assert "end-of-day data" in connect().bars(["AAPL", "MSFT"], days(TUESDAY)).problems["AAPL"]


# Rows that make no sense ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["null_fields", "row_is_text", "text_nan", "bare_nan", "huge_number"])
def test_a_row_without_a_number_is_left_out_and_counted(connect: Connect, server: MassiveServer, fault: str) -> None:
    server.fault(fault, "AAPL")
    fetched = connect().bars(["AAPL"], days(TUESDAY))
    assert fetched.frame["volume"].iloc[0] == 590.0
    assert fetched.problems == {"AAPL": "1 minute bar(s) without a number in each column left out."}


@pytest.mark.parametrize("fault", ["off_the_minute", "absurd_time"])
def test_a_moment_that_is_no_minute_is_left_out(connect: Connect, server: MassiveServer, fault: str) -> None:
    server.fault(fault, "AAPL")
    fetched = connect().bars(["AAPL"], days(TUESDAY))
    assert fetched.frame["volume"].iloc[0] == 590.0
    assert fetched.problems == {"AAPL": "1 minute bar(s) off the minute left out."}


def test_nothing_but_broken_rows_is_told_and_gives_no_bar(connect: Connect, server: MassiveServer) -> None:
    server.lists("ODD").minute(utc("2024-03-05 15:00"), 9.0)
    server.fault("null_fields", "ODD")
    fetched = connect().bars(["ODD", "AAPL"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"AAPL"}
    assert list(fetched.problems) == ["ODD"]


def test_a_negative_or_hundredfold_price_passes_for_quality_to_judge(connect: Connect, server: MassiveServer) -> None:
    server.fault("negative", "AAPL")
    server.fault("hundredfold", "MSFT")
    fetched = connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    first = fetched.frame.groupby("ticker").first()
    assert (first.loc["AAPL", "low"], first.loc["MSFT", "high"]) == pytest.approx((-(170.01 - 0.25), 40_026.0))
    assert fetched.problems == {}


def test_a_crossed_hour_is_kept_and_told(connect: Connect, server: MassiveServer) -> None:
    server.fault("crossed", "AAPL")
    fetched = connect(bars="hour").bars(["AAPL"], days(TUESDAY))
    assert (fetched.frame["high"] < fetched.frame["low"]).sum() == 1
    assert fetched.problems == {"AAPL": "1 hour bar(s) with a high below the low taken as they stand."}


def test_an_unsorted_answer_is_sorted(connect: Connect, server: MassiveServer) -> None:
    expected = connect().bars(["AAPL"], days(TUESDAY)).frame
    server.fault("unsorted")
    pd.testing.assert_frame_equal(connect().bars(["AAPL"], days(TUESDAY)).frame, expected)


def test_of_a_repeated_minute_the_last_counts_once(connect: Connect, server: MassiveServer) -> None:
    expected = connect().bars(["AAPL"], days(TUESDAY)).frame
    server.fault("duplicate", at=59)
    pd.testing.assert_frame_equal(connect().bars(["AAPL"], days(TUESDAY)).frame, expected)


# One ticker's trouble is its own --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("not_found", "Ticker not found. (HTTP 404, NOT_FOUND). Check the symbol"),
        ("not_found_in_200", "Ticker not found. (HTTP 200, NOT_FOUND). Check the symbol"),
        ("bad_request", "'to' cannot be before 'from' (HTTP 400, ERROR)"),
        ("not_authorized", "You are not entitled to this data.*(HTTP 403, NOT_AUTHORIZED). Check TFT_MASSIVE_API_KEY"),
        ("not_authorized_in_200", "Your plan doesn't include this data timeframe. (HTTP 200, NOT_AUTHORIZED)"),
        ("forbidden_html", "no reason given (HTTP 403). Check TFT_MASSIVE_API_KEY"),
        ("wrong_ticker", "Massive answers with 'OTHER' instead: renamed"),
        ("adjusted", "Massive's prices are adjusted for splits, though they were asked for as traded"),
        ("results_text", "its results are no list: 'none'. Run the slice again later."),
        ("next_url_loop", "its pages lead in a circle. Run the slice again later."),
        ("endless_pages", "it goes on after 10 pages, more than there can be"),
        (
            "foreign_next_url",
            "its next page is on 'evil.example:*', not on 127.0.0.1:*: the key was not sent there. Run the slice",
        ),
        ("other_port", "its next page is on '127.0.0.1:*', not on 127.0.0.1:*: the key was not sent there."),
        ("other_scheme", "the key was not sent there."),
        ("next_url_with_user", "its next page is on 'someone@127.0.0.1:*', not on"),
        ("next_url_nonsense", "its next page is no address: 'http://127.0.0.1:443:443/v2'"),
    ],
)
def test_a_refusal_is_not_repeated_and_is_told(
    connect: Connect, server: MassiveServer, waits: list[float], fault: str, sentence: str
) -> None:
    server.fault(fault, "AAPL")
    fetched = connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"MSFT"}
    assert re.search(re.escape(sentence).replace(r"\*", ".*"), fetched.problems["AAPL"])
    assert waits == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("server_error", "internal (HTTP 500, ERROR), 3 times"),
        ("gateway_html", "HTTP 502 without an answer of Massive's (begins '<!DOCTYPE html>"),
        ("html", "HTTP 200 without an answer"),
        ("not_found_html", "HTTP 404 without an answer"),
        ("empty_body", "HTTP 200 without an answer of Massive's (begins '')"),
        ("json_list", "HTTP 200 without an answer of Massive's (begins '[]')"),
        ("deep_json", "HTTP 200 without an answer"),
        ("truncated", "HTTP 200 without an answer"),
        ("torn_connection", "no answer (RemoteProtocolError), 3 times"),
        ("reset", "no answer (ReadError), 3 times"),
        ("redirect", "HTTP 302: redirected to http://127.0.0.1:"),
        ("status_error", "something broke (HTTP 200, ERROR), 3 times"),
        ("odd_status", "no reason given (HTTP 200, PARTIAL), 3 times"),
        ("unfounded_304", "HTTP 304: redirected to nowhere"),
        ("oversized", "its answer is longer than 32 MiB, 3 times"),
    ],
)
def test_what_may_pass_is_tried_three_times(
    connect: Connect, server: MassiveServer, waits: list[float], fault: str, sentence: str
) -> None:
    server.fault(fault, "AAPL")
    fetched = connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"MSFT"}
    assert sentence in fetched.problems["AAPL"]
    assert "Run the slice again later." in fetched.problems["AAPL"]
    assert len(server.aggregates("AAPL")) == 3
    assert [1 <= waits[0] <= 2, 2 <= waits[1] <= 4, len(waits)] == [True, True, 2]


@pytest.mark.parametrize("fault", ["server_error", "html", "truncated", "torn_connection", "reset", "status_error"])
def test_what_passed_leaves_no_trace(connect: Connect, server: MassiveServer, fault: str) -> None:
    server.fault(fault, "AAPL", times=2)
    fetched = connect().bars(["AAPL"], days(TUESDAY))
    assert (starts(fetched), fetched.problems) == (IN_SESSION, {})


@pytest.mark.parametrize(("fault", "seconds"), [("slow", 0.5), ("drip", 0.05)])
def test_an_answer_that_keeps_us_waiting_is_cut_off(
    connect: Connect, server: MassiveServer, fault: str, seconds: float
) -> None:
    server.fault(fault, "AAPL", seconds=seconds)
    fetched = connect(timeout_seconds=0.2).bars(["AAPL", "MSFT"], days(TUESDAY))
    told = {"slow": "no answer (ReadTimeout), 3 times", "drip": "its answer only drips in, 3 times"}
    assert told[fault] in fetched.problems["AAPL"]


def test_a_redirect_is_not_followed(connect: Connect, server: MassiveServer) -> None:
    with MassiveServer().running() as other:
        server.fault("redirect", to=f"{other.url}/v2/aggs")
        with pytest.raises(SourceError, match="not followed"):
            connect().bars(["AAPL"], days(TUESDAY))
        assert other.requests == []


def test_the_key_is_never_sent_to_another_place(connect: Connect, server: MassiveServer) -> None:
    port = int(server.url.rpartition(":")[2])
    server.fault("foreign_next_url", "AAPL")
    server.fault("foreign_next_url", "splits:AAPL")
    connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert "evil.example" in connect().actions(["AAPL", "MSFT"], days(TUESDAY)).problems["AAPL"]
    assert {request.headers["host"] for request in server.requests} == {f"127.0.0.1:{port}"}
    assert not any("cursor" in request.query for request in server.requests)


def test_a_server_that_is_not_there_fails_all_for_now(tmp_path: Path) -> None:
    with MassiveServer().running() as gone:
        url = gone.url
    massive = {"api_key": KEY, "base_url": url, "requests_per_minute": 0}
    settings = Settings(home=tmp_path, market="massive", posts="none", massive=massive)
    source = MassiveBars(settings, now=lambda: AFTERWARDS, sleep=lambda _: None)
    with pytest.raises(
        SourceError, match=r"none of 1 ticker\(s\) could be read; AAPL: no answer \(ConnectError\)"
    ) as e:
        source.bars(["AAPL"], days(TUESDAY))
    assert e.value.transient


# The key --------------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_named_and_asked_with_once_only(connect: Connect, server: MassiveServer) -> None:
    tickers = [f"T{number}" for number in range(100)]
    with pytest.raises(
        SourceError, match=r"does not know the key: Unknown API Key.*Check TFT_MASSIVE_API_KEY"
    ) as caught:
        connect(key="another").bars(tickers, days(TUESDAY))
    assert not caught.value.transient
    assert len(server.requests) <= 8  # those under way at the same time


def test_a_key_that_is_revoked_meanwhile_keeps_what_was_read(connect: Connect, server: MassiveServer) -> None:
    server.fault("key_unknown", after=1)
    fetched = connect(connections=1).bars(["AAPL", "MSFT", "NVDA"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"AAPL"}
    assert [sorted(fetched.problems), len(server.requests)] == [["MSFT", "NVDA"], 2]


def test_a_plan_that_reaches_nothing_is_no_passing_trouble(connect: Connect, server: MassiveServer) -> None:
    server.fault("not_authorized")
    with pytest.raises(SourceError, match="TFT_MASSIVE_API_KEY") as caught:
        connect().bars(["AAPL", "MSFT"], days(TUESDAY))
    assert not caught.value.transient


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_the_key_is_in_no_message_and_no_log(
    connect: Connect, server: MassiveServer, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fault("key_repeated", status=status)
    with pytest.raises(SourceError) as caught:
        connect().bars(["AAPL"], days(TUESDAY))
    assert "the key *** is no good" in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text


def test_an_answer_that_holds_the_key_is_not_quoted(connect: Connect, server: MassiveServer) -> None:
    server.fault("key_repeated", "AAPL", status=200)
    assert "repeats the key" in connect().bars(["AAPL", "MSFT"], days(TUESDAY)).problems["AAPL"]


@pytest.mark.parametrize("key", [None, "", "   "])
def test_without_a_key_the_setting_is_named(tmp_path: Path, key: str | None) -> None:
    settings = Settings(home=tmp_path, market="massive", posts="none", tickers=("AAPL",), massive={"api_key": key})
    with pytest.raises(ConfigError, match=r"setting TFT_MASSIVE_API_KEY is missing.*Create a key"):
        open_bars(settings)


# The pace -------------------------------------------------------------------------------------------------------------


def test_requests_keep_to_the_budget_of_the_plan_across_calls(connect: Connect, waits: list[float]) -> None:
    source = connect(requests_per_minute=5, connections=1)
    source.bars(["AAPL", "MSFT", "NVDA"], days(TUESDAY))
    assert waits == pytest.approx([12.0, 24.0], abs=1.0)  # these sleeps take no time, so they grow
    source.bars(["AAPL"], days(TUESDAY))
    assert waits[2] == pytest.approx(36.0, abs=1.0)


def test_a_limit_is_waited_out_once_for_all(connect: Connect, server: MassiveServer, waits: list[float]) -> None:
    server.fault("rate_limited", times=1, retry_after=33)
    fetched = connect().bars(["AAPL", "MSFT", "NVDA"], days(TUESDAY))
    assert (fetched.frame["ticker"].nunique(), fetched.problems) == (3, {})
    assert len(waits) == 1
    assert 33 <= waits[0] <= 43


def test_a_limit_without_a_header_is_backed_off_from(
    connect: Connect, server: MassiveServer, waits: list[float]
) -> None:
    server.fault("rate_limited", times=2)
    assert connect(connections=1).bars(["AAPL"], days(TUESDAY)).problems == {}
    assert [5 <= waits[0] <= 10, 10 <= waits[1] <= 20] == [True, True]


def test_a_limit_that_outlasts_patience_leaves_the_rest_unread_and_keeps_what_was_read(
    connect: Connect, server: MassiveServer
) -> None:
    server.fault("rate_limited", after=1, retry_after=3600)
    fetched = connect(connections=1).bars(["AAPL", "MSFT", "NVDA"], days(TUESDAY))
    assert set(fetched.frame["ticker"]) == {"AAPL"}
    assert list(fetched.problems) == ["MSFT", "NVDA"]
    assert "not read: Massive answers 429" in fetched.problems["NVDA"]
    assert len(server.requests) == 2


# Corporate actions ----------------------------------------------------------------------------------------------------


def test_a_split_takes_effect_when_its_session_opens(connect: Connect, server: MassiveServer) -> None:
    server.lists("NVDA").split("NVDA", "2024-03-06", new=10, old=1)
    server.lists("MSFT").split("MSFT", "2024-03-06", new=1, old=8)
    actions = validate(connect().actions(["NVDA", "MSFT", "AAPL"], days(WEDNESDAY)).frame, ACTIONS)
    assert actions[["ticker", "effective_at", "kind", "value"]].values.tolist() == [
        ["MSFT", utc("2024-03-06 14:30"), "split", 0.125],
        ["NVDA", utc("2024-03-06 14:30"), "split", 10.0],
    ]


def test_an_action_of_a_holiday_takes_effect_with_the_next_session(connect: Connect, server: MassiveServer) -> None:
    server.lists("AAPL").dividend("AAPL", "2024-03-02", 0.24)  # a Saturday
    source = connect()
    assert source.actions(["AAPL"], days(MONDAY)).frame["effective_at"].tolist() == [utc("2024-03-04 14:30")]
    assert source.actions(["AAPL"], days(date(2024, 3, 1))).frame.empty


def test_dividends_are_as_they_were_paid_and_two_of_a_day_are_one(connect: Connect, server: MassiveServer) -> None:
    listing = server.lists("AAPL")
    listing.dividend("AAPL", "2024-03-05", 0.24)
    listing.dividend("AAPL", "2024-03-05", 1.0)
    listing.split("AAPL", "2024-03-06", new=4, old=1)
    server.fault("repeated", "dividends:AAPL")  # one line twice: its id tells
    actions = connect().actions(["AAPL"], days(TUESDAY, WEDNESDAY)).frame
    assert actions[["kind", "value"]].values.tolist() == [["dividend", 1.24], ["split", 4.0]]


def test_prices_before_a_split_stay_as_they_were_traded(connect: Connect, server: MassiveServer) -> None:
    server.lists("AAPL").split("AAPL", "2024-03-06", new=10, old=1)
    assert connect().bars(["AAPL"], days(TUESDAY)).frame["open"].iloc[0] == 170.0


@pytest.mark.parametrize(("currency", "shown"), [("CAD", "CAD"), (None, "None")])
def test_a_dividend_in_another_currency_is_left_out_and_told(
    connect: Connect, server: MassiveServer, currency: str | None, shown: str
) -> None:
    listing = server.lists("AAPL")
    listing.dividend("AAPL", "2024-03-05", 0.33, currency)
    listing.dividend("AAPL", "2024-03-05", 0.24)
    fetched = connect().actions(["AAPL"], days(TUESDAY))
    assert fetched.frame["value"].tolist() == [0.24]
    assert fetched.problems == {"AAPL": f"1 dividend(s) in {shown}, not in USD, left out."}


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        ("split_with_zero", "splits", "1 split(s) of 10 for 0 left out."),
        ("undated", "splits", "1 split(s) without a date that can be read left out."),
        ("null_fields", "splits", "1 split(s) of None for 1 left out."),
        ("row_is_text", "splits", "1 split(s) of None for None left out."),
        ("undated", "dividends", "1 dividend(s) without a date that can be read left out."),
        ("null_fields", "dividends", "1 dividend(s) of None left out."),
    ],
)
def test_an_action_that_cannot_be_read_is_left_out_and_told(
    connect: Connect, server: MassiveServer, fault: str, kind: str, sentence: str
) -> None:
    listing = server.lists("AAPL")
    listing.split("AAPL", "2024-03-05", new=10, old=1)
    listing.dividend("AAPL", "2024-03-05", 0.24)
    server.fault(fault, f"{kind}:AAPL")
    fetched = connect().actions(["AAPL"], days(TUESDAY))
    assert fetched.frame["kind"].tolist() == ["dividend" if kind == "splits" else "split"]
    assert fetched.problems == {"AAPL": sentence}


def test_actions_of_another_symbol_are_refused(connect: Connect, server: MassiveServer) -> None:
    server.lists("AAPL").split("AAPL", "2024-03-05", new=10, old=1)
    server.fault("wrong_ticker", "splits:AAPL")
    fetched = connect().actions(["AAPL", "MSFT"], days(TUESDAY))
    assert "corporate actions of 'OTHER' instead" in fetched.problems["AAPL"]


def test_actions_are_read_page_by_page(connect: Connect, server: MassiveServer) -> None:
    server.page_rows = 1
    for day, amount in (("2024-03-04", 0.1), ("2024-03-05", 0.2), ("2024-03-06", 0.3)):
        server.lists("AAPL").dividend("AAPL", day, amount)
    assert connect().actions(["AAPL"], days(MONDAY, WEDNESDAY)).frame["value"].tolist() == [0.1, 0.2, 0.3]


def test_whoever_watches_is_told_of_each_ticker(connect: Connect) -> None:
    source, told = connect(), list[tuple[int, int]]()
    source.watched = lambda done, total: told.append((done, total))
    source.bars(["AAPL", "MSFT", "../x"], days(TUESDAY))
    assert told == [(number, 3) for number in range(4)]


MANY = ["AAPL", "MSFT", "NVDA", *(f"T{number}" for number in range(9))]


def test_recent_actions_of_many_tickers_are_asked_for_together(connect: Connect, server: MassiveServer) -> None:
    server.page_rows = 2
    for ticker, day, amount in (("AAPL", "2024-03-05", 0.24), ("MSFT", "2024-03-05", 0.75), ("XYZ", "2024-03-05", 9.0)):
        server.lists(ticker).dividend(ticker, day, amount)
    server.lists("NVDA").split("NVDA", "2024-03-06", new=10, old=1)
    apart = connect(together_from=100).actions(MANY, days(TUESDAY, WEDNESDAY))
    assert len(server.requests) == 2 * len(MANY)
    server.requests.clear()
    together = connect().actions(MANY, days(TUESDAY, WEDNESDAY))
    assert len(server.requests) == 3  # two pages of dividends, one of splits
    pd.testing.assert_frame_equal(together.frame.drop(columns="known_at"), apart.frame.drop(columns="known_at"))
    assert together.frame["ticker"].tolist() == ["AAPL", "MSFT", "NVDA"]
    assert together.problems == {}


def test_actions_of_a_long_history_are_asked_for_ticker_by_ticker(connect: Connect, server: MassiveServer) -> None:
    connect().actions(MANY, days(date(2023, 3, 6), WEDNESDAY))
    assert len(server.requests) == 2 * len(MANY)


def test_what_befalls_the_whole_list_is_told_of_all_and_asked_once(
    connect: Connect, server: MassiveServer, waits: list[float]
) -> None:
    server.fault("bad_request", "splits:")
    with pytest.raises(SourceError, match=r"massive: none of 12 ticker\(s\) could be read; AAPL: "):
        connect().actions(MANY, days(TUESDAY))
    assert len(server.requests) == 1


def test_a_row_that_is_nobodys_costs_no_other(connect: Connect, server: MassiveServer) -> None:
    for ticker in ("AAPL", "MSFT"):
        server.lists(ticker).dividend(ticker, "2024-03-05", 0.24)
    server.fault("row_is_text", "dividends:")
    fetched = connect().actions(MANY, days(TUESDAY))
    assert len(fetched.frame) == 1


# What may be kept -----------------------------------------------------------------------------------------------------


def test_actions_are_kept_as_long_as_massive_allows_and_never_bars(server: MassiveServer, tmp_path: Path) -> None:
    clock = [AFTERWARDS]
    massive = {"api_key": KEY, "base_url": server.url, "requests_per_minute": 0}
    settings = Settings(home=tmp_path, market="massive", posts="none", massive=massive)
    source = MassiveBars(settings, now=lambda: clock[0])
    server.reference_headers = {"cache-control": "private, max-age=86400"}
    server.lists("AAPL").split("AAPL", "2024-03-05", new=10, old=1)
    first = source.actions(["AAPL"], days(TUESDAY)).frame
    clock[0] += timedelta(minutes=59)
    pd.testing.assert_frame_equal(source.actions(["AAPL"], days(TUESDAY)).frame, first)
    assert len(server.requests) == 2  # splits and dividends, once
    clock[0] += timedelta(minutes=2)
    source.actions(["AAPL"], days(TUESDAY))
    assert len(server.requests) == 4  # a day was allowed, an hour is ours
    source.bars(["AAPL"], days(TUESDAY))
    source.bars(["AAPL"], days(TUESDAY))
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({}, 4),
        ({"cache-control": "no-store, max-age=600"}, 4),
        ({"cache-control": "max-age=soon"}, 4),
        ({"cache-control": "max-age=600", "age": "700"}, 4),
        ({"cache-control": "s-maxage=600"}, 4),
        ({"cache-control": "max-age=600"}, 2),
    ],
)
def test_only_what_the_headers_allow_is_kept(
    connect: Connect, server: MassiveServer, headers: dict[str, str], asked: int
) -> None:
    server.reference_headers = headers
    source = connect()
    for _ in range(2):
        source.actions(["AAPL"], days(TUESDAY))
    assert len(server.requests) == asked


def test_an_unchanged_answer_is_not_sent_again(connect: Connect, server: MassiveServer) -> None:
    server.etags = True
    server.lists("AAPL").split("AAPL", "2024-03-05", new=10, old=1)
    source = connect()
    first = source.actions(["AAPL"], days(TUESDAY)).frame
    pd.testing.assert_frame_equal(source.actions(["AAPL"], days(TUESDAY)).frame, first)
    assert ["if-none-match" in request.headers for request in server.requests] == [False, False, True, True]
    server.lists("AAPL").dividend("AAPL", "2024-03-05", 0.24)
    assert source.actions(["AAPL"], days(TUESDAY)).frame["kind"].tolist() == ["dividend", "split"]


def test_the_oldest_answer_is_given_up_first() -> None:
    kept = Kept(most_bytes=3 * ENTRY_BYTES)
    headers = httpx2.Headers({"cache-control": "max-age=60"})
    for number in range(4):
        kept.keep(f"url-{number}", {"number": number}, 0, headers)
    assert [kept.fresh(f"url-{number}") for number in range(4)] == [None, {"number": 1}, {"number": 2}, {"number": 3}]
    kept.keep("url-1", {"number": 5}, 3 * ENTRY_BYTES, headers)  # larger than all that may be kept
    assert [kept.fresh(f"url-{number}") for number in range(4)] == [None] * 4


def test_an_unfounded_not_modified_is_tried_again(connect: Connect, server: MassiveServer) -> None:
    server.fault("unfounded_304", "splits:AAPL", times=1)
    assert connect().actions(["AAPL"], days(TUESDAY)).problems == {}
