"""What the table says of hours: on both servers."""

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from tft_pipeline.contracts import COVERAGE, WHOLE_HOUR
from tft_pipeline.errors import ContractError
from tft_pipeline.schema import UTC as TIME
from tft_pipeline.storage.coverage import Standing, gaps, standing
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write

DAY = date(2026, 3, 10)
BY = {"run_id": "test", "code_version": "0"}


def at(hours: float) -> datetime:
    return datetime(2026, 3, 10, tzinfo=UTC) + timedelta(hours=hours)


def rows(minutes: dict[int, int], channel: str = "stocks", known: float = 12) -> pd.DataFrame:
    """COVERAGE of a channel's submissions. minutes: by hour of DAY."""
    return pd.DataFrame({
        "channel": channel, "kind": "submissions", "hour_start": pd.Series([at(hour) for hour in minutes], dtype=TIME),
        "minutes": list(minutes.values()), "source": "reddit", "known_at": pd.Timestamp(at(known)).as_unit("us"),
    }).astype({"channel": "str", "kind": "str", "source": "str"})  # fmt: skip


def test_shares_are_counted_in_the_database(any_database: Database) -> None:
    write(any_database, {COVERAGE: rows({0: 0, 1: 1, 2: WHOLE_HOUR, 3: 2**30 - 1})}, [DAY], **BY)
    found = read(any_database, COVERAGE, columns=["hour_start", "share"])
    assert found["share"].tolist() == [0.0, 1 / 60, 1.0, 0.5]


def test_standing_counts_every_hour_from_the_first_one_asked_for(any_database: Database) -> None:
    both = pd.concat(
        [rows({2: WHOLE_HOUR, 3: 2**30 - 1, 5: WHOLE_HOUR}), rows({4: WHOLE_HOUR, 5: WHOLE_HOUR}, "bonds")]
    )
    write(any_database, {COVERAGE: both}, [DAY], **BY)
    assert standing(any_database, at(0), at(6)) == [
        Standing("bonds", "submissions", 2, 1.0, None),
        Standing("stocks", "submissions", 4, 2.5 / 4, at(3)),  # nobody asked for the hour from 4:00 on
    ]
    assert gaps(any_database, at(0), at(6))[["channel", "hour_start", "share"]].to_numpy().tolist() == [
        ["stocks", pd.Timestamp(at(3)), 0.5], ["stocks", pd.Timestamp(at(4)), 0.0],
    ]  # fmt: skip
    assert standing(any_database, at(5), at(6))[1] == Standing("stocks", "submissions", 1, 1.0, None)
    assert standing(any_database, at(24), at(48)) == []
    assert gaps(any_database, at(24), at(48)).empty


def test_what_was_known_of_an_hour_can_be_asked_later(any_database: Database) -> None:
    write(any_database, {COVERAGE: rows({9: 0}, known=10)}, [DAY], **BY)
    write(any_database, {COVERAGE: rows({9: WHOLE_HOUR}, known=11)}, [DAY], **BY)
    known = [read(any_database, COVERAGE, as_of=at(hour))["minutes"].tolist() for hour in (9, 10.5, 11)]
    assert known == [[], [0], [WHOLE_HOUR]]


def test_bounds_are_whole_hours(database: Database) -> None:
    for start in (at(0.5), at(0).replace(tzinfo=None)):
        with pytest.raises(ContractError, match=r"sentiment.coverage: .* begins no clock hour; ask from a whole hour"):
            standing(database, start, at(6))
