"""One listing of Reddit's, newest first, page by page: its posts within a span, and which part of the span they surely cover."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import praw

from tft_pipeline.sources._reddit_things import Thing, thing
from tft_pipeline.sources.protocols import Span

PAGE = 100  # Reddit gives no more at once
MAX_PAGES = 15  # and ends after about ten
FULL_LISTING = 900  # a listing this long was cut by Reddit: posts that were removed count toward its thousand
SEARCH = "search"

_INSTANT = timedelta(seconds=1)  # Reddit tells the second, and more than one post may be of it


@dataclass(frozen=True)
class Listing:
    """One thing to ask for, page by page. channel: under which its problem is filed."""

    channel: str
    kind: str  # submissions | comments | search
    path: str
    params: dict[str, str]

    @property
    def shown(self) -> str:
        return f"the search {self.channel!r}" if self.kind == SEARCH else f"r/{self.channel}"


@dataclass(frozen=True)
class Page:
    """things: posts within the span. covered: parts of it of which nothing is missing. amiss: sentences where something is."""

    things: list[Thing]
    covered: list[Span]
    amiss: list[str]


@dataclass
class _Cover:
    """What is covered while a listing is read from the newest post on: `begins` moves back, and a post that is unreadable makes a gap."""

    ends: datetime
    begins: datetime
    parts: list[Span] = field(default_factory=list)
    broken: bool = False

    def read(self, created_at: datetime) -> None:
        if self.broken:
            self.ends = self.begins = min(created_at, self.begins)
            self.broken = False
        self.begins = min(created_at, self.begins)

    def unreadable(self) -> None:
        """One that was posted before the last that was read, and not before the next; nobody knows when."""
        if not self.broken:
            self._close(self.begins + _INSTANT)
        self.broken = True

    def within(self, span: Span, *, whole: bool) -> list[Span]:
        """whole: nothing older than what was read is missing."""
        if not self.broken:
            self._close(span.start if whole else self.begins + _INSTANT)
        clipped = (Span(max(part.start, span.start), min(part.end, span.end)) for part in self.parts)
        return [part for part in clipped if part.start < part.end]

    def _close(self, begins: datetime) -> None:
        self.parts.append(Span(begins, self.ends))


def listings(subreddits: Iterable[str], searches: Iterable[str], *, comments: bool) -> Iterator[Listing]:
    """Those of the settings, each once."""
    for subreddit in dict.fromkeys(subreddits):
        yield Listing(subreddit, "submissions", f"r/{subreddit}/new", {})
        if comments:
            yield Listing(subreddit, "comments", f"r/{subreddit}/comments", {})
    for query in dict.fromkeys(searches):
        yield Listing(query, SEARCH, SEARCH, {"q": query, "sort": "new", "type": "link", "t": "week"})


def read(reddit: praw.Reddit, listing: Listing, span: Span, now: Callable[[], datetime]) -> Page:
    """What the listing holds of the span. Raises whatever praw and its requestor raise.

    Nothing is covered that was posted after the first page was asked for: pages, and waiting between them, may take minutes.
    """
    asked_at = now()
    kept: list[Thing] = []
    cover = _Cover(ends=asked_at, begins=asked_at)
    seen = damaged = 0
    oldest: datetime | None = None
    whole = False
    params: dict[str, str | int] = {**listing.params, "limit": PAGE}
    for _ in range(MAX_PAGES):
        page = reddit.request(method="GET", path=listing.path, params=params)["data"]
        for child in page["children"]:
            one = thing(child, listing.channel, now())
            if one is None:
                damaged += 1
                cover.unreadable()
                continue
            seen += 1
            oldest = one.created_at
            cover.read(one.created_at)
            if span.start <= one.created_at < span.end:
                kept.append(one)
        after = page.get("after")
        if oldest is not None and oldest < span.start:
            whole = True
            break
        if not isinstance(after, str):
            # An empty page behind one that promised more: the post that it was to follow is gone, and with it what came after.
            whole = bool(page["children"]) and seen < FULL_LISTING
            break
        if after == params.get("after") or not page["children"]:
            break
        params["after"] = after
    cut_at = oldest if oldest is not None and oldest > span.start and not whole else None
    covered = cover.within(span, whole=whole) if oldest is not None else []
    return Page(kept, covered, _amiss(listing, span, seen, damaged, cut_at))


def _amiss(listing: Listing, span: Span, seen: int, damaged: int, cut_at: datetime | None) -> list[str]:
    """cut_at: the oldest of a listing that ended before the span was covered."""
    said, what = [], "comment" if listing.kind == "comments" else "post"
    if not seen and listing.kind != SEARCH:
        said.append(f"Reddit lists not a single readable {what}")
    if cut_at is not None:
        said.append(
            f"Reddit's listing ends after {seen} {what}s at {cut_at:%Y-%m-%d %H:%M}Z; "
            f"what was posted since {span.start:%Y-%m-%d %H:%M}Z and before that is missing"
        )
    if damaged:
        said.append(f"{damaged} post(s) without a sound id, time, title, body or score were left out")
    return said
