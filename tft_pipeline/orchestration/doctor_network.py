"""What doctor --network asks of the outside: one ticker of the market, one subreddit of the posts, for real, and in a sentence what came."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from tft_pipeline.config import Settings
from tft_pipeline.errors import SourceError
from tft_pipeline.sources.opening import open_bars, open_posts
from tft_pipeline.sources.protocols import BarSource, Fetched, PostSource, Span

# Asked for where no ticker is configured, by calendar.
EXAMPLE, EXAMPLES = "AAPL", {"24/7": "BTC-USD", "24/5": "EUR-USD"}
BARS_BACK = timedelta(days=7)  # holds a session, whatever the holidays
POSTS_BACK = timedelta(hours=6)

Question = tuple[str, Callable[[], str]]


def questions(settings: Settings) -> Iterator[Question]:
    """(subject, question); a question answers with a sentence, or raises SourceError or ConfigError with one that says what to do."""
    if settings.market in ("yahoo", "massive"):
        ticker = (settings.tickers or (EXAMPLES.get(settings.calendar, EXAMPLE),))[0]
        yield "network: bars", lambda: bars_of(open_bars(settings.changed(tickers=(ticker,))), ticker)
    else:
        yield "network: bars", lambda: f"{settings.market}: nothing of it comes over the network"
    if settings.posts == "reddit":
        first = settings.reddit.subreddits[0]
        one = settings.changed(reddit={"subreddits": (first,), "searches": ()})
        yield "network: posts", lambda: posts_of(open_posts(one), first)
    else:
        yield "network: posts", lambda: f"{settings.posts}: nothing of it comes over the network"


def bars_of(source: BarSource, ticker: str, *, now: datetime | None = None) -> str:
    """Ask for a week of one ticker. Raises SourceError: no answer, or one without a bar."""
    now = now or datetime.now(UTC)
    began = time.monotonic()
    fetched = source.bars([ticker], Span(now - BARS_BACK, now))
    seconds = time.monotonic() - began
    _refuse_problems(fetched)
    if fetched.frame.empty:
        raise SourceError(
            f"{source.name}: {ticker} answered in {seconds:.1f} s without a bar of the last {BARS_BACK.days} days; is it still traded?"
        )
    newest = fetched.frame["bar_end"].max()
    return f"{source.name}: {ticker} answered in {seconds:.1f} s: {len(fetched.frame)} hourly bars, the newest until {newest:%Y-%m-%d %H:%M} UTC"


def posts_of(source: PostSource | None, channel: str, *, now: datetime | None = None) -> str:
    """Ask for the last hours of one channel. Raises SourceError: no answer."""
    if source is None:
        return "no posts are configured"
    now = now or datetime.now(UTC)
    began = time.monotonic()
    fetched = source.posts(Span(now - POSTS_BACK, now))
    seconds = time.monotonic() - began
    _refuse_problems(fetched)
    hours = POSTS_BACK / timedelta(hours=1)
    return f"{source.name}: {channel} answered in {seconds:.1f} s: {len(fetched.frame)} posts and comments of the last {hours:g} hours"


def _refuse_problems(fetched: Fetched) -> None:
    if fetched.problems:
        raise SourceError("; ".join(f"{name}: {problem}" for name, problem in sorted(fetched.problems.items())))
