"""Looking back, end to end: the real yfinance against the stand-in, the real schedule, PostgreSQL; what is asked for again, and that it ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from yfinance.data import SingletonMeta

from tft_pipeline import config
from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, QUALITY
from tft_pipeline.orchestration.definitions import build
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.orchestration.schedules import RANGE_END, RANGE_START, WATCHED, hourly_refresh
from tft_pipeline.sources.yahoo import YahooBars
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.sources.servers.yahoo_server import Bar, LocalSession, YahooServer

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2024, 3, day) for day in (4, 5, 6, 7, 8))
DAYS = [MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY]
BEGIN = datetime(2024, 3, 8, 15, 47, tzinfo=UTC)  # Friday's first bar is there
HOUR = timedelta(hours=1)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
RAW = ["corporate_actions", "market_bars"]


@dataclass
class World:
    """A small live installation whose Yahoo is the stand-in; now: what its clock says."""

    database: Database
    server: YahooServer
    pipeline: Pipeline
    instance: dg.DagsterInstance  # what the schedule asked for
    job: dg.JobDefinition
    recorded: dg.DagsterInstance  # what ran
    waits: list[float] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return self.pipeline.now()

    def later(self, by: timedelta) -> None:
        self.pipeline.until = self.now + by

    def run(
        self, first: date, last: date, assets: list[str] = RAW, tags: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """A refresh of these assets for these days; market_bars' metadata. tags: of the schedule's request, which then is remembered."""
        ranged = {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}
        days: dict[str, Any] = {"partition_key": first.isoformat()} if first == last else {"tags": ranged}
        done = self.job.execute_in_process(
            instance=self.recorded, asset_selection=[dg.AssetKey(name) for name in assets], run_config=QUIET, **days
        )
        assert done.success
        due = (self.now - self.pipeline.bars.delay).replace(minute=0)
        others = {t: t.empty() for t in WATCHED if t not in (BARS, ACTIONS)} if assets == RAW else {}
        asked = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        if others:
            write(self.database, others, asked, run_id="r", code_version="0", reaches_to=due)
        if tags is not None:
            origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "all"), "refresh")
            create_run_for_test(
                self.instance, job_name="refresh", status=dg.DagsterRunStatus.SUCCESS, tags=tags, remote_job_origin=origin, job_code_origin=None,
            )  # fmt: skip
        return {
            event.step_key or "": {k: v.value for k, v in event.materialization.metadata.items()}
            for event in done.all_events
            if event.is_step_materialization
        }["market_bars"]

    def tick(self) -> dg.RunRequest | dg.SkipReason:
        with ExitStack() as opened:
            context = opened.enter_context(
                dg.build_schedule_context(
                    instance=self.instance, scheduled_execution_time=self.now, resources={"pipeline": self.pipeline}
                )
            )
            found: dg.RunRequest | dg.SkipReason = hourly_refresh(context)
            return found

    def asked(self) -> tuple[str, str] | None:
        """The days that the schedule asks for now, done at once; None where it asks for none."""
        found = self.tick()
        if isinstance(found, dg.SkipReason):
            return None
        first, last = found.tags[RANGE_START], found.tags[RANGE_END]
        self.run(date.fromisoformat(first), date.fromisoformat(last), tags=dict(found.tags))
        return first, last

    def notes(self) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            return connection.execute(
                """
                SELECT table_name, slice_day, ticker, kind, reason, times, resolved_at IS NOT NULL
                FROM ops.restatements ORDER BY 1, 2, 3"""
            ).fetchall()

    def contents(self, *tables: Any) -> dict[tuple[str, date], tuple[str, int]]:
        return {
            (table.name, row.day): (row.content_hash, row.generation)
            for table in tables
            for row in slice_status(self.database, table).itertuples()
        }

    def bar(self, ticker: str, day: date, number: int = 0) -> Bar:
        return [bar for bar in self.server.listings[ticker].bars if bar.start.date() == day][number]

    def held(self, ticker: str, day: date) -> pd.DataFrame:
        start = config.day_start(day)
        return read(self.database, BARS, start, start + timedelta(days=1), tickers=[ticker])


@pytest.fixture(scope="module")
def on_disk() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp() as instance:
        yield instance


@pytest.fixture
def world(database: Database, tmp_path: Path, on_disk: dg.DagsterInstance) -> Iterator[Callable[..., World]]:
    """A function that makes the world, loaded up to Friday's first bar."""
    SingletonMeta._instances.clear()
    session: list[LocalSession] = []
    with YahooServer().running() as server, dg.DagsterInstance.ephemeral() as recorded:
        for ticker, price in (("AAPL", 170.0), ("MSFT", 400.0)):
            listing = server.lists(ticker)
            for day in DAYS:
                listing.session(day, price)

        def made(**values: Any) -> World:
            settings = config.load(
                home=tmp_path, market="yahoo", posts="none", tickers=("AAPL", "MSFT"), start=MONDAY, sentiment={"scorer": "vader"}, **values,
            )  # fmt: skip
            pipeline = Pipeline(settings, database=database, until=BEGIN)
            waits: list[float] = []
            session.append(LocalSession(server.url))
            pipeline.__dict__["bars"] = YahooBars(
                settings,
                session=session[-1],
                now=pipeline.now,
                sleep=waits.append,
                connections=1,
                requests_per_second=0,
            )
            job = build(settings, pipeline).resolve_job_def("history")
            found = World(database, server, pipeline, on_disk, job, recorded, waits)
            found.run(MONDAY, FRIDAY)
            server.requests.clear()
            return found

        yield made
    session[-1].close()
    SingletonMeta._instances.clear()
    for run in on_disk.get_runs():
        on_disk.delete_run(run.run_id)


