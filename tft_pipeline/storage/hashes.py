"""One number for many rows: SHA-256 over their bytes as PostgreSQL's binary COPY has them, in key order.

What belongs here: hashes that are computed from frames, of rows that may lie in no table. What does not: the ledger's content hashes,
which PostgreSQL computes of what it holds (`merge.contents`).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.errors import ContractError
from tft_pipeline.schema import Column, Table
from tft_pipeline.storage import binary

_WIDTHS = {"float": 8, "int": 8, "time": 8, "bool": 1}


def hash_of(frame: pd.DataFrame, table: Table) -> str:
    """Of all rows of frame, by contract, in whatever order they come. Equal exactly where every value is equal bit for bit."""
    return hashlib.sha256(_encoded(frame, table, table.key)[1]).hexdigest()


def hashes_by(frame: pd.DataFrame, table: Table, by: str) -> dict[pd.Timestamp, str]:
    """{moment: hash_of the rows with that moment}, ascending. by: one of table's times.

    One pass over the frame, however many moments: years of hours take seconds.
    """
    ordered, body = _encoded(frame, table, (by, *table.key))
    ends = np.concatenate(([0], np.cumsum(_lengths(ordered, table))))
    moments, firsts = np.unique(ordered[by].to_numpy("datetime64[us]"), return_index=True)
    edges = ends[[*firsts, len(ordered)]]
    return {
        pd.Timestamp(moment, tz="UTC"): hashlib.sha256(body[low:high]).hexdigest()
        for moment, low, high in zip(moments, edges[:-1], edges[1:], strict=True)
    }


def _encoded(frame: pd.DataFrame, table: Table, order: Sequence[str]) -> tuple[pd.DataFrame, bytes]:
    """frame in this order, and its rows' bytes one after another."""
    ordered = frame.sort_values(list(order), kind="stable", ignore_index=True)
    _, *rows, _ = binary.encode(ordered, binary.order(table.columns), where=table.name)  # no signature, no trailer
    return ordered, b"".join(rows)


def _lengths(frame: pd.DataFrame, table: Table) -> npt.NDArray[np.int64]:
    """(n_rows,) bytes of each row: two for the number of fields, then the fields."""
    lengths = np.full(len(frame), 2, dtype=np.int64)
    for column in table.columns:
        lengths += 4 + _widths(frame[column.name], column, table)
    return lengths


def _widths(values: pd.Series, column: Column, table: Table) -> npt.NDArray[np.int64] | int:
    if column.nullable or column.dtype in ("bytes", "json"):
        raise ContractError(
            f"{table.name}: column {column.name!r} may be NULL or is no plain value, so its rows are not hashed moment by moment."
        )
    if column.dtype != "text":
        return _WIDTHS[column.dtype]
    known = {text: len(text.encode()) for text in values.unique()}
    return np.fromiter((known[text] for text in values), dtype=np.int64, count=len(values))
