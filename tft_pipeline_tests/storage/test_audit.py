"""The ledger held against the tables: what is promised, what is there, and a sentence where they differ."""

import re
from datetime import UTC, date, datetime

from tft_pipeline import contracts
from tft_pipeline.storage.audit import damaged, disagreements, reaches_to, rows_promised, rows_written_by
from tft_pipeline.storage.slices import write

from .frames import frame

DAYS = [date(2024, 1, 31), date(2024, 2, 1)]


def written(database, table=contracts.BARS, run_id="run-1", hours=(14, 15), **more):
    write(database, {table: frame(table, DAYS, hours=hours)}, DAYS, run_id=run_id, code_version="1.0", **more)


def test_rows_written_are_those_of_the_runs_asked_for(database):
    written(database)
    written(database, contracts.ACTIONS, run_id="run-2", hours=(14,))
    of_first = rows_written_by(database, ["run-1"])
    assert of_first["market.bars"] == 4
    assert set(of_first) == {table.name for table in contracts.TABLES}
    assert sum(of_first.values()) == 4
    assert rows_written_by(database, ["run-1", "run-2"])["market.actions"] == 2
    assert sum(rows_written_by(database, []).values()) == 0


def test_a_run_that_changed_nothing_wrote_nothing(database):
    written(database)
    written(database, run_id="run-2")
    assert sum(rows_written_by(database, ["run-2"]).values()) == 0


def test_what_slices_promise_and_how_far_they_reach(database):
    reach = datetime(2024, 2, 1, 16, tzinfo=UTC)
    written(database, reaches_to=reach)
    assert rows_promised(database, contracts.BARS, DAYS[:1]) == 2
    assert rows_promised(database, contracts.BARS, DAYS) == 4
    assert rows_promised(database, contracts.POSTS, DAYS) == 0
    assert reaches_to(database, contracts.BARS, DAYS[1]) == reach
    assert reaches_to(database, contracts.BARS, DAYS[0]) == datetime(2024, 2, 1, tzinfo=UTC)
    assert reaches_to(database, contracts.BARS, date(2024, 2, 2)) is None


def test_nothing_disagrees_after_the_writer(any_database):
    written(any_database)
    assert disagreements(any_database) == []


def test_rows_that_somebody_removed_or_added_are_named_by_day(any_database):
    written(any_database)
    written(any_database, contracts.ACTIONS, hours=(14,))
    with any_database.connect() as connection:
        connection.execute("DELETE FROM market.bars WHERE bar_start = '2024-02-01 14:00+00'")
        connection.execute(
            "INSERT INTO market.actions SELECT ticker, effective_at + interval '2 hours', kind, value, source, known_at FROM market.actions "
            "WHERE effective_at < '2024-02-01'"
        )
    assert disagreements(any_database) == [
        "market.actions on 2024-01-31: the ledger says 1 rows, the table holds 2",
        "market.bars on 2024-02-01: the ledger says 2 rows, the table holds 1",
    ]


def test_a_slice_that_the_ledger_does_not_know_is_named(database):
    written(database)
    with database.connect() as connection:
        connection.execute("DELETE FROM ops.slices WHERE slice_day = '2024-01-31'")
    assert disagreements(database) == ["market.bars on 2024-01-31: the ledger says 0 rows, the table holds 2"]


def test_a_changed_value_is_damage_though_the_count_agrees(any_database):
    written(any_database)
    assert damaged(any_database) == []
    with any_database.connect() as connection:
        connection.execute("UPDATE market.bars SET volume = volume + 1 WHERE bar_start = '2024-02-01 14:00+00'")
    assert disagreements(any_database) == []
    (sentence,) = damaged(any_database)
    assert re.fullmatch(
        r"market.bars on 2024-02-01: the ledger says 2 rows of \w{12}…, the table holds 2 of \w{12}…", sentence
    )
