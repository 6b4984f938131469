"""Yahoo's chart API v8 with its cookie, crumb and consent endpoints, as yfinance 1.7 asks for them.

It holds bars as traded and restates them at every split, as Yahoo does: prices before it divided by the ratio, volumes multiplied.
"""

import time
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from curl_cffi.requests import Response

from tft_pipeline.sources._yahoo_session import ChartSession
from tft_pipeline_tests.sources.servers._base import Answer, Fault, Request, StandIn

CHART = "/v8/finance/chart/"
NEW_YORK = ZoneInfo("America/New_York")


@dataclass
class Bar:
    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass
class Listing:
    """One symbol: sessions, hourly bars as traded, splits and dividends (as paid) by the start of their first session."""

    sessions: list[tuple[datetime, datetime]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    splits: dict[datetime, tuple[float, float]] = field(default_factory=dict)
    dividends: dict[datetime, float] = field(default_factory=dict)
    zone: str = "America/New_York"
    currency: str = "USD"
    kind: str = "EQUITY"

    def session(self, day: date, close_usd: float, *, hours: float = 6.5, volume: float = 1000.0) -> datetime:
        """Add a session from 09:30 New York with hourly bars at about `close_usd`; returns its opening in UTC."""
        opening = datetime(day.year, day.month, day.day, 9, 30, tzinfo=NEW_YORK).astimezone(UTC)
        closing = opening + timedelta(hours=hours)
        self.sessions.append((opening, closing))
        start = opening
        while start < closing:
            step = 0.01 * (len(self.bars) % 7)
            self.bars.append(Bar(start, close_usd, close_usd + 0.5 + step, close_usd - 0.5, close_usd + step, volume))
            start += timedelta(hours=1)
        return opening


def trouble(code: str, description: str) -> dict[str, Any]:
    return {"chart": {"result": None, "error": {"code": code, "description": description}}}


class YahooServer(StandIn):
    FAULTS = frozenset({
        "rate_limited", "server_error", "gateway_html", "html", "truncated", "torn_connection", "reset", "slow", "empty_body",
        "json_list", "closed_for_repair", "unauthorized", "redirect_loop", "redirect_elsewhere", "renamed", "crumb_limited", "cookie_reset", "no_result",
        "no_timestamps", "null_bars", "null_volume", "crossed", "hundredfold", "negative", "live_tick", "duplicate_bar",
        "split_not_restated", "no_trading_periods", "not_in_range", "bad_split", "splits_unreadable", "periods_with_pre_and_post", "oversized", "beyond_range",
    })  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.listings: dict[str, Listing] = {}

    def lists(self, ticker: str, **fields: Any) -> Listing:
        self.listings[ticker] = Listing(**fields)
        return self.listings[ticker]

    def charts(self, ticker: str | None = None, interval: str | None = "1h") -> list[Request]:
        """Requests for charts: of prices (1h), of later splits (1d with period1), of the time zone (range=1d)."""
        return [
            r for r in self.requests
            if r.path.startswith(CHART) and (ticker is None or r.path == CHART + ticker)
            and (interval is None or (r.query.get("interval") == interval and "period1" in r.query))
        ]  # fmt: skip

    def answer(self, request: Request) -> Answer:
        if request.path.startswith(CHART):
            return self._chart(request, request.path.removeprefix(CHART))
        if request.path == "/v1/test/getcrumb":
            if self._fault(None, "crumb_limited"):
                return Answer(429, b"Too Many Requests")
            return Answer(200, b"Crumb.01")
        if request.path in ("/consent", "/copyConsent", "/v2/collectConsent"):
            form = '<form><input name="csrfToken" value="t"/><input name="sessionId" value="s"/></form>'
            return Answer(200, form.encode(), {"content-type": "text/html"})
        if request.path in ("", "/"):
            if self._fault(None, "cookie_reset"):
                return Answer(reset=True)
            return Answer(404, b"", {"set-cookie": "A3=d=abc; Max-Age=31557600; Path=/"})
        return Answer.json({"finance": {"result": None, "error": {"code": "Not Found"}}}, 404)

    def _chart(self, request: Request, ticker: str) -> Answer:
        is_prices = "period1" in request.query
        fault = self._fault(ticker) if is_prices and request.query["interval"] == "1h" else None
        fault = fault or (self._fault(ticker, "split_not_restated", "splits_unreadable") if is_prices else None)
        if ticker == "LOOP":
            return Answer(302, b"", {"location": f"{CHART}LOOP"})
        if fault and (answer := _spoilt(fault)):
            return answer
        listing = self.listings.get(ticker)
        if listing is None:
            return Answer.json(trouble("Not Found", "No data found, symbol may be delisted"), 404)
        if not is_prices:
            return Answer.json(
                {"chart": {"result": [{"meta": _meta(listing, ticker), "indicators": {"quote": [{}]}}], "error": None}}
            )
        since, until = (datetime.fromtimestamp(int(request.query[k]), UTC) for k in ("period1", "period2"))
        meta = _meta(listing, ticker)
        result = _result(listing, meta, (since, until), request.query["interval"], fault)
        return _damaged(Answer.json({"chart": {"result": [result], "error": None}}), fault)


def _meta(listing: Listing, ticker: str) -> dict[str, Any]:
    return {
        "currency": listing.currency, "symbol": ticker, "exchangeName": "NMS", "instrumentType": listing.kind,
        "exchangeTimezoneName": listing.zone, "timezone": "EST", "gmtoffset": -18000, "dataGranularity": "1h", "priceHint": 2,
        "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
    }  # fmt: skip


def _result(
    listing: Listing, meta: dict[str, Any], window: tuple[datetime, datetime], interval: str, fault: Fault | None
) -> dict[str, Any]:
    since, until = window
    days = [(a, b) for a, b in listing.sessions if b > since and a < until]
    if interval == "1h" and not (fault and fault.name == "no_trading_periods"):
        meta["tradingPeriods"] = [
            [{"timezone": "EST", "start": _s(a), "end": _s(b), "gmtoffset": -18000}] for a, b in days
        ]
        if fault and fault.name == "periods_with_pre_and_post":
            regular = meta["tradingPeriods"]
            meta["tradingPeriods"] = {"pre": regular, "regular": regular, "post": regular}
    held = [bar for bar in listing.bars if since <= bar.start < until]
    if interval == "1d":
        held = [bar for a, _ in days for bar in listing.bars if bar.start == a and since <= a]
    frozen = fault.name == "split_not_restated" if fault else False
    rows = [_restated(bar, {} if frozen else listing.splits) for bar in held]
    if fault:
        _bent(rows, fault)
        if fault.name == "renamed":
            meta["symbol"] = fault.options["to"]
    result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [{}]}}
    if not rows or (fault and fault.name == "no_timestamps"):
        return result
    result["timestamp"] = [row["t"] for row in rows]
    result["indicators"] = {
        "quote": [{k: [row[k] for row in rows] for k in ("open", "high", "low", "close", "volume")}]
    }
    events = _events(listing, since, until)
    if fault and fault.name == "splits_unreadable":
        events["splits"] = {"1": {"date": "yesterday", "splitRatio": "7:1"}}
    if fault and fault.name == "bad_split":
        events["splits"] = {"1": {"date": rows[0]["t"], "numerator": 7, "denominator": 0, "splitRatio": "7:0"}}
    if events:
        result["events"] = events
    return result


