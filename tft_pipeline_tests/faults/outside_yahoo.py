"""Every fault of the stand-in for Yahoo, at a drawn place and for a drawn time, against the real client: nothing wrong or missing in silence."""

import random
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from yfinance.data import SingletonMeta

from tft_pipeline.config import Settings
from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.errors import SourceError
from tft_pipeline.market.quality import judge
from tft_pipeline.sources.protocols import Fetched, Span
from tft_pipeline.sources.yahoo import YahooBars
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.sources.servers.yahoo_server import Bar, LocalSession, YahooServer

TICKERS = ("AAPL", "BRK-B", "MSFT", "NVDA")
DAYS = [date(2024, 3, day) for day in (4, 5, 6, 7)]
NOWS = [
    datetime(2024, 3, 7, 17, 50, tzinfo=UTC),
    datetime(2024, 3, 8, 3, 0, tzinfo=UTC),
    datetime(2024, 3, 12, tzinfo=UTC),
]
PATIENCE_SECONDS = 120.0
SEEDS = 30
_VALUES = ["open", "high", "low", "close", "volume"]


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    with YahooServer().running() as server, tempfile.TemporaryDirectory() as folder:
        yield lambda key: trial(server, Path(folder), *key.split(" | "))


def trial(server: YahooServer, home: Path, fault: str, seed: str) -> Outcome:
    drawn = random.Random(f"{fault} {seed}")
    SingletonMeta._instances.clear()  # its crumb and cookie would outlive what gave them
    server.calm()
    _listed(server, drawn)
    subject = drawn.choice([None, *TICKERS])
    server.fault(
        fault, subject, times=drawn.choice([1, 2, 6, None]), after=drawn.choice([0, 0, 1, 3]), **_options(fault, drawn)
    )
    now, waits = drawn.choice(NOWS), list[float]()
    connection = LocalSession(server.url)
    source = YahooBars(
        Settings(home=home), session=connection, now=lambda: now, sleep=waits.append, patience_seconds=PATIENCE_SECONDS,
        timeout_seconds=0.4, connections=drawn.choice([1, 4]), requests_per_second=0,
        cache_dir=Path(tempfile.gettempdir()),  # the first of a process is kept to its end
    )  # fmt: skip
    first, last = sorted(drawn.choices(DAYS, k=2))
    span = Span(_midnight(first), _midnight(last) + timedelta(days=1))
    try:
        actions = source.actions(TICKERS, span) if drawn.random() < 0.5 else None
        fetched = source.bars(TICKERS, span)
        found = _judged(server, fetched, actions, span, now=now, subject=subject)
    except SourceError as error:
        clear = re.match(r"yahoo: .{10,}", str(error)) and str(error).endswith(".")
        found = Outcome([] if clear else [f"no clear error: {error}"], {"refused whole": 1})
    except Exception as error:
        found = Outcome([f"{type(error).__name__}: {error}"])
    finally:
        connection.close()
    spent = [f"waited {sum(waits):.0f} s"] if sum(waits) > 2 * PATIENCE_SECONDS else []  # a call for each kind
    return Outcome([*found.faults, *spent], {"runs": 1, **found.counts})


def _judged(
    server: YahooServer, fetched: Fetched, actions: Fetched | None, span: Span, *, now: datetime, subject: str | None
) -> Outcome:
    known = actions.frame if actions is not None else ACTIONS.empty()
    judged = judge(fetched.frame, known, before=BARS.empty())
    faults, counts = (
        [],
        {"tickers read whole": 0, "tickers with a sentence": 0, "bars quarantined": len(judged.rejected)},
    )
    for ticker in TICKERS:
        truth = _truth(server.listings[ticker].bars, span, now)
        held = judged.good[judged.good["ticker"] == ticker].set_index("bar_start")[_VALUES]
        refused = int((judged.rejected["ticker"] == ticker).sum())
        wrong = [
            moment
            for moment in held.index
            if moment not in truth.index or not _same(held.loc[moment], truth.loc[moment])
        ]
        said = fetched.problems.get(ticker, "")
        missing = len(truth) - len(held) - refused
        faults += [f"{ticker} has a bar at {moment} that is not the truth" for moment in wrong]
        if missing > 0 and not said:
            faults.append(f"{ticker}: {missing} of {len(truth)} bars are missing, and nobody says so")
        if said and not (len(said) > 20 and said.endswith(".")):
            faults.append(f"{ticker}: no clear sentence: {said!r}")
        if subject not in (None, ticker) and missing > 0 and "429" not in said:
            faults.append(f"{ticker} is missing for what befell {subject}: {said}")
        counts["tickers read whole"] += missing <= 0 and not refused
        counts["tickers with a sentence"] += bool(said)
    return Outcome(faults, counts)


def _listed(server: YahooServer, drawn: random.Random) -> None:
    server.listings.clear()
    for ticker in TICKERS:
        listing = server.lists(ticker)
        price = drawn.uniform(20, 900)
        split_on = drawn.choice([None, None, *DAYS[1:]])
        for day in DAYS:
            ratio = drawn.choice([2, 4, 10]) if day == split_on else 1
            price /= ratio
            opened = listing.session(day, round(price, 2), volume=float(drawn.randrange(1, 10**6) * 20))
            if ratio > 1:
                listing.splits[opened] = (ratio, 1)


def _options(fault: str, drawn: random.Random) -> dict[str, Any]:
    match fault:
        case "rate_limited":
            return {"retry_after": drawn.choice([None, 0, 7, 600, "soon"])}
        case "server_error":
            return {"status": drawn.choice([500, 502, 503, 504])}
        case "slow":
            return {"seconds": drawn.choice([0.05, 0.5])}
        case "live_tick":
            return {"seconds": drawn.randrange(60, 3600)}
        case "renamed":
            return {"to": "OTHER"}
        case "null_bars" | "null_volume" | "crossed" | "hundredfold" | "negative" | "duplicate_bar":
            return {"at": drawn.randrange(28)}
    return {}


def _truth(bars: list[Bar], span: Span, now: datetime) -> pd.DataFrame:
    """Bars as traded that had ended a quarter of an hour before now."""
    rows = [
        {"bar_start": pd.Timestamp(bar.start), **{name: getattr(bar, name) for name in _VALUES}}
        for bar in bars
        if span.start <= bar.start < span.end and _end(bar) <= now - YahooBars.delay
    ]
    return pd.DataFrame(rows, columns=["bar_start", *_VALUES]).set_index("bar_start")


def _end(bar: Bar) -> datetime:
    return min(
        bar.start + timedelta(hours=1), bar.start.replace(hour=21, minute=0)
    )  # New York closes at 21:00 UTC in winter


def _same(held: pd.Series, truth: pd.Series) -> bool:
    return bool((held - truth).abs().max() < 1e-6)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


SUITE = Suite(
    "Yahoo as it really is",
    f"{len(YahooServer.FAULTS)} faults × {SEEDS} seeds: each ends in a retry, a quarantined row or a clear error; nothing wrong or missing in silence",
    [f"{fault} | {seed}" for seed in range(SEEDS) for fault in sorted(YahooServer.FAULTS)],
    session,
)