def test_without_a_change_nothing_is_written_and_nothing_asked_for(world: Callable[..., World]) -> None:
    one = world()
    before = one.contents(BARS, ACTIONS)
    facts = one.run(FRIDAY, FRIDAY)
    assert (facts["rows_written"], facts["overlap_days"], facts["restated_rows"], facts["restated_days"]) == (
        0,
        4,
        0,
        "none",
    )
    assert one.contents(BARS, ACTIONS) == before
    assert one.notes() == []
    assert one.asked() is None
    assert [len(one.server.charts(ticker)) for ticker in ("AAPL", "MSFT")] == [
        1,
        1,
    ]  # bars, actions and the overlap, at once


def test_a_restated_bar_is_asked_for_once_and_no_other_day_is_touched(world: Callable[..., World]) -> None:
    one = world()
    one.later(HOUR)
    bar = one.bar("AAPL", WEDNESDAY, 2)
    bar.close, bar.volume = bar.close + 0.02, 1234.0
    assert one.asked() == ("2024-03-08", "2024-03-08")  # the new hour, which sees it
    assert one.notes() == [("market.bars", WEDNESDAY, "AAPL", "restated", "1 changed, first at 16:30Z", 1, False)]
    before = one.contents(BARS, ACTIONS)
    request = one.tick()
    assert isinstance(request, dg.RunRequest)
    assert request.tags["tft/reason"] == "2024-03-06 was restated by its source"
    assert one.asked() == ("2024-03-06", "2024-03-06")
    after = one.contents(BARS, ACTIONS)
    assert {key for key in after if after[key] != before[key]} == {("market.bars", WEDNESDAY)}
    assert one.held("AAPL", WEDNESDAY)["volume"].tolist() == [1000.0, 1000.0, 1234.0, 1000.0, 1000.0, 1000.0, 1000.0]
    assert one.notes()[0][-1] is True
    with one.database.connect() as connection:
        assert connection.execute("SELECT ticker, volume FROM market.bars_revisions").fetchall() == [("AAPL", 1000.0)]
    assert one.asked() is None
    one.later(HOUR)
    assert one.asked() == ("2024-03-08", "2024-03-08")
    assert one.asked() is None


