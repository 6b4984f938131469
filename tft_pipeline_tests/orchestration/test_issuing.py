"""When an issue is known: worked out by hand, for bars that are known a quarter of an hour after they end."""

from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tft_pipeline import config
from tft_pipeline.contracts import ACTIONS, BARS, FEATURES, ISSUES, MENTIONS, QUANTILES
from tft_pipeline.orchestration.issuing import issues_of, known_from
from tft_pipeline.orchestration.partitions import spanning
from tft_pipeline.orchestration.rebuilding import MOOD_WARMUP_DAYS, mood_of
from tft_pipeline.orchestration.resources import Pipeline
from tft_pipeline.schema import validate
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.hashes import hash_of
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.storage.frames import frame

DAY, NEXT = date(2026, 3, 10), date(2026, 3, 11)
BY = {"run_id": "test", "code_version": "0"}
QUARTER = timedelta(minutes=15)


class Late(Pipeline):
    """Bars come a quarter of an hour after their end."""

    bars: Any = SimpleNamespace(delay=QUARTER)


def at(hour: float, day: date = DAY) -> pd.Timestamp:
    return (pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=hour)).as_unit("us")


def bars(hours: range, day: date = DAY, **changed: Any) -> pd.DataFrame:
    rows = frame(BARS, [day], tuple(hours))
    rows["bar_end"] = rows["bar_start"] + timedelta(hours=1)
    return rows.assign(known_at=rows["bar_end"] + QUARTER, **changed)


@pytest.fixture
def pipeline(database: Database, tmp_path: Path) -> Pipeline:
    write(database, {BARS: bars(range(24))}, [DAY], **BY)
    write(database, {BARS: bars(range(2), NEXT)}, [NEXT], **BY)
    return Late(config.load(home=tmp_path), database=database)


def known(pipeline: Pipeline, now: datetime, first: date = DAY, last: date = NEXT) -> dict[pd.Timestamp, pd.Timestamp]:
    """For a run over the days, of the bars that it had by then."""
    window = spanning(config.day_start(first), config.day_start(last) + timedelta(days=1), now, QUARTER)
    ends = pd.date_range(at(1), at(26), freq="h").as_unit("us")
    ends = ends[(ends >= pd.Timestamp(window.start)) & (ends + QUARTER <= now) & (ends < pd.Timestamp(window.end))]
    starts = pd.Series(ends - timedelta(hours=1), index=ends)
    return known_from(pipeline, window, starts).to_dict()


def test_history_is_known_when_its_bars_were(pipeline: Pipeline) -> None:
    found = known(pipeline, at(100).to_pydatetime())
    assert found == {end: end + QUARTER for end in found}
    assert len(found) == 26  # midnight's, whose bar began the day before, among them


def test_hours_of_a_day_that_goes_on_are_known_when_they_are_run(pipeline: Pipeline) -> None:
    now = at(26.5)
    found = known(pipeline, now.to_pydatetime())
    assert {end: moment for end, moment in found.items() if moment != end + QUARTER} == {at(25): now, at(26): now}
    assert found[at(24)] == at(24.25)


def test_a_correction_is_known_from_when_it_came_by_all_that_it_enters(pipeline: Pipeline) -> None:
    row = bars(range(9, 10)).assign(close=10.0, known_at=at(12.5))
    write(pipeline.database, {BARS: row}, [DAY], **BY)
    found = known(pipeline, at(100).to_pydatetime())
    # The bars that end at 10:00 to 12:00 hold it; that of 13:00 was not known before it anyway.
    assert {end for end, moment in found.items() if moment != end + QUARTER} == {at(10), at(11), at(12)}
    assert {found[at(hour)] for hour in (10, 11, 12)} == {at(12.5)}
    # What comes the next afternoon enters all of that day, but nothing of this one.
    row = bars(range(3, 4)).assign(close=10.0, known_at=at(40))
    write(pipeline.database, {BARS: row}, [DAY], **BY)
    assert known(pipeline, at(100).to_pydatetime()) == found | {at(25): at(40), at(26): at(40)}


