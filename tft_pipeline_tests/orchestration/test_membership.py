"""Membership on frames: who counted at which moment, and in whose company a post is read. Worked out by hand."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from tft_pipeline.contracts import QUALITY
from tft_pipeline.orchestration.membership import Membership, mentions_among
from tft_pipeline.sentiment.mentions import find_mentions
from tft_pipeline.storage.universe import BEGINNING, Interval
from tft_pipeline_tests.sentiment.posts import posts_of
from tft_pipeline_tests.storage.frames import frame

# posts_of: p0 is known at 14:02 on 4 March 2024, p1 at 15:02, p2 at 16:02 …
TWO = datetime(2024, 3, 4, 14, tzinfo=UTC)
HOUR = timedelta(hours=1)
COMMON = "I bought $AAPL and $NVDA today"


def since(ticker: str, start: datetime | None = None, end: datetime | None = None) -> Interval:
    return Interval(ticker, start or BEGINNING, start or BEGINNING, end)


def said(found: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(found["post_id"], found["ticker"], strict=True))


def test_a_ticker_counts_from_its_first_moment_to_before_its_last():
    members = Membership((since("AAPL"), Interval("NVDA", TWO, TWO + HOUR, TWO + 3 * HOUR), Interval("AMD", TWO, None, None)))  # fmt: skip
    moments = [TWO, TWO + HOUR, TWO + 3 * HOUR - timedelta(microseconds=1), TWO + 3 * HOUR]
    asked = pd.DataFrame([(t, m) for t in ("AAPL", "NVDA", "AMD", "IBM") for m in moments], columns=["ticker", "at"])
    counted = members.counted(asked["ticker"], asked["at"])
    assert counted.reshape(4, 4).tolist() == [[True] * 4, [False, True, True, False], [False] * 4, [False] * 4]
    followed = members.followed(asked["ticker"], asked["at"])
    assert followed.reshape(4, 4).tolist() == [[True] * 4, [True, True, True, False], [True] * 4, [False] * 4]
    assert len(members.speaking(asked, "at")) == 6


def test_without_intervals_everybody_counts_always():
    asked = pd.DataFrame({"ticker": ["AAPL", "IBM"], "at": [TWO, TWO + HOUR]})
    assert Membership(()).counted(asked["ticker"], asked["at"]).all()
    posts = posts_of(COMMON)
    pd.testing.assert_frame_equal(mentions_among(posts, (), ["AAPL", "NVDA"]), find_mentions(posts, ["AAPL", "NVDA"]))
    assert said(mentions_among(posts, (), ["AAPL", "NVDA"], only=["NVDA"])) == [("p0", "NVDA")]


def test_days_are_judged_of_who_was_followed_on_them_or_is_now():
    rows = frame(QUALITY, [TWO.date() - timedelta(days=1), TWO.date()], hours=(0,), tickers=("AAPL", "GONE", "NVDA", "IBM"))  # fmt: skip
    members = Membership((since("AAPL"), since("GONE", None, TWO - 20 * HOUR), since("NVDA", TWO)))
    kept = members.on_its_day(rows, TWO + HOUR)
    assert list(zip(kept["ticker"], kept["day_start"].dt.day, strict=True)) == [
        ("AAPL", 3), ("AAPL", 4), ("GONE", 3), ("NVDA", 3), ("NVDA", 4),
    ]  # fmt: skip
    assert len(Membership(()).on_its_day(rows, TWO)) == len(rows)


def test_who_was_removed_is_heard_no_more_until_it_comes_again():
    posts = posts_of(*[COMMON] * 4)
    members = (since("AAPL"), since("NVDA", None, TWO + HOUR), since("NVDA", TWO + 2 * HOUR, TWO + 3 * HOUR))
    # p1 was written while it was away: read when it came again. After it left for good, nobody looks.
    assert said(mentions_among(posts, members, ())) == [
        ("p0", "AAPL"), ("p0", "NVDA"), ("p1", "AAPL"), ("p1", "NVDA"), ("p2", "AAPL"), ("p2", "NVDA"), ("p3", "AAPL"),
    ]  # fmt: skip


def test_posts_from_before_a_ticker_came_are_read_for_it_and_for_nobody_else():
    posts = posts_of(COMMON, COMMON)
    members = (since("AAPL"), since("NVDA", TWO + HOUR))
    both = [("p0", "AAPL"), ("p0", "NVDA"), ("p1", "AAPL"), ("p1", "NVDA")]
    assert said(mentions_among(posts, members, ())) == both
    assert said(mentions_among(posts, members, (), only=["NVDA"])) == [("p0", "NVDA"), ("p1", "NVDA")]


@pytest.mark.parametrize("first", ["GOOGL", "GOOG"])
def test_a_name_that_two_share_stays_with_the_one_who_was_there(first):
    """Google is the name of both: whoever comes second takes none of the posts of before, nor of after."""
    second = {"GOOGL": "GOOG", "GOOG": "GOOGL"}[first]
    posts = posts_of("Google looks strong to me", "Google looks strong to me")
    members = (since(first), since(second, TWO + HOUR))
    assert said(mentions_among(posts, members, ())) == [("p0", first), ("p1", first)]


def test_a_newcomer_that_makes_a_post_quieter_does_not_change_what_others_heard():
    """Among capitals, a bare ticker is a word, unless so many of the capitals are tickers that nobody shouts."""
    text = "PUMPS ABCX DEFX HARD"
    posts = posts_of(text, text)
    alone, together = (said(find_mentions(posts, tickers)) for tickers in (["ABCX"], ["ABCX", "DEFX"]))
    assert alone == []
    assert together == [("p0", "ABCX"), ("p0", "DEFX"), ("p1", "ABCX"), ("p1", "DEFX")]
    members = (since("ABCX"), since("DEFX", TWO + HOUR))
    assert said(mentions_among(posts, members, ())) == [("p0", "DEFX"), ("p1", "ABCX"), ("p1", "DEFX")]


def test_whoever_comes_still_later_changes_no_row():
    posts = posts_of(*["PUMPS ABCX DEFX HARD"] * 3)
    members = (since("ABCX"), since("DEFX", TWO + HOUR))
    before = mentions_among(posts, members, ())
    more = (*members, since("PUMPS", TWO + 5 * HOUR), since("GHIX", TWO + 6 * HOUR, TWO + 7 * HOUR))
    after = mentions_among(posts, more, ())
    pd.testing.assert_frame_equal(after[after["ticker"].isin(["ABCX", "DEFX"])].reset_index(drop=True), before)
    assert "PUMPS" in set(after["ticker"])


def test_no_posts_give_an_empty_frame_of_the_right_columns():
    found = mentions_among(posts_of(), (since("AAPL"),), ())
    pd.testing.assert_frame_equal(found, find_mentions(posts_of(), ["AAPL"]))
    found = mentions_among(posts_of("nothing to see"), (since("AAPL"),), ())
    pd.testing.assert_frame_equal(found, find_mentions(posts_of(), ["AAPL"]))
