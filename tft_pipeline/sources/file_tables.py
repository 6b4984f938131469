"""Parquet files of the `files` layout, read whole and checked before anything is handed on.

What belongs here: columns, dtypes, times, keys, and errors that name the file, the row and the remedy. What does not:
whether a price makes sense (the quality rules of market/ judge that later), and which rows somebody asks for
(files.py).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tft_pipeline.contracts import TICKER_PATTERN
from tft_pipeline.errors import SourceError

MICROSECONDS = pa.timestamp("us", "UTC")
_TICKER = re.compile(TICKER_PATTERN.removesuffix("$"))


@dataclass(frozen=True)
class Layout:
    """One kind of file. columns: {name: text | time | number | count}. named_by: what names a row in a message."""

    stem: str
    columns: dict[str, str]
    named_by: tuple[str, str]
    may_be_null: tuple[str, ...] = ()
    may_be_left_out: tuple[str, ...] = ()


PRICES = ("open", "high", "low", "close", "volume")
BARS = Layout(
    "bars",
    {"ticker": "text", "bar_start": "time", "bar_end": "time", **dict.fromkeys(PRICES, "number")},
    ("ticker", "bar_start"),
    PRICES,
)
ACTIONS = Layout(
    "actions",
    {"ticker": "text", "effective_at": "time", "kind": "text", "value": "number", "former": "text"},
    ("ticker", "effective_at"),
    ("former",),
    ("former",),
)
POSTS = Layout(
    "posts",
    {"id": "text", "created_at": "time", "channel": "text", "text": "text", "score": "count"},
    ("id", "created_at"),
    ("text", "score"),
)


@dataclass(frozen=True)
class Files:
    """All files of one kind, one below the other, and which row came from where."""

    layout: Layout
    table: pa.Table
    paths: tuple[Path, ...]
    sizes: tuple[int, ...]

    def refuse(self, bad: npt.NDArray[np.bool_], what: str | Callable[[int], str], remedy: str) -> None:
        """Raises SourceError about the first True of bad, (n_rows,), and how many more there are.

        what: what is wrong, or a function of the row that says so.
        """
        rows = np.flatnonzero(bad)
        if len(rows):
            row, more = int(rows[0]), len(rows) - 1
            others = f" ({more:,} more such row{'s' if more > 1 else ''})" if more else ""
            wrong = what if isinstance(what, str) else what(row)
            raise SourceError(f"{self.place(row)}: {wrong}{others}. {remedy}")

    def place(self, row: int) -> str:
        """`folder/bars.parquet: row 17 (AAPL 2014-06-09 13:00:00+00:00)`; the row is counted from 0 within its file."""
        first = np.cumsum([0, *self.sizes])
        file = int(np.searchsorted(first, row, side="right")) - 1
        return f"{self.paths[file]}: row {row - int(first[file])} ({named(self.table, self.layout, row)})"

    def value(self, column: str, row: int) -> Any:
        return shown(self.table, column, row)


def read(folder: Path, layout: Layout) -> Files | None:
    """Every `<stem>*.parquet` of the folder, in order of name, in the layout's columns and dtypes; None without any.

    Raises SourceError for a folder or a file that cannot be read, and for columns, dtypes, times or nulls that the
    layout does not allow.
    """
    if not folder.exists():
        raise SourceError(f"{folder}: no such folder. Give files: a folder that holds {layout.stem}*.parquet.")
    if not folder.is_dir():
        raise SourceError(
            f"{folder}: not a folder. Give files: the folder that holds {layout.stem}*.parquet, not a file."
        )
    paths = tuple(sorted(folder.glob(f"{layout.stem}*.parquet")))
    if not paths:
        return None
    tables = [_opened(path, layout) for path in paths]
    return Files(layout, pa.concat_tables(tables).combine_chunks(), paths, tuple(table.num_rows for table in tables))


def check_tickers(files: Files, name: str = "ticker") -> None:
    """Raises SourceError for the first ticker in a column that contracts.TICKER_PATTERN does not allow."""
    column = files.table[name]
    wrong = [found for found in pc.unique(column).to_pylist() if found is not None and not _TICKER.fullmatch(found)]
    if wrong:
        files.refuse(
            np.asarray(pc.is_in(column, value_set=pa.array(wrong, column.type))),
            lambda row: f"{files.value(name, row)!r} is no ticker",
            f"Tickers are upper case and match {TICKER_PATTERN}: write AAPL or BRK.B.",
        )


def check_unique(files: Files, columns: tuple[str, ...], remedy: str) -> None:
    """Raises SourceError for the first row whose key repeats an earlier one, naming both."""
    order, key = _by_key(files.table, columns)
    again = np.zeros(files.table.num_rows, dtype=bool)
    same = np.all(key[:, order[1:]] == key[:, order[:-1]], axis=0)
    again[order[1:][same]] = True

    def what(row: int) -> str:
        first = int(np.flatnonzero(np.all(key == key[:, [row]], axis=0))[0])
        return f"repeats {' and '.join(columns)} of {files.place(first)}"

    files.refuse(again, what, remedy)


def named(table: pa.Table, layout: Layout, row: int) -> str:
    return " ".join(str(shown(table, column, row)) for column in layout.named_by if column in table.column_names)


def shown(table: pa.Table, column: str, row: int) -> Any:
    """A value for a message: times as text, with +00:00 where they have a zone; strange bytes escaped."""
    value = table[column][row]
    if value.is_valid and pa.types.is_timestamp(value.type) and value.type.tz:
        return value.cast(pa.timestamp(value.type.unit, "UTC")).cast(pa.string()).as_py().replace("Z", "+00:00")
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return repr(value.cast(pa.large_binary()).as_py())


def _by_key(table: pa.Table, columns: tuple[str, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row numbers in order of key (ties as they stand); (n_columns, n_rows) integers that are equal where keys are."""
    key = np.empty((len(columns), table.num_rows), dtype=np.int64)
    for i, column in enumerate(columns):
        values = table[column].combine_chunks()
        timed = pa.types.is_timestamp(values.type)
        key[i] = values.cast(pa.int64()) if timed else values.dictionary_encode().indices
    return np.lexsort(key[::-1]), key


