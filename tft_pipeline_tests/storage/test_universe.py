"""Who is followed and counts when, on the embedded PostgreSQL and on the system's."""

import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from tft_pipeline import contracts
from tft_pipeline.errors import ConfigError, StorageError
from tft_pipeline.storage import universe
from tft_pipeline.storage.ledger import held_by_ticker
from tft_pipeline.storage.roles import reading
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.universe import BEGINNING, Interval, add, admit, intervals, members, remove

from .frames import frame

NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def two():
    return ("MSFT", "AAPL")


def test_before_the_first_change_the_table_is_empty_and_says_nothing(any_database):
    assert intervals(any_database) == ()
    assert members(any_database, NOON) == ()


def test_the_first_change_notes_who_was_there_and_the_new_one_counts_when_it_is_admitted(any_database):
    assert add(any_database, ["NVDA", "AAPL", "NVDA"], at=NOON, current=two) == universe.Changed(("NVDA",), ("AAPL",))
    assert intervals(any_database) == (
        Interval("MSFT", BEGINNING, BEGINNING, None),  # in the order in which they were named
        Interval("AAPL", BEGINNING, BEGINNING, None),
        Interval("NVDA", NOON, None, None),
    )
    assert members(any_database, NOON + HOUR) == ("MSFT", "AAPL")
    assert admit(any_database, ["NVDA", "AAPL", "AMD"], at=NOON + HOUR) == ("NVDA",)
    assert admit(any_database, ["NVDA"], at=NOON + 2 * HOUR) == ()
    assert members(any_database, NOON + HOUR - timedelta(microseconds=1)) == ("MSFT", "AAPL")
    assert members(any_database, NOON + HOUR) == ("MSFT", "AAPL", "NVDA")


def test_whoever_has_bars_counted_up_to_the_first_change_though_it_is_followed_no_longer(any_database):
    rows = frame(contracts.BARS, [date(2026, 6, 1)], tickers=("AAPL", "IBM"))
    write(any_database, {contracts.BARS: rows}, [date(2026, 6, 1)], run_id="run", code_version="1")
    add(any_database, ["NVDA"], at=NOON, current=two)
    assert members(any_database, NOON - HOUR) == ("MSFT", "AAPL", "IBM")
    assert members(any_database, NOON) == ("MSFT", "AAPL")
    moment = datetime(2026, 6, 1, 14, tzinfo=UTC)
    assert held_by_ticker(any_database, contracts.BARS) == {"AAPL": (1, moment, moment), "IBM": (1, moment, moment)}


def test_removing_closes_an_interval_and_adding_again_opens_another(any_database):
    assert remove(any_database, ["AAPL"], at=NOON, current=two).done == ("AAPL",)
    assert remove(any_database, ["AAPL"], at=NOON + HOUR, current=two) == universe.Changed((), ("AAPL",))
    assert members(any_database, NOON) == ("MSFT",)
    assert add(any_database, ["AAPL"], at=NOON + 2 * HOUR, current=two).done == ("AAPL",)
    admit(any_database, ["AAPL"], at=NOON + 3 * HOUR)
    assert intervals(any_database)[1:] == (
        Interval("AAPL", BEGINNING, BEGINNING, NOON),
        Interval("AAPL", NOON + 2 * HOUR, NOON + 3 * HOUR, None),
    )
    asked = {NOON - HOUR: True, NOON + HOUR: False, NOON + 2 * HOUR: False, NOON + 3 * HOUR: True}
    assert {moment: "AAPL" in members(any_database, moment) for moment in asked} == asked


def test_one_who_is_removed_while_it_waits_never_counted(any_database):
    add(any_database, ["NVDA"], at=NOON, current=two)
    remove(any_database, ["NVDA"], at=NOON + HOUR, current=two)
    assert admit(any_database, ["NVDA"], at=NOON + 2 * HOUR) == ()
    assert intervals(any_database)[-1] == Interval("NVDA", NOON, None, NOON + HOUR)


def test_two_changes_in_the_same_moment_lie_a_microsecond_apart(any_database):
    add(any_database, ["NVDA"], at=NOON, current=two)
    remove(any_database, ["NVDA"], at=NOON, current=two)
    assert intervals(any_database)[-1] == Interval("NVDA", NOON, None, NOON + timedelta(microseconds=1))


def test_writers_who_add_the_same_at_once_open_one_interval(any_database):
    start, done, errors = threading.Barrier(8), [], []

    def change():
        start.wait()
        try:
            done.append(add(any_database, ["NVDA", "AMD"], at=NOON, current=two).done)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=change) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(done) == [()] * 7 + [("NVDA", "AMD")]
    assert [one.ticker for one in intervals(any_database)] == ["MSFT", "AAPL", "NVDA", "AMD"]


def test_the_database_itself_refuses_a_second_open_interval(any_database):
    add(any_database, ["NVDA"], at=NOON, current=two)
    with pytest.raises(StorageError, match="universe_once_at_a_time"), any_database.connect() as connection:
        connection.execute("INSERT INTO ops.universe (ticker, added_at, place) VALUES ('NVDA', %s, 9)", (NOON + HOUR,))


@pytest.mark.parametrize("bad", ["../../v1/evil", "nvda", "", "AAPL\n", "A" * 11])
def test_what_is_no_ticker_is_refused_before_anything_is_noted(database, bad):
    for change in (add, remove):
        with pytest.raises(ConfigError, match="is no ticker; tickers are upper case"):
            change(database, ["NVDA", bad], at=NOON, current=two)
    assert intervals(database) == ()


def test_what_cannot_be_removed_is_said_and_nothing_is_noted(database):
    with pytest.raises(ConfigError, match=r"'NVDA' never was in the universe; it holds AAPL, MSFT\."):
        remove(database, ["AAPL", "NVDA"], at=NOON, current=two)
    with pytest.raises(ConfigError, match=r"this would leave nobody in the universe"):
        remove(database, ["AAPL", "MSFT"], at=NOON, current=two)
    with pytest.raises(ConfigError, match=r"no ticker was named"):
        add(database, [], at=NOON, current=two)
    assert intervals(database) == ()


def test_a_clock_that_went_back_changes_nothing_of_what_is_past(database):
    add(database, ["NVDA"], at=NOON, current=two)
    with pytest.raises(StorageError, match=r"was changed at 2026-06-10 12:00:00 UTC, which is later than now \(2026-06-10 11:00:00"):  # fmt: skip
        remove(database, ["NVDA"], at=NOON - HOUR, current=two)
    assert len(intervals(database)) == 3


def test_who_only_reads_may_read_it(database):
    add(database, ["NVDA"], at=NOON, current=two)
    assert members(reading(database), NOON) == ("MSFT", "AAPL")
    with pytest.raises(StorageError, match=r"read-only"):
        add(reading(database), ["AMD"], at=NOON, current=two)