def test_a_split_of_any_age_counts_and_one_that_is_still_to_come_does_not(pipeline: Pipeline) -> None:
    split = {"ticker": ["AAPL"], "kind": "split", "value": 2.0, "source": "test", "former": None}
    for effective_at, told in ((pd.Timestamp("2021-01-04T14:00Z"), at(7.5)), (at(20), at(3))):
        row = pd.DataFrame({**split, "effective_at": effective_at, "known_at": told}).astype(ACTIONS.empty().dtypes.to_dict())  # fmt: skip
        write(pipeline.database, {ACTIONS: row}, [effective_at.date()], **BY)
    found = known(pipeline, at(100).to_pydatetime())
    assert {end for end, moment in found.items() if moment != end + QUARTER} == {at(hour) for hour in range(1, 8)}
    assert found[at(1)] == at(7.5)


def test_an_issue_is_a_row_for_each_model_and_moment_with_the_hashes_of_its_rows(pipeline: Pipeline) -> None:
    features = frame(FEATURES, [DAY], hours=(13, 14), tickers=("AAPL", "MSFT"))
    features["bar_end"] = features["bar_start"] + timedelta(hours=1)
    parts = [
        frame(QUANTILES, [DAY], hours=(14, 15), tickers=tickers).assign(model_id=model)
        for model, tickers in (("m1", ("AAPL", "MSFT")), ("m2", ("MSFT",)))
    ]
    quantiles = pd.concat(parts, ignore_index=True)
    window = spanning(config.day_start(DAY), config.day_start(NEXT), at(100).to_pydatetime(), QUARTER)
    found = validate(issues_of(pipeline, window, features, quantiles), ISSUES)
    assert found[["model_id", "tickers"]].to_numpy().tolist() == [["m1", 2], ["m1", 2], ["m2", 1], ["m2", 1]]
    last = found.iloc[-1]
    assert (last["issued_at"], last["known_at"], last["code_version"]) == (at(15), at(15.25), Pipeline.code_version)
    assert last["features_hash"] == hash_of(features[features["bar_end"] == at(15)], FEATURES)
    assert last["forecast_hash"] == hash_of(parts[1][parts[1]["issued_at"] == at(15)], QUANTILES)
    assert found["features_hash"].nunique() == 2
    assert issues_of(pipeline, window, features, QUANTILES.empty()).empty


def test_a_post_that_is_read_days_late_has_the_same_say_in_a_day_alone_and_in_a_range() -> None:
    # Written on the 8th at noon; read on the 10th (in time), on the 11th (too late), each beside one that was read at once.
    rows = frame(MENTIONS, [date(2026, 3, 8), DAY, NEXT], hours=(12,)).assign(created_at=at(12, date(2026, 3, 8)))
    rows["known_at"] = [at(12.1, date(2026, 3, 8)), at(12, DAY), at(12, NEXT)]
    prompt = rows.assign(created_at=rows["known_at"] - timedelta(minutes=5), post_id=["a", "b", "c"])
    mentions = pd.concat([rows, prompt], ignore_index=True)
    start, end = config.day_start(date(2026, 3, 8)), config.day_start(NEXT) + timedelta(days=1)
    whole = mood_of(mentions, start, end)
    counts = whole[["bullish_count", "bearish_count", "neutral_count"]].sum(axis=1)
    assert counts.tolist() == [2, 2, 1]
    for day in (DAY, NEXT):
        begins = config.day_start(day)
        read = mentions[mentions["created_at"] >= begins - timedelta(days=MOOD_WARMUP_DAYS)]
        alone = mood_of(read, begins, begins + timedelta(days=1))
        of_day = whole[whole["hour_start"].dt.date == day].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, of_day)
