"""Frames to and from PostgreSQL's binary COPY format, column by column with numpy: no Python object for each number.

A row travels as int16 field count, then for each field int32 length and its bytes. Columns of variable length (text, json, bytes,
and whatever may be NULL) go first, the fixed ones last: so the fixed part of all rows is one numpy record array.
Source: PostgreSQL documentation, COPY, File Formats, Binary Format; the types' send and receive functions.
"""

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tft_pipeline.errors import ContractError, StorageError
from tft_pipeline.schema import UTC, Column, Dtype

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = struct.pack("!i", -1)
_LENGTH = struct.Struct("!i")
_EPOCH = 946_684_800_000_000  # microseconds from 1970 to 2000, where PostgreSQL counts from
_FIXED: dict[Dtype, str] = {"float": ">f8", "int": ">i8", "time": ">i8", "bool": ">i1"}
_ROWS_A_CHUNK = 4096


def order(columns: Iterable[Column]) -> list[Column]:
    """columns in the order in which encode and decode want them: variable ones first."""
    return sorted(columns, key=_is_fixed)


def encode(frame: pd.DataFrame, columns: Sequence[Column], *, where: str) -> Iterator[bytes]:
    """The bytes of `COPY … FROM STDIN (FORMAT BINARY)` for frame's columns, which are in `order`.

    where: the table, for messages. Raises ContractError: a text with NUL or a lone surrogate, a json value that is no JSON.
    """
    variable, fixed = _split(columns)
    packed = np.empty(len(frame), dtype=_record(fixed))
    for number, column in enumerate(fixed):
        packed[f"length{number}"] = packed.dtype[f"value{number}"].itemsize
        packed[f"value{number}"] = _fixed_values(frame[column.name], column)
    fields = [_variable_fields(frame[column.name], column, where) for column in variable]
    count = struct.pack("!h", len(columns))
    yield _SIGNATURE
    width = packed.dtype.itemsize
    for first in range(0, len(frame), _ROWS_A_CHUNK):
        chunk = slice(first, first + _ROWS_A_CHUNK)
        tails = packed[chunk].tobytes()
        rows = [tails[at : at + width] for at in range(0, len(tails), width)] if width else repeat(b"")
        yield b"".join(chain.from_iterable(zip(repeat(count), *(f[chunk] for f in fields), rows, strict=False)))
    yield _TRAILER


def decode(rows: Sequence[bytes], columns: Sequence[Column]) -> pd.DataFrame:
    """A frame of columns, which are in `order`, from the messages of `COPY … TO STDOUT (FORMAT BINARY)`: one message, one row.

    Raises StorageError when a row does not have the columns' shape.
    """
    variable, fixed = _split(columns)
    dtype = _record(fixed)
    bodies = _bodies(rows)
    values: dict[str, Any] = {}
    heads: list[list[bytes | None]] = [[] for _ in variable]
    for body in bodies:
        at = 2
        for head in heads:
            (length,) = _LENGTH.unpack_from(body, at)
            at += 4
            head.append(None if length < 0 else body[at : at + length])
            at += max(length, 0)
        if len(body) != at + dtype.itemsize:
            raise StorageError(
                f"a row of {len(body)} bytes does not fit the columns {[c.name for c in columns]}; migrate and run again."
            )
    for column, head in zip(variable, heads, strict=True):
        values[column.name] = _variable_series(head, column)
    tails = b"".join([body[len(body) - dtype.itemsize :] for body in bodies]) if fixed else b""
    packed = (
        np.frombuffer(tails, dtype=dtype) if fixed else np.empty(0, dtype=dtype)
    )  # a dtype without fields has no size
    for number, column in enumerate(fixed):
        values[column.name] = _fixed_series(packed[f"value{number}"], column)
    return pd.DataFrame(values, columns=[c.name for c in columns])


def _is_fixed(column: Column) -> bool:
    return column.dtype in _FIXED and not column.nullable


def _split(columns: Sequence[Column]) -> tuple[list[Column], list[Column]]:
    return [c for c in columns if not _is_fixed(c)], [c for c in columns if _is_fixed(c)]


