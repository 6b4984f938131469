"""A pipeline whose present is set by hand, in a simulated market some of whose bars come late, and which at times does not answer for
a ticker, fails half way, or is killed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import pandas as pd

from tft_pipeline.config import Settings
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import Table
from tft_pipeline.sources.protocols import Fetched, Span
from tft_pipeline.sources.simulated import SimulatedBars, SimulatedMarket, SimulatedPosts
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.slices import Written

LATE = timedelta(hours=3)  # so much later than its end, and honest about it


class HalfWayError(Exception):
    """What an asset dies of half way through its run: no error of ours, so nobody tries it again by itself."""


class Clocked(Pipeline):
    """clock: the present. silent: tickers that the source does not answer for now. fails_at: the table whose write raises."""

    def __init__(self, settings: Settings, database: Database, clock: datetime) -> None:
        super().__init__(settings, database=database)
        self.clock = clock
        self.silent: frozenset[str] = frozenset()
        self.fails_at: str | None = None

    def now(self) -> datetime:
        return self.clock

    @cached_property
    def market(self) -> "_Moving":
        return _Moving(self)

    @cached_property
    def bars(self) -> "LateBars":
        return LateBars(self.market)

    @cached_property
    def posts(self) -> SimulatedPosts:
        return self.market.posts_source()

    def write(
        self, run_id: str, frames: Mapping[Table, pd.DataFrame], window: Window, **more: Any
    ) -> dict[str, Written]:
        if self.fails_at in {table.name for table in frames}:
            raise HalfWayError(f"somebody pulled the plug before {self.fails_at}")
        return super().write(run_id, frames, window, **more)


class _Moving(SimulatedMarket):
    def __init__(self, pipeline: Clocked) -> None:
        self.pipeline = pipeline
        super().__init__(pipeline.settings)

    def until(self) -> datetime:
        return self.pipeline.clock


class LateBars(SimulatedBars):
    """The second ticker's bars of 15:00 UTC come late on every third day, the same day still, and say when they came."""

    market: _Moving

    def bars(self, tickers: Sequence[str], span: Span) -> Fetched:
        silent = self.market.pipeline.silent
        fetched = super().bars([ticker for ticker in tickers if ticker not in silent], span)
        start = fetched.frame["bar_start"]
        late = (
            (fetched.frame["ticker"] == self.universe()[1])
            & (start.dt.hour == 15)
            & (start.dt.day % 3 == 0)
            & (start >= pd.Timestamp(BEGIN))
        )
        known = fetched.frame["known_at"].where(~late, fetched.frame["bar_end"] + LATE)
        here = known <= pd.Timestamp(self.market.until())
        frame = fetched.frame.assign(known_at=known)[here].reset_index(drop=True)
        return replace(fetched, frame=frame, problems=fetched.problems | dict.fromkeys(silent, "no answer"))


BEGIN = datetime(2026, 6, 1, tzinfo=UTC)  # a Monday; what lies before it is the same in every trial
