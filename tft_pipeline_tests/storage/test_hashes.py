"""Hashes of rows in memory: of their bits and their key order, not of how they happen to lie."""

import hashlib
import struct
from datetime import date

import numpy as np
import pandas as pd
import pytest

from tft_pipeline.contracts import FEATURES, MODELS, POSTS, QUANTILES, TABLES
from tft_pipeline.errors import ContractError
from tft_pipeline.schema import Table
from tft_pipeline.storage.hashes import hash_of, hashes_by
from tft_pipeline_tests.storage.frames import frame

DAYS = [date(2024, 1, 31), date(2024, 2, 1)]


def field(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


def test_one_row_is_hashed_as_postgresql_would_send_it() -> None:
    moment = pd.Timestamp("2000-01-01T00:00:01Z").as_unit("us")
    row = pd.DataFrame(
        {
            "model_id": ["m"], "ticker": ["AAPL"], "issued_at": [moment], "horizon_hours": [3], "target_at": [moment],
            "p10": [-0.5], "p50": [0.0], "p90": [0.25],
        }
    )  # fmt: skip
    number = [
        field(struct.pack("!q", n)) for n in (1_000_000, 3, 1_000_000)
    ]  # microseconds since 2000, and the horizon
    share = [field(struct.pack("!d", x)) for x in (-0.5, 0.0, 0.25)]
    expected = struct.pack("!h", 8) + b"".join([field(b"m"), field(b"AAPL"), *number, *share])
    assert hash_of(row, QUANTILES) == hashlib.sha256(expected).hexdigest()
    assert hash_of(row.iloc[:0], QUANTILES) == hashlib.sha256().hexdigest()


def test_order_of_rows_and_columns_does_not_matter_but_every_bit_does() -> None:
    rows = frame(FEATURES, DAYS, hours=(14, 15), tickers=("AAPL", "MSFT"))
    whole = hash_of(rows, FEATURES)
    assert hash_of(rows.sample(frac=1, random_state=3)[rows.columns[::-1]], FEATURES) == whole
    for column in ("ticker", "bar_end", "close", "return_1h"):
        other = rows.copy()
        value = other.loc[2, column]
        changed = {"ticker": "ZZZ", "bar_end": value + pd.Timedelta(1, "us") if column == "bar_end" else None}
        other.loc[2, column] = changed.get(column) or np.nextafter(value, 1.0)
        assert hash_of(other, FEATURES) != whole, column
    assert hash_of(rows.assign(return_1h=0.0), FEATURES) != hash_of(rows.assign(return_1h=-0.0), FEATURES)


@pytest.mark.parametrize(("table", "by"), [(FEATURES, "bar_end"), (QUANTILES, "issued_at"), (POSTS, "created_at")])
def test_each_moment_has_the_hash_of_its_rows_alone(table: Table, by: str) -> None:
    rows = frame(table, DAYS, hours=tuple(range(24)), tickers=("AAPL", "BRK.B", "Ä"))
    if table is POSTS:  # texts of different lengths, and of more bytes than letters
        rows["text"] = pd.Series(["Zoë" * (i % 5) for i in range(len(rows))], dtype="str")
    found = hashes_by(rows.sample(frac=1, random_state=5), table, by)
    assert list(found) == sorted(rows[by].unique())
    assert found == {moment: hash_of(of_moment, table) for moment, of_moment in rows.groupby(by)}
    assert len(set(found.values())) == len(found)


def test_no_rows_have_no_moments() -> None:
    assert hashes_by(QUANTILES.empty(), QUANTILES, "issued_at") == {}


def test_rows_of_changing_shape_are_refused_by_name() -> None:
    assert MODELS in TABLES
    with pytest.raises(ContractError, match=r"training\.models: column 'config' may be NULL or is no plain value"):
        hashes_by(frame(MODELS, DAYS), MODELS, "trained_as_of")
