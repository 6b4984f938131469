"""Every fault of the stand-in for Reddit, at a drawn place and for a drawn time, against the real client: nothing wrong or missing in silence."""

import random
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tft_pipeline.config import RedditSettings, Settings
from tft_pipeline.errors import SourceError
from tft_pipeline.sources.protocols import Fetched, Span
from tft_pipeline.sources.reddit import RedditPosts
from tft_pipeline_tests.faults.trials import Outcome, Suite
from tft_pipeline_tests.sources.servers.reddit_server import CLIENT_ID, CLIENT_SECRET, RedditServer

SUBREDDITS = ("investing", "stocks", "wallstreetbets")
QUERY = "NVDA"
DAY = Span(datetime(2024, 3, 5, tzinfo=UTC), datetime(2024, 3, 6, tzinfo=UTC))
NOWS = [
    datetime(2024, 3, 5, 15, 50, tzinfo=UTC),
    datetime(2024, 3, 6, 1, 0, tzinfo=UTC),
    datetime(2024, 4, 1, tzinfo=UTC),
]
PATIENCE_SECONDS = 120.0
SEEDS = 30
Truth = dict[tuple[str, str], tuple[str, datetime]]  # (channel, post id) to its text and when it was posted


@contextmanager
def session() -> Iterator[Callable[[str], Outcome]]:
    with RedditServer().running() as server, tempfile.TemporaryDirectory() as folder:
        yield lambda key: trial(server, Path(folder), *key.split(" | "))


def trial(server: RedditServer, home: Path, fault: str, seed: str) -> Outcome:
    drawn = random.Random(f"{fault} {seed}")
    server.calm()
    server.tokens_given = 0
    now, waits = drawn.choice(NOWS), list[float]()
    truth = _written(server, drawn, now)
    subject = None if fault.startswith("token_") else drawn.choice([None, *SUBREDDITS])
    server.fault(
        fault, subject, times=drawn.choice([1, 2, 6, None]), after=drawn.choice([0, 0, 1, 3]), **_options(fault, drawn)
    )
    chosen = RedditSettings(
        client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET), reddit_url=server.url, oauth_url=server.url, subreddits=SUBREDDITS,
        comments=drawn.random() < 0.5, searches=(QUERY,) if drawn.random() < 0.3 else (),
    )  # fmt: skip
    settings = Settings(home=home, market="yahoo", posts="reddit", reddit=chosen)
    source = RedditPosts(
        settings, now=lambda: now, sleep=waits.append, patience_seconds=PATIENCE_SECONDS, timeout_seconds=0.4
    )
    span = Span(DAY.start, min(DAY.end, now)) if drawn.random() < 0.5 else DAY
    try:
        found = _judged(source.posts(span), truth, comments=chosen.comments, subject=subject)
    except SourceError as error:
        clear = re.match(r"reddit: .{10,}", str(error)) and str(error).endswith(".")
        found = Outcome([] if clear else [f"no clear error: {error}"], {"refused whole": 1})
    except Exception as error:
        found = Outcome([f"{type(error).__name__}: {error}"])
    spent = [f"waited {sum(waits):.0f} s"] if sum(waits) > PATIENCE_SECONDS else []
    return Outcome([*found.faults, *spent], {"runs": 1, **found.counts})