def _opened(path: Path, layout: Layout) -> pa.Table:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:  # where its writer left checksums
            return _typed(file.read(), path, layout)
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a damaged name is not even UTF-8
        reason = str(error).partition("\n")[0][:200]
        raise SourceError(
            f"{path}: cannot be read as Parquet ({reason}). Write it again, or take it out of the folder."
        ) from None


def _typed(table: pa.Table, path: Path, layout: Layout) -> pa.Table:
    """table with the layout's columns in order, cast: text, timestamp[us, UTC], double, int64."""
    for name in layout.may_be_left_out:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.large_string()))
    found, wanted = table.column_names, list(layout.columns)
    for problem, names in (("is missing", set(wanted) - set(found)), ("is unknown", set(found) - set(wanted))):
        if names:
            name = next(name for name in (*wanted, *found) if name in names)
            remedy = "Add it." if problem == "is missing" else "Rename or drop it (pandas: to_parquet(index=False))."
            raise SourceError(
                f"{path}: column {name!r} {problem}; found {found}, {layout.stem}*.parquet holds {wanted}. {remedy}"
            )
    if len(found) != len(wanted):
        twice = next(name for name in found if found.count(name) > 1)
        raise SourceError(f"{path}: column {twice!r} stands there twice. Drop one of them.")
    named_rows = table
    for name, kind in layout.columns.items():
        _refuse_null(table[name], named_rows, path, layout, name)
        cast = _cast(
            table[name],
            kind,
            path,
            name,
            lambda: f"row 0 ({named(named_rows, layout, 0)})" if len(named_rows) else "no rows",
        )
        table = table.set_column(table.column_names.index(name), name, cast)
    return table.select(wanted).replace_schema_metadata(None)  # pandas' own notes would win over these dtypes


def _refuse_null(column: pa.ChunkedArray, table: pa.Table, path: Path, layout: Layout, name: str) -> None:
    if column.null_count and name not in layout.may_be_null:
        row = int(np.argmax(np.asarray(column.is_null())))
        more = f" ({column.null_count - 1:,} more such rows)" if column.null_count > 1 else ""
        raise SourceError(
            f"{path}: row {row} ({named(table, layout, row)}): {name} is null{more}. Fill it in or leave the row out."
        )


def _cast(column: pa.ChunkedArray, kind: str, path: Path, name: str, first: Callable[[], str]) -> pa.ChunkedArray:
    dtype = column.type
    if kind == "time":
        if not pa.types.is_timestamp(dtype):
            raise SourceError(
                f"{path}: column {name!r} is {dtype}, not a timestamp; {first()}. "
                "Write it as a timestamp with time zone UTC."
            )
        if dtype.tz is None:
            raise SourceError(
                f"{path}: column {name!r} has no time zone ({dtype}); {first()}. "
                "Nobody can tell which hour it means: write UTC (pandas: .dt.tz_localize(zone).dt.tz_convert('UTC'))."
            )
        # The zone is a label; the instants are UTC. Parts of a microsecond are cut off.
        return _or_refuse(lambda: column.cast(MICROSECONDS, safe=dtype.unit != "ns"), path, name)
    if pa.types.is_dictionary(dtype):
        column, dtype = column.cast(dtype.value_type), dtype.value_type
    text = pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)
    number = pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)
    if kind == "text" and (text or (name == "id" and pa.types.is_integer(dtype)) or pa.types.is_null(dtype)):
        clean = _valid(column.cast(pa.large_string()))
        return (
            clean if name in ("ticker", "kind", "former") else pc.replace_substring(clean, "\0", "")
        )  # PostgreSQL takes no NUL
    if kind == "count" and pa.types.is_floating(dtype):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, dtype), column)
        broken = np.flatnonzero(np.asarray(pc.fill_null(pc.not_equal(pc.floor(column), column), False)))
        if len(broken):
            row = int(broken[0])
            raise SourceError(f"{path}: row {row}: {name} {column[row]} is not a whole number. Round it there.")
    if kind != "text" and (number or pa.types.is_null(dtype)):
        return _or_refuse(
            lambda: column.cast(pa.float64() if kind == "number" else pa.int64(), safe=kind != "number"), path, name
        )
    wanted = {"text": "text", "number": "a number", "count": "a whole number"}[kind]
    raise SourceError(f"{path}: column {name!r} is {dtype}, not {wanted}; {first()}. Write it as {wanted}.")


def _or_refuse(cast: Callable[[], pa.ChunkedArray], path: Path, name: str) -> pa.ChunkedArray:
    try:
        return cast()
    except pa.ArrowInvalid as error:
        raise SourceError(
            f"{path}: column {name!r} holds a value that cannot be kept ({error}). Mend it there."
        ) from None


def _valid(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text with U+FFFD for what is not UTF-8, lone surrogates among them."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return pa.chunked_array([_repaired(chunk) for chunk in column.chunks], pa.large_string())
    return column


def _repaired(texts: pa.Array) -> pa.Array:
    return pa.array(
        [None if raw is None else _decoded(raw) for raw in texts.cast(pa.large_binary()).to_pylist()], pa.large_string()
    )


def _decoded(raw: bytes) -> str:
    try:
        # Two halves of a pair, written one by one, make their character again; a half alone becomes U+FFFD.
        return raw.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")