def _restated(bar: Bar, splits: dict[datetime, tuple[float, float]]) -> dict[str, Any]:
    ratio = 1.0
    for moment, (new, old) in splits.items():
        if bar.start < moment:
            ratio *= new / old
    prices = {name: getattr(bar, name) / ratio for name in ("open", "high", "low", "close")}
    return {"t": _s(bar.start), **prices, "volume": round(bar.volume * ratio)}


def _events(listing: Listing, since: datetime, until: datetime) -> dict[str, Any]:
    events: dict[str, Any] = {}
    for moment, (new, old) in listing.splits.items():
        if since <= moment < until:
            events.setdefault("splits", {})[str(_s(moment))] = {
                "date": _s(moment), "numerator": new, "denominator": old, "splitRatio": f"{new:g}:{old:g}",
            }  # fmt: skip
    for moment, amount in listing.dividends.items():
        if since <= moment < until:
            for later, (new, old) in listing.splits.items():
                amount /= new / old if moment < later else 1.0  # noqa: PLW2901
            events.setdefault("dividends", {})[str(_s(moment))] = {"amount": amount, "date": _s(moment)}
    return events


def _spoilt(fault: Fault) -> Answer | None:
    """Faults that need no chart."""
    html = b"<!DOCTYPE html><html><body>Our engineers are working on it</body></html>"
    match fault.name:
        case "rate_limited":
            after = fault.options.get("retry_after")
            return Answer(429, b"Too Many Requests\r\n", {"retry-after": str(after)} if after is not None else {})
        case "server_error":
            return Answer.json(trouble("Internal Server Error", "boom"), fault.options.get("status", 500))
        case "gateway_html":
            return Answer(502, html, {"content-type": "text/html"})
        case "html":
            return Answer(200, html, {"content-type": "text/html"})
        case "empty_body":
            return Answer(200)
        case "json_list":
            return Answer.json([])
        case "closed_for_repair":
            return Answer(200, b"Will be right back", {"content-type": "text/html"})
        case "unauthorized":
            return Answer.json(
                {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}}, 401
            )
        case "redirect_loop":
            return Answer(302, b"", {"location": f"{CHART}LOOP"})
        case "redirect_elsewhere":
            return Answer(302, b"", {"location": "/somewhere/else"})
        case "reset":
            return Answer(reset=True)
        case "slow":
            time.sleep(fault.options.get("seconds", 0.5))
            return None
        case "no_result":
            return Answer.json({"chart": {"result": [], "error": None}})
        case "not_in_range":
            return Answer.json(trouble("Bad Request", "Data doesn't exist for startDate = 1, endDate = 2"), 400)
        case "beyond_range":
            return Answer.json(
                trouble(
                    "Unprocessable Entity",
                    "1h data not available. The requested range must be within the last 730 days.",
                ),
                422,
            )
        case "oversized":
            return Answer(200, b"", declared_length=2**31)
    return None


