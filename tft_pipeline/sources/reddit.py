"""Submissions and comments of subreddits, newest first, and what searches find, through praw.

Behind `PostSource`. praw authenticates, renews its token and sends; the listing's JSON is read here as it came (`_reddit_things`).
Reddit lists at most about a thousand of each: older ones cannot be had. What a span could not be covered with is said in
`Fetched.problems`, what was covered in `Fetched.covered`; the archive that grows is ours.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import prawcore

from tft_pipeline import contracts, schema
from tft_pipeline.config import Settings
from tft_pipeline.errors import ConfigError, SourceError
from tft_pipeline.sources._patience import OutOfPatienceError, Patience
from tft_pipeline.sources._reddit_client import (
    TIMEOUT_SECONDS,
    CredentialsRefusedError,
    RedditTroubleError,
    open_reddit,
)
from tft_pipeline.sources._reddit_things import SUBREDDIT_PATTERN, Thing, fullname, thing
from tft_pipeline.sources.protocols import Covered, Fetched, Span

PAGE = 100  # Reddit gives no more at once
MAX_PAGES = 15  # and ends after about ten
FULL_LISTING = 900  # a listing this long was cut by Reddit: posts that were removed count toward its thousand
LIVE = timedelta(hours=2)  # a span that ended longer ago is history
LONGEST_QUERY = 512

COLUMNS = [name for name in contracts.POSTS.names if name != "text_hash"]


@dataclass(frozen=True)
class _Listing:
    """One thing to ask for, page by page. channel: under which its problem is filed."""

    channel: str
    kind: str  # submissions | comments | search
    path: str
    params: dict[str, str]

    @property
    def shown(self) -> str:
        return f"the search {self.channel!r}" if self.kind == "search" else f"r/{self.channel}"


@dataclass(frozen=True)
class _Page:
    things: list[Thing]
    covered: Span | None
    amiss: list[str]


class RedditPosts:
    """New submissions and comments of the subreddits in `settings.reddit`, and new submissions that its searches find.

    A post read while its span is still running was first held at that moment; one of a span that is over, and so loaded after the
    fact, gets its nominal time, created_at + `delay`.
    A subreddit's problem is a sentence in `Fetched.problems`, also where posts came with it: a listing that ends too early.
    """

    name = "reddit"
    simulated = False
    delay = timedelta(minutes=5)

    def __init__(
        self,
        settings: Settings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = 180.0,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """Raises ConfigError for a missing credential, a search that is none, or nothing to read; nothing is asked yet."""
        chosen = settings.reddit
        if not chosen.subreddits and not chosen.searches:
            raise ConfigError(
                "setting TFT_REDDIT_SUBREDDITS is empty; name some, such as wallstreetbets,stocks, or set TFT_POSTS=none."
            )
        for query in chosen.searches:
            if not query.isprintable() or len(query) > LONGEST_QUERY:
                raise ConfigError(
                    f"setting TFT_REDDIT_SEARCHES: {query[:60]!r} is no search; use up to {LONGEST_QUERY} printable characters."
                )
        self._listings = list(_listings(chosen.subreddits, chosen.searches, comments=chosen.comments))
        self._now = now
        self._patience = Patience(patience_seconds, sleep)
        self._reddit = open_reddit(chosen, self._patience, timeout_seconds=timeout_seconds)

    def posts(self, span: Span) -> Fetched:
        """contracts.POSTS without `text_hash`. Raises SourceError when nothing at all can be read."""
        if span.start >= span.end:
            return Fetched(contracts.POSTS.empty()[COLUMNS], {})
        self._patience.renew()
        live = span.end > self._now() - LIVE
        frames: list[pd.DataFrame] = []
        problems: dict[str, list[str]] = {}
        covered: list[Covered] = []
        for position, listing in enumerate(self._listings):
            try:
                page = self._read(listing, span)
            except (CredentialsRefusedError, OutOfPatienceError) as error:
                # Every further question would meet the same closed door.
                for left in self._listings[position:]:
                    problems.setdefault(left.channel, []).append(f"{left.shown} was not read: {error}")
                break
            except (RedditTroubleError, prawcore.PrawcoreException) as error:
                problems.setdefault(listing.channel, []).append(f"{listing.shown} was not read: {_sentence(error)}")
                continue
            except Exception as error:
                # One subreddit's surprise is its own: the others still have their hour.
                problems.setdefault(listing.channel, []).append(
                    f"{listing.shown} was not read: praw failed on the answer ({type(error).__name__}: {error})"
                )
                continue
            frames.append(self._rows(page.things, live))
            if page.amiss:
                problems.setdefault(listing.channel, []).append(f"{listing.shown}: {'; '.join(page.amiss)}")
            if page.covered is not None and listing.kind != "search":
                covered.append(Covered(listing.channel, listing.kind, page.covered))
        said = {channel: f"{'; '.join(dict.fromkeys(sentences))}." for channel, sentences in problems.items()}
        if not frames:
            what = "subreddit(s) and searches" if self._listings[-1].kind == "search" else "subreddit(s)"
            raise SourceError(
                f"reddit: none of {len(said)} {what} could be read; {said[self._listings[0].channel]}", transient=True
            )
        return Fetched(_stacked(frames), said, tuple(covered))

    def recheck(self, held: pd.DataFrame) -> Fetched:
        """Posts that are held already, as they are now: edited, or with "" for words where nobody can read them any more.

        held: columns channel, post_id, created_at. known_at is the moment of reading, as of every correction.
        Raises SourceError when Reddit cannot be asked.
        """
        if held.empty:
            return Fetched(contracts.POSTS.empty()[COLUMNS], {})
        self._patience.renew()
        now = self._now()
        rows = list(
            zip(held["channel"], held["post_id"], held["created_at"].dt.to_pydatetime(), strict=True)  # plain values
        )
        found: dict[str, Thing] = {}
        for first in range(0, len(rows), PAGE):
            names = ",".join(fullname(post_id) for _, post_id, _ in rows[first : first + PAGE])
            try:
                answer = self._reddit.request(method="GET", path="api/info", params={"id": names, "limit": PAGE})
            except (RedditTroubleError, OutOfPatienceError, prawcore.PrawcoreException) as error:
                raise SourceError(f"reddit: posts cannot be read again; {_sentence(error)}.", transient=True) from None
            for child in answer["data"]["children"]:
                one = thing(child, "", now)
                if one is not None:
                    found[one.post_id] = one
        gone = Thing("", "", now, "", 0)
        current = [
            replace(found.get(post_id, gone), channel=channel, post_id=post_id, created_at=created_at)
            for channel, post_id, created_at in rows
        ]
        return Fetched(_stacked([self._rows(current, live=True)]), {})

    # ------------------------------------------------------------------------------------------------------------------

    def _read(self, listing: _Listing, span: Span) -> _Page:
        """The listing's posts within the span, how much of it they surely cover, and sentences where they are not all."""
        if listing.kind != "search" and not SUBREDDIT_PATTERN.fullmatch(listing.channel):
            raise RedditTroubleError("this is no name of a subreddit; nothing was asked. Mend TFT_REDDIT_SUBREDDITS")
        kept: list[Thing] = []
        seen = damaged = 0
        oldest: datetime | None = None
        params: dict[str, str | int] = {**listing.params, "limit": PAGE}
        for _ in range(MAX_PAGES):
            page = self._reddit.request(method="GET", path=listing.path, params=params)["data"]
            for child in page["children"]:
                one = thing(child, listing.channel, self._now())
                if one is None:
                    damaged += 1
                    continue
                seen += 1
                oldest = one.created_at
                if span.start <= one.created_at < span.end:
                    kept.append(one)
            after = page.get("after")
            if (oldest and oldest < span.start) or not isinstance(after, str) or after == params.get("after"):
                break
            params["after"] = after
        cut = oldest is not None and oldest > span.start and seen >= FULL_LISTING
        begins = min(max(oldest, span.start), span.end) if cut and oldest is not None else span.start
        until = min(span.end, self._now())
        covered = Span(begins, until) if oldest is not None and begins < until else None
        return _Page(kept, covered, _amiss(listing, span, seen, damaged, oldest if cut else None))

    def _rows(self, posts: list[Thing], live: bool) -> pd.DataFrame:
        rows = pd.DataFrame(posts, columns=["channel", "post_id", "created_at", "text", "score"])
        rows = rows.astype(
            {"channel": "str", "post_id": "str", "created_at": schema.UTC, "text": "str", "score": "int64"}
        )
        rows["source"] = pd.Series(self.name, index=rows.index, dtype="str")
        held_at = pd.Timestamp(self._now()).as_unit("us")
        rows["known_at"] = pd.Series(held_at, index=rows.index) if live else rows["created_at"] + self.delay
        return rows.astype({"known_at": schema.UTC})[COLUMNS]


