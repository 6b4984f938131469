"""What assets are handed: settings, the database, sources and the scorer, each opened once a process, when first asked for."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property

import pandas as pd

from tft_pipeline import __version__
from tft_pipeline.config import Settings
from tft_pipeline.errors import ConfigError
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.orchestration.membership import Membership
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.schema import Table
from tft_pipeline.sources.opening import open_bars, open_posts
from tft_pipeline.sources.protocols import BarSource, PostSource, Scorer
from tft_pipeline.sources.scorers import open_scorer
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.opening import open_database
from tft_pipeline.storage.roles import reading
from tft_pipeline.storage.slices import Written, write
from tft_pipeline.storage.universe import intervals

Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


class Pipeline:
    """The outside of every asset. until: the moment up to which the world is shown; None: now, moving on."""

    code_version = __version__

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database | None = None,
        until: datetime | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.settings = settings
        self.until = until
        self.progress = progress
        self.only: tuple[str, ...] | None = None  # the only tickers that the run is about; see `about`
        self.seconds: dict[str, float] = {}  # by asset, summed over this process's runs
        self._database = database
        self._opened = ExitStack()

    def now(self) -> datetime:
        return self.until or datetime.now(UTC)

    @cached_property
    def database(self) -> Database:
        return self._database or self._opened.enter_context(open_database(self.settings))

    @cached_property
    def reader(self) -> Database:
        """The same database, for who only looks: sensors and schedules."""
        return reading(self.database)

    @cached_property
    def bars(self) -> BarSource:
        source = open_bars(self.settings, until=self.until)
        source.watched = lambda done, total: self.progress("tickers fetched", done, total)
        return source

    @cached_property
    def posts(self) -> PostSource | None:
        return open_posts(self.settings, until=self.until)

    @cached_property
    def scorer(self) -> Scorer:
        return open_scorer(self.settings.sentiment)

    @cached_property
    def calendar(self) -> Calendar:
        return Calendar(self.settings.calendar)

    @property
    def membership(self) -> Membership:
        """Who was followed when, as the table says this moment: a code server lives on while it changes."""
        return Membership(intervals(self.database))

    @property
    def universe(self) -> tuple[str, ...]:
        """Who is followed now: by ops.universe; before its first change as configured, or all that the source offers."""
        held = self.membership.intervals
        if not held:
            return self.settings.tickers or self.bars.universe()
        return tuple(one.ticker for one in held if one.followed(self.now()))

    @property
    def ever_followed(self) -> tuple[str, ...]:
        """Who is followed now, or was once."""
        return tuple(dict.fromkeys(one.ticker for one in self.membership.intervals)) or self.universe

    @property
    def tickers(self) -> tuple[str, ...]:
        """Whom a run asks for: the universe, or the part of it that the run is about."""
        return self.universe if self.only is None else self.only

    def about(self, tickers: Sequence[str] | None) -> None:
        """From now on, only these tickers are asked for and written; None: all. Raises ConfigError for one that is not followed."""
        self.only = None if tickers is None else tuple(dict.fromkeys(tickers))
        followed = self.universe if self.only else ()
        for ticker in self.only or ():
            if ticker not in followed:
                raise ConfigError(
                    f"{ticker!r} is not in the universe, which holds {', '.join(followed[:12])}{' …' if len(followed) > 12 else ''}; "
                    f"run `tft-pipeline universe add {ticker}` first."
                )

    def write(
        self,
        run_id: str,
        frames: Mapping[Table, pd.DataFrame],
        window: Window,
        *,
        quarantined: pd.DataFrame | None = None,
        complete: bool = True,
        at_once: bool = False,
    ) -> dict[str, Written]:
        """The frames as the window's slices, together: see storage.slices.write. Of a run about some tickers, their rows only.

        complete: False where something could not be had: then the slices reach nowhere, and the schedule comes back to them.
        """
        if self.only is not None:
            frames = {table: _of(frame, self.only) for table, frame in frames.items()}
            quarantined = None if quarantined is None else _of(quarantined, self.only)
        return write(
            self.database, frames, window.days, run_id=run_id, code_version=self.code_version,
            quarantined=quarantined, reaches_to=self.reach(window) if complete else window.start, generation=window.generation,
            at_once=at_once, tickers=self.only,
        )  # fmt: skip

    def reach(self, window: Window) -> datetime:
        """Up to where the source could have been complete: what ended just now, it does not show yet."""
        return min(window.moment, self.now() - self.bars.delay)

    def close(self) -> None:
        self._opened.close()


def _of(frame: pd.DataFrame, tickers: Sequence[str]) -> pd.DataFrame:
    kept: pd.DataFrame = frame[frame["ticker"].isin(list(tickers))] if "ticker" in frame else frame
    return kept
