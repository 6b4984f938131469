"""Massive's REST interface as we use it: the key in a header and nowhere else, every answer judged, pages followed on one host only.

What belongs here: requests, refusals, retries, pages, what may be kept. What the answers mean: _massive_answers.py.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import httpx2

from tft_pipeline.config import MassiveSettings
from tft_pipeline.errors import ConfigError
from tft_pipeline.sources._pace import Door
from tft_pipeline.sources._patience import Patience, retry_after_seconds

ATTEMPTS = 3  # of one request, when the answer is unusable
MAX_ANSWER_BYTES = 32 * 2**20  # 50,000 bars take 6 MiB
KEPT_SECONDS = 3600.0  # at most, whatever the answer allows
KEPT_BYTES = 8 * 2**20  # of all answers together; as Python holds them they take several times as much
ENTRY_BYTES = 1024  # of an answer without a row

_PORTS = {"http": 80, "https": 443}


class MassiveTroubleError(Exception):
    """A request gave no usable answer."""


class RefusedError(MassiveTroubleError):
    """Massive answered that it has no such thing: asking again does not help."""


class NotAuthorizedError(RefusedError):
    """The key, or the plan behind it, does not reach this."""


class KeyRefusedError(NotAuthorizedError):
    """Massive does not know the key: nothing can be read."""


class UnusableError(MassiveTroubleError):
    """An outage, a torn or a foreign answer: the next attempt may fare better."""


class RateLimitedError(MassiveTroubleError):
    """HTTP 429: nothing more may be asked for a while."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("Massive answers 429, too many requests")
        self.retry_after_seconds = retry_after


@dataclass(frozen=True)
class _Kept:
    answer: dict[str, Any]
    size: int
    etag: str | None
    fresh_until: float


class Kept:
    """Answers that the server allows to keep, by URL: in memory, no longer than an hour, the oldest given up first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most_bytes: int = KEPT_BYTES) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._answers: dict[str, _Kept] = {}
        self._bytes = 0

    def fresh(self, url: str) -> dict[str, Any] | None:
        """The answer, where it may be used without asking."""
        kept = self._answers.get(url)
        return kept.answer if kept and self._clock() < kept.fresh_until else None

    def etag(self, url: str) -> str | None:
        kept = self._answers.get(url)
        return kept.etag if kept else None

    def keep(self, url: str, answer: dict[str, Any], size: int, headers: httpx2.Headers) -> None:
        """Keep the answer as long as its headers allow, and not at all where they say nothing. size: bytes that it came in."""
        control = headers.get("cache-control", "").lower()
        etag = headers.get("etag")
        seconds = _seconds_fresh(control, headers.get("age", ""))
        with self._lock:
            self._give_up(url)
            if "no-store" in control or not (etag or seconds):
                return
            self._answers[url] = _Kept(answer, size + ENTRY_BYTES, etag, self._clock() + seconds)
            self._bytes += self._answers[url].size
            while self._bytes > self._most_bytes:
                self._give_up(next(iter(self._answers)))

    def renewed(self, url: str, headers: httpx2.Headers) -> dict[str, Any]:
        """The answer that the server calls unchanged. Raises UnusableError where we hold none."""
        kept = self._answers.get(url)
        if kept is None:
            raise UnusableError("HTTP 304 for what was never held")
        self.keep(url, kept.answer, kept.size - ENTRY_BYTES, httpx2.Headers({"etag": kept.etag or "", **headers}))
        return kept.answer

    def _give_up(self, url: str) -> None:
        gone = self._answers.pop(url, None)
        self._bytes -= gone.size if gone else 0


class MassiveClient:
    """One fetch: several threads may ask at once. Close it, or use it in a `with`."""

    def __init__(
        self, settings: MassiveSettings, *, patience: Patience, door: Door, kept: Kept, timeout_seconds: float
    ) -> None:
        """Raises ConfigError without a key."""
        self._key = key_of(settings)
        self._base = settings.base_url
        self._patience = patience
        self._door = door
        self._kept = kept
        self._timeout_seconds = timeout_seconds
        self._refused: KeyRefusedError | None = None
        self._http = httpx2.Client(
            headers={
                "Authorization": f"Bearer {self._key}",
                "Accept": "application/json",
                "User-Agent": "tft-pipeline",
            },
            follow_redirects=False,
            timeout=timeout_seconds,
            trust_env=self._base.startswith("https:"),  # a proxy would see the key of a plain request
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def pages(self, path: str, *, most: int, keeping: bool = False) -> Iterator[dict[str, Any]]:
        """The answer for base_url + path and, one by one, the pages that it leads to. keeping: for as long as Massive allows.

        Raises MassiveTroubleError, also where pages lead to another host, in a circle, or to more than `most`; OutOfPatienceError.
        """
        url: str | None = self._base + path
        asked: set[str] = set()
        while url:
            if url in asked:
                raise UnusableError("its pages lead in a circle")
            if len(asked) == most:
                raise UnusableError(f"it goes on after {most} pages, more than there can be")
            asked.add(url)
            answer = self._ask(url, keeping)
            yield answer
            url = self._next(answer.get("next_url"))

    def _next(self, url: object) -> str | None:
        """next_url, where the key may be sent to it (FAULTS 27)."""
        if not url:
            return None
        text = self._shown(url, 80)
        try:
            parts = urlsplit(url if isinstance(url, str) else "")
            place = _place(parts)
        except ValueError:
            raise UnusableError(f"its next page is no address: {text!r}") from None
        if place != _place(urlsplit(self._base)) or parts.username:
            raise UnusableError(
                f"its next page is on {self._shown(parts.netloc, 80) or text!r}, not on {urlsplit(self._base).netloc}: the key was not sent there"
            )
        return str(url)

    def _ask(self, url: str, keeping: bool) -> dict[str, Any]:
        """One answer, asked for until it is usable."""
        if keeping and (held := self._kept.fresh(url)) is not None:
            return held
        unusable = 0
        while True:
            ticket = self._door.enter()
            if self._refused:
                raise self._refused
            try:
                answer = self._once(url, keeping)
            except RateLimitedError as error:
                self._door.limited(ticket, str(error), at_least_seconds=error.retry_after_seconds)
            except UnusableError as error:
                unusable += 1
                if unusable == ATTEMPTS:
                    raise UnusableError(f"{error}, {ATTEMPTS} times") from None
                self._patience.back_off(unusable, f"Massive: {error}")
            except RefusedError as error:
                self._door.passed()
                if isinstance(error, KeyRefusedError):
                    self._refused = error
                raise
            else:
                self._door.passed()
                return answer

    def _once(self, url: str, keeping: bool) -> dict[str, Any]:
        etag = self._kept.etag(url) if keeping else None
        deadline = time.monotonic() + 2 * self._timeout_seconds
        try:
            with self._http.stream("GET", url, headers={"If-None-Match": etag} if etag else {}) as response:
                body = _read(response, deadline)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UnusableError(f"no answer ({type(error).__name__})") from None
        if response.status_code == 304 and keeping:
            return self._kept.renewed(url, response.headers)
        answer = self._judged(response, body)
        if keeping:
            self._kept.keep(url, answer, len(body), response.headers)
        return answer

    def _judged(self, response: httpx2.Response, body: bytes) -> dict[str, Any]:
        """The answer of an HTTP 200 whose own status is sound, too."""
        status = response.status_code
        if status == 429:
            raise RateLimitedError(retry_after_seconds(response.headers.get("retry-after")))
        if 300 <= status < 400:
            where = self._shown(response.headers.get("location", "nowhere"), 80)
            raise UnusableError(f"HTTP {status}: redirected to {where}; not followed")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if status == 401:
            raise KeyRefusedError(f"Massive does not know the key: {self._reason(answer, status)}")
        if status == 403:
            raise NotAuthorizedError(self._reason(answer, status))
        if not isinstance(answer, dict):
            beginning = self._shown(body[:400].decode("utf-8", "replace"), 40)
            raise UnusableError(f"HTTP {status} without an answer of Massive's (begins {beginning!r})")
        if status >= 500:
            raise UnusableError(self._reason(answer, status))
        if status != 200:
            raise RefusedError(self._reason(answer, status))
        if self._key.encode() in body:
            raise RefusedError("its answer repeats the key: whoever sent it must not be quoted")
        match answer.get("status"):
            case "OK" | "DELAYED":
                _demand_whole(answer)
                return answer
            case "NOT_AUTHORIZED":
                raise NotAuthorizedError(self._reason(answer, status))
            case "NOT_FOUND":
                raise RefusedError(self._reason(answer, status))
        raise UnusableError(self._reason(answer, status))

    def _reason(self, answer: object, status: int) -> str:
        said = answer if isinstance(answer, dict) else {}
        name = self._shown(said.get("status", ""), 40)
        words = self._shown(said.get("error") or said.get("message") or "no reason given", 300)
        return f"{words} (HTTP {status}{f', {name}' if name else ''})"

    def _shown(self, said: object, length: int) -> str:
        """Somebody else's words for a message: short, on one line, and without the key, should they repeat it."""
        return " ".join(str(said).replace(self._key, "***").split())[:length]