def test_days_side_by_side_share_a_run_and_days_beyond_the_overlap_are_not_looked_at(
    world: Callable[..., World],
) -> None:
    one = world(market_overlap_days=3)
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        one.bar("MSFT", day).volume = 7.0
    facts = one.run(FRIDAY, FRIDAY)
    assert (facts["overlap_days"], facts["restated_rows"], facts["restated_days"]) == (3, 2, "2024-03-05, 2024-03-06")
    assert one.asked() == ("2024-03-05", "2024-03-06")
    assert one.asked() is None
    assert one.held("MSFT", MONDAY)["volume"].iloc[0] == 1000.0


def test_without_an_overlap_nothing_is_looked_at(world: Callable[..., World]) -> None:
    one = world(market_overlap_days=0)
    one.bar("AAPL", THURSDAY).volume = 7.0
    assert one.run(FRIDAY, FRIDAY)["overlap_days"] == 0
    assert one.notes() == []
    assert all(int(r.query["period1"]) == int(config.day_start(FRIDAY).timestamp()) for r in one.server.charts())


def test_a_bar_that_comes_late_is_known_from_when_it_was_read(world: Callable[..., World]) -> None:
    one = world()
    listing = one.server.listings["AAPL"]
    late = one.bar("AAPL", WEDNESDAY, 3)
    with one.database.connect() as connection:  # as if Yahoo had not shown it then
        connection.execute("DELETE FROM market.bars WHERE ticker = 'AAPL' AND bar_start = %s", (late.start,))
    assert late in listing.bars
    one.run(FRIDAY, FRIDAY)
    assert one.notes()[0][2:5] == ("AAPL", "restated", "1 new, first at 17:30Z")
    assert one.asked() == ("2024-03-06", "2024-03-06")
    wednesday = one.held("AAPL", WEDNESDAY)
    assert wednesday.loc[wednesday["bar_start"] == late.start, "known_at"].tolist() == [pd.Timestamp(BEGIN)]
    assert (wednesday["known_at"] < pd.Timestamp(THURSDAY, tz="UTC")).sum() == 6
    assert one.asked() is None


def test_what_was_made_of_the_days_before_stays_as_it_was(world: Callable[..., World]) -> None:
    one = world()
    derived = [*RAW, "bar_quality", "features_hourly"]
    one.run(MONDAY, FRIDAY, derived)
    before = one.contents(QUALITY, FEATURES)
    one.bar("AAPL", WEDNESDAY).close += 0.3
    one.run(FRIDAY, FRIDAY)
    one.run(WEDNESDAY, WEDNESDAY, derived)
    assert one.notes()[0][-1] is True
    one.run(MONDAY, THURSDAY, derived)
    after = one.contents(QUALITY, FEATURES)
    past = {key for key in before if key[1] != FRIDAY}
    assert {key for key in past if after[key] != before[key]} == set()


def test_a_refused_bar_is_noted_once_and_goes_to_quarantine(world: Callable[..., World]) -> None:
    one = world()
    bar = one.bar("AAPL", THURSDAY, 4)
    bar.high, bar.low = bar.low, bar.high
    one.run(FRIDAY, FRIDAY)
    assert one.notes()[0][4] == "1 refused, first at 18:30Z"
    assert one.asked() == ("2024-03-07", "2024-03-07")
    assert len(one.held("AAPL", THURSDAY)) == 7  # what was held stays
    with one.database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM ops.quarantine").fetchone() == (1,)
    assert one.run(FRIDAY, FRIDAY)["restated_rows"] == 0
    assert one.asked() is None