def _damaged(answer: Answer, fault: Fault | None) -> Answer:
    if fault and fault.name == "truncated":
        answer.body = answer.body[: len(answer.body) // 2]
    if fault and fault.name == "torn_connection":
        answer.declared_length = len(answer.body)
        answer.body = answer.body[: len(answer.body) // 2]
    return answer


def _bent(rows: list[dict[str, Any]], fault: Fault) -> None:
    """Faults inside a well-formed chart, at row `at`."""
    if not rows:
        return
    at = fault.options.get("at", 1) % len(rows)
    row = rows[at]
    match fault.name:
        case "null_bars":
            row.update(open=None, high=None, low=None, close=None, volume=None)
        case "null_volume":
            row["volume"] = None
        case "crossed":
            row["high"], row["low"] = row["low"], row["high"]
        case "hundredfold":
            row.update({name: row[name] * 100 for name in ("open", "high", "low", "close")})
        case "negative":
            row["close"] = -row["close"]
        case "duplicate_bar":
            rows.insert(at, dict(row))
        case "live_tick":
            seconds = fault.options["seconds"]
            rows.append({**rows[-1], "t": rows[-1]["t"] + seconds, "volume": 0})


def _s(moment: datetime) -> int:
    return int(moment.timestamp())


class LocalSession(ChartSession):
    """Whatever yfinance asks of Yahoo's hosts goes to the stand-in server; nothing leaves the machine."""

    def __init__(self, server_url: str) -> None:
        super().__init__()
        self._server_url = server_url

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Response:
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        response = super().request(method, f"{self._server_url}{parts.path or '/'}{query}", *args, **kwargs)
        for cookie in list(self.cookies.jar):
            if cookie.domain.startswith("127."):  # it would be Yahoo's, and yfinance would keep it
                theirs = copy(cookie)
                theirs.domain = ".yahoo.com"
                self.cookies.jar.set_cookie(theirs)
        return response
