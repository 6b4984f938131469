"""Reading by contract, and the small questions around it."""

import hashlib
from datetime import UTC, date, datetime

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tft_pipeline import config, contracts, schema
from tft_pipeline.errors import ArtifactError, ContractError, StorageError
from tft_pipeline.storage import binary
from tft_pipeline.storage.ledger import newest, row_counts, slice_status
from tft_pipeline.storage.models import latest_model_id, load_artifact
from tft_pipeline.storage.read import read, universe
from tft_pipeline.storage.scores_cache import cached_scores, save_scores
from tft_pipeline.storage.slices import write
from tft_pipeline.storage.world import claim_world, world

from .frames import frame

DAYS = [date(2024, 1, 31), date(2024, 2, 1), date(2024, 2, 2)]
BY = {"run_id": "run-1", "code_version": "1.0"}


@pytest.fixture
def bars(database):
    rows = schema.validate(
        frame(contracts.BARS, DAYS, hours=(14, 15), tickers=("AAPL", "BRK.B", "MSFT")), contracts.BARS
    )
    write(database, {contracts.BARS: rows}, DAYS, **BY)
    return rows


def test_start_counts_and_end_does_not(database, bars):
    start, end = datetime(2024, 1, 31, 15, tzinfo=UTC), datetime(2024, 2, 1, 15, tzinfo=UTC)
    expected = bars[(bars["bar_start"] >= start) & (bars["bar_start"] < end)].reset_index(drop=True)
    assert_frame_equal(read(database, contracts.BARS, start, end), expected)
    assert len(expected) == 6


def test_tickers_columns_and_equality_narrow_the_read(database, bars):
    found = read(
        database, contracts.BARS, tickers=["MSFT", "AAPL", "NONE"], columns=["close", "ticker", "typical_price"]
    )
    assert found.columns.tolist() == ["close", "ticker", "typical_price"]
    assert found["ticker"].tolist() == ["AAPL"] * 6 + ["MSFT"] * 6
    assert found["typical_price"].iloc[0] == pytest.approx((12 + 8 + 11) / 3)
    assert len(read(database, contracts.BARS, where={"ticker": "BRK.B", "source": ["some source", "x"]})) == 6
    assert read(database, contracts.BARS, where={"source": "x"}).empty


def test_an_empty_read_keeps_the_contracts_dtypes(database):
    for table in contracts.TABLES:
        assert_frame_equal(read(database, table), table.empty())
        if table.mode == "raw":
            assert_frame_equal(read(database, table, as_of=datetime.now(UTC)), table.empty())


def test_a_connection_may_be_handed_in(database, bars):
    with database.connect() as connection:
        assert_frame_equal(read(connection, contracts.BARS), bars)
        assert universe(connection) == universe(database) == ["AAPL", "BRK.B", "MSFT"]


def test_questions_that_make_no_sense_are_refused_by_name(database):
    with pytest.raises(
        ContractError, match=r"market.bars: there is no column 'symbol'; it has \['ticker'.*contracts.BARS"
    ):
        read(database, contracts.BARS, columns=["symbol"])
    with pytest.raises(ContractError, match=r"portfolio.equity: there is no column 'ticker'"):
        read(database, contracts.EQUITY, tickers=["AAPL"])
    with pytest.raises(ContractError, match=r"features.hourly: as_of needs a raw table"):
        read(database, contracts.FEATURES, as_of=datetime.now(UTC))
    with pytest.raises(ContractError, match=r"start=2024-01-01T00:00:00 has no time zone"):
        read(database, contracts.BARS, datetime(2024, 1, 1))  # noqa: DTZ001
    with pytest.raises(StorageError, match=r"invalid input syntax"):
        read(database, contracts.FEATURES, where={"close": "many"})


def test_generated_columns_are_computed_by_postgres(any_database):
    table = contracts.HOURLY_SENTIMENT
    rows = frame(table, DAYS[:1], hours=(1, 2, 3)).assign(
        bullish_count=[3, 0, 0], bearish_count=[1, 2, 0], neutral_count=[4, 0, 0]
    )
    write(any_database, {table: rows}, DAYS[:1], **BY)
    found = read(any_database, table, columns=["total_count", "score"])
    assert found["total_count"].tolist() == [8, 2, 0]
    assert found["score"].tolist() == [0.25, -1.0, 0.0]


def test_counts_and_the_newest_time(database, bars):
    counts = row_counts(database)
    assert list(counts) == [table.name for table in contracts.TABLES]
    assert counts["market.bars"] == len(bars)
    assert sum(counts.values()) == len(bars)
    assert newest(database, contracts.BARS) == datetime(2024, 2, 2, 15, tzinfo=UTC)
    assert newest(database, contracts.EQUITY) is None
    assert slice_status(database, contracts.EQUITY).empty


