"""A write of some tickers' rows leaves all others as they lie, down to where on disk."""

from datetime import UTC, date, datetime

import pytest
from pandas.testing import assert_frame_equal

from tft_pipeline import contracts, schema
from tft_pipeline.errors import ContractError
from tft_pipeline.storage import merge
from tft_pipeline.storage.audit import damaged
from tft_pipeline.storage.composed import qualified
from tft_pipeline.storage.ledger import slice_status
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.staleness import stale_days

from .frames import frame

DAYS = [date(2024, 1, 31), date(2024, 2, 1), date(2024, 2, 2)]
BY = {"run_id": "run-1", "code_version": "1.0"}
SOME = {"run_id": "run-2", "code_version": "1.1", "tickers": ["NVDA"]}
NOON = datetime(2024, 2, 2, 12, tzinfo=UTC)
TABLES = [contracts.BARS, contracts.ACTIONS, contracts.FEATURES, contracts.HOURLY_SENTIMENT]


def lying(database, table, ticker="NVDA"):
    """Where all other tickers' rows lie, by whom they were written there, and what they hold."""
    with database.connect() as connection:
        return connection.execute(
            f"SELECT tableoid::regclass::text, ctid::text, xmin::text, t::text FROM {table.name} AS t WHERE ticker <> %s ORDER BY 1, 2",
            (ticker,),
        ).fetchall()


def held(database, table, days):
    with database.connect() as connection:
        return merge.contents(connection, table, qualified(table.name), days)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_other_tickers_rows_are_not_touched_and_the_ledger_tells_of_all(any_database, table):
    others = frame(table, DAYS[:2], hours=(14, 15), tickers=("AAPL", "MSFT"))
    write(any_database, {table: others}, DAYS[:2], **BY)
    before = lying(any_database, table)
    mine = frame(table, DAYS, hours=(14, 15, 16), tickers=("NVDA",))
    written = write(any_database, {table: mine}, DAYS, **SOME)[table.name]
    assert (written.days, written.rows, written.rows_written, written.slices_changed) == (3, 8 + 9, 9, 3)
    assert lying(any_database, table) == before
    status = slice_status(any_database, table)
    assert status["row_count"].tolist() == [7, 7, 3]
    contents = held(any_database, table, DAYS)
    assert status["content_hash"].tolist() == [contents[day].content_hash for day in DAYS]
    assert written.content_hashes == {day: contents[day].content_hash for day in DAYS}
    whole = schema.concat([others, mine], table).sort_values(list(table.key), ignore_index=True)
    assert_frame_equal(read(any_database, table), whole[table.names])
    assert damaged(any_database, [table]) == []
    again = write(any_database, {table: mine}, DAYS, **SOME)[table.name]
    assert (again.rows, again.rows_written, again.slices_changed) == (17, 0, 0)
    assert again.content_hashes == written.content_hashes


def test_the_same_rows_give_the_same_hash_whether_they_come_together_or_one_ticker_after_the_other(database):
    table, days = contracts.FEATURES, DAYS[:1]
    whole = frame(table, days, hours=(14, 15), tickers=("AAPL", "NVDA"))
    mine, others = (whole[whole["ticker"] == ticker] for ticker in ("NVDA", "AAPL"))
    write(database, {table: others}, days, **BY)
    parts = write(database, {table: mine}, days, **SOME)[table.name]
    together = write(database, {table: whole}, days, **BY)[table.name]
    assert together.rows_written == 0
    assert together.content_hashes == parts.content_hashes


def test_a_derived_row_that_is_no_longer_given_goes_and_one_that_differs_is_replaced(database):
    table = contracts.FEATURES
    write(database, {table: frame(table, DAYS, hours=(14, 15), tickers=("AAPL", "NVDA"))}, DAYS, **BY)
    before = lying(database, table)
    mine = frame(table, DAYS, hours=(14, 15), tickers=("NVDA",))
    mine = mine.drop(index=1)  # 31 January, 15:00
    mine.loc[2, "close"] += 1.0  # 1 February, 14:00
    written = write(database, {table: mine}, DAYS, **SOME)[table.name]
    assert written.rows == 11
    held_now = read(database, table, tickers=["NVDA"])
    assert_frame_equal(held_now, schema.validate(mine, table))
    assert lying(database, table) == before


def test_a_raw_row_that_differs_moves_to_revisions_and_others_have_none(database):
    table = contracts.BARS
    write(database, {table: frame(table, DAYS, tickers=("AAPL", "NVDA"))}, DAYS, **BY)
    mine = frame(table, DAYS, tickers=("NVDA",)).iloc[:1].assign(close=11.5)
    assert write(database, {table: mine}, DAYS, **SOME)[table.name].rows_revised == 1
    with database.connect() as connection:
        assert connection.execute("SELECT DISTINCT ticker::text FROM market.bars_revisions").fetchall() == [("NVDA",)]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_slice_reaches_further_and_a_day_that_others_lack_stays_stale(any_database, table):
    write(any_database, {table: frame(table, DAYS[:2], tickers=("AAPL",))}, DAYS[:2], **BY, reaches_to=NOON)
    write(any_database, {table: frame(table, DAYS[1:2], tickers=("AAPL",))}, DAYS[1:2], **BY, reaches_to=None)
    before = slice_status(any_database, table)["reaches_to"].tolist()
    write(any_database, {table: frame(table, DAYS, tickers=("NVDA",))}, DAYS, **SOME, reaches_to=None)
    after = slice_status(any_database, table)["reaches_to"].tolist()
    assert after == [*before, datetime(2024, 2, 2, tzinfo=UTC)]
    stale = stale_days(any_database, [table], first=DAYS[0], last=DAYS[-1], due=NOON)
    assert stale == [DAYS[2]]


def test_rows_of_others_and_tables_without_tickers_are_refused_and_nothing_is_written(database):
    table = contracts.FEATURES
    with pytest.raises(
        ContractError, match=r"features.hourly: 2 row\(s\) of other tickers than NVDA, the first of 'AAPL'"
    ):
        write(database, {table: frame(table, DAYS[:2], tickers=("AAPL", "NVDA"))}, DAYS[:2], **SOME)
    with pytest.raises(ContractError, match=r"sentiment.posts: has no tickers"):
        write(database, {contracts.POSTS: frame(contracts.POSTS, DAYS)}, DAYS, **SOME)
    assert slice_status(database, table).empty


def test_refusals_are_of_these_tickers_alone(database):
    bars = frame(contracts.BARS, DAYS[:1], tickers=("NVDA",))
    bars.loc[0, "high"] = 0.0
    written = write(database, {contracts.BARS: bars}, DAYS[:1], **SOME)[contracts.BARS.name]
    assert (written.rows, written.rows_quarantined) == (0, 1)
