"""Submissions and comments of subreddits, newest first, and what searches find, through praw.

Behind `PostSource`. praw authenticates, renews its token and sends; the listing's JSON is read here as it came (`_reddit_things`).
Reddit lists at most about a thousand of each: older ones cannot be had. What a span could not be covered with is said in
`Fetched.problems`, what was covered in `Fetched.covered`; the archive that grows is ours.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
from tft_pipeline.sources._reddit_listings import PAGE, SEARCH, Listing, Page, listings, read
from tft_pipeline.sources._reddit_things import SUBREDDIT_PATTERN, Thing, fullname, thing
from tft_pipeline.sources.protocols import Asked, Covered, Fetched, Span

LIVE = timedelta(hours=2)  # a span that ended longer ago is history
LONGEST_QUERY = 512

COLUMNS = [name for name in contracts.POSTS.names if name != "text_hash"]
_Row = tuple[str, str, datetime]  # channel, post_id, created_at


class _NoSubredditError(RedditTroubleError):
    """The name is none: asking again gives nothing else."""


@dataclass
class _Gathered:
    """What the listings gave so far."""

    frames: list[pd.DataFrame] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    covered: list[Covered] = field(default_factory=list)

    def add(self, listing: Listing, page: Page, rows: pd.DataFrame) -> None:
        self.frames.append(rows)
        self.asked.append(Asked(listing.channel.lower(), listing.kind, answered=True))
        if page.amiss:
            self._note(listing, f"{listing.shown}: {'; '.join(page.amiss)}")
        if listing.kind != SEARCH:
            self.covered += [Covered(listing.channel.lower(), listing.kind, span) for span in page.covered]

    def failed(self, listing: Listing, why: str, *, answered: bool = False) -> None:
        self.asked.append(Asked(listing.channel.lower(), listing.kind, answered))
        self._note(listing, f"{listing.shown} was not read: {why}")

    def said(self) -> dict[str, str]:
        return {channel: f"{'; '.join(dict.fromkeys(said))}." for channel, said in self.problems.items()}

    def _note(self, listing: Listing, sentence: str) -> None:
        self.problems.setdefault(listing.channel, []).append(sentence)


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
        self._listings = list(listings(chosen.subreddits, chosen.searches, comments=chosen.comments))
        self._now = now
        self._patience = Patience(patience_seconds, sleep)
        self._reddit = open_reddit(chosen, self._patience, timeout_seconds=timeout_seconds)

    def posts(self, span: Span) -> Fetched:
        """contracts.POSTS without `text_hash`. Raises SourceError when nothing at all can be read."""
        if span.start >= span.end:
            return Fetched(contracts.POSTS.empty()[COLUMNS], {})
        self._patience.renew()
        live = span.end > self._now() - LIVE
        found = _Gathered()
        for position, listing in enumerate(self._listings):
            try:
                page = self._read(listing, span)
            except (CredentialsRefusedError, OutOfPatienceError) as error:
                # Every further question would meet the same closed door.
                for left in self._listings[position:]:
                    found.failed(left, str(error))
                break
            except Exception as error:
                # One subreddit's surprise is its own: the others still have their hour.
                found.failed(listing, _sentence(error), answered=_answers(error))
                continue
            found.add(listing, page, self._rows(page.things, live))
        said = found.said()
        if not found.frames:
            what = "subreddit(s) and searches" if self._listings[-1].kind == SEARCH else "subreddit(s)"
            raise SourceError(
                f"reddit: none of {len(said)} {what} could be read; {said[self._listings[0].channel]}", transient=True
            )
        return Fetched(_stacked(found.frames), said, tuple(found.asked), tuple(found.covered))

    def recheck(self, held: pd.DataFrame) -> Fetched:
        """Posts that are held already, as they are now: edited, or with "" for words where nobody can read them any more.

        held: columns channel, post_id, created_at. known_at is the moment of reading, as of every correction. What could not be read
        again is left out, with a sentence in `Fetched.problems`. Raises SourceError when nothing could.
        """
        self._patience.renew()
        rows: list[_Row] = list(
            zip(held["channel"], held["post_id"], held["created_at"].dt.to_pydatetime(), strict=True)  # plain values
        )
        current: list[Thing] = []
        problems: dict[str, str] = {}
        for first in range(0, len(rows), PAGE):
            try:
                current += self._again(rows[first : first + PAGE])
            except Exception as error:
                if not current:
                    raise SourceError(
                        f"reddit: posts cannot be read again; {_sentence(error)}.", transient=True
                    ) from None
                problems["recheck"] = f"{len(rows) - first} post(s) were not read again: {_sentence(error)}."
                break
        return Fetched(_stacked([self._rows(current, live=True)]), problems)

    # ------------------------------------------------------------------------------------------------------------------

    def _read(self, listing: Listing, span: Span) -> Page:
        if listing.kind != SEARCH and not SUBREDDIT_PATTERN.fullmatch(listing.channel):
            raise _NoSubredditError("this is no name of a subreddit; nothing was asked. Mend TFT_REDDIT_SUBREDDITS")
        return read(self._reddit, listing, span, self._now)

    def _again(self, rows: list[_Row]) -> list[Thing]:
        """At most a page of posts, as they are now; without those that came damaged: of them we do not know."""
        names = ",".join(fullname(post_id) for _, post_id, _ in rows)
        answer = self._reddit.request(method="GET", path="api/info", params={"id": names, "limit": PAGE})
        children = answer["data"]["children"]
        if not children and len(rows) > 1:
            raise RedditTroubleError(
                f"Reddit's answer holds none of {len(rows)} posts"
            )  # they did not all vanish at once
        now = self._now()
        things = [thing(child, "", now) for child in children]
        found = {one.post_id: one for one in things if one is not None}
        # Which one came damaged, it may not say: then none is called gone.
        gone = None if None in things else Thing("", "", now, "", 0)
        again = ((row, found.get(row[1], gone)) for row in rows)
        return [
            replace(one, channel=channel, post_id=post_id, created_at=created_at)
            for (channel, post_id, created_at), one in again
            if one is not None
        ]

    def _rows(self, posts: list[Thing], live: bool) -> pd.DataFrame:
        rows = pd.DataFrame(posts, columns=["channel", "post_id", "created_at", "text", "score"])
        rows = rows.astype(
            {"channel": "str", "post_id": "str", "created_at": schema.UTC, "text": "str", "score": "int64"}
        )
        rows["source"] = pd.Series(self.name, index=rows.index, dtype="str")
        held_at = pd.Timestamp(self._now()).as_unit("us")
        rows["known_at"] = pd.Series(held_at, index=rows.index) if live else rows["created_at"] + self.delay
        return rows.astype({"known_at": schema.UTC})[COLUMNS]


def _stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    key = list(contracts.POSTS.key)
    return pd.concat(frames, ignore_index=True).drop_duplicates(key).sort_values(key, ignore_index=True)


def _answers(error: Exception) -> bool:
    """Whether Reddit says no and why, so that asking again soon gives nothing else: no such subreddit, private, banned."""
    if isinstance(error, prawcore.ResponseException):
        return isinstance(error, prawcore.Redirect) or bool(_reason(error))
    return isinstance(error, _NoSubredditError)


def _sentence(error: Exception) -> str:
    """What a refusal means."""
    if isinstance(error, prawcore.Redirect):
        return f"there is no such subreddit (Reddit redirects to {error.path[:80]})"
    if isinstance(error, prawcore.ResponseException):
        reason = _reason(error) or "no reason given"
        return f"Reddit answers {error.response.status_code} ({reason}); take it out of TFT_REDDIT_SUBREDDITS if it stays so"
    if isinstance(error, RedditTroubleError | OutOfPatienceError | prawcore.PrawcoreException):
        return str(error)
    return f"praw failed on the answer ({type(error).__name__}: {error})"


def _reason(error: prawcore.ResponseException) -> str:
    """As Reddit gives it beside a refusal; empty where it gives none, as a proxy between us and it."""
    try:
        return str(error.response.json().get("reason") or "")[:80]
    except (ValueError, AttributeError):
        return ""
