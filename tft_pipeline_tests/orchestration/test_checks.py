"""The blocking contract check, on rows that somebody touched after the writer."""

from datetime import UTC, date, datetime

import pandas as pd
import pytest

from tft_pipeline.contracts import ACTIONS, BARS
from tft_pipeline.orchestration.checks import contract_kept
from tft_pipeline.orchestration.partitions import Window
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.storage.frames import frame

DAYS = [date(2024, 1, 31), date(2024, 2, 1)]
WINDOW = Window(datetime(2024, 1, 31, tzinfo=UTC), *[datetime(2024, 2, 2, tzinfo=UTC)] * 3)


@pytest.fixture
def written(database: Database) -> pd.DataFrame:
    rows = frame(BARS, DAYS, hours=(14, 15))
    write(database, {BARS: rows, ACTIONS: ACTIONS.empty()}, DAYS, run_id="r", code_version="1")
    return rows


@pytest.mark.usefixtures("written")
def test_what_the_writer_left_passes_with_its_figures(database: Database) -> None:
    check = contract_kept(database, [BARS, ACTIONS], WINDOW)
    assert check.passed
    assert check.description == "4 rows, as the ledger says, all within the contract"
    assert {name: value.value for name, value in check.metadata.items()} == {"rows_held": 4, "rows_promised": 4}


@pytest.mark.usefixtures("written")
def test_rows_that_vanished_fail_with_both_numbers(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("DELETE FROM market.bars WHERE bar_start < '2024-02-01'")
    check = contract_kept(database, [BARS], WINDOW)
    assert not check.passed
    assert check.description == "the ledger promises 4 rows of market.bars, PostgreSQL holds 2"


@pytest.mark.usefixtures("written")
def test_a_value_that_the_contract_forbids_fails_with_its_name(database: Database) -> None:
    with database.connect() as connection:
        found = connection.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'market.bars'::regclass AND contype = 'c'"
        ).fetchall()
        for (name,) in found:
            connection.execute(f'ALTER TABLE market.bars DROP CONSTRAINT "{name}"')
        connection.execute("UPDATE market.bars SET low = high + 1 WHERE bar_start = '2024-01-31 14:00+00'")
    check = contract_kept(database, [BARS], WINDOW)
    assert not check.passed
    assert "market.bars: a row breaks the rule" in str(check.description)
    assert "in 1 row(s), first at ticker=AAPL, bar_start=2024-01-31 14:00:00+00:00" in str(check.description)
