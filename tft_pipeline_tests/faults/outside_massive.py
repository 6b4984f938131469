"""Every fault of the stand-in for Massive, at a drawn place and for a drawn time, against the real client: nothing wrong or missing in silence."""

import random
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import SecretStr

from tft_pipeline.config import MassiveSettings, Settings
from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.errors import SourceError
from tft_pipeline.market.quality import judge
from tft_pipeline.sources.massive import MassiveBars
from tft_pipeline.sources.protocols import Fetched, Span
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.sources.servers.massive_server import HOUR_MS, KEY, Listing, MassiveServer, ms

TICKERS = ("AAPL", "BRK.B", "MSFT", "NVDA")
DAYS = [date(2024, 3, day) for day in (5, 6, 7)]
NOWS = [datetime(2024, 3, 7, 17, 50, tzinfo=UTC), datetime(2024, 3, 9, 3, 0, tzinfo=UTC)]
PATIENCE_SECONDS = 120.0
SEEDS = 20
OPENS, CLOSES = timedelta(hours=14, minutes=30), timedelta(hours=21)  # New York in winter
_VALUES = ["open", "high", "low", "close", "volume"]


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    with MassiveServer().running() as server, tempfile.TemporaryDirectory() as folder:
        yield lambda key: trial(server, Path(folder), *key.split(" | "))


def trial(server: MassiveServer, home: Path, fault: str, seed: str) -> Outcome:
    drawn = random.Random(f"{fault} {seed}")
    server.calm()
    _listed(server, drawn)
    server.page_rows = drawn.choice([50_000, 150])
    ticker = drawn.choice(TICKERS)
    subject = drawn.choice([None, ticker, ticker, f"splits:{ticker}", f"dividends:{ticker}"])
    server.fault(
        fault, subject, times=drawn.choice([1, 2, 6, None]), after=drawn.choice([0, 0, 1, 3]), **_options(fault, drawn)
    )
    now, waits = drawn.choice(NOWS), list[float]()
    chosen = MassiveSettings(api_key=SecretStr(KEY), base_url=server.url, requests_per_minute=0)
    source = MassiveBars(
        Settings(home=home, market="massive", posts="none", tickers=TICKERS, massive=chosen), now=lambda: now, sleep=waits.append,
        patience_seconds=PATIENCE_SECONDS, timeout_seconds=0.4, connections=drawn.choice([1, 4]), together_from=drawn.choice([1, 100]),
    )  # fmt: skip
    first, last = sorted(drawn.choices(DAYS, k=2))
    span = Span(_midnight(first), _midnight(last) + timedelta(days=1))
    found: list[Outcome] = []
    for ask in drawn.sample((_of_bars, _of_actions), k=2):
        try:
            found.append(ask(server, source, span, now=now, subject=subject))
        except SourceError as error:
            clear = re.match(r"massive: .{10,}", str(error)) and str(error).endswith(".") and KEY not in str(error)
            found.append(Outcome([] if clear else [f"no clear error: {error}"], {"refused whole": 1}))
        except Exception as error:
            found.append(Outcome([f"{type(error).__name__}: {error}"]))
    spent = [f"waited {sum(waits):.0f} s"] if sum(waits) > 2 * PATIENCE_SECONDS else []  # a call for each kind
    faults = [fault for one in found for fault in one.faults]
    counts = {name: sum(one.counts.get(name, 0) for one in found) for one in found for name in one.counts}
    return Outcome([*faults, *spent], {"runs": 1, **counts})


def _of_bars(server: MassiveServer, source: MassiveBars, span: Span, *, now: datetime, subject: str | None) -> Outcome:
    fetched = source.bars(TICKERS, span)
    judged = judge(fetched.frame, ACTIONS.empty(), before=BARS.empty())
    faults, counts = _sentences(fetched), {"tickers read whole": 0, "bars quarantined": len(judged.rejected)}
    for ticker in TICKERS:
        truth = _truth(server.listings[ticker], span, now)
        held = judged.good[judged.good["ticker"] == ticker].set_index("bar_start")[_VALUES]
        refused = int((judged.rejected["ticker"] == ticker).sum())
        said = fetched.problems.get(ticker, "")
        wrong = [t for t in held.index if t not in truth.index or (held.loc[t] - truth.loc[t]).abs().max() > 1e-6]
        missing = len(truth) - len(held) - refused
        # An hour may lack the minute that could not be read, if that is said.
        faults += [f"{ticker} has a bar at {moment} that is not the truth" for moment in wrong if not said]
        if missing > 0 and not said:
            faults.append(f"{ticker}: {missing} of {len(truth)} bars are missing, and nobody says so")
        if subject not in (None, ticker) and missing > 0 and not re.search("429|401|403", said):
            faults.append(f"{ticker} is missing for what befell {subject}: {said}")
        counts["tickers read whole"] += missing <= 0 and not refused and not wrong
    return Outcome(faults, counts)


