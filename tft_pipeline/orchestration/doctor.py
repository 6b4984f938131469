"""Everything that can be wrong, looked at in order, each in a sentence with its remedy."""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tft_pipeline.config import Settings
from tft_pipeline.contracts import TABLES
from tft_pipeline.errors import PipelineError, in_words
from tft_pipeline.orchestration import doctor_network, doctor_storage, record
from tft_pipeline.sources.opening import open_bars, open_posts
from tft_pipeline.sources.scorers import open_scorer
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.migrate import applied
from tft_pipeline.storage.opening import open_database
from tft_pipeline.training.device import place

FREE_BYTES_WANTED = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    subject: str
    well: bool
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(settings: Settings, *, mending: bool = False, deep: bool = False, network: bool = False) -> list[Finding]:
    """All findings, the sound ones too. Never raises for what it examines.

    mending: Dagster's record is mended first. deep: every row is read. network: the sources are asked for something, for real.
    """
    return [
        _look("python", lambda: f"{sys.version.split()[0]} at {sys.prefix}"),
        _look("disk", lambda: _disk(settings)),
        _look("device", lambda: _device(settings)),
        _look("bars", lambda: _bars(settings)),
        _look("posts", lambda: _posts(settings)),
        _look("scorer", lambda: _scorer(settings)),
        *(_look(subject, ask) for subject, ask in (doctor_network.questions(settings) if network else ())),
        *_database(settings, mending=mending, deep=deep),
    ]


def _look(subject: str, question: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, question())
    except PipelineError as error:
        return Finding(subject, False, str(error))
    except OSError as error:
        return Finding(subject, False, in_words(error))


def _disk(settings: Settings) -> str:
    settings.home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.home).free
    if free < FREE_BYTES_WANTED:
        raise PipelineError(
            f"only {free / 2**30:.1f} GiB free under {settings.home}; free some, or set TFT_HOME to another disk."
        )
    return f"{free / 2**30:.0f} GiB free under {settings.home}"


def _bars(settings: Settings) -> str:
    source = open_bars(settings)
    span = source.span()
    reach = f", {span.start:%Y-%m-%d %H:%M} … {span.end:%Y-%m-%d %H:%M} UTC" if span else ""
    universe = settings.tickers or source.universe()
    return f"{settings.market}{' (simulated)' if source.simulated else ''}: {len(universe)} tickers{reach}"


def _posts(settings: Settings) -> str:
    source = open_posts(settings)
    return f"{settings.posts}: ready" if source else "none configured: the mood stays neutral"


def _scorer(settings: Settings) -> str:
    scorer = open_scorer(settings.sentiment)
    bearish, neutral, bullish = scorer.score(["AAPL is going to the moon! 🚀"])[0]
    return f"{scorer.scorer_id}: a bullish sentence scores bearish {bearish:.2f}, neutral {neutral:.2f}, bullish {bullish:.2f}"


def _database(settings: Settings, *, mending: bool, deep: bool) -> Iterator[Finding]:
    try:
        with open_database(settings) as database:
            yield Finding(
                "postgres",
                True,
                f"version {database.check()}, {'external' if settings.postgres_dsn else 'embedded'}, world {settings.world}",
            )
            yield _look("migrations", lambda: f"{len(applied(database))} applied, {len(TABLES)} tables by contract")
            yield _look("ledger", lambda: _ledger(database))
            if deep:
                yield _look("content", lambda: _content(database))
            if mending:
                yield _look("repair", lambda: record.repair(settings, database))
            yield _look("record", lambda: record.agrees(settings, database))
            yield from (_look(subject, ask) for subject, ask in doctor_storage.questions(settings, database))
    except PipelineError as error:
        yield Finding("postgres", False, str(error))
    except OSError as error:
        yield Finding("postgres", False, in_words(error))


def _ledger(database: Database) -> str:
    found = disagreements(database)
    if found:
        raise PipelineError(
            f"{len(found)} slices hold other rows than ops.slices says, first {found[0]}; refresh those days."
        )
    return "every slice holds as many rows as ops.slices says"


def _content(database: Database) -> str:
    found = damaged(database)
    if found:
        raise PipelineError(
            f"{len(found)} slices hold other content than was written, first {found[0]}; refresh those days."
        )
    return "every row of every slice is what was written, by its hash"


def _device(settings: Settings) -> str:
    found = place(settings.training.device)
    return f"{found.device}, {found.precision}" + (f"; {found.remark}" if found.remark else "")
