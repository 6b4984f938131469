"""Massive's REST interface: aggregates by the minute and the hour, splits and dividends, as `_massive_client` asks for them.

A fault's subject is a symbol for its aggregates, `splits:SYMBOL` or `dividends:SYMBOL` for its corporate actions.
"""

import hashlib
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tft_pipeline_tests.sources.servers._base import Answer, Fault, Request, StandIn

KEY = "the-key-0123456789"
AGGREGATES = "/v2/aggs/ticker/"
REFERENCE = "/v3/reference/"
NEW_YORK = ZoneInfo("America/New_York")
MINUTE_MS, HOUR_MS = 60_000, 3_600_000

_HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"


@dataclass
class Listing:
    """One symbol: minutes with a trade by their first millisecond, and its corporate actions as Massive words them."""

    minutes: dict[int, dict[str, Any]] = field(default_factory=dict)
    splits: list[dict[str, Any]] = field(default_factory=list)
    dividends: list[dict[str, Any]] = field(default_factory=list)

    def minute(self, moment: datetime, price_usd: float, volume: float = 10.0) -> None:
        """A minute that trades from price to price + 0.05, a quarter above and below."""
        self.minutes[ms(moment)] = {
            "t": ms(moment), "o": price_usd, "h": price_usd + 0.25, "l": price_usd - 0.25, "c": price_usd + 0.05, "v": volume,
            "vw": price_usd, "n": 3,
        }  # fmt: skip

    def session(
        self, day: date, price_usd: float, *, hours: float = 6.5, before: int = 0, after: int = 30, every: int = 1
    ) -> datetime:
        """Minutes of a New York session, each 0.01 above the one before; `before` and `after`: minutes of trade outside it, at half the price.

        Returns the opening in UTC.
        """
        opening = datetime(day.year, day.month, day.day, 9, 30, tzinfo=NEW_YORK).astimezone(UTC)
        length = int(hours * 60)
        for number in range(-before, length + after):
            if number % every == 0:
                inside = 0 <= number < length
                self.minute(opening + timedelta(minutes=number), price_usd + 0.01 * number if inside else price_usd / 2)
        return opening

    def split(self, ticker: str, day: str, new: float, old: float) -> None:
        row = {"execution_date": day, "split_from": old, "split_to": new, "ticker": ticker}
        self.splits.append({**row, "id": f"E{len(self.splits)}"})

    def dividend(self, ticker: str, day: str, amount: float, currency: str | None = "USD") -> None:
        row = {
            "ex_dividend_date": day,
            "cash_amount": amount,
            "currency": currency,
            "dividend_type": "CD",
            "ticker": ticker,
        }
        self.dividends.append({**row, "id": f"D{len(self.dividends)}"})


