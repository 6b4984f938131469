"""The universe as a person sees and changes it: what `tft-pipeline universe` does."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

from tft_pipeline import config
from tft_pipeline.config import Settings
from tft_pipeline.contracts import BARS
from tft_pipeline.errors import ConfigError
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.settling import settle
from tft_pipeline.sources.opening import open_bars
from tft_pipeline.storage import universe
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import held_by_ticker
from tft_pipeline.storage.opening import open_database
from tft_pipeline.storage.portfolio import last_mark
from tft_pipeline.storage.universe import Interval


def listing(settings: Settings) -> dict[str, Any]:
    """Who is, and was, followed: tickers: ticker, state (member, waiting, removed), added_at, member_from, removed_at, bars, first_bar,
    last_bar. decided_by: ops.universe, or what decides until its first change. note: where TFT_TICKERS says otherwise, a sentence."""
    with _opened(settings) as (pipeline, database):
        held = held_by_ticker(database, BARS)
        intervals = pipeline.membership.intervals
        shown = intervals or tuple(
            Interval(ticker, universe.BEGINNING, universe.BEGINNING, None) for ticker in pipeline.universe
        )
        rows = [_row(one, held) for one in shown]
        followed = pipeline.universe
    decided_by = (
        "ops.universe" if intervals else ("TFT_TICKERS" if settings.tickers else f"all that {settings.market} offers")
    )
    return {
        "decided_by": decided_by, "tickers": rows, "note": _note(settings, followed) if intervals else None, "simulated": settings.simulated,
    }  # fmt: skip


def add(settings: Settings, tickers: Sequence[str]) -> dict[str, Any]:
    """Follow tickers from now on. done, already; next: the command that loads their history, None where there is none to load.

    Raises ConfigError: no ticker, or one that the source does not offer.
    """
    wanted = universe.checked(tickers)
    with _opened(settings) as (pipeline, database):
        offered = pipeline.bars.universe()
        for ticker in wanted:
            if offered and ticker not in offered:
                raise ConfigError(f"{settings.market} has no {ticker!r}; it offers {_shown(offered)}.")
        changed = universe.add(database, wanted, at=pipeline.now(), current=lambda: pipeline.universe)
        waiting = [
            one.ticker for one in pipeline.membership.intervals if one.removed_at is None and one.member_from is None
        ]
        report = _changed(settings, "add", changed, pipeline)
    load = [ticker for ticker in wanted if ticker in waiting]
    return {**report, "next": _backfill(pipeline.settings, load) if load else None}


def remove(settings: Settings, tickers: Sequence[str]) -> dict[str, Any]:
    """Follow tickers no longer. done, already; shares: {ticker: shares} that the portfolio still holds of them.

    Raises ConfigError: no ticker, one that never was in the universe, or nobody would be left.
    """
    with _opened(settings) as (pipeline, database):
        changed = universe.remove(database, tickers, at=pipeline.now(), current=lambda: pipeline.universe)
        mark = last_mark(database, before=pipeline.now())
        report = _changed(settings, "remove", changed, pipeline)
    held = (
        {} if mark is None else dict(zip(mark.positions["ticker"], mark.positions["quantity"].astype(int), strict=True))
    )
    return {**report, "shares": {ticker: held[ticker] for ticker in dict.fromkeys(tickers) if held.get(ticker)}}


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Pipeline, Database]]:
    open_bars(settings)  # what is wrong with the source is said before a database is made
    settings = settle(settings)
    with open_database(settings) as database:
        yield Pipeline(settings, database=database), database


def _changed(settings: Settings, what: str, changed: universe.Changed, pipeline: Pipeline) -> dict[str, Any]:
    followed = pipeline.universe
    return {
        "change": what, "done": list(changed.done), "already": list(changed.already), "universe": list(followed),
        "note": _note(settings, followed), "simulated": settings.simulated,
    }  # fmt: skip


def _row(one: Interval, held: dict[str, tuple[int, datetime, datetime]]) -> dict[str, Any]:
    bars, first, last = held.get(one.ticker, (0, None, None))
    state = "removed" if one.removed_at else "waiting" if one.member_from is None else "member"
    return {
        "ticker": one.ticker, "state": state, "added_at": _moment(one.added_at), "member_from": _moment(one.member_from),
        "removed_at": _moment(one.removed_at), "bars": bars, "first_bar": _moment(first), "last_bar": _moment(last),
    }  # fmt: skip


def _moment(moment: datetime | None) -> str | None:
    """None, too, for the beginning of time."""
    return None if moment is None or moment == universe.BEGINNING else moment.astimezone(UTC).isoformat()


def _note(settings: Settings, followed: Sequence[str]) -> str | None:
    """Where TFT_TICKERS names others than the table, which decides once it is used."""
    if not settings.tickers or set(settings.tickers) == set(followed):
        return None
    return (
        f"TFT_TICKERS names {_shown(settings.tickers)}; since the universe was first changed, `tft-pipeline universe` decides, and TFT_TICKERS "
        "does not."
    )


def _backfill(settings: Settings, tickers: Sequence[str]) -> str:
    first = settings.start or config.default_start()
    today = config.today()
    last: date = min(today, settings.end or today)
    named = " ".join(f"--ticker {ticker}" for ticker in tickers)
    return f"tft-pipeline backfill {named} --from {first} --to {last}"


def _shown(tickers: Sequence[str]) -> str:
    return ", ".join(tickers[:12]) + (f" … ({len(tickers)} in all)" if len(tickers) > 12 else "")
