"""Submissions of subreddits, newest first, through praw.

Behind `PostSource`. praw authenticates, renews its token and sends; the listing's JSON is read here as it came, since praw's objects
lose a page to one odd field and send hidden requests for a missing one (FAULTS 31). Reddit lists at most about a thousand posts of a
subreddit: older ones cannot be had, and what a span could not be covered with is said in `Fetched.problems`.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

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
from tft_pipeline.sources.protocols import Fetched, Span

SUBREDDIT_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{1,21}")
POST_ID_PATTERN = re.compile(r"[a-z0-9]{1,16}")
PAGE = 100  # Reddit gives no more at once
MAX_PAGES = 15  # and ends after about ten
FULL_LISTING = 900  # a listing this long was cut by Reddit: posts that were removed count toward its thousand
LIVE = timedelta(hours=2)  # a span that ended longer ago is history
OLDEST = datetime(2005, 6, 1, tzinfo=UTC)  # before Reddit
MAX_TEXT = 41_000  # Reddit allows 300 characters of title and 40,000 of body
GONE = ("[removed]", "[deleted]")

COLUMNS = [name for name in contracts.POSTS.names if name != "text_hash"]


@dataclass(frozen=True)
class _Post:
    channel: str
    post_id: str
    created_at: datetime
    text: str
    score: int


class RedditPosts:
    """New submissions of the subreddits in `settings.reddit`.

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
        """Raises ConfigError for a missing credential or an empty list of subreddits; nothing is asked yet."""
        if not settings.reddit.subreddits:
            raise ConfigError(
                "setting TFT_REDDIT_SUBREDDITS is empty; name some, such as wallstreetbets,stocks, or set TFT_POSTS=none."
            )
        self._subreddits = tuple(dict.fromkeys(settings.reddit.subreddits))
        self._now = now
        self._patience = Patience(patience_seconds, sleep)
        self._reddit = open_reddit(settings.reddit, self._patience, timeout_seconds=timeout_seconds)

    def posts(self, span: Span) -> Fetched:
        """contracts.POSTS without `text_hash`. Raises SourceError when no subreddit at all can be read."""
        if span.start >= span.end:
            return Fetched(contracts.POSTS.empty()[COLUMNS], {})
        self._patience.renew()
        live = span.end > self._now() - LIVE
        frames: list[pd.DataFrame] = []
        problems: dict[str, str] = {}
        for position, subreddit in enumerate(self._subreddits):
            try:
                posts, problem = self._read(subreddit, span)
            except (CredentialsRefusedError, OutOfPatienceError) as error:
                # Every further question would meet the same closed door.
                problems |= {left: f"r/{left} was not read: {error}." for left in self._subreddits[position:]}
                break
            except (RedditTroubleError, prawcore.PrawcoreException) as error:
                problems[subreddit] = f"r/{subreddit} was not read: {_sentence(error)}."
                continue
            except Exception as error:
                # One subreddit's surprise is its own: the others still have their hour.
                problems[subreddit] = (
                    f"r/{subreddit} was not read: praw failed on the answer ({type(error).__name__}: {error})."
                )
                continue
            frames.append(self._rows(posts, live))
            if problem:
                problems[subreddit] = f"r/{subreddit}: {problem}."
        if not frames:
            first = self._subreddits[0]
            raise SourceError(
                f"reddit: none of {len(self._subreddits)} subreddit(s) could be read; {problems[first]}", transient=True
            )
        stacked = pd.concat(frames, ignore_index=True)
        key = list(contracts.POSTS.key)
        return Fetched(stacked.drop_duplicates(key).sort_values(key, ignore_index=True), problems)

    # ------------------------------------------------------------------------------------------------------------------

    def _read(self, subreddit: str, span: Span) -> tuple[list[_Post], str]:
        """The subreddit's posts within the span, and a sentence where they are not all."""
        if not SUBREDDIT_PATTERN.fullmatch(subreddit):
            raise RedditTroubleError("this is no name of a subreddit; nothing was asked. Mend TFT_REDDIT_SUBREDDITS")
        kept: list[_Post] = []
        seen = damaged = 0
        oldest: datetime | None = None
        params: dict[str, str | int] = {"limit": PAGE}
        for _ in range(MAX_PAGES):
            listing = self._reddit.request(method="GET", path=f"r/{subreddit}/new", params=params)["data"]
            for child in listing["children"]:
                post = _post(child, subreddit, self._now())
                if post is None:
                    damaged += 1
                    continue
                seen += 1
                oldest = post.created_at
                if span.start <= post.created_at < span.end:
                    kept.append(post)
            after = listing.get("after")
            if (oldest and oldest < span.start) or not isinstance(after, str) or after == params.get("after"):
                break
            params["after"] = after
        return kept, "; ".join(_amiss(span, seen, damaged, oldest))

    def _rows(self, posts: list[_Post], live: bool) -> pd.DataFrame:
        rows = pd.DataFrame(posts, columns=["channel", "post_id", "created_at", "text", "score"])
        rows = rows.astype(
            {"channel": "str", "post_id": "str", "created_at": schema.UTC, "text": "str", "score": "int64"}
        )
        rows["source"] = pd.Series(self.name, index=rows.index, dtype="str")
        held_at = pd.Timestamp(self._now()).as_unit("us")
        rows["known_at"] = pd.Series(held_at, index=rows.index) if live else rows["created_at"] + self.delay
        return rows.astype({"known_at": schema.UTC})[COLUMNS]


def _post(child: Any, subreddit: str, now: datetime) -> _Post | None:
    """A submission of a listing; None where its id, time, title or score is missing or makes no sense."""
    data = child.get("data") if isinstance(child, dict) and child.get("kind") == "t3" else None
    if not isinstance(data, dict):
        return None
    post_id, title, body, score = (data.get(name) for name in ("id", "title", "selftext", "score"))
    try:
        created_at = datetime.fromtimestamp(int(data["created_utc"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
    if not isinstance(post_id, str) or not POST_ID_PATTERN.fullmatch(post_id) or not isinstance(title, str):
        return None
    if not isinstance(score, int) or isinstance(score, bool) or abs(score) >= 2**31:
        return None
    if not OLDEST <= created_at <= now + timedelta(days=1):
        return None
    channel = data.get("subreddit")
    if not isinstance(channel, str) or not SUBREDDIT_PATTERN.fullmatch(channel):
        channel = subreddit
    return _Post(channel, post_id, created_at, _text(title, body), score)


def _text(title: str, body: object) -> str:
    """Title and body as PostgreSQL can hold them: no NUL, no half of a surrogate pair; a removed body is no words of anyone."""
    whole = f"{title}\n\n{body}" if isinstance(body, str) and body.strip() and body.strip() not in GONE else title
    return whole[:MAX_TEXT].replace("\x00", "").encode("utf-8", "ignore").decode()


def _amiss(span: Span, seen: int, damaged: int, oldest: datetime | None) -> list[str]:
    said = []
    if oldest is None:
        said.append("Reddit lists not a single readable post")
    elif oldest > span.start and seen >= FULL_LISTING:
        said.append(
            f"Reddit's listing ends after {seen} posts at {oldest:%Y-%m-%d %H:%M}Z; "
            f"what was posted since {span.start:%Y-%m-%d %H:%M}Z and before that is missing"
        )
    if damaged:
        said.append(f"{damaged} post(s) without a sound id, time, title or score were left out")
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
