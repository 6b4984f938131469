"""What assets are handed: settings, the database, sources and the scorer, each opened once a process, when first asked for."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property

import pandas as pd

from tft_pipeline import __version__
from tft_pipeline.config import Settings
from tft_pipeline.market.sessions import Calendar
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.schema import Table
from tft_pipeline.sources.opening import open_bars, open_posts
from tft_pipeline.sources.protocols import BarSource, PostSource, Scorer
from tft_pipeline.sources.scorers import open_scorer
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.opening import open_database
from tft_pipeline.storage.roles import reading
from tft_pipeline.storage.slices import Written, write

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
        return open_bars(self.settings, until=self.until)

    @cached_property
    def posts(self) -> PostSource | None:
        return open_posts(self.settings, until=self.until)

    @cached_property
    def scorer(self) -> Scorer:
        return open_scorer(self.settings.sentiment)

    @cached_property
    def calendar(self) -> Calendar:
        return Calendar(self.settings.calendar)

    @cached_property
    def tickers(self) -> tuple[str, ...]:
        """The universe: as configured, or all that the source offers."""
        return self.settings.tickers or self.bars.universe()

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
        """The frames as the window's slices, together: see storage.slices.write.

        complete: False where something could not be had: then the slices reach nowhere, and the schedule comes back to them.
        """
        return write(
            self.database, frames, window.days, run_id=run_id, code_version=self.code_version,
            quarantined=quarantined, reaches_to=self._reach(window) if complete else window.start, generation=window.generation,
            at_once=at_once,
        )  # fmt: skip

    def _reach(self, window: Window) -> datetime:
        """Up to where the source could have been complete: what ended just now, it does not show yet."""
        return min(window.moment, self.now() - self.bars.delay)

    def close(self) -> None:
        self._opened.close()
