"""The archive of posts as it grows: coverage by the hour, edits and deletions as revisions; the real praw against a local server."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from pydantic import SecretStr

from tft_pipeline.config import Settings
from tft_pipeline.contracts import COVERAGE, POSTS
from tft_pipeline.orchestration import post_coverage, rechecking
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.reconciling import compare
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.sources.files import FilePosts
from tft_pipeline.sources.protocols import Span
from tft_pipeline.sources.reddit import RedditPosts
from tft_pipeline.storage.audit import damaged, disagreements, reaches_to
from tft_pipeline.storage.coverage import gaps
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.knowledge import first_versions
from tft_pipeline.storage.read import read
from tft_pipeline_tests.sources.servers.reddit_server import CLIENT_ID, CLIENT_SECRET, RedditServer

DAY, NEXT = date(2026, 3, 10), date(2026, 3, 11)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def at(hours: float) -> datetime:
    """So many hours into DAY."""
    return MIDNIGHT + timedelta(hours=hours)


class OfReddit(Pipeline):
    """Posts of the stand-in as it is at `until`; bars are not asked for."""

    bars: Any = SimpleNamespace(delay=timedelta(0))

    @property
    def posts(self) -> RedditPosts:  # type: ignore[override]
        return RedditPosts(self.settings, now=self.now, sleep=lambda _: None, patience_seconds=60.0)


@pytest.fixture
def server() -> Iterator[RedditServer]:
    with RedditServer().running() as running:
        for subreddit in ("stocks", "investing"):
            running.post(subreddit, at(-72).timestamp(), "older than all")
        yield running


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


Refresh = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(server: RedditServer, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, market="yahoo", posts="reddit", tickers=("AAPL",), start=date(2026, 1, 1), end=NEXT,
        reddit={
            "client_id": CLIENT_ID, "client_secret": SecretStr(CLIENT_SECRET), "reddit_url": server.url, "oauth_url": server.url,
            "subreddits": ("stocks", "investing"), "comments": False,
        },
    )  # fmt: skip


@pytest.fixture
def refresh(settings: Settings, database: Database, instance: dg.DagsterInstance) -> Refresh:
    """Runs social_posts over days as of a moment; what its event says of the newest day."""

    pipeline = OfReddit(settings, database=database)
    job = build(settings, pipeline).resolve_job_def("history")

    def run(now: datetime, first: date = DAY, last: date | None = None, **reddit: Any) -> dict[str, Any]:
        pipeline.until, pipeline.settings = now, settings.changed(reddit=reddit) if reddit else settings
        ends = {"range_start": first, "range_end": last or first}
        done = job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("social_posts")], run_config=QUIET,
            tags={f"dagster/asset_partition_{name}": day.isoformat() for name, day in ends.items()},
        )  # fmt: skip
        assert done.success
        events = [
            event.step_materialization_data.materialization
            for event in done.all_events
            if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION
        ]
        (newest,) = [one for one in events if one.partition == (last or first).isoformat()]
        return {name: value.value for name, value in newest.metadata.items()}

    return run


def shares(database: Database, channel: str = "stocks", as_of: datetime | None = None) -> dict[int, float]:
    """{hour of DAY: share} of a channel's submissions."""
    if as_of is None:
        rows = read(database, COVERAGE, columns=["channel", "hour_start", "share"])
    else:
        rows = read(database, COVERAGE, as_of=as_of)
        rows = rows.assign(share=[minutes.bit_count() / 60 for minutes in rows["minutes"].tolist()])
    rows = rows[rows["channel"] == channel]
    hours = (rows["hour_start"] - pd.Timestamp(MIDNIGHT)) // pd.Timedelta(hours=1)
    return dict(zip(hours, rows["share"], strict=True))


def texts(database: Database, **more: Any) -> list[str]:
    return sorted(read(database, POSTS, **more)["text"])


def sound(database: Database, instance: dg.DagsterInstance) -> None:
    """The tables hold what the ledger says, and Dagster's record agrees."""
    assert disagreements(database) == damaged(database) == []
    records = compare(instance, database, ["social_posts"], now=datetime.now(UTC), grace=timedelta(0))
    assert (list(records.unrecorded), list(records.differing), dict(records.missing)) == ([], [], {})


# Coverage -------------------------------------------------------------------------------------------------------------


def test_each_hour_says_how_much_of_it_was_read(
    refresh: Refresh, server: RedditServer, database: Database, instance: dg.DagsterInstance
) -> None:
    server.post("stocks", at(1).timestamp(), "AAPL to the moon")
    told = refresh(at(2.25))
    assert shares(database) == {0: 1.0, 1: 1.0, 2: 0.25}
    assert told["hours_covered"] == {"investing submissions": "2.2 of 2.2", "stocks submissions": "2.2 of 2.2"}
    assert (told["oldest_hour_not_covered"], told["complete"]) == ("none", True)
    assert reaches_to(database, POSTS, DAY) == reaches_to(database, COVERAGE, DAY) == at(2.25)
    assert refresh(at(2.25))["rows_written"] == 0
    sound(database, instance)