def test_the_newest_model_at_a_moment_and_its_artifact(database):
    rows = frame(contracts.MODELS, DAYS[:2]).assign(model_id=["old", "new"])
    rows["sha256"] = [hashlib.sha256(artifact).hexdigest() for artifact in rows["artifact"]]
    assert latest_model_id(database) is None
    write(database, {contracts.MODELS: rows}, DAYS[:2], **BY)
    assert latest_model_id(database) == "new"
    assert latest_model_id(database, rows["trained_as_of"].iloc[0]) == "old"
    assert latest_model_id(database, datetime(2024, 1, 31, tzinfo=UTC)) is None
    assert load_artifact(database, "old") == rows["artifact"].iloc[0]
    with pytest.raises(ArtifactError, match=r"no model 'other'"):
        load_artifact(database, "other")
    with database.connect() as connection:
        connection.execute("UPDATE training.models SET artifact = set_byte(artifact, 3, 77)")
    with pytest.raises(ArtifactError, match=r"artifact of 'old' is damaged.*not loaded"):
        load_artifact(database, "old")


def test_a_text_is_scored_once_by_each_scorer(any_database):
    scores = pd.DataFrame(
        {"text_hash": ["a", "b"], "bearish": [0.1, 0.2], "neutral": [0.2, 0.2], "bullish": [0.7, 0.6]}
    )
    assert save_scores(any_database, scores, "vader") == 2
    assert save_scores(any_database, scores.assign(bearish=0.9), "vader") == 0
    assert_frame_equal(cached_scores(any_database, ["b", "a", "c"], "vader"), scores.astype({"text_hash": "str"}))
    assert cached_scores(any_database, ["a"], "other").empty
    assert cached_scores(any_database, [], "vader").empty
    with pytest.raises(ContractError, match=r"needs the columns"):
        save_scores(any_database, scores.drop(columns="neutral"), "vader")
    for wrong in (1.5, float("nan")):
        with pytest.raises(StorageError, match=r"violates check constraint"):
            save_scores(any_database, scores.assign(text_hash=["x", "y"], neutral=wrong), "vader")


def test_a_database_holds_one_world(database, tmp_path):
    simulated = config.Settings(home=tmp_path)
    assert world(database) is None
    claim_world(database, simulated)
    claim_world(database, simulated)
    assert world(database) == {"world": "simulated", "simulated": True, "market": "simulated", "posts": "simulated"}
    real = simulated.changed(market="yahoo", posts="none")
    with pytest.raises(
        StorageError,
        match=r"holds simulated data of 'simulated'.*these settings mean real data of 'live'.*another database",
    ):
        claim_world(database, real)
    with pytest.raises(StorageError, match=r"simulated data of 'simulated_"):
        claim_world(database, simulated.changed(seed=8))


def test_posts_may_join_a_world_later(database, tmp_path):
    settings = config.Settings(home=tmp_path, market="yahoo", posts="none")
    claim_world(database, settings)
    claim_world(database, settings.changed(posts="reddit"))
    assert world(database)["posts"] == "reddit"


# The binary format -----------------------------------------------------------------------------------------------------


def test_nullable_columns_travel_too(database):
    kinds = {
        "text": "text",
        "time": "timestamptz",
        "float": "float8",
        "int": "bigint",
        "bool": "boolean",
        "bytes": "bytea",
        "json": "jsonb",
    }
    columns = binary.order(
        contracts.Column(name=f"{dtype}_value", dtype=dtype, unit="-", meaning="-", nullable=True) for dtype in kinds
    )
    rows = pd.DataFrame(
        {
            "text_value": ["é", None],
            "time_value": [pd.Timestamp("2024-01-01T12:00:00.000001Z"), pd.NaT],
            "float_value": [1.5, None],
            "int_value": pd.array([2**62, None], dtype="Int64"),
            "bool_value": pd.array([True, None], dtype="boolean"),
            "bytes_value": [b"\x00\xff", None],
            "json_value": [{"a": [1]}, None],
        }
    )
    names = ", ".join(column.name for column in columns)
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE t (" + ", ".join(f"{c.name} {kinds[c.dtype]}" for c in columns) + ")")
        with cursor.copy(f"COPY t ({names}) FROM STDIN (FORMAT BINARY)") as copy:
            for chunk in binary.encode(rows, columns, where="t"):
                copy.write(chunk)
        with cursor.copy(f"COPY (SELECT {names} FROM t ORDER BY 1 NULLS LAST) TO STDOUT (FORMAT BINARY)") as copy:
            back = binary.decode([bytes(row) for row in copy], columns)
    assert back.iloc[0].to_dict() == {**rows.iloc[0].to_dict(), "time_value": rows["time_value"].iloc[0]}
    assert back.iloc[1].isna().all()


def test_what_is_no_whole_copy_is_refused(database):
    columns = binary.order(contracts.DRIFT.columns)
    for rows, message in (
        ([], "no binary COPY"),
        ([b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\x00\x01"], "ended early"),
        ([b"PGCOPY\n\xff\r\n\0" + bytes(8) + bytes(40), b"\xff\xff"], "does not fit the columns"),
    ):
        with pytest.raises(StorageError, match=message):
            binary.decode(rows, columns)