def _listings(subreddits: Iterable[str], searches: Iterable[str], *, comments: bool) -> Iterator[_Listing]:
    for subreddit in dict.fromkeys(subreddits):
        yield _Listing(subreddit, "submissions", f"r/{subreddit}/new", {})
        if comments:
            yield _Listing(subreddit, "comments", f"r/{subreddit}/comments", {})
    for query in dict.fromkeys(searches):
        yield _Listing(query, "search", "search", {"q": query, "sort": "new", "type": "link", "t": "week"})


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    key = list(contracts.POSTS.key)
    return pd.concat(frames, ignore_index=True).drop_duplicates(key).sort_values(key, ignore_index=True)


def _amiss(listing: _Listing, span: Span, seen: int, damaged: int, cut_at: datetime | None) -> list[str]:
    """cut_at: the oldest of a listing that ended before the span was covered."""
    said = []
    if not seen and listing.kind == "submissions":
        said.append("Reddit lists not a single readable post")
    if cut_at is not None:
        said.append(
            f"Reddit's listing ends after {seen} {'comments' if listing.kind == 'comments' else 'posts'} at {cut_at:%Y-%m-%d %H:%M}Z; "
            f"what was posted since {span.start:%Y-%m-%d %H:%M}Z and before that is missing"
        )
    if damaged:
        said.append(f"{damaged} post(s) without a sound id, time, title, body or score were left out")
    return said


def _sentence(error: Exception) -> str:
    """What a refusal means."""
    if isinstance(error, prawcore.Redirect):
        return f"there is no such subreddit (Reddit redirects to {error.path[:80]})"
    if isinstance(error, prawcore.ResponseException):
        status = error.response.status_code
        try:
            reason = str(error.response.json().get("reason") or "no reason given")
        except (ValueError, AttributeError):
            reason = "no reason given"
        return f"Reddit answers {status} ({reason[:80]}); take it out of TFT_REDDIT_SUBREDDITS if it stays so"
    return str(error)
