"""On which days something was learned about an earlier one, and what was known first."""

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from tft_pipeline.contracts import BARS, POSTS
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.knowledge import days_of_news, first_versions
from tft_pipeline.storage.slices import write

from .frames import frame

DAYS = [date(2024, 1, day) for day in range(29, 32)] + [date(2024, 2, day) for day in range(1, 4)]
START, END = datetime(2024, 1, 29, tzinfo=UTC), datetime(2024, 2, 4, tzinfo=UTC)
BY = {"run_id": "r", "code_version": "1"}


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC").as_unit("us")


@pytest.fixture
def bars(any_database: Database) -> pd.DataFrame:
    rows = frame(BARS, DAYS, hours=(14, 23))
    rows["known_at"] = rows["bar_end"] = rows["bar_start"] + pd.Timedelta(hours=1)
    write(any_database, {BARS: rows}, DAYS, **BY)
    return rows


def news(database: Database, *, delay: timedelta = timedelta(0), start: datetime = START) -> list[date]:
    return days_of_news(database, [BARS], since=START, start=start, end=END, delay=delay)


def learned(database: Database, rows: pd.DataFrame, known_at: str, **changes: float) -> None:
    days = sorted(set(rows["bar_start"].dt.date))
    write(database, {BARS: rows.assign(known_at=at(known_at), **changes)}, days, **BY)


@pytest.mark.usefixtures("bars")
def test_bars_that_were_known_by_the_end_of_their_day_are_no_news(any_database: Database) -> None:
    assert news(any_database) == []


def test_a_correction_is_news_on_the_day_it_came(any_database: Database, bars: pd.DataFrame) -> None:
    learned(any_database, bars[:1], "2024-02-02 09:00", volume=5.0)
    assert news(any_database) == [date(2024, 2, 2)]
    assert news(any_database, start=datetime(2024, 2, 2, tzinfo=UTC)) == []  # it begins with what it knows anyway


def test_a_correction_on_its_own_day_is_none(any_database: Database, bars: pd.DataFrame) -> None:
    learned(any_database, bars[:1], "2024-01-29 18:00", volume=5.0)
    assert news(any_database) == []


def test_what_came_late_is_news_unless_the_source_is_always_that_late(any_database: Database) -> None:
    rows = frame(BARS, DAYS[:1], hours=(23,))
    rows["bar_end"] = rows["bar_start"] + pd.Timedelta(hours=1)
    learned(any_database, rows, "2024-01-30 00:15")
    assert news(any_database) == [date(2024, 1, 30)]
    assert news(any_database, delay=timedelta(minutes=15)) == []


def test_a_correction_that_hides_its_date_is_news_when_it_was_loaded(
    any_database: Database, bars: pd.DataFrame
) -> None:
    write(any_database, {BARS: bars[:1].assign(volume=5.0)}, DAYS[:1], **BY)
    today = datetime.now(UTC) + timedelta(days=2)
    assert days_of_news(any_database, [BARS], since=START, start=START, end=today, delay=timedelta(0))[-1] >= date(
        2026, 1, 1
    )


def test_a_post_is_as_it_was_first_read_whatever_was_edited_later(any_database: Database) -> None:
    posts = frame(POSTS, DAYS[:2], hours=(14,))
    write(any_database, {POSTS: posts}, DAYS[:2], **BY)
    edited = posts.assign(text="[deleted]", text_hash="other", known_at=at("2024-02-02 10:00")).astype(
        posts.dtypes.to_dict()
    )
    write(any_database, {POSTS: edited}, DAYS[:2], **BY)
    found = first_versions(any_database, POSTS, START, END, known_by=END)
    pd.testing.assert_frame_equal(found, posts.sort_values(list(POSTS.key), ignore_index=True)[POSTS.names])
    assert first_versions(any_database, POSTS, START, END, known_by=START).empty


def test_votes_that_change_make_no_new_version(any_database: Database) -> None:
    posts = frame(POSTS, DAYS[:1])
    write(any_database, {POSTS: posts}, DAYS[:1], **BY)
    again = write(any_database, {POSTS: posts.assign(score=99, known_at=at("2024-02-02"))}, DAYS[:1], **BY)[POSTS.name]
    assert (again.rows_written, again.rows_revised) == (0, 0)