def _of_actions(
    server: MassiveServer, source: MassiveBars, span: Span, *, now: datetime, subject: str | None
) -> Outcome:
    fetched = source.actions(TICKERS, span)
    faults = _sentences(fetched)
    for ticker in TICKERS:
        listing, said = server.listings[ticker], fetched.problems.get(ticker, "")
        truth = {(row["execution_date"], "split", row["split_to"] / row["split_from"]) for row in listing.splits}
        truth |= {(row["ex_dividend_date"], "dividend", row["cash_amount"]) for row in listing.dividends}
        due = {one for one in truth if span.start <= _midnight(date.fromisoformat(one[0])) + OPENS < span.end}
        rows = fetched.frame[fetched.frame["ticker"] == ticker]
        held = {(f"{row.effective_at:%Y-%m-%d}", row.kind, row.value) for row in rows.itertuples()}
        faults += [f"{ticker} has an action that is none: {one}" for one in held - truth]
        if due - held and not said:
            faults.append(f"{ticker}: actions are missing, and nobody says so: {due - held}")
    return Outcome(faults, {})


def _sentences(fetched: Fetched) -> list[str]:
    return [
        f"{ticker}: no clear sentence: {said!r}"
        for ticker, said in fetched.problems.items()
        if not (len(said) > 20 and said.endswith(".")) or KEY in said
    ]


def _listed(server: MassiveServer, drawn: random.Random) -> None:
    server.listings.clear()
    for ticker in TICKERS:
        listing = server.lists(ticker)
        for day in DAYS:
            listing.session(
                day, round(drawn.uniform(20, 900), 2), before=drawn.choice([0, 30]), every=drawn.choice([1, 7])
            )
        if drawn.random() < 0.5:
            listing.split(ticker, drawn.choice(DAYS).isoformat(), drawn.choice([2, 7, 10]), 1)
        if drawn.random() < 0.5:
            listing.dividend(ticker, drawn.choice(DAYS).isoformat(), 0.82)


def _options(fault: str, drawn: random.Random) -> dict[str, Any]:
    match fault:
        case "rate_limited":
            return {"retry_after": drawn.choice([None, 0, 7, 600, "soon"])}
        case "server_error":
            return {"status": drawn.choice([500, 502, 503, 504])}
        case "slow":
            return {"seconds": drawn.choice([0.05, 0.5])}
        case "drip":
            return {"seconds": drawn.choice([0.001, 0.1])}
        case "key_repeated":
            return {"status": drawn.choice([400, 403, 404])}
    return {"at": drawn.randrange(1000)}


def _truth(listing: Listing, span: Span, now: datetime) -> pd.DataFrame:
    """The session's hours from its minutes, of those hours that had ended a quarter of an hour before now."""
    rows = []
    for day in DAYS:
        opened, closed = _midnight(day) + OPENS, _midnight(day) + CLOSES
        start = opened
        while start < closed:
            end = min(start + timedelta(hours=1), closed)
            minutes = [
                row for t, row in sorted(listing.minutes.items()) if ms(start) <= t < min(ms(start) + HOUR_MS, ms(end))
            ]
            if minutes and span.start <= start < span.end and end <= now - MassiveBars.delay:
                rows.append((
                    pd.Timestamp(start), minutes[0]["o"], max(row["h"] for row in minutes), min(row["l"] for row in minutes),
                    minutes[-1]["c"], sum(row["v"] for row in minutes),
                ))  # fmt: skip
            start = end
    return pd.DataFrame(rows, columns=["bar_start", *_VALUES]).set_index("bar_start")


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


SUITE = Suite(
    "Massive as it really is",
    f"{len(MassiveServer.FAULTS)} faults × {SEEDS} seeds: each ends in a retry, a quarantined row or a clear error; nothing wrong or missing in silence",
    [f"{fault} | {seed}" for seed in range(SEEDS) for fault in sorted(MassiveServer.FAULTS)],
    session,
)