def test_two_runs_that_each_cover_a_part_add_up(refresh: Refresh, server: RedditServer, database: Database) -> None:
    flood(server, first=at(9.5), last=at(10))
    # Cut at a thousand: back to 09:30 and some seconds, so the minute of 09:30 is not whole.
    assert "listing ends after 1000 posts" in refresh(at(10))["problems"]["stocks"]
    assert shares(database) == {**dict.fromkeys(range(9), 0.0), 9: 29 / 60}
    server.communities["stocks"].posts[:] = server.communities["stocks"].posts[-1:]
    flood(server, first=at(10.75), last=at(11))
    refresh(at(11))
    assert shares(database) == {**dict.fromkeys(range(9), 0.0), 9: 29 / 60, 10: 14 / 60}
    server.communities["stocks"].posts[:] = server.communities["stocks"].posts[:1]
    refresh(at(11))
    # What a shorter listing reads whole is whole.
    assert shares(database) == dict.fromkeys(range(11), 1.0)


def test_what_was_read_once_is_not_unsaid_by_a_run_that_reads_less(
    refresh: Refresh, server: RedditServer, database: Database, instance: dg.DagsterInstance
) -> None:
    server.post("stocks", at(1).timestamp(), "the hour was read")
    refresh(at(8))
    assert shares(database) == dict.fromkeys(range(8), 1.0)
    flood(server, first=at(8.5), last=at(9))
    told = refresh(at(9))
    assert shares(database) == {**dict.fromkeys(range(8), 1.0), 8: 29 / 60}
    assert told["hours_covered"]["stocks submissions"] == "8.5 of 9.0"
    assert told["oldest_hour_not_covered"] == "2026-03-10 08:00 UTC (stocks submissions)"
    # The day is as complete as it can be: asked again, the listing would not reach further back.
    assert told["complete"] is True
    assert reaches_to(database, POSTS, DAY) == at(9)
    assert "the hour was read" in texts(database)
    sound(database, instance)


def test_a_channel_that_fails_leaves_the_day_incomplete_until_it_is_back(
    refresh: Refresh, server: RedditServer, database: Database
) -> None:
    server.post("stocks", at(1).timestamp(), "AAPL")
    server.post("investing", at(1).timestamp(), "bonds")
    server.fault("server_error", "stocks")
    told = refresh(at(3))
    assert told["complete"] is False
    assert reaches_to(database, POSTS, DAY) == reaches_to(database, COVERAGE, DAY) == MIDNIGHT
    assert shares(database) == dict.fromkeys(range(3), 0.0)
    assert shares(database, "investing") == dict.fromkeys(range(3), 1.0)
    assert texts(database) == ["bonds"]
    server.calm()
    assert refresh(at(4))["complete"] is True
    assert reaches_to(database, POSTS, DAY) == reaches_to(database, COVERAGE, DAY) == at(4)
    assert shares(database) == dict.fromkeys(range(4), 1.0)
    assert shares(database, as_of=at(3.5)) == dict.fromkeys(range(3), 0.0)  # so it was known then
    assert texts(database) == ["AAPL", "bonds"]


@pytest.mark.parametrize("fault", ["private", "banned", "redirect"])
def test_a_subreddit_that_is_refused_for_a_reason_keeps_no_day_stale(
    refresh: Refresh, server: RedditServer, database: Database, fault: str
) -> None:
    server.fault(fault, "stocks")
    told = refresh(at(3))
    assert "was not read" in told["problems"]["stocks"]
    assert told["complete"] is True
    assert reaches_to(database, POSTS, DAY) == at(3)
    assert shares(database) == dict.fromkeys(range(3), 0.0)


def test_a_day_of_long_ago_is_complete_and_not_covered(
    refresh: Refresh, server: RedditServer, database: Database
) -> None:
    flood(server, first=at(40), last=at(41))
    told = refresh(at(41), date(2026, 1, 5), date(2026, 1, 6))
    assert told["complete"] is True
    assert reaches_to(database, POSTS, date(2026, 1, 6)) == datetime(2026, 1, 7, tzinfo=UTC)
    assert told["hours_covered"] == {"investing submissions": "48.0 of 48.0", "stocks submissions": "0.0 of 48.0"}
    assert told["oldest_hour_not_covered"] == "2026-01-05 00:00 UTC (stocks submissions)"