def _record(fixed: Sequence[Column]) -> np.dtype[np.void]:
    fields = [((f"length{n}", ">i4"), (f"value{n}", _FIXED[c.dtype])) for n, c in enumerate(fixed)]
    return np.dtype(list(chain.from_iterable(fields)))


def _fixed_values(series: pd.Series, column: Column) -> npt.NDArray[Any]:
    if column.dtype == "time":
        moments: npt.NDArray[np.int64] = series.dt.as_unit("us").to_numpy("datetime64[us]").astype(np.int64)
        return moments - _EPOCH
    return np.asarray(series)


def _fixed_series(packed: npt.NDArray[Any], column: Column) -> Any:
    if column.dtype == "time":
        return pd.DatetimeIndex((packed.astype(np.int64) + _EPOCH).view("M8[us]")).tz_localize("UTC")
    return packed.astype({"float": np.float64, "int": np.int64, "bool": np.bool_}[column.dtype])


def _variable_fields(series: pd.Series, column: Column, where: str) -> list[bytes]:
    write = {"text": _text, "json": _json, "bytes": bytes, **dict.fromkeys(_FIXED, _packed(column.dtype))}[column.dtype]
    values: list[Any] = series.astype(object).where(series.notna(), None).tolist()
    known: dict[Any, bytes] = {}  # texts repeat: tickers, model ids
    fields = []
    for row, value in enumerate(values):
        if value is None:
            fields.append(_NULL)
            continue
        remember = isinstance(value, str)
        if remember and value in known:
            fields.append(known[value])
            continue
        try:
            data = write(value)
        except (ValueError, TypeError) as error:
            raise ContractError(
                f"{where}: column {column.name!r}, row {row}: {error}. Mend the frame where it is made."
            ) from None
        field = _LENGTH.pack(len(data)) + data
        if remember:
            known[value] = field
        fields.append(field)
    return fields


def _variable_series(head: list[bytes | None], column: Column) -> Any:
    if column.dtype == "text":
        known = {data: data.decode() if data is not None else None for data in set(head)}
        return pd.Series([known[data] for data in head], dtype="str")
    if column.dtype == "json":
        return pd.Series([None if data is None else json.loads(data[1:]) for data in head], dtype=object)
    if column.dtype == "bytes":
        return pd.Series(head, dtype=object)
    numbers = [None if data is None else np.frombuffer(data, _FIXED[column.dtype])[0].item() for data in head]
    if column.dtype == "time":
        return pd.Series(
            [pd.NaT if n is None else pd.Timestamp(n + _EPOCH, unit="us", tz="UTC") for n in numbers], dtype=UTC
        )
    return pd.Series(numbers, dtype={"float": "float64", "int": "Int64", "bool": "boolean"}[column.dtype])


def _text(value: str) -> bytes:
    if "\0" in value:
        raise ValueError("PostgreSQL's text takes no NUL character")
    return value.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError


def _json(value: Any) -> bytes:
    """jsonb: version 1, then the text. A str is taken as JSON already; NaN and Infinity are no JSON."""
    text = json.dumps(json.loads(value) if isinstance(value, str) else value, allow_nan=False, ensure_ascii=False)
    if "\\u0000" in text:
        raise ValueError("PostgreSQL's jsonb takes no NUL character")
    return b"\x01" + text.encode()


def _packed(dtype: Dtype) -> Callable[[Any], bytes]:
    def pack(value: Any) -> bytes:
        number = pd.Timestamp(value).as_unit("us").asm8.astype(np.int64) - _EPOCH if dtype == "time" else value
        return np.array(number, dtype=_FIXED[dtype]).tobytes()

    return pack


def _bodies(rows: Sequence[bytes]) -> list[bytes]:
    """rows without the header of the first message and the trailer in the last."""
    bodies = [bytes(row) for row in rows]
    if not bodies or not bodies[0].startswith(_SIGNATURE):
        raise StorageError("what came is no binary COPY; is there a proxy in between that changes it?")
    bodies[0] = bodies[0][len(_SIGNATURE) :]
    if bodies[-1] != _TRAILER:
        raise StorageError("a binary COPY ended early: the connection broke. Run it again.")
    return [body for body in bodies[:-1] if body]