class MassiveServer(StandIn):
    FAULTS = frozenset({
        "rate_limited", "server_error", "gateway_html", "html", "truncated", "torn_connection", "reset", "slow", "drip", "empty_body",
        "json_list", "deep_json", "redirect", "oversized", "status_error", "odd_status", "not_authorized", "not_authorized_in_200",
        "key_unknown", "key_repeated", "forbidden_html", "not_found", "not_found_in_200", "not_found_html", "bad_request", "delayed", "unfounded_304",
        "results_missing", "results_null", "results_text", "null_fields", "row_is_text", "text_nan", "bare_nan", "huge_number", "off_the_minute", "absurd_time",
        "crossed", "hundredfold", "negative", "unsorted", "duplicate", "unfinished", "wrong_ticker", "adjusted",
        "foreign_next_url", "other_port", "other_scheme", "next_url_with_user", "next_url_nonsense", "next_url_loop", "endless_pages",
        "split_with_zero", "undated", "repeated",
    })  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.listings: dict[str, Listing] = {}
        self.page_rows = 50_000
        self.reference_headers: dict[str, str] = {}
        self.etags = False

    def lists(self, symbol: str) -> Listing:
        return self.listings.setdefault(symbol, Listing())

    def aggregates(self, symbol: str | None = None) -> list[Request]:
        wanted = AGGREGATES + (f"{symbol}/" if symbol else "")
        return [request for request in self.requests if request.path.startswith(wanted)]

    def answer(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return _trouble(401, "ERROR", "Unknown API Key")
        if request.path.startswith(AGGREGATES):
            symbol = request.path.removeprefix(AGGREGATES).partition("/")[0]
            return self._answer(symbol, request, lambda fault: self._bars(symbol, request, fault))
        if request.path.startswith(REFERENCE):
            kind, symbol = request.path.removeprefix(REFERENCE), request.query.get("ticker", "")
            answer = self._answer(
                f"{kind}:{symbol}", request, lambda fault: self._actions(kind, symbol, request, fault)
            )
            return self._kept(answer, request)
        return _trouble(404, "NOT_FOUND", "page not found")

    def _answer(self, subject: str, request: Request, healthy: Any) -> Answer:
        fault = self._fault(subject)
        return (_spoilt(fault, self.url) if fault else None) or _damaged(Answer.json(healthy(fault)), fault)

    def _kept(self, answer: Answer, request: Request) -> Answer:
        if answer.status == 200:
            answer.headers |= self.reference_headers
        if self.etags and answer.status == 200:
            tag = f'"{hashlib.sha256(answer.body).hexdigest()[:12]}"'
            answer.headers["etag"] = tag
            if request.headers.get("if-none-match") == tag:
                return Answer(304, b"", answer.headers)
        return answer

    def _bars(self, symbol: str, request: Request, fault: Fault | None) -> dict[str, Any]:
        _, _, unit, since, until = request.path.removeprefix(AGGREGATES).split("/")[1:]
        minutes = self.listings[symbol].minutes if symbol in self.listings else {}
        rows = [dict(minutes[t]) for t in sorted(minutes) if int(since) <= t <= int(until)]
        if unit == "hour":
            rows = _by_the_clock([minutes[t] for t in sorted(minutes)], int(since), int(until))
        size = min(self.page_rows, int(request.query["limit"]))
        page, rest = rows[:size], rows[size:]
        _bent(page, fault)
        answer: dict[str, Any] = {
            "ticker": symbol, "queryCount": len(page), "resultsCount": len(page), "adjusted": request.query["adjusted"] == "true",
            "results": page, "status": "OK", "request_id": "r", "count": len(page),
        }  # fmt: skip
        if not rows:
            del answer["results"]
        if rest:
            path = f"{AGGREGATES}{symbol}/range/1/{unit}/{rest[0]['t']}/{until}"
            answer["next_url"] = f"{self.url}{path}?cursor=c{rest[0]['t']}&limit={size}&sort=asc&adjusted=false"
        return self._misled(answer, fault, request)

    def _actions(self, kind: str, symbol: str, request: Request, fault: Fault | None) -> dict[str, Any]:
        day = {"splits": "execution_date", "dividends": "ex_dividend_date"}[kind]
        of_whom = [self.listings.get(symbol, Listing())] if symbol else self.listings.values()
        held = sorted((row for listing in of_whom for row in getattr(listing, kind)), key=lambda row: str(row[day]))
        rows = [dict(row) for row in held if str(row[day]) >= request.query.get(f"{day}.gte", "")]
        rows = rows[int(request.query.get("cursor", 0)) :]
        page, rest = rows[: self.page_rows], rows[self.page_rows :]
        answer: dict[str, Any] = {"results": page, "status": "OK", "request_id": "r"}
        if rest:
            query = f"ticker={symbol}&{day}.gte={request.query[f'{day}.gte']}"
            cursor = int(request.query.get("cursor", 0)) + len(page)
            answer["next_url"] = f"{self.url}{REFERENCE}{kind}?{query}&cursor={cursor}"
        match fault.name if fault else "":
            case "split_with_zero":
                for row in page[:1]:
                    row["split_from"] = 0
            case "undated":
                for row in page[:1]:
                    row[day] = "tomorrow"
            case "null_fields":
                for row in page[:1]:
                    row.update(cash_amount=None, split_to=None)
            case "row_is_text":
                page[:1] = ["a split"]
            case "repeated":
                page += [dict(row) for row in page[:1]]
        return self._misled(answer, fault, request)

    def _misled(self, answer: dict[str, Any], fault: Fault | None, request: Request) -> dict[str, Any]:
        """Faults of the whole answer."""
        port = self.url.rpartition(":")[2]
        path = f"{request.path}?cursor={len(self.requests)}&limit=50000&sort=asc&adjusted=false&ticker={request.query.get('ticker', '')}"
        match fault.name if fault else "":
            case "results_missing":
                answer.pop("results", None)
            case "results_null":
                answer["results"] = None
            case "results_text":
                answer["results"] = "none"
            case "wrong_ticker":
                answer["ticker"] = "OTHER"
                for row in answer.get("results", []):
                    row["ticker"] = "OTHER"
            case "adjusted":
                answer["adjusted"] = True
            case "delayed":
                answer["status"] = "DELAYED"
            case "status_error":
                answer = {"status": "ERROR", "error": "something broke", "request_id": "r"}
            case "odd_status":
                answer["status"] = "PARTIAL"
            case "not_authorized_in_200":
                answer = {"status": "NOT_AUTHORIZED", "message": "Your plan doesn't include this data timeframe."}
            case "foreign_next_url":
                answer["next_url"] = f"https://evil.example:{port}{path}"
            case "other_port":
                answer["next_url"] = f"http://127.0.0.1:{int(port) + 1}{path}"
            case "other_scheme":
                answer["next_url"] = f"https://127.0.0.1:{port}{path}"
            case "next_url_with_user":
                answer["next_url"] = f"http://someone@127.0.0.1:{port}{path}"
            case "next_url_nonsense":
                answer["next_url"] = "http://127.0.0.1:443:443/v2"
            case "next_url_loop":
                answer["next_url"] = f"{self.url}{request.path}?cursor=same&limit=50000&sort=asc&adjusted=false"
            case "endless_pages":
                answer["next_url"] = f"{self.url}{path}"
        return answer


def ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _by_the_clock(rows: list[dict[str, Any]], since: int, until: int) -> list[dict[str, Any]]:
    hours: dict[int, dict[str, Any]] = {}
    for row in rows:
        start = row["t"] // HOUR_MS * HOUR_MS
        if not since <= start <= until:
            continue
        hour = hours.setdefault(start, {**row, "t": start, "v": 0.0})
        hour.update(h=max(hour["h"], row["h"]), l=min(hour["l"], row["l"]), c=row["c"], v=hour["v"] + row["v"])
    return list(hours.values())


def _trouble(status: int, name: str, error: str) -> Answer:
    return Answer.json({"status": name, "request_id": "r", "error": error}, status)


def _spoilt(fault: Fault, url: str) -> Answer | None:
    """Faults that need no data."""
    match fault.name:
        case "rate_limited":
            after = fault.options.get("retry_after")
            answer = _trouble(429, "ERROR", "You've exceeded the maximum requests per minute, please wait.")
            answer.headers |= {} if after is None else {"retry-after": str(after)}
            return answer
        case "server_error":
            return _trouble(fault.options.get("status", 500), "ERROR", "internal")
        case "gateway_html":
            return Answer(502, _HTML, {"content-type": "text/html"})
        case "html":
            return Answer(200, _HTML, {"content-type": "text/html"})
        case "empty_body":
            return Answer(200)
        case "json_list":
            return Answer.json([])
        case "deep_json":
            return Answer(200, b"[" * 200_000)
        case "redirect":
            return Answer(302, b"", {"location": fault.options.get("to", f"{url}/elsewhere")})
        case "reset":
            return Answer(reset=True)
        case "slow":
            time.sleep(fault.options.get("seconds", 0.5))
        case "oversized":
            return Answer(200, b" " * (33 * 2**20))
        case "not_authorized":
            return _trouble(403, "NOT_AUTHORIZED", "You are not entitled to this data. Please upgrade your plan.")
        case "key_unknown":
            return _trouble(401, "ERROR", "Unknown API Key")
        case "key_repeated":
            return _trouble(fault.options.get("status", 403), "ERROR", f"the key {KEY} is no good")
        case "forbidden_html":
            return Answer(403, _HTML, {"content-type": "text/html"})
        case "not_found":
            return _trouble(404, "NOT_FOUND", "Ticker not found.")
        case "not_found_in_200":
            return _trouble(200, "NOT_FOUND", "Ticker not found.")
        case "not_found_html":
            return Answer(404, _HTML, {"content-type": "text/html"})
        case "bad_request":
            return _trouble(400, "ERROR", "'to' cannot be before 'from'")
        case "unfounded_304":
            return Answer(304)
    return None


def _damaged(answer: Answer, fault: Fault | None) -> Answer:
    """Faults of the bytes."""
    match fault.name if fault else "":
        case "truncated":
            answer.body = answer.body[: len(answer.body) // 2]
        case "torn_connection":
            answer.declared_length = len(answer.body)
            answer.body = answer.body[: len(answer.body) // 2]
        case "drip":
            answer.drip_seconds = fault.options.get("seconds", 0.05) if fault else 0.0
        case "bare_nan":
            answer.body = answer.body.replace(b'"v": 10.0', b'"v": NaN', 1)
        case "huge_number":
            answer.body = answer.body.replace(b'"v": 10.0', b'"v": 1' + b"0" * 400, 1)
    return answer


def _bent(rows: list[Any], fault: Fault | None) -> None:
    """Faults inside well-formed aggregates, at row `at`."""
    if not rows or fault is None:
        return
    at = fault.options.get("at", 1) % len(rows)
    row = rows[at]
    match fault.name:
        case "null_fields":
            row.update(o=None, h=None, l=None, c=None)
        case "row_is_text":
            rows[at] = json.dumps(row)
        case "text_nan":
            row["c"] = "NaN"
        case "off_the_minute":
            row["t"] += 1234
        case "absurd_time":
            row["t"] = 10**20
        case "crossed":
            row["h"], row["l"] = row["l"], row["h"]
        case "hundredfold":
            row.update({name: row[name] * 100 for name in "ohlc"})
        case "negative":
            row["l"] = -row["l"]
        case "unsorted":
            rows.reverse()
        case "duplicate":
            rows.insert(at, {**row, "c": row["c"] + 99})
        case "unfinished":
            rows[-1]["c"] += 50