def test_a_source_that_goes_to_and_fro_is_asked_ever_more_seldom_and_not_for_ever(world: Callable[..., World]) -> None:
    one = world()
    asked: list[int] = []
    for hour in range(1, 6):
        one.bar("AAPL", WEDNESDAY).volume = 1000.0 + hour % 2
        one.later(HOUR)
        assert one.asked() == ("2024-03-08", "2024-03-08")
        while (again := one.asked()) is not None:
            assert again == ("2024-03-06", "2024-03-06")
            asked.append(hour)
    # At once, and an hour later; in the third it waits, in the fourth the source says what is held, in the fifth the two hours are over.
    assert asked == [1, 2, 5]
    assert one.notes()[0][5:] == (4, True)  # noted in the first, second, third and fifth


def test_a_source_that_changes_its_mind_before_it_is_asked_again_is_not_asked(world: Callable[..., World]) -> None:
    one = world()
    one.bar("AAPL", WEDNESDAY).volume = 7.0
    one.run(FRIDAY, FRIDAY)
    one.bar("AAPL", WEDNESDAY).volume = 1000.0
    one.run(FRIDAY, FRIDAY)
    assert one.notes()[0][-1] is True
    assert one.asked() is None


# Splits ---------------------------------------------------------------------------------------------------------------


def test_a_split_that_yahoo_works_in_and_tells_of_changes_no_price(world: Callable[..., World]) -> None:
    one = world()
    one.later(3 * timedelta(days=1) + HOUR)  # Monday
    opening = one.server.listings["AAPL"].session(date(2024, 3, 11), 56.67)
    one.server.listings["MSFT"].session(date(2024, 3, 11), 400.0)
    one.server.listings["AAPL"].splits[opening] = (3, 1)
    assert one.asked() == ("2024-03-08", "2024-03-11")
    assert one.notes() == []
    assert one.asked() is None
    with one.database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM market.bars_revisions").fetchone() == (0,)
    assert read(one.database, ACTIONS)["value"].tolist() == [3.0]


def test_a_split_worked_in_and_not_told_of_leaves_prices_as_traded(world: Callable[..., World]) -> None:
    one = world()
    one.later(3 * timedelta(days=1) + HOUR)
    for ticker, price in (("AAPL", 42.5), ("MSFT", 400.0)):
        one.server.listings[ticker].session(date(2024, 3, 11), price)
    one.asked()
    one.later(HOUR)
    for bar in one.server.listings["AAPL"].bars:
        if bar.start.date() <= FRIDAY:
            bar.open, bar.high, bar.low, bar.close, bar.volume = (
                bar.open / 4,
                bar.high / 4,
                bar.low / 4,
                bar.close / 4,
                bar.volume * 4,
            )
    before = one.held("AAPL", THURSDAY)
    facts = one.run(date(2024, 3, 11), date(2024, 3, 11))
    assert "0.25 times the prices held, and no split that is known explains it" in facts["problems"]["AAPL"]
    notes = one.notes()
    assert {(day, ticker, kind) for _, day, ticker, kind, *_ in notes} == {(day, "AAPL", "rescaled") for day in DAYS}
    assert one.asked() is None  # the days are left alone
    pd.testing.assert_frame_equal(one.held("AAPL", THURSDAY), before)
    assert len(one.held("AAPL", date(2024, 3, 11))) == 4  # today's go on, as traded
    # The split becomes known at last, and what differed is explained by it.
    opening = one.bar("AAPL", date(2024, 3, 11)).start
    for bar in one.server.listings["AAPL"].bars:
        if bar.start.date() <= FRIDAY:
            bar.open, bar.high, bar.low, bar.close, bar.volume = (
                bar.open * 4,
                bar.high * 4,
                bar.low * 4,
                bar.close * 4,
                bar.volume / 4,
            )
    one.server.listings["AAPL"].splits[opening] = (4, 1)
    one.run(date(2024, 3, 11), date(2024, 3, 11))
    assert all(note[-1] for note in one.notes())


