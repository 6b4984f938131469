"""Tickers a second of an hourly refresh from servers that answer after 100 ms: our sources, against yfinance's own threaded download."""

import logging
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from multiprocessing.queues import Queue
from pathlib import Path

import psutil
import yfinance
from pydantic import SecretStr
from yfinance.data import SingletonMeta

from benchmarks.timing import Contender, seconds_in_turn, table
from tft_pipeline.config import MassiveSettings, Settings, YahooSettings
from tft_pipeline.sources.massive import MassiveBars
from tft_pipeline.sources.protocols import Span
from tft_pipeline.sources.yahoo import YahooBars
from tft_pipeline_tests.sources.servers.massive_server import KEY, MassiveServer
from tft_pipeline_tests.sources.servers.yahoo_server import LocalSession, YahooServer

TICKERS = [f"T{number:03d}" for number in range(500)]
DAYS = [date(2024, 3, day) for day in (4, 5, 6, 7)]
NOW = datetime(2024, 3, 7, 17, 50, tzinfo=UTC)
SPAN = Span(datetime(2024, 3, 7, tzinfo=UTC), datetime(2024, 3, 7, 18, tzinfo=UTC))
LATENCY_SECONDS = 0.1
CONNECTIONS = 16
PEER = f"yfinance.download, {CONNECTIONS} threads"


def serve(kind: str, said: "Queue[str]", over: "Queue[bool]") -> None:
    server = YahooServer() if kind == "yahoo" else MassiveServer()
    server.latency_seconds = LATENCY_SECONDS
    for number, ticker in enumerate(TICKERS):
        if isinstance(server, YahooServer):
            listed = server.lists(ticker)
            for day in DAYS:
                listed.session(day, 20.0 + number)
        else:
            server.lists(ticker).session(DAYS[-1], 20.0 + number, every=5)
    with server.running():
        said.put(server.url)
        over.get()


@contextmanager
def server(kind: str) -> Iterator[str]:
    """Its address; in a process of its own, so that it does not compete for one interpreter."""
    context = multiprocessing.get_context("spawn")
    said, over = context.Queue(), context.Queue()
    process = context.Process(target=serve, args=(kind, said, over), daemon=True)
    process.start()
    try:
        yield said.get(timeout=120)
    finally:
        over.put(True)
        process.join(30)


def run(runs: int) -> str:
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yahoo_url, massive_url = stack.enter_context(server("yahoo")), stack.enter_context(server("massive"))
        session, theirs = LocalSession(yahoo_url), LocalSession(yahoo_url)
        yahoo = YahooBars(
            Settings(home=home, yahoo=YahooSettings(connections=CONNECTIONS, requests_per_second=0)), session=session, now=lambda: NOW
        )  # fmt: skip
        paid = MassiveSettings(api_key=SecretStr(KEY), base_url=massive_url, requests_per_minute=0)
        massive = MassiveBars(
            Settings(home=home, market="massive", posts="none", massive=paid), now=lambda: NOW, connections=CONNECTIONS
        )

        def peer() -> None:
            SingletonMeta._instances.clear()
            frame = yfinance.download(
                TICKERS, start=SPAN.start, end=SPAN.end, interval="1h", auto_adjust=False, progress=False, threads=CONNECTIONS,
                session=theirs, multi_level_index=True,
            )  # fmt: skip
            _demand_all(int(frame["Close"].notna().any().sum()))

        def ours(source: YahooBars | MassiveBars) -> None:
            fetched = source.bars(TICKERS, SPAN)
            _demand_all(fetched.frame["ticker"].nunique())

        memory: list[float] = []

        def weighed() -> None:
            memory.append(psutil.Process(os.getpid()).memory_info().rss / 2**20)

        contenders = {
            PEER: Contender(peer),
            f"tft_pipeline, Yahoo, {CONNECTIONS} connections": Contender(lambda: ours(yahoo), prepare=weighed),
            f"tft_pipeline, Massive by the minute, {CONNECTIONS} connections": Contender(lambda: ours(massive)),
        }
        taken = seconds_in_turn(contenders, runs=runs)
        weighed()
        session.close()
        theirs.close()
    title = f"Hourly refresh of {len(TICKERS)} tickers, servers that answer after {LATENCY_SECONDS * 1000:.0f} ms"
    grown = (
        f"\nMemory of the process after the first round {memory[1]:,.0f} MiB, after the last {memory[-1]:,.0f} MiB.\n"
    )
    return table(title, "tickers", len(TICKERS), taken, reference=PEER) + grown


def _demand_all(read: int) -> None:
    if read != len(TICKERS):
        raise RuntimeError(f"{read} of {len(TICKERS)} tickers were read: that is no comparison")
