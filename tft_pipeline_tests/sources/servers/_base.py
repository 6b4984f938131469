"""What the stand-in servers share: an ephemeral port, a record of requests, and a switchboard of faults."""

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass
class Fault:
    """A fault that is on: for one subject (ticker, subreddit) or all, the next `times` requests or until further notice."""

    name: str
    subject: str | None = None
    times: int | None = None
    after: int = 0  # requests that still pass before it begins
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    declared_length: int | None = None  # more than the body: the connection ends in the middle
    reset: bool = False
    drip_seconds: float = 0.0  # between a few bytes and the next

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Self:
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value).encode(), {"content-type": "application/json", **names})


class StandIn:
    """Subclasses answer(); a test switches faults on and reads `requests`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.latency_seconds = 0.0  # before every answer
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every answer waits 40 ms for the client's acknowledgement

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                length = int(self.headers.get("content-length") or 0)
                request = Request(
                    self.command, unquote(url.path), dict(parse_qsl(url.query)),
                    {k.lower(): v for k, v in self.headers.items()}, self.rfile.read(length),
                )  # fmt: skip
                outer.requests.append(request)
                time.sleep(outer.latency_seconds)
                self._send(outer.answer(request))

            def do_POST(self) -> None:
                self.do_GET()

            def _send(self, answer: Answer) -> None:
                if answer.reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    self.connection.close()
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(answer.declared_length or len(answer.body)))
                if answer.declared_length:
                    self.close_connection = True
                if self.close_connection:
                    self.send_header("connection", "close")
                self.end_headers()
                step = max(len(answer.body) // 20, 1) if answer.drip_seconds else max(len(answer.body), 1)
                for start in range(0, len(answer.body), step):
                    self.wfile.write(answer.body[start : start + step])
                    time.sleep(answer.drip_seconds)

            def handle(self) -> None:
                try:
                    super().handle()
                except (ConnectionError, ValueError):
                    self.close_connection = True  # the client left, or we closed on it

            def finish(self) -> None:
                try:
                    super().finish()
                except (OSError, ValueError):
                    return

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault(
        self, name: str, subject: str | None = None, *, times: int | None = None, after: int = 0, **options: Any
    ) -> None:
        """Switch a fault on."""
        if name not in self.FAULTS:
            raise KeyError(f"{name!r} is no fault of {type(self).__name__}; it has {sorted(self.FAULTS)}")
        self._faults.append(Fault(name, subject, times, after, options))

    def calm(self) -> None:
        """All faults off, no request remembered."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()

    FAULTS: frozenset[str] = frozenset()

    def _fault(self, subject: str | None, *names: str) -> Fault | None:
        """The first of the named faults that is on for the subject; uses up one of its times."""
        with self._lock:
            for fault in self._faults:
                if (names and fault.name not in names) or fault.subject not in (None, subject) or fault.times == 0:
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def paths(self, part: str = "") -> list[str]:
        return [request.path for request in self.requests if part in request.path]

    @contextmanager
    def running(self) -> Iterator[Self]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