def test_a_split_announced_late_is_fetched_for_its_own_day_and_known_from_then(world: Callable[..., World]) -> None:
    one = world()
    listing = one.server.listings["AAPL"]
    listing.dividends[one.bar("AAPL", WEDNESDAY).start] = 0.25
    one.run(FRIDAY, FRIDAY)
    assert one.notes() == [("market.actions", WEDNESDAY, "AAPL", "restated", "1 new, first at 14:30Z", 1, False)]
    assert one.asked() == ("2024-03-06", "2024-03-06")
    actions = read(one.database, ACTIONS)
    assert actions[["ticker", "value"]].values.tolist() == [["AAPL", 0.25]]
    assert actions["known_at"].tolist() == [pd.Timestamp(BEGIN)]
    assert read(one.database, ACTIONS, as_of=config.day_start(FRIDAY)).empty
    assert one.asked() is None


# Trouble --------------------------------------------------------------------------------------------------------------


def limited_before(server: YahooServer, today: date) -> Callable[[], None]:
    """From now on, whoever asks for days before today is told 429."""
    answer, since = server.answer, int(config.day_start(today).timestamp())
    from tft_pipeline_tests.sources.servers._base import Answer

    def limiting(request: Any) -> Any:
        if request.query.get("interval") == "1h" and int(request.query["period1"]) < since:
            return Answer(429, b"Too Many Requests\r\n", {})
        return answer(request)

    server.answer = limiting  # type: ignore[method-assign]

    def end() -> None:
        server.answer = answer  # type: ignore[method-assign]

    return end


def test_an_overlap_that_is_refused_costs_the_hour_nothing_and_is_tried_again(world: Callable[..., World]) -> None:
    one = world()
    one.bar("AAPL", WEDNESDAY).volume = 7.0
    end = limited_before(one.server, FRIDAY)
    one.later(HOUR)
    assert one.asked() == ("2024-03-08", "2024-03-08")
    assert [len(one.held(ticker, FRIDAY)) for ticker in ("AAPL", "MSFT")] == [2, 2]
    assert one.notes() == []
    assert one.asked() is None
    end()
    one.later(HOUR)
    assert one.asked() == ("2024-03-08", "2024-03-08")
    assert one.asked() == ("2024-03-06", "2024-03-06")


def test_a_ticker_whose_today_is_missing_is_seen_though_the_overlap_holds_its_bars(world: Callable[..., World]) -> None:
    one = world()
    listing = one.server.listings["AAPL"]
    listing.bars = [bar for bar in listing.bars if bar.start.date() < FRIDAY]
    with one.database.connect() as connection:
        connection.execute("DELETE FROM market.bars WHERE bar_start >= '2024-03-08'")
    facts = one.run(FRIDAY, FRIDAY)
    assert "Yahoo has no bars from 2024-03-08" in facts["problems"]["AAPL"]
    assert "MSFT" not in facts["problems"]
    assert [len(one.server.charts(ticker)) for ticker in ("AAPL", "MSFT")] == [2, 1]


def test_a_ticker_that_fails_while_another_is_restated_does_not_make_the_day_incomplete(
    world: Callable[..., World],
) -> None:
    one = world()
    for ticker in ("AAPL", "MSFT"):
        one.bar(ticker, WEDNESDAY).volume = 7.0
    one.run(FRIDAY, FRIDAY)
    one.server.fault("server_error", "MSFT", times=50)
    assert one.asked() == ("2024-03-06", "2024-03-06")
    assert [(note[2], note[-1]) for note in one.notes()] == [("AAPL", True), ("MSFT", False)]
    assert one.asked() is None  # it waits
    one.server.calm()
    one.later(HOUR)
    assert one.asked() == ("2024-03-08", "2024-03-08")
    assert one.asked() == ("2024-03-06", "2024-03-06")
    assert all(note[-1] for note in one.notes())
    assert one.asked() is None
