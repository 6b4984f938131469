"""What doctor --network says, asked of local servers that speak the sources' protocols to the real clients."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from yfinance.data import SingletonMeta

from tft_pipeline import config
from tft_pipeline.errors import SourceError
from tft_pipeline.orchestration.doctor import examine
from tft_pipeline.orchestration.doctor_network import bars_of, questions
from tft_pipeline.sources.yahoo import YahooBars
from tft_pipeline_tests.sources.servers.massive_server import KEY, MassiveServer
from tft_pipeline_tests.sources.servers.reddit_server import CLIENT_ID, CLIENT_SECRET, RedditServer
from tft_pipeline_tests.sources.servers.yahoo_server import LocalSession, YahooServer

FRIDAY, SATURDAY = date(2024, 3, 8), datetime(2024, 3, 9, 3, 0, tzinfo=UTC)


@pytest.fixture
def massive() -> Iterator[MassiveServer]:
    with MassiveServer().running() as server:
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        for back in range(7):
            server.lists("AAPL").session(yesterday - timedelta(days=back), 170.0)
        yield server


@pytest.fixture
def reddit() -> Iterator[RedditServer]:
    with RedditServer().running() as server:
        an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).timestamp()
        server.post("wallstreetbets", an_hour_ago, "AAPL to the moon")
        server.comment("wallstreetbets", an_hour_ago, "and beyond")
        yield server


def settings(home: Path, massive: MassiveServer, reddit: RedditServer) -> config.Settings:
    return config.load(
        home=home, market="massive", posts="reddit", sentiment={"scorer": "vader"},
        massive={"api_key": KEY, "base_url": massive.url, "requests_per_minute": 0, "bars": "hour"},
        reddit={"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "reddit_url": reddit.url, "oauth_url": reddit.url},
    )  # fmt: skip


def test_each_source_is_asked_for_one_thing_and_says_what_came(
    tmp_path: Path, massive: MassiveServer, reddit: RedditServer
) -> None:
    answers = {subject: ask() for subject, ask in questions(settings(tmp_path, massive, reddit))}
    assert answers["network: bars"].startswith(
        "massive: AAPL answered in "
    )  # no ticker is configured: an example is taken
    assert "hourly bars, the newest until" in answers["network: bars"]
    assert answers["network: posts"].startswith("reddit: wallstreetbets answered in ")
    assert answers["network: posts"].endswith(": 2 posts and comments of the last 6 hours")
    assert not [request for request in reddit.requests if "/stocks/" in request.path]  # the others are not asked


def test_what_does_not_work_is_a_finding_with_the_sources_own_words(
    tmp_path: Path, massive: MassiveServer, reddit: RedditServer
) -> None:
    massive.fault("key_unknown")
    reddit.fault("banned", "wallstreetbets")
    chosen = settings(tmp_path, massive, reddit).changed(postgres_dsn="postgresql://127.0.0.1:1/nowhere")
    found = {finding.subject: finding for finding in examine(chosen, network=True)}
    for subject, word in (("network: bars", "TFT_MASSIVE_API_KEY"), ("network: posts", "wallstreetbets")):
        assert not found[subject].well
        assert word in found[subject].sentence
        assert KEY not in found[subject].sentence
    assert "network: bars" not in {finding.subject for finding in examine(chosen)}  # only when asked for


def test_a_ticker_without_a_bar_of_the_last_week_is_no_success(tmp_path: Path) -> None:
    with YahooServer().running() as server:
        SingletonMeta._instances.clear()
        server.lists("AAPL").session(FRIDAY, 170.0)
        connection = LocalSession(server.url)
        source = YahooBars(
            config.Settings(home=tmp_path), session=connection, now=lambda: SATURDAY, sleep=lambda _: None
        )
        assert "AAPL answered in" in bars_of(source, "AAPL", now=SATURDAY)
        with pytest.raises(SourceError, match="yahoo: "):
            bars_of(source, "GONE", now=SATURDAY)
        connection.close()


def test_worlds_of_our_own_have_nothing_to_ask(tmp_path: Path) -> None:
    answers = {subject: ask() for subject, ask in questions(config.load(home=tmp_path))}
    assert answers == {
        "network: bars": "simulated: nothing of it comes over the network",
        "network: posts": "simulated: nothing of it comes over the network",
    }