def _judged(fetched: Fetched, truth: Truth, *, comments: bool, subject: str | None) -> Outcome:
    held = {(row.channel, row.post_id): row.text for row in fetched.frame.itertuples()}
    faults = [
        f"{key} reads {text!r}, written was {truth.get(key)!r}"  # type: ignore[call-overload]
        for key, text in held.items()
        if key not in truth or truth[key][0] != text
    ]
    counts = {"subreddits read whole": 0, "subreddits with a sentence": 0}
    for subreddit in SUBREDDITS:
        expected = {key for key in truth if key[0] == subreddit and (comments or not key[1].startswith("t1_"))}
        missing, said = expected - held.keys(), fetched.problems.get(subreddit, "")
        if missing and not said:
            faults.append(f"r/{subreddit}: {len(missing)} of {len(expected)} posts are missing, and nobody says so")
        if said and not (len(said) > 20 and said.endswith(".")):
            faults.append(f"r/{subreddit}: no clear sentence: {said!r}")
        if subject not in (None, subreddit) and missing and not re.search("429|quota", said):
            faults.append(f"r/{subreddit} is missing posts for what befell r/{subject}: {said}")
        faults += [
            f"{key} was posted at {truth[key][1]}, which is called covered, and is missing"
            for key in missing
            if _covered(fetched, key, truth[key][1])
        ]
        counts["subreddits read whole"] += not missing
        counts["subreddits with a sentence"] += bool(said)
    return Outcome(faults, counts)


def _covered(fetched: Fetched, key: tuple[str, str], created_at: datetime) -> bool:
    kind = "comments" if key[1].startswith("t1_") else "submissions"
    spans = [one.span for one in fetched.covered if (one.channel, one.kind) == (key[0], kind)]
    return any(span.start <= created_at < span.end for span in spans)


def _written(server: RedditServer, drawn: random.Random, now: datetime) -> Truth:
    """Two days of posts; of them, those that the day's span will have."""
    server.communities.clear()
    truth: Truth = {}
    for subreddit in SUBREDDITS:
        for number in range(drawn.choice([1, 5, 40, 230])):
            created = DAY.start + timedelta(seconds=drawn.randrange(-86_400, 86_400))
            if created >= now:
                continue
            word = drawn.choice(["NVDA", "GME 🚀", "rates", "the market"])
            if drawn.random() < 0.7:
                post = server.post(subreddit, created.timestamp(), f"{word} {number}", drawn.choice(["", "more words"]))
                post_id, text = post["id"], "\n\n".join(part for part in (post["title"], post["selftext"]) if part)
            else:
                comment = server.comment(
                    subreddit, created.timestamp(), f"{word} {number}", id=f"{subreddit[:2]}{number:x}"
                )
                comment["name"] = f"t1_{comment['id']}"
                post_id, text = comment["name"], comment["body"]
            if DAY.start <= created < DAY.end:
                truth[subreddit, post_id] = (text, created)
        old = (DAY.start - timedelta(days=2)).timestamp()
        server.post(subreddit, old, "older")
        server.comment(subreddit, old, "older", id=f"{subreddit[:2]}old")["name"] = f"t1_{subreddit[:2]}old"
    return truth


def _options(fault: str, drawn: random.Random) -> dict[str, Any]:
    match fault:
        case "rate_limited":
            return {"retry_after": drawn.choice([None, 7, 600])}
        case "server_error":
            return {"status": drawn.choice([500, 502, 503, 504, 521])}
        case "slow":
            return {"seconds": drawn.choice([0.05, 0.5])}
        case "drip":
            return {"seconds": drawn.choice([0.001, 0.1])}
        case "quota_used_up":
            return {"reset": drawn.choice([5, 60, 600])}
        case "field_missing":
            return {
                "field": drawn.choice(
                    ["id", "created_utc", "score", "title", "body", "selftext", "author", "subreddit"]
                )
            }
        case "damaged_post":
            return {
                "fields": drawn.choice(
                    [{"id": "../x"}, {"created_utc": "soon"}, {"score": None}, {"created_utc": 1e18}, {"id": 7}]
                )
            }
    return {}


SUITE = Suite(
    "Reddit as it really is",
    f"{len(RedditServer.FAULTS)} faults × {SEEDS} seeds: each ends in a retry, a post left out with a sentence or a clear error; nothing wrong or missing in silence",
    [f"{fault} | {seed}" for seed in range(SEEDS) for fault in sorted(RedditServer.FAULTS)],
    session,
)
