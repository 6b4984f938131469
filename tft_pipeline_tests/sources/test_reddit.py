"""The Reddit source against a local server that speaks Reddit's protocol to the real praw."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from praw.config import Config
from pydantic import SecretStr

from tft_pipeline.config import RedditSettings, Settings
from tft_pipeline.contracts import POSTS
from tft_pipeline.errors import ConfigError, SourceError
from tft_pipeline.schema import validate
from tft_pipeline.sources._reddit_client import TOKEN_PATH
from tft_pipeline.sources.protocols import Fetched, PostSource, Span
from tft_pipeline.sources.reddit import RedditPosts
from tft_pipeline_tests.sources.servers.reddit_server import CLIENT_ID, CLIENT_SECRET, RedditServer

DAY = Span(datetime(2024, 3, 5, tzinfo=UTC), datetime(2024, 3, 6, tzinfo=UTC))
NOON = datetime(2024, 3, 5, 12, 0, tzinfo=UTC)
WEEKS_LATER = datetime(2024, 3, 29, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[RedditServer]:
    with RedditServer().running() as running:
        for subreddit in ("wallstreetbets", "stocks", "investing"):
            running.post(subreddit, (NOON - timedelta(days=3)).timestamp(), "older than the day")
            running.post(subreddit, NOON.timestamp(), "AAPL to the moon", "I bought calls.", score=42)
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


Connect = Callable[..., RedditPosts]


@pytest.fixture
def connect(server: RedditServer, tmp_path: Path, waits: list[float]) -> Connect:
    def make(
        *subreddits: str, now: datetime = WEEKS_LATER, reddit: dict[str, Any] | None = None, **more: Any
    ) -> RedditPosts:
        fields = {
            "client_id": CLIENT_ID, "client_secret": SecretStr(CLIENT_SECRET), "reddit_url": server.url, "oauth_url": server.url,
            "subreddits": subreddits or ("wallstreetbets", "stocks", "investing"), "comments": False, **(reddit or {}),
        }  # fmt: skip
        settings = Settings(home=tmp_path, market="yahoo", posts="reddit", reddit=RedditSettings(**fields))
        return RedditPosts(settings, now=lambda: now, sleep=waits.append, **more)

    return make


def checked(fetched: Fetched) -> pd.DataFrame:
    """The frame, held against the contract with the hash that a later stage adds."""
    return validate(fetched.frame.assign(text_hash=pd.Series("0" * 64, index=fetched.frame.index, dtype="str")), POSTS)


# What a healthy Reddit gives ------------------------------------------------------------------------------------------


def test_it_is_a_source_of_posts(connect: Connect) -> None:
    source: PostSource = connect()
    assert (source.name, source.simulated) == ("reddit", False)


def test_a_days_submissions_are_read_of_each_subreddit(connect: Connect, server: RedditServer) -> None:
    fetched = connect().posts(DAY)
    posts = checked(fetched)
    assert fetched.problems == {}
    assert posts["channel"].tolist() == ["investing", "stocks", "wallstreetbets"]
    row = posts.iloc[2]
    assert (row["text"], row["score"], row["source"]) == ("AAPL to the moon\n\nI bought calls.", 42, "reddit")
    assert row["created_at"] == pd.Timestamp(NOON)
    assert server.tokens_given == 1  # one token for all


def test_the_span_is_half_open(connect: Connect, server: RedditServer) -> None:
    for moment in (DAY.start, DAY.start - timedelta(seconds=1), DAY.end, DAY.end - timedelta(seconds=1)):
        server.post("edges", moment.timestamp(), f"{moment:%d %H:%M:%S}")
    assert connect("edges").posts(DAY).frame["text"].tolist() == ["05 00:00:00", "05 23:59:59"]


def test_pages_are_followed_until_the_span_begins(connect: Connect, server: RedditServer) -> None:
    for minute in range(450):
        server.post("busy", (DAY.end - timedelta(minutes=10 * (minute + 1))).timestamp(), f"post {minute}")
    fetched = connect("busy").posts(DAY)
    assert (len(checked(fetched)), fetched.problems) == (144, {})  # six an hour
    assert len(server.paths("/new")) == 2  # the second page reaches back beyond midnight


def test_channels_carry_their_display_name(connect: Connect, server: RedditServer) -> None:
    server.post("WallStreetBets", NOON.timestamp(), "x")["subreddit"] = "wallstreetbets"
    assert connect("WallStreetBets").posts(DAY).frame["channel"].tolist() == ["wallstreetbets"]


def test_a_link_without_words_is_its_title(connect: Connect, server: RedditServer) -> None:
    server.post("links", NOON.timestamp(), "Tesla misses", "")
    assert connect("links").posts(DAY).frame["text"].tolist() == ["Tesla misses"]


@pytest.mark.parametrize("body", ["[removed]", "[deleted]", " [removed] "])
def test_a_removed_body_leaves_the_title(connect: Connect, server: RedditServer, body: str) -> None:
    server.post("gone", NOON.timestamp(), "GME", body)
    assert connect("gone").posts(DAY).frame["text"].tolist() == ["GME"]


def test_what_postgres_cannot_hold_is_stripped(connect: Connect, server: RedditServer) -> None:
    server.post("odd", NOON.timestamp(), "A\x00B \ud83d", "🚀\x00")
    assert connect("odd").posts(DAY).frame["text"].tolist() == ["AB \n\n🚀"]


def test_an_empty_span_asks_nothing(connect: Connect, server: RedditServer) -> None:
    fetched = connect().posts(Span(NOON, NOON))
    assert (len(checked(fetched)), fetched.problems, server.requests) == (0, {}, [])


def test_a_quiet_day_is_no_problem(connect: Connect, server: RedditServer) -> None:
    fetched = connect().posts(Span(DAY.start - timedelta(days=1), DAY.start))
    assert (len(checked(fetched)), fetched.problems) == (0, {})


# When a post was known ------------------------------------------------------------------------------------------------


def test_a_post_of_a_running_span_was_known_when_it_was_read(connect: Connect) -> None:
    now = datetime(2024, 3, 5, 12, 40, tzinfo=UTC)
    posts = connect("stocks", now=now).posts(Span(DAY.start, now)).frame
    assert posts["known_at"].tolist() == [pd.Timestamp(now)]


def test_a_post_loaded_after_the_fact_has_its_nominal_time(connect: Connect) -> None:
    assert connect("stocks").posts(DAY).frame["known_at"].tolist() == [pd.Timestamp(NOON + timedelta(minutes=5))]


def test_no_post_is_known_before_it_was_written(connect: Connect, server: RedditServer) -> None:
    for minute in range(0, 120, 7):
        server.post("stocks", (NOON - timedelta(minutes=minute)).timestamp(), "x")
    now = NOON + timedelta(minutes=1)
    for span in (DAY, Span(DAY.start, now)):
        posts = connect("stocks", now=now).posts(span).frame
        assert (posts["known_at"] > posts["created_at"]).all()


# Coverage -------------------------------------------------------------------------------------------------------------


def test_a_listing_that_ends_before_the_span_begins_is_said(connect: Connect, server: RedditServer) -> None:
    for second in range(1100):
        server.post("flood", (NOON - timedelta(seconds=second)).timestamp(), f"post {second}")
    fetched = connect("flood").posts(DAY)
    assert len(checked(fetched)) == 1000
    assert fetched.problems["flood"] == (
        "r/flood: Reddit's listing ends after 1000 posts at 2024-03-05 11:43Z; "
        "what was posted since 2024-03-05 00:00Z and before that is missing."
    )


def test_a_young_subreddit_is_covered_whole(connect: Connect, server: RedditServer) -> None:
    server.post("young", NOON.timestamp(), "first ever")
    assert connect("young").posts(DAY).problems == {}


def test_an_empty_listing_is_said(connect: Connect, server: RedditServer) -> None:
    server.post("void", NOON.timestamp(), "x")
    server.communities["void"].posts.clear()
    assert connect("void").posts(DAY).problems == {"void": "r/void: Reddit lists not a single readable post."}


@pytest.mark.parametrize("fault", ["endless", "repeating_page"])
def test_a_listing_that_never_ends_is_left(connect: Connect, server: RedditServer, fault: str) -> None:
    server.post("loop", NOON.timestamp(), "x")
    server.fault(fault)
    assert len(checked(connect("loop").posts(DAY))) == 1
    assert len(server.paths("/new")) <= 15


# One subreddit's failure is its own -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("private", "Reddit answers 403 (private)"),
        ("quarantined", "Reddit answers 403 (quarantined)"),
        ("banned", "Reddit answers 404 (banned)"),
        ("missing", "Reddit answers 404 (no reason given)"),
        ("forbidden_html", "Reddit answers 403 (no reason given)"),
        ("redirect", "there is no such subreddit (Reddit redirects to /subreddits/search)"),
        ("bad_request", "praw failed on the answer (RedditAPIException"),
        ("server_error", "Reddit answers 500, 3 times"),
        ("html", "Reddit's answer is not JSON (begins '<!doctype html>"),
        ("null_body", "Reddit's answer is no listing (begins 'null')"),
        ("empty_body", "Reddit's answer is not JSON"),
        ("no_children", "Reddit's answer is no listing"),
        ("truncated", "Reddit's answer is not JSON"),
        ("torn_connection", "Reddit's answer broke off (ProtocolError), 3 times"),
        ("reset", "Reddit does not answer (ConnectionError), 3 times"),
        ("oversized", "Reddit's answer is longer than 32 MiB"),
    ],
)
def test_a_subreddit_that_fails_is_recorded_and_the_rest_read(
    connect: Connect, server: RedditServer, fault: str, said: str
) -> None:
    server.fault(fault, "wallstreetbets")
    fetched = connect().posts(DAY)
    assert set(fetched.frame["channel"]) == {"stocks", "investing"}
    assert list(fetched.problems) == ["wallstreetbets"]
    assert said in fetched.problems["wallstreetbets"]


def test_a_subreddit_that_does_not_exist_is_recorded(connect: Connect) -> None:
    assert "there is no such subreddit" in connect("nosuchplace", "stocks").posts(DAY).problems["nosuchplace"]


PASSING = ["html", "null_body", "empty_body", "no_children", "truncated", "torn_connection", "reset"]


@pytest.mark.parametrize("fault", PASSING)
def test_one_bad_answer_is_asked_again(connect: Connect, server: RedditServer, waits: list[float], fault: str) -> None:
    server.fault(fault, "stocks", times=1)
    fetched = connect("stocks").posts(DAY)
    assert (len(checked(fetched)), fetched.problems, len(waits)) == (1, {}, 1)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 521, 522, 530])
def test_any_outage_is_asked_again_without_prawcores_own_sleep(
    connect: Connect, server: RedditServer, waits: list[float], status: int
) -> None:
    server.fault("server_error", times=2, status=status)  # 521 prawcore never retries
    fetched = connect("stocks").posts(DAY)
    assert (len(checked(fetched)), fetched.problems, len(waits)) == (1, {}, 2)


def test_a_slow_answer_ends_at_the_timeout(connect: Connect, server: RedditServer) -> None:
    server.fault("slow", times=1, seconds=0.5)
    assert len(connect("stocks", timeout_seconds=0.2).posts(DAY).frame) == 1


def test_a_slow_drip_ends_too(connect: Connect, server: RedditServer) -> None:
    server.fault("drip", times=1, seconds=0.05)  # a second in all, each byte well within the timeout
    before = time.monotonic()
    assert len(connect("stocks", timeout_seconds=0.2).posts(DAY).frame) == 1
    assert time.monotonic() - before < 0.9


def test_when_none_can_be_read_nothing_is_pretended(connect: Connect, server: RedditServer) -> None:
    server.fault("private")
    with pytest.raises(SourceError, match=r"reddit: none of 3 subreddit\(s\) could be read; r/wallstreetbets .* 403"):
        connect().posts(DAY)


# Tokens and refusals --------------------------------------------------------------------------------------------------


def test_a_token_that_ran_out_is_renewed(connect: Connect, server: RedditServer) -> None:
    source = connect("stocks")
    source.posts(DAY)
    server.tokens_given += 1  # the server takes only its newest
    assert len(source.posts(DAY).frame) == 1


@pytest.mark.parametrize("fault", ["unauthorized", "unauthorized_bare"])
def test_a_401_for_good_names_what_to_check(connect: Connect, server: RedditServer, fault: str) -> None:
    server.fault(fault, "wallstreetbets")  # the bare one has no www-authenticate: prawcore's KeyError
    fetched = connect("wallstreetbets", "stocks").posts(DAY)
    assert "Reddit refuses a fresh token (HTTP 401)" in fetched.problems["wallstreetbets"]
    assert len(fetched.frame) == 1


@pytest.mark.parametrize("fault", ["token_server_error", "token_html", "token_rate_limited"])
def test_a_token_is_asked_for_again(connect: Connect, server: RedditServer, waits: list[float], fault: str) -> None:
    server.fault(fault, times=1)
    assert len(connect("stocks").posts(DAY).frame) == 1
    assert len(waits) == 1


def test_wrong_credentials_are_refused_by_name_and_never_shown(connect: Connect, server: RedditServer) -> None:
    wrong = {"client_secret": SecretStr("not-the-secret")}
    with pytest.raises(SourceError, match="check TFT_REDDIT_CLIENT_ID and TFT_REDDIT_CLIENT_SECRET") as caught:
        connect(reddit=wrong).posts(DAY)
    assert "not-the-secret" not in str(caught.value)
    assert len(server.requests) == 1  # no other subreddit was tried with them


def test_a_token_error_in_a_200_is_an_error(connect: Connect, server: RedditServer) -> None:
    server.fault("token_error_in_200")
    with pytest.raises(SourceError, match="unsupported_grant_type"):
        connect("stocks").posts(DAY)


# Rate limits ----------------------------------------------------------------------------------------------------------


def test_a_429_is_waited_out_and_asked_again(connect: Connect, server: RedditServer, waits: list[float]) -> None:
    server.fault("rate_limited", "stocks", times=2)
    fetched = connect("stocks").posts(DAY)
    assert (len(fetched.frame), fetched.problems) == (1, {})
    assert 2.5 <= waits[0] <= 5.0 <= waits[1] <= 10.0


def test_reddits_retry_after_is_kept(connect: Connect, server: RedditServer, waits: list[float]) -> None:
    server.fault("rate_limited", times=1, retry_after=33)
    connect("stocks").posts(DAY)
    assert 33.0 <= waits[0] <= 36.0


def test_a_limit_that_outlasts_patience_leaves_the_rest_unasked(
    connect: Connect, server: RedditServer, waits: list[float]
) -> None:
    server.fault("rate_limited", after=1, retry_after=50)
    fetched = connect(patience_seconds=60).posts(DAY)
    assert set(fetched.frame["channel"]) == {"wallstreetbets"}
    assert list(fetched.problems) == ["stocks", "investing"]
    assert "429" in fetched.problems["investing"]
    assert "/r/investing/new" not in server.paths()
    assert sum(waits) <= 60


def test_a_used_up_quota_is_waited_for_once_and_bounded(
    connect: Connect, server: RedditServer, waits: list[float]
) -> None:
    server.fault("quota_used_up", "wallstreetbets", reset=100)
    fetched = connect("wallstreetbets", "stocks").posts(DAY)
    assert (len(fetched.frame), fetched.problems) == (2, {})
    assert len(waits) == 1
    assert 99 <= waits[0] <= 100


def test_a_quota_that_outlasts_patience_is_left_at_once(
    connect: Connect, server: RedditServer, waits: list[float]
) -> None:
    server.fault("quota_used_up", "wallstreetbets", reset=599)
    fetched = connect("wallstreetbets", "stocks", "investing").posts(DAY)
    assert set(fetched.frame["channel"]) == {"wallstreetbets"}
    assert "Reddit's request quota is used up; 599 s to wait, 180 s allowed" in fetched.problems["investing"]
    assert waits == []


@pytest.mark.parametrize("fault", ["float_quota", "odd_quota"])
def test_odd_quota_headers_do_no_harm(connect: Connect, server: RedditServer, waits: list[float], fault: str) -> None:
    server.fault(fault)  # prawcore: int("10.0") raises ValueError
    fetched = connect().posts(DAY)
    assert (len(fetched.frame), fetched.problems, waits) == (3, {}, [])


def test_patience_is_whole_again_with_every_call(connect: Connect, server: RedditServer, waits: list[float]) -> None:
    source = connect("stocks", patience_seconds=40)
    for _ in range(3):
        server.fault("rate_limited", times=1, retry_after=30)
        assert len(source.posts(DAY).frame) == 1
    assert len(waits) == 3


# Odd posts ------------------------------------------------------------------------------------------------------------


def test_a_post_without_an_author_does_not_end_the_listing(connect: Connect, server: RedditServer) -> None:
    server.fault("author_null")
    assert len(connect("stocks").posts(DAY).frame) == 1


@pytest.mark.parametrize("field", ["author", "subreddit", "num_comments"])
def test_a_missing_field_sends_no_hidden_request(connect: Connect, server: RedditServer, field: str) -> None:
    server.fault("field_missing", field=field)
    fetched = connect("stocks").posts(DAY)
    assert (len(checked(fetched)), fetched.problems) == (1, {})
    assert set(server.paths()) == {TOKEN_PATH, "/r/stocks/new"}


def test_a_submission_whose_body_was_not_sent_is_not_taken_for_its_title(
    connect: Connect, server: RedditServer
) -> None:
    server.fault("field_missing", field="selftext")
    fetched = connect("stocks").posts(DAY)
    assert fetched.frame.empty
    assert "1 post(s) without a sound id, time, title, body or score were left out" in fetched.problems["stocks"]


@pytest.mark.parametrize(
    "fields",
    [
        {"id": None}, {"id": "../x"}, {"title": None}, {"title": 7}, {"score": None}, {"score": "many"}, {"score": True},
        {"score": 2**40}, {"created_utc": None}, {"created_utc": "noon"}, {"created_utc": 1e30}, {"created_utc": 0},
        {"created_utc": 4e9},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_post_is_left_out_and_counted(connect: Connect, server: RedditServer, fields: dict[str, Any]) -> None:
    server.post("stocks", NOON.timestamp() - 60, "sound")
    server.fault("damaged_post", fields=fields)
    fetched = connect("stocks").posts(DAY)
    assert checked(fetched)["text"].tolist() == ["sound"]
    assert fetched.problems == {
        "stocks": "r/stocks: 1 post(s) without a sound id, time, title, body or score were left out."
    }


def test_what_is_no_submission_is_left_out(connect: Connect, server: RedditServer) -> None:
    server.fault("foreign_child")
    fetched = connect("stocks").posts(DAY)
    assert len(fetched.frame) == 1
    assert "1 post(s) without" in fetched.problems["stocks"]


def test_a_post_seen_twice_comes_once(connect: Connect, server: RedditServer) -> None:
    assert len(connect("stocks", "Stocks", "stocks").posts(DAY).frame) == 1


# What is asked --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../api/v1/me", "a/b", "x", "_private", "wall street", "a" * 30, "stocks?x=1", "stocks\n", "stocks+all"]
)
def test_what_is_no_subreddit_never_becomes_a_path(connect: Connect, server: RedditServer, name: str) -> None:
    fetched = connect(name, "stocks").posts(DAY)
    assert "no name of a subreddit; nothing was asked" in fetched.problems[name]
    assert set(server.paths()) == {TOKEN_PATH, "/r/stocks/new"}


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({"client_id": None}, "TFT_REDDIT_CLIENT_ID"),
        ({"client_secret": None}, "TFT_REDDIT_CLIENT_SECRET"),
        ({"user_agent": ""}, "USER_AGENT"),
    ],
)
def test_a_missing_credential_is_named(connect: Connect, missing: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        connect(reddit=missing)


def test_no_subreddits_are_refused(connect: Connect) -> None:
    with pytest.raises(ConfigError, match="TFT_REDDIT_SUBREDDITS is empty"):
        connect(reddit={"subreddits": ()})


@pytest.mark.parametrize(
    "url", ["http://oauth.reddit.com", "ftp://x", "oauth.reddit.com", "https://user:word@reddit.com", ""]
)
def test_credentials_do_not_travel_in_the_clear(connect: Connect, url: str) -> None:
    with pytest.raises(ConfigError, match="TFT_REDDIT_OAUTH_URL") as caught:
        connect(reddit={"oauth_url": url})
    assert "word" not in str(caught.value)


HOSTILE_INI = """
[DEFAULT]
client_id=theirs
client_secret=theirs
username=mallory
password=mallory
refresh_token=theirs
oauth_url=http://127.0.0.1:9
reddit_url=http://127.0.0.1:9
submission_kind=t9
check_for_updates=True
[broken
"""

READ_ONE = """
import sys, warnings
warnings.simplefilter("error")
from datetime import UTC, datetime
from pathlib import Path
from tft_pipeline.config import RedditSettings, Settings
from tft_pipeline.sources.protocols import Span
from tft_pipeline.sources.reddit import RedditPosts
url, client_id, secret = sys.argv[1:]
reddit = RedditSettings(client_id=client_id, client_secret=secret, reddit_url=url, oauth_url=url, subreddits=("stocks",))
source = RedditPosts(Settings(home=Path.cwd(), market="yahoo", posts="reddit", reddit=reddit))
print(len(source.posts(Span(datetime(2024, 3, 5, tzinfo=UTC), datetime(2024, 3, 6, tzinfo=UTC))).frame))
"""


@pytest.mark.parametrize("broken", [False, True])
def test_a_hostile_praw_ini_in_the_working_directory_is_not_read(
    server: RedditServer, tmp_path: Path, broken: bool
) -> None:
    ini = HOSTILE_INI if broken else HOSTILE_INI.replace("[broken\n", "")
    (tmp_path / "praw.ini").write_text(ini)
    checkout = Path(__file__).resolve().parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "praw_username": "mallory",
        "praw_password": "x",
        "praw_site": "elsewhere",
    }
    ran = subprocess.run(
        [sys.executable, "-c", READ_ONE, server.url, CLIENT_ID, CLIENT_SECRET],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.stdout.strip(), ran.returncode) == ("1", 0), ran.stderr
    token = next(request for request in server.requests if request.path == TOKEN_PATH)
    assert token.body == b"grant_type=client_credentials"  # not mallory's password


def test_a_praw_ini_that_someone_else_loaded_is_overruled(
    connect: Connect, server: RedditServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "praw.ini").write_text(HOSTILE_INI.replace("[broken\n", ""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Config, "CONFIG", None)
    with pytest.warns(UserWarning, match="overrides the oauth_url"):
        Config._load_config()
    assert len(connect("stocks").posts(DAY).frame) == 1
    assert server.requests[0].body == b"grant_type=client_credentials"


def test_a_netrc_does_not_replace_the_token(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login mallory password mallory\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert len(connect("stocks").posts(DAY).frame) == 1


# Comments, searches ---------------------------------------------------------------------------------------------------


def test_comments_are_read_beside_submissions_and_never_share_an_id(connect: Connect, server: RedditServer) -> None:
    server.post("both", NOON.timestamp(), "a submission", id="abc")
    server.comment("both", NOON.timestamp(), "a comment", id="abc")
    fetched = connect("both", reddit={"comments": True}).posts(DAY)
    posts = checked(fetched)
    assert dict(zip(posts["post_id"], posts["text"], strict=True)) == {"abc": "a submission", "t1_abc": "a comment"}
    assert fetched.problems == {}


@pytest.mark.parametrize("body", ["[removed]", "[deleted]"])
def test_of_a_removed_comment_no_words_are_left(connect: Connect, server: RedditServer, body: str) -> None:
    server.comment("quiet", NOON.timestamp(), body)
    server.post("quiet", NOON.timestamp(), "x")
    posts = connect("quiet", reddit={"comments": True}).posts(DAY).frame
    assert posts["text"].tolist() == ["", "x"] or posts["text"].tolist() == ["x", ""]


def test_comments_that_cannot_be_read_do_not_cost_the_submissions(connect: Connect, server: RedditServer) -> None:
    server.fault("private", "stocks", after=1)
    fetched = connect("stocks", reddit={"comments": True}).posts(DAY)
    assert fetched.frame["text"].tolist() == ["AAPL to the moon\n\nI bought calls."]
    assert fetched.problems["stocks"].startswith("r/stocks was not read: Reddit answers 403 (private)")
    assert [one.kind for one in fetched.covered] == ["submissions"]


def test_a_search_finds_posts_of_any_subreddit_once(connect: Connect, server: RedditServer) -> None:
    server.post("elsewhere", NOON.timestamp(), "NVDA earnings beat")
    server.post("stocks", NOON.timestamp(), "my NVDA earnings play")
    fetched = connect("stocks", reddit={"searches": ("NVDA earnings",)}).posts(DAY)
    posts = checked(fetched)
    assert posts.groupby("channel").size().to_dict() == {"elsewhere": 1, "stocks": 2}
    asked = [request.query for request in server.requests if request.path == "/search"]
    assert [(query["q"], query["sort"], query["type"]) for query in asked] == [("NVDA earnings", "new", "link")]


def test_a_search_that_fails_is_named_and_the_rest_read(connect: Connect, server: RedditServer) -> None:
    server.fault("html", "search")
    fetched = connect("stocks", reddit={"searches": ("$GME",)}).posts(DAY)
    assert len(fetched.frame) == 1
    assert fetched.problems["$GME"].startswith("the search '$GME' was not read: Reddit's answer is not JSON")


@pytest.mark.parametrize("query", ["a\nb", "x" * 600, "\x00"])
def test_what_is_no_search_is_refused(connect: Connect, query: str) -> None:
    with pytest.raises(ConfigError, match="TFT_REDDIT_SEARCHES"):
        connect("stocks", reddit={"searches": (query,)})


# What was covered -----------------------------------------------------------------------------------------------------


def test_a_listing_that_reaches_back_covers_the_span(connect: Connect) -> None:
    (covered,) = connect("stocks").posts(DAY).covered
    assert (covered.channel, covered.kind, covered.span) == ("stocks", "submissions", DAY)


def test_a_listing_that_was_cut_covers_what_is_younger_than_its_end(connect: Connect, server: RedditServer) -> None:
    for number in range(1100):
        server.comment("busy", (DAY.end - timedelta(seconds=30 * (number + 1))).timestamp(), f"comment {number}")
    fetched = connect("busy", reddit={"comments": True}).posts(DAY)
    covered = {one.kind: one.span for one in fetched.covered}
    # Of the second in which it ends there may have been more.
    assert covered["comments"] == Span(DAY.end - timedelta(seconds=30 * 1000 - 1), DAY.end)
    assert "listing ends after 1000 comments at 2024-03-05 15:40Z" in fetched.problems["busy"]


def test_nothing_is_covered_beyond_the_present(connect: Connect) -> None:
    now = datetime(2024, 3, 5, 12, 40, tzinfo=UTC)
    (covered,) = connect("stocks", now=now).posts(DAY).covered
    assert covered.span == Span(DAY.start, now)


def test_what_comes_while_pages_are_read_is_not_covered(connect: Connect, server: RedditServer) -> None:
    moments = iter(NOON + timedelta(minutes=number) for number in range(1, 100))
    source = connect("stocks")
    source._now = lambda: next(moments)  # time goes on with every look at the clock
    (covered,) = source.posts(DAY).covered
    assert covered.span.end == NOON + timedelta(minutes=2)  # asked whether the span still runs, then for the first page


def test_around_a_post_that_came_damaged_nothing_is_covered(connect: Connect, server: RedditServer) -> None:
    for hours in (1, 2, 3):
        server.post("stocks", (NOON + timedelta(hours=hours)).timestamp(), f"{hours} hours later")
    server.fault("damaged_post", "stocks", fields={"score": None})  # the newest: from 14:00 on it may be anywhere
    spans = [one.span for one in connect("stocks").posts(DAY).covered]
    assert spans == [Span(DAY.start, NOON + timedelta(hours=2))]
    server.calm()
    server.communities["stocks"].posts[1]["score"] = None
    spans = [one.span for one in connect("stocks").posts(DAY).covered]
    assert spans == [Span(NOON + timedelta(hours=3, seconds=1), DAY.end), Span(DAY.start, NOON + timedelta(hours=1))]


@pytest.mark.parametrize("fault", ["endless", "repeating_page"])
def test_a_listing_that_goes_in_circles_covers_what_it_gave(connect: Connect, server: RedditServer, fault: str) -> None:
    for minute in range(150):
        server.post("loop", (DAY.end - timedelta(minutes=minute + 1)).timestamp(), f"post {minute}")
    server.fault(fault)
    fetched = connect("loop").posts(DAY)
    assert [one.span for one in fetched.covered] == [Span(DAY.end - timedelta(minutes=100, seconds=-1), DAY.end)]
    assert "r/loop: Reddit's listing ends after" in fetched.problems["loop"]


def test_an_empty_page_behind_one_that_promised_more_ends_what_is_covered(
    connect: Connect, server: RedditServer
) -> None:
    for minute in range(150):
        server.post("short", (DAY.end - timedelta(minutes=minute + 1)).timestamp(), f"post {minute}")
    server.fault("cut_short", "short", after=1)
    fetched = connect("short").posts(DAY)
    assert [one.span for one in fetched.covered] == [Span(DAY.end - timedelta(minutes=100, seconds=-1), DAY.end)]
    assert "listing ends after 100 posts at 2024-03-05 22:20Z" in fetched.problems["short"]


@pytest.mark.parametrize(
    ("fault", "answered"),
    [
        ("private", True), ("quarantined", True), ("banned", True), ("redirect", True), ("forbidden_html", False),
        ("missing", False), ("server_error", False), ("html", False), ("reset", False), ("bad_request", False),
    ],
)  # fmt: skip
def test_who_refuses_for_a_reason_has_answered_and_who_fails_has_not(
    connect: Connect, server: RedditServer, fault: str, answered: bool
) -> None:
    server.fault(fault, "stocks")
    fetched = connect("investing", "Stocks".lower(), reddit={"searches": ("$GME",)}).posts(DAY)
    assert {(one.channel, one.kind): one.answered for one in fetched.asked} == {
        ("investing", "submissions"): True, ("stocks", "submissions"): answered, ("$gme", "search"): True,
    }  # fmt: skip
    assert [one.channel for one in fetched.covered] == ["investing"]


def test_no_name_of_a_subreddit_is_an_answer_and_what_patience_left_out_is_none(
    connect: Connect, server: RedditServer
) -> None:
    server.fault("rate_limited", "stocks", retry_after=500)
    fetched = connect("../x", "investing", "stocks", "wallstreetbets").posts(DAY)
    assert [one.answered for one in fetched.asked] == [True, True, False, False]


# Edits and deletions --------------------------------------------------------------------------------------------------


def test_posts_that_are_held_are_read_again_as_they_are_now(connect: Connect, server: RedditServer) -> None:
    edited = server.post("edits", NOON.timestamp(), "AAPL", "calls")
    removed = server.post("edits", NOON.timestamp() + 1, "MSFT", "puts")
    said = server.comment("edits", NOON.timestamp() + 2, "to the moon")
    source = connect("edits", reddit={"comments": True})
    held = source.posts(DAY).frame
    edited["selftext"], removed["selftext"], said["body"] = "puts, sorry", "[removed]", "[deleted]"
    server.communities["stocks"].posts.clear()
    again = source.recheck(held)
    now = checked(again).set_index("post_id")
    assert now["text"].to_dict() == {edited["id"]: "AAPL\n\nputs, sorry", removed["id"]: "MSFT", f"t1_{said['id']}": ""}
    assert (now["known_at"] == pd.Timestamp(WEEKS_LATER)).all()
    assert now["created_at"].tolist() == held.set_index("post_id")["created_at"].reindex(now.index).tolist()


def test_a_post_that_reddit_no_longer_knows_has_no_words_left(connect: Connect, server: RedditServer) -> None:
    source = connect("stocks")
    held = source.posts(DAY).frame
    server.communities["stocks"].posts.clear()
    assert source.recheck(held).frame["text"].tolist() == [""]


def test_a_hundred_posts_are_one_question(connect: Connect, server: RedditServer) -> None:
    for number in range(150):
        server.post("many", NOON.timestamp() + number, f"post {number}")
    source = connect("many")
    held = source.posts(DAY).frame
    assert source.recheck(held).frame["text"].tolist() == held["text"].tolist()
    assert len(server.paths("/api/info")) == 2
    assert source.recheck(held.head(0)).frame.empty
    assert len(server.paths("/api/info")) == 2


def test_posts_that_cannot_be_read_again_stay_as_they_are(connect: Connect, server: RedditServer) -> None:
    source = connect("stocks")
    held = source.posts(DAY).frame
    server.fault("server_error", "info")
    with pytest.raises(SourceError, match="reddit: posts cannot be read again; Reddit answers 500, 3 times"):
        source.recheck(held)


@pytest.mark.parametrize("fields", [{"score": None}, {"id": "../x"}, {"created_utc": "noon"}], ids=str)
def test_a_post_that_comes_back_damaged_is_not_called_deleted(
    connect: Connect, server: RedditServer, fields: dict[str, Any]
) -> None:
    server.post("stocks", NOON.timestamp() - 60, "another")
    source = connect("stocks")
    held = source.posts(DAY).frame
    server.fault("damaged_post", "info", fields=fields)
    again = source.recheck(held).frame
    assert len(again) == 1
    assert again["text"].tolist()[0] in held["text"].tolist()


def test_an_answer_without_any_of_many_posts_is_no_answer(connect: Connect, server: RedditServer) -> None:
    server.post("stocks", NOON.timestamp() - 60, "another")
    source = connect("stocks")
    held = source.posts(DAY).frame
    server.communities["stocks"].posts.clear()
    with pytest.raises(SourceError, match="posts cannot be read again; Reddit's answer holds none of 2 posts"):
        source.recheck(held)


def test_what_was_read_again_before_a_failure_counts(connect: Connect, server: RedditServer) -> None:
    for number in range(150):
        server.post("many", NOON.timestamp() + number, f"post {number}")
    source = connect("many")
    held = source.posts(DAY).frame
    server.fault("server_error", "info", after=1)
    again = source.recheck(held)
    assert len(again.frame) == 100
    assert again.problems["recheck"].startswith("50 post(s) were not read again: Reddit answers 500, 3 times")