def test_the_doctor_names_the_oldest_gap(
    refresh: Refresh, settings: Settings, server: RedditServer, database: Database
) -> None:
    assert post_coverage.sentence(settings, database, now=at(10)) == (
        "no hour of the 7 days before 2026-03-10 09:00 UTC was asked for"
    )
    refresh(at(2))
    flood(server, first=at(8.5), last=at(9))
    refresh(at(9))
    # Of 9 hours two were read before the flood; then 29 minutes: 149 of 540.
    assert post_coverage.sentence(settings, database, now=at(10.1)) == (
        "covered of the 7 days up to 2026-03-10 09:00 UTC: stocks submissions 27 %, oldest gap 2026-03-10 02:00; investing submissions whole"
    )
    # Nobody has asked for the hour from 9:00 on.
    assert gaps(database, at(8), at(10)).to_numpy().tolist()[-1][:3] == ["stocks", "submissions", pd.Timestamp(at(9))]


def test_a_source_that_reaches_back_for_ever_covers_whatever_it_is_asked_for(
    database: Database, tmp_path: Path
) -> None:
    rows = pd.DataFrame({"id": ["a"], "created_at": [pd.Timestamp(at(1))], "channel": "wallstreetbets", "text": "AAPL", "score": 1})  # fmt: skip
    rows.to_parquet(tmp_path / "posts.parquet")
    source = FilePosts(tmp_path)
    pipeline = Pipeline(Settings(home=tmp_path), database=database, until=at(99))
    span = Span(MIDNIGHT, at(2.5))
    covered = post_coverage.coverage_of(pipeline, source, source.posts(span), span)
    assert covered[["channel", "kind", "source"]].drop_duplicates().to_numpy().tolist() == [["files", "posts", "files"]]
    assert [minutes.bit_count() for minutes in covered["minutes"].tolist()] == [60, 60, 30]
    # Known once the hour was over, as far as it had come.
    assert covered["known_at"].tolist() == [pd.Timestamp(at(hour)) for hour in (1, 2, 2.5)]
    assert post_coverage.facts(covered, span)["hours_covered"] == {"files posts": "2.5 of 2.5"}


def test_without_a_source_of_posts_no_hour_is_asked_for(settings: Settings, database: Database) -> None:
    assert post_coverage.facts(COVERAGE.empty(), Span(MIDNIGHT, at(1))) == {}
    nothing = Settings(home=settings.home, market="yahoo", posts="none")
    assert post_coverage.sentence(nothing, database) == "none configured: no hour is asked for"


# Edits and deletions --------------------------------------------------------------------------------------------------


def test_edits_and_deletions_become_revisions_and_the_past_stays_as_it_was(
    refresh: Refresh, server: RedditServer, database: Database, instance: dg.DagsterInstance
) -> None:
    edited = server.post("stocks", at(1).timestamp(), "AAPL", "calls", score=7)
    removed = server.post("stocks", at(1.1).timestamp(), "MSFT", "puts")
    deleted = server.post("stocks", at(1.2).timestamp(), "NVDA", "yolo")
    server.post("stocks", at(1.3).timestamp(), "GME")
    refresh(at(2))
    posts = server.communities["stocks"].posts
    edited["selftext"], edited["score"] = "puts, sorry", 99
    removed["selftext"] = "[removed]"
    deleted |= {"title": "[deleted]", "selftext": "[deleted]"}
    listed = [one for one in posts if one not in (removed, deleted)]  # Reddit lists no post that is gone …
    vanished = [one for one in posts if one in (removed, deleted)]
    server.communities["stocks"].posts[:] = listed
    server.communities["elsewhere"] = type(server.communities["stocks"])(posts=vanished)  # … and knows it still
    told = refresh(at(3))
    assert texts(database) == ["", "AAPL\n\nputs, sorry", "GME", "MSFT"]
    assert texts(database, as_of=at(2.5)) == ["AAPL\n\ncalls", "GME", "MSFT\n\nputs", "NVDA\n\nyolo"]
    assert (told["posts_rechecked"], told["edited"], told["deleted"]) == ("2 of 2", 1, 1)
    assert told["rows_revised"] == 3
    rows = read(database, POSTS).set_index("text")
    assert rows.loc["AAPL\n\nputs, sorry", "score"] == 7  # as it was first read
    assert (rows["known_at"] == [pd.Timestamp(at(2 if text == "GME" else 3)) for text in rows.index]).all()
    # A mention counts as it was first heard, whatever was edited.
    first = first_versions(database, POSTS, at(0), at(24), known_by=at(9))
    assert sorted(first["text"]) == ["AAPL\n\ncalls", "GME", "MSFT\n\nputs", "NVDA\n\nyolo"]
    assert refresh(at(3))["rows_written"] == 0
    sound(database, instance)


