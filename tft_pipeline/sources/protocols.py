"""What a source of bars, posts or moods must offer. One small protocol each; nothing here talks to anybody."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd


@dataclass(frozen=True)
class Span:
    """A half-open stretch of time, UTC: start <= t < end."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Covered:
    """What a channel held of one kind (submissions, comments) within span was read, and nothing of it is missing."""

    channel: str  # a subreddit in lower case
    kind: str
    span: Span


@dataclass(frozen=True)
class Asked:
    """A channel that was asked for its posts of one kind. answered: False where it could not be read now, and perhaps can be next time;
    who refuses for a reason (private, banned), or lists too little, has answered."""

    channel: str
    kind: str  # submissions | comments | search: what a search finds is never known to be all
    answered: bool


@dataclass(frozen=True)
class Fetched:
    """frame: rows by contract. problems: {ticker or channel: sentence} for each that could not be fetched, or not whole.

    asked, covered: of sources that do not reach back for ever. Where a source says nothing of whom it asked, the span is covered whole.
    """

    frame: pd.DataFrame
    problems: dict[str, str]
    asked: tuple[Asked, ...] = ()
    covered: tuple[Covered, ...] = ()


Watched = Callable[[int, int], None]  # told how many of how many tickers are done


def unwatched(done: int, total: int) -> None:
    """Nobody watches."""


class BarSource(Protocol):
    """Hourly bars and corporate actions. Prices as traded. Never returns a bar that has not ended."""

    name: str  # files, simulated, yahoo …
    simulated: bool
    delay: timedelta  # after its end, a bar is usually known this much later
    watched: Watched  # of sources that ask for one ticker after the other; from any thread, one call at a time

    def universe(self) -> tuple[str, ...]:
        """Tickers on offer, sorted; empty where the source has no list of its own."""
        ...

    def span(self) -> Span | None:
        """First and last moment on offer; None where it is not known without asking for data."""
        ...

    def bars(self, tickers: Sequence[str], span: Span) -> Fetched:
        """contracts.BARS: bars with span.start <= bar_start < span.end, sorted by key. One bad ticker never stops the others.

        Rows are as the source gave them: quality rules judge them later, so a row may break BARS' checks (high < low), not its columns.
        Raises SourceError when nothing at all can be had.
        """
        ...

    def actions(self, tickers: Sequence[str], span: Span) -> Fetched:
        """contracts.ACTIONS with span.start <= effective_at < span.end, sorted by key."""
        ...


class PostSource(Protocol):
    """Social posts."""

    name: str
    simulated: bool
    delay: timedelta

    def posts(self, span: Span) -> Fetched:
        """contracts.POSTS without `text_hash`, with span.start <= created_at < span.end, sorted by key; NUL is stripped from texts."""
        ...


@runtime_checkable
class Rechecking(Protocol):
    """A source of posts that can be asked how those that are held read now."""

    def recheck(self, held: pd.DataFrame) -> Fetched:
        """contracts.POSTS without `text_hash`, of those of `held` (channel, post_id, created_at) that could be read again."""
        ...


class Scorer(Protocol):
    """Texts to moods."""

    scorer_id: str  # stored beside every score: name and version of weights

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """(n_texts, 3) probabilities: bearish, neutral, bullish; rows sum to 1. An empty text is neutral."""
        ...
