"""What a listing of Reddit's holds, read as it came: submissions and comments to posts. Pure.

praw's objects lose a page to one odd field and send hidden requests for a missing one (FAULTS 31), so they are not used.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

SUBREDDIT_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{1,21}")
SUBMISSION, COMMENT = "t3", "t1"
OLDEST = datetime(2005, 6, 1, tzinfo=UTC)  # before Reddit
MAX_TEXT = 41_000  # Reddit allows 300 characters of title and 40,000 of body

_ID_PATTERN = re.compile(r"[a-z0-9]{1,16}")
_GONE = ("[removed]", "[deleted]", "[deleted by user]", "[ removed by reddit ]")  # no words of anyone


@dataclass(frozen=True)
class Thing:
    """A submission, or a comment: its id then begins with t1_, for Reddit counts the two apart."""

    channel: str
    post_id: str
    created_at: datetime
    text: str  # "" where nothing is left of it
    score: int


def thing(child: Any, subreddit: str, now: datetime) -> Thing | None:
    """A child of a listing; None where it is no post, or its id, time, words or score are missing or make no sense."""
    kind = child.get("kind") if isinstance(child, dict) else None
    data = child.get("data") if kind in (SUBMISSION, COMMENT) else None
    if not isinstance(data, dict):
        return None
    base36, score = data.get("id"), data.get("score")
    try:
        created_at = datetime.fromtimestamp(int(data["created_utc"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
    if not isinstance(base36, str) or not _ID_PATTERN.fullmatch(base36):
        return None
    if not isinstance(score, int) or isinstance(score, bool) or abs(score) >= 2**31:
        return None
    if not OLDEST <= created_at <= now + timedelta(days=1):
        return None
    if kind == SUBMISSION and "selftext" not in data:
        return None  # a post without a body has an empty one: of this one we do not know
    words = _words(data.get("title"), data.get("selftext")) if kind == SUBMISSION else _words(data.get("body"), None)
    if words is None:
        return None
    channel = data.get("subreddit")
    if not isinstance(channel, str) or not SUBREDDIT_PATTERN.fullmatch(channel):
        channel = subreddit
    return Thing(channel, base36 if kind == SUBMISSION else f"{COMMENT}_{base36}", created_at, words, score)


def fullname(post_id: str) -> str:
    """Reddit's name for a post of ours."""
    return post_id if post_id.startswith(f"{COMMENT}_") else f"{SUBMISSION}_{post_id}"


def _words(first: object, more: object) -> str | None:
    """Title and body, or a comment's body, as PostgreSQL can hold them: no NUL, no half of a surrogate pair. None: there is no text field."""
    if not isinstance(first, str):
        return None
    parts = [
        part for part in (first, more) if isinstance(part, str) and part.strip() and part.strip().lower() not in _GONE
    ]
    return "\n\n".join(parts)[:MAX_TEXT].replace("\x00", "").encode("utf-8", "ignore").decode()