def _demand_whole(answer: dict[str, Any]) -> None:
    """Raises UnusableError where an answer lacks the rows that it counts, or, where it counts none of them, has no list of rows at all."""
    counted, results = answer.get("resultsCount"), answer.get("results")
    if results is not None and not isinstance(results, list):
        return  # what reads it says what it is
    if counted is None and results is None:
        raise UnusableError("it holds no results, not even an empty list")
    if isinstance(counted, int) and counted != len(results or []):
        raise UnusableError(f"it counts {counted} results and holds {len(results or [])}")


def key_of(settings: MassiveSettings) -> str:
    """The key. Raises ConfigError where there is none."""
    if settings.api_key is None:
        raise ConfigError(
            "setting TFT_MASSIVE_API_KEY is missing, and TFT_MARKET=massive needs it. Create a key at massive.com/dashboard and set it "
            "in the environment, or set TFT_MARKET to another source."
        )
    return settings.api_key.get_secret_value()


def _place(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _read(response: httpx2.Response, deadline: float) -> bytes:
    """The body within limits. httpx itself would hold an endless one in memory, and wait for ever on a slow drip."""
    body = bytearray()
    for part in response.iter_bytes():  # what has arrived, not what might still come
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise UnusableError(f"its answer is longer than {MAX_ANSWER_BYTES // 2**20} MiB")
        if time.monotonic() > deadline:
            raise UnusableError("its answer only drips in")
    return bytes(body)


def _seconds_fresh(control: str, age: str) -> float:
    """How long Cache-Control lets an answer be used unasked."""
    found = re.search(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,9})", control)
    if not found or "no-cache" in control:
        return 0.0
    return max(min(float(found[1]), KEPT_SECONDS) - (float(age) if re.fullmatch(r"\d{1,9}", age) else 0.0), 0.0)
