"""Months past retention leave their tables and the ledger together, are kept, and can be interrupted anywhere."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from tft_pipeline.contracts import BARS, EQUITY, FEATURES, MODELS, TABLES
from tft_pipeline.errors import StorageError
from tft_pipeline.storage import retention
from tft_pipeline.storage.audit import damaged, disagreements
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.portfolio import last_mark, peak_equity_cents
from tft_pipeline.storage.read import read
from tft_pipeline.storage.roles import READER, reading
from tft_pipeline.storage.slices import write

from .frames import frame

OLD = [date(2019, 1, 30), date(2019, 1, 31)]
NEW = [date(2019, 2, 1), date(2024, 2, 29)]
DAYS = [*OLD, *NEW]
BY = {"run_id": "r", "code_version": "1"}
FEBRUARY = date(2019, 2, 1)


def fill(database: Database, *tables: object) -> None:
    for table in tables or (BARS, FEATURES, MODELS, EQUITY):
        write(database, {table: frame(table, DAYS)}, DAYS, **BY)


def consistent(database: Database) -> bool:
    return disagreements(database) == [] and damaged(database) == []


def test_a_month_leaves_its_table_with_its_ledger_rows_and_is_kept(any_database: Database) -> None:
    fill(any_database)
    hashes = slice_status(any_database, BARS).content_hash.tolist()
    done = retention.retire(any_database, before=FEBRUARY)
    assert [(one.table, one.month, one.kept_as, one.rows, one.slices) for one in done] == [
        ("features.hourly", date(2019, 1, 1), "retired.features_hourly_2019_01", 2, 2),
        ("market.bars", date(2019, 1, 1), "retired.market_bars_2019_01", 2, 2),
        ("market.bars_revisions", date(2019, 1, 1), "retired.market_bars_revisions_2019_01", 0, 0),
    ]  # downstream first; models and the portfolio stay
    assert slice_status(any_database, BARS).day.tolist() == NEW
    assert len(read(any_database, BARS)) == 2
    assert len(read(any_database, MODELS)) == len(read(any_database, EQUITY)) == 4
    assert consistent(any_database)
    with any_database.connect() as connection:
        kept = connection.execute("SELECT count(*), min(bar_start) FROM retired.market_bars_2019_01").fetchone()
        ledger = connection.execute("SELECT ledger FROM ops.retired WHERE table_name = 'market.bars'").fetchone()
    assert kept == (2, datetime(2019, 1, 30, 14, tzinfo=UTC))
    assert ledger is not None
    assert [entry["content_hash"] for entry in ledger[0]] == hashes[:2]
    assert retention.retired_days(any_database, BARS) == set(OLD)
    assert retention.retired_days(any_database, MODELS) == set()
    assert retention.retire(any_database, before=FEBRUARY) == []
    with reading(any_database).connect() as connection:
        assert connection.execute("SELECT count(*) FROM retired.market_bars_2019_01").fetchone() == (2,)


def test_tables_of_one_name_and_revisions_find_room_beside_each_other(any_database: Database) -> None:
    hourly = next(table for table in TABLES if table.name == "sentiment.hourly")
    fill(any_database, FEATURES, hourly, BARS)
    write(any_database, {BARS: frame(BARS, OLD).assign(volume=7.0)}, OLD, **BY)
    kept = sorted(one.kept_as for one in retention.retire(any_database, before=FEBRUARY))
    assert kept == [
        "retired.features_hourly_2019_01", "retired.market_bars_2019_01", "retired.market_bars_revisions_2019_01",
        "retired.sentiment_hourly_2019_01",
    ]  # fmt: skip
    assert consistent(any_database)


def test_a_month_that_was_loaded_again_is_retired_again_beside_its_first(database: Database) -> None:
    fill(database, BARS)
    retention.retire(database, before=FEBRUARY)
    write(database, {BARS: frame(BARS, OLD)}, OLD, **BY)
    assert retention.retired_days(database, BARS) == set()  # they have come back
    assert [one.kept_as for one in retention.retire(database, before=FEBRUARY)] == [
        "retired.market_bars_2019_01_2", "retired.market_bars_revisions_2019_01_2",
    ]  # fmt: skip
    assert consistent(database)
    assert retention.retired_days(database, BARS) == set(OLD)


def test_a_retired_month_can_be_put_back_with_what_was_written_down(database: Database) -> None:
    fill(database, BARS)
    before = slice_status(database, BARS)
    retention.retire(database, before=FEBRUARY)
    with database.connect() as connection:
        connection.execute(
            """
            ALTER TABLE retired.market_bars_2019_01 SET SCHEMA market;
            ALTER TABLE market.bars ATTACH PARTITION market.market_bars_2019_01 FOR VALUES FROM ('2019-01-01 00:00+00') TO ('2019-02-01 00:00+00');
            INSERT INTO ops.slices SELECT s.* FROM ops.retired r, jsonb_populate_recordset(NULL::ops.slices, r.ledger) s;
            DELETE FROM ops.retired"""
        )
    assert slice_status(database, BARS).equals(before)
    assert consistent(database)


def test_the_limit_is_counted_back_from_the_newest_day_with_rows(database: Database) -> None:
    assert retention.limit(database, 5, today=date(2026, 1, 1)) is None
    fill(database, BARS)
    write(database, {BARS: BARS.empty()}, [date(2025, 12, 31)], **BY)  # an empty slice is no data
    assert retention.limit(database, 5, today=date(2026, 1, 1)) == date(2019, 2, 28)  # of a leap day
    assert retention.limit(database, 5, today=date(2024, 1, 10)) == date(
        2019, 1, 10
    )  # a slice of tomorrow cannot push it on


def test_the_portfolio_goes_on_from_its_last_mark_and_its_highest(database: Database) -> None:
    fill(database)
    moment = datetime(2019, 2, 1, tzinfo=UTC)
    mark, peak = last_mark(database, before=moment), peak_equity_cents(database, before=moment)
    retention.retire(database, before=FEBRUARY)
    again = last_mark(database, before=moment)
    assert mark is not None
    assert again is not None
    assert (again.marked_at, again.equity.equals(mark.equity)) == (mark.marked_at, True)
    assert peak_equity_cents(database, before=moment) == peak
    changed = frame(EQUITY, NEW).assign(equity_cents=90_000_00, cash_cents=90_000_00)
    with pytest.raises(StorageError, match="cash moves by"):  # the balance is still held against the mark before
        write(database, {EQUITY: changed}, NEW, **BY)


def test_readers_that_hold_a_table_interrupt_it_and_the_next_call_finishes(any_database: Database) -> None:
    fill(any_database, BARS, FEATURES)
    hasty = replace(any_database, lock_timeout_seconds=0.3)
    with any_database.connect() as connection:
        connection.execute("SELECT count(*) FROM market.bars")  # holds its lock until the transaction ends
        with pytest.raises(StorageError, match="lock timeout") as caught:
            retention.retire(hasty, before=FEBRUARY)
    assert caught.value.transient
    (pending,) = [part for part in retention.listed(any_database) if part.detaching]
    assert (pending.table, pending.month) == ("market.bars", date(2019, 1, 1))
    assert retention.loose(any_database) == ["features.hourly_2019_01"]  # detached, and not yet put aside
    done = retention.finish(any_database)
    assert [one.kept_as for one in done] == ["retired.features_hourly_2019_01", "retired.market_bars_2019_01"]
    assert retention.loose(any_database) == []
    assert consistent(any_database)


def test_a_crash_while_it_is_put_aside_leaves_all_or_nothing(database: Database) -> None:
    fill(database, BARS)
    with database.connect() as connection:
        connection.execute(
            "CREATE FUNCTION public.crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER crash BEFORE INSERT ON ops.retired FOR EACH ROW EXECUTE FUNCTION public.crash()"
        )
    with pytest.raises(StorageError, match="terminating connection"):
        retention.retire(database, before=FEBRUARY)
    assert retention.loose(database) == ["market.bars_2019_01", "market.bars_revisions_2019_01"]
    assert slice_status(database, BARS).day.tolist() == DAYS  # the ledger has not moved without the table
    with database.connect() as connection:
        connection.execute("DROP TRIGGER crash ON ops.retired")
    assert [one.rows for one in retention.finish(database)] == [2, 0]
    assert consistent(database)


def test_a_reader_or_a_writer_cannot_retire(any_database: Database) -> None:
    fill(any_database, BARS)
    for role in ("tft_writer", READER):
        with pytest.raises(StorageError, match=r"must be owner|permission denied"):
            retention.retire(replace(any_database, role=role), before=FEBRUARY)
    assert [part.name for part in retention.overdue(any_database, FEBRUARY)][:1] == ["market.bars_2019_01"]
