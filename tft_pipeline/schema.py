"""What a table of a contract is made of, and how a frame is held against it.

What belongs here: columns and tables in general. Which tables there are: contracts.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import pandera.pandas as pa

from tft_pipeline.errors import ContractError

UTC = "datetime64[us, UTC]"

Mode = Literal["derived", "raw"]
Dtype = Literal["text", "time", "float", "int", "bool", "bytes", "json"]

_PANDAS: dict[str, str | None] = {
    "text": "str", "time": UTC, "float": "float64", "int": "int64", "bool": "bool", "bytes": None, "json": None,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column. `hashed` is False for what describes the loading, not the content: the slice's hash leaves it out."""

    name: str
    dtype: Dtype
    unit: str
    meaning: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None
    pattern: str | None = None
    hashed: bool = True

    def pandera(self) -> pa.Column:
        checks = []
        if self.minimum is not None:
            checks.append(pa.Check.ge(self.minimum))
        if self.maximum is not None:
            checks.append(pa.Check.le(self.maximum))
        if self.allowed is not None:
            checks.append(pa.Check.isin(self.allowed))
        if self.pattern is not None:
            checks.append(pa.Check.str_matches(self.pattern))
        if self.dtype == "float":
            # PostgreSQL would take Infinity in double precision without a word (FAULTS 11).
            checks.append(pa.Check(lambda s: s.abs() != float("inf"), name="finite", error="finite"))
        return pa.Column(
            _PANDAS[self.dtype], checks, nullable=self.nullable, description=self.meaning, metadata={"unit": self.unit}
        )


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table. A slice is its rows of one UTC day, by `time`. Raw tables keep what they once held in `<name>_revisions`."""

    name: str  # schema.table
    constant: str  # its name in contracts.py, for messages
    mode: Mode
    time: str
    key: tuple[str, ...]
    meaning: str
    columns: tuple[Column, ...]
    generated: tuple[Column, ...] = ()  # computed by PostgreSQL; never in a frame that is written
    checks: tuple[tuple[str, str], ...] = ()  # (left, right): left <= right in every row

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def schema(self) -> pa.DataFrameSchema:
        rules = [
            pa.Check(lambda f, a=a, b=b: f[a] <= f[b], name=f"{a} <= {b}", error=f"{a} <= {b}") for a, b in self.checks
        ]
        return pa.DataFrameSchema(
            {column.name: column.pandera() for column in self.columns},
            checks=rules,
            unique=list(self.key),
            strict=True,
            ordered=False,
            name=self.name,
            metadata={"key": self.key, "time": self.time, "mode": self.mode},
        )

    @property
    def shape(self) -> pa.DataFrameSchema:
        """The columns and their dtypes, whatever the values."""
        return pa.DataFrameSchema(
            {column.name: pa.Column(_PANDAS[column.dtype], nullable=True) for column in self.columns}, name=self.name
        )

    def empty(self) -> pd.DataFrame:
        """(0, n_columns) frame of the right dtypes."""
        return pd.DataFrame({c.name: pd.Series(dtype=_PANDAS[c.dtype] or "object") for c in self.columns})


def validate(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """frame with the contract's columns in order, rows sorted by key. Changes no value; a nullable column that is left out is null.

    Raises ContractError naming the table, the column, how many rows break the rule and the first of them.
    """
    return _held_against(table.schema, _in_order(frame, table), table)


def arranged(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """As validate, but asks for columns and dtypes only: what the values may be is asked where they are staged, see storage.rules."""
    return _held_against(table.shape, _in_order(frame, table), table)


def _in_order(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    left_out = [column for column in table.columns if column.nullable and column.name not in frame.columns]
    frame = frame.assign(**{c.name: pd.Series(None, index=frame.index, dtype=_PANDAS[c.dtype]) for c in left_out})
    missing = [name for name in table.names if name not in frame.columns]
    if missing:
        raise ContractError(
            f"{table.name}: column {missing[0]!r} is missing; the frame has {list(frame.columns)}. "
            f"Add it to the frame or change contracts.{table.constant}."
        )
    extra = [name for name in frame.columns if name not in table.names]
    if extra:
        raise ContractError(
            f"{table.name}: column {extra[0]!r} is not in the contract {table.names}. "
            f"Drop it or add it to contracts.{table.constant} and a migration."
        )
    return frame[table.names].sort_values(list(table.key), kind="stable", ignore_index=True)


def _held_against(rules: pa.DataFrameSchema, ordered: pd.DataFrame, table: Table) -> pd.DataFrame:
    try:
        rules.validate(ordered, lazy=True)
    except pa.errors.SchemaErrors as error:
        raise ContractError(_explain(ordered, table, error.failure_cases)) from None
    return ordered


def _explain(frame: pd.DataFrame, table: Table, cases: pd.DataFrame) -> str:
    first = cases.iloc[0]
    rule, column = first["check"], first["column"]
    same = cases[(cases["check"] == rule) & (cases["column"] == column)]
    where = ""
    if pd.notna(first["index"]):
        row = frame.iloc[int(first["index"])]
        where = ", first at " + ", ".join(f"{k}={row[k]}" for k in table.key)
    whole_row = column not in frame.columns or " <= " in str(rule)  # pandera names an arbitrary column for such rules
    subject = "a row" if whole_row else f"column {column!r}"
    found = "" if whole_row or first["failure_case"] is None else f" (found {first['failure_case']!r})"
    return (
        f"{table.name}: {subject} breaks the rule {rule!r} in {same['index'].nunique() or 1} row(s){where}{found}. "
        f"Mend the frame where it is made or change contracts.{table.constant}."
    )


def utc(values: pd.Series) -> pd.Series:
    """values as microsecond UTC: the one resolution that frames and PostgreSQL share."""
    converted: pd.Series = values.dt.tz_convert("UTC").dt.as_unit("us")
    return converted


def concat(frames: Iterable[pd.DataFrame], table: Table) -> pd.DataFrame:
    """The frames one under another; the table's empty frame when there are none (pd.concat raises, or loses dtypes)."""
    kept = [frame for frame in frames if len(frame)]
    return pd.concat(kept, ignore_index=True) if kept else table.empty()