def test_a_score_alone_is_no_revision(refresh: Refresh, server: RedditServer, database: Database) -> None:
    post = server.post("stocks", at(1).timestamp(), "AAPL", score=7)
    refresh(at(2), last=DAY)
    post["score"] = 1000
    assert refresh(at(2))["rows_written"] == 0
    assert read(database, POSTS)["score"].tolist() == [7]


def test_an_edit_of_yesterdays_post_is_yesterdays_revision_and_moves_no_reach(
    refresh: Refresh, server: RedditServer, database: Database, instance: dg.DagsterInstance
) -> None:
    server.fault("server_error", "investing")
    late = server.post("stocks", at(23.5).timestamp(), "AAPL", "calls")
    refresh(at(23.9))
    assert reaches_to(database, POSTS, DAY) == MIDNIGHT
    server.calm()
    late["selftext"] = "[deleted]"
    told = refresh(at(25), NEXT)
    assert (told["earlier_days_revised"], told["slices"], told["rows"]) == ("2026-03-10: 1", 1, 2)
    assert texts(database) == ["AAPL"]
    assert texts(database, as_of=at(24.5)) == ["AAPL\n\ncalls"]
    # Yesterday is as incomplete as it was: the schedule comes back to it.
    assert reaches_to(database, POSTS, DAY) == MIDNIGHT
    assert reaches_to(database, POSTS, NEXT) == at(25)
    sound(database, instance)
    assert "earlier_days_revised" not in refresh(at(25.5), NEXT)


def test_an_edit_that_is_read_when_its_day_is_over_is_not_older_than_what_it_replaced(
    refresh: Refresh, server: RedditServer, database: Database
) -> None:
    post = server.post("stocks", at(1).timestamp(), "AAPL", "calls")
    refresh(at(2))
    post["selftext"] = "puts"
    refresh(at(40), DAY)  # read after the fact: its nominal time would be five past one
    assert texts(database) == ["AAPL\n\nputs"]
    for moment in (2, 39):
        assert texts(database, as_of=at(moment)) == ["AAPL\n\ncalls"]
    assert first_versions(database, POSTS, at(0), at(24), known_by=at(99))["text"].tolist() == ["AAPL\n\ncalls"]


def test_only_young_posts_are_asked_again_and_none_where_nobody_wants_it(
    refresh: Refresh, server: RedditServer, database: Database
) -> None:
    server.post("stocks", at(1).timestamp(), "AAPL")
    refresh(at(24))
    server.calm()
    assert refresh(at(26), NEXT)["posts_rechecked"] == "1 of 1"
    assert refresh(at(26), NEXT, recheck_days=0)["posts_rechecked"] == "0 of 0"
    assert refresh(at(26), NEXT, recheck_days=1)["posts_rechecked"] == "0 of 0"  # 25 hours old
    assert len(server.paths("/api/info")) == 1


def test_posts_that_cannot_be_asked_again_cost_nothing_else(
    refresh: Refresh, server: RedditServer, database: Database
) -> None:
    server.post("stocks", at(1).timestamp(), "AAPL")
    refresh(at(24))
    server.post("stocks", at(25).timestamp(), "MSFT")
    server.fault("server_error", "info")
    told = refresh(at(26), NEXT)
    assert "reddit: posts cannot be read again; Reddit answers 500" in told["problems"]["edits and deletions"]
    assert (told["posts_rechecked"], told["complete"]) == ("0 of 1", True)
    assert texts(database) == ["AAPL", "MSFT"]


def test_where_there_are_too_many_they_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rechecking, "MOST_ASKED", 4)
    held = pd.DataFrame({"created_at": [pd.Timestamp(at(hour)) for hour in range(9)], "post_id": [f"p{n}" for n in range(9)]})  # fmt: skip
    asked = [rechecking.turn(held, at(hour))["post_id"].tolist() for hour in range(3)]
    assert sorted(map(len, asked)) == [3, 3, 3]
    assert sorted(sum(asked, [])) == held["post_id"].tolist()  # noqa: RUF017
    assert rechecking.turn(held.head(4), at(0))["post_id"].tolist() == ["p0", "p1", "p2", "p3"]


def flood(server: RedditServer, *, first: datetime, last: datetime) -> None:
    """1,100 submissions in r/stocks, the newest a second before last; the thousand that are listed begin 2 s after first."""
    step = (last - first - timedelta(seconds=2)) / 1000
    for number in range(1100):
        server.post(
            "stocks",
            (last - timedelta(seconds=1) - number * step).timestamp(),
            f"flood {number}",
            id=f"f{number}x{last:%H%M}",
        )
