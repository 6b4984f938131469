"""A contract's rules, asked of staged rows in PostgreSQL: what stands in the slice is what was judged, whatever lies in between.

Of a raw table, rows that break a rule are set apart: one wrong post must not cost the hour's others. A derived table's rows are ours:
one that breaks a rule is a fault of the code, and nothing is written.
"""

import sys
from collections.abc import Sequence

import pandas as pd
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg.sql import Composable, Composed, Identifier, Literal

from tft_pipeline.errors import ContractError
from tft_pipeline.schema import Column, Table
from tft_pipeline.storage import composed, quarantine

_Connection = psycopg.Connection[TupleRow]

_AGAIN = "another row of the same key came before it"
_LARGEST = sys.float_info.max
_EMPTY: Composable = sql.SQL("")


def set_apart(connection: _Connection, table: Table, stage: Composable) -> pd.DataFrame:
    """Take the rows that break a rule out of the stage; they come back as quarantine.COLUMNS, each with the first rule it breaks."""
    if not _any_broken(connection, table, stage):
        return pd.DataFrame(columns=quarantine.COLUMNS)
    query = sql.SQL("""
        {judged}, gone AS (
            DELETE FROM {stage} AS s USING judged AS j WHERE s.ctid = j.at AND j.reason IS NOT NULL
            RETURNING {day} AS day, {ticker} AS ticker, j.reason, to_jsonb(s)::text AS row)
        SELECT day, ticker, reason, row FROM gone ORDER BY day, ticker, row""").format(
        judged=_judged(table, stage),
        stage=stage,
        day=composed.day_of(table, "s"),
        ticker=Identifier("s", "ticker") if "ticker" in table.names else sql.SQL("NULL::text"),
    )
    return pd.DataFrame(connection.execute(query).fetchall(), columns=quarantine.COLUMNS)


def demand_kept(connection: _Connection, table: Table, stage: Composable) -> None:
    """Raises ContractError, with the rule and the first row that breaks it, unless every staged row keeps every rule."""
    if not _any_broken(connection, table, stage):
        return
    query = sql.SQL("""
        {judged}
        SELECT j.reason, count(*) OVER (PARTITION BY j.reason), {key}
        FROM judged AS j JOIN {stage} AS s ON s.ctid = j.at WHERE j.reason IS NOT NULL ORDER BY j.at LIMIT 1""").format(
        judged=_judged(table, stage), stage=stage, key=composed.listed(table.key, "s")
    )
    row = connection.execute(query).fetchone()
    reason, count, *key = row or ("a rule is broken", 0)
    raise ContractError(
        f"{table.name}: {reason} in {count} row(s), first at {', '.join(f'{k}={v}' for k, v in zip(table.key, key, strict=False))}. "
        f"Mend the frame where it is made or change contracts.{table.constant}."
    )


def _any_broken(connection: _Connection, table: Table, stage: Composable) -> bool:
    """The usual answer is no; it takes one pass and one grouping, as few comparisons as may be, and no sentence for any row."""
    conditions = [condition for column in table.columns for condition in _beyond(column, "s")]
    broken = sql.SQL(" OR ").join([*conditions, *(rule for _, rule in _of_rows(table, "s"))])
    query = sql.SQL("""
        SELECT EXISTS (SELECT FROM {stage} AS s WHERE {broken}) OR EXISTS (SELECT FROM {stage} AS s GROUP BY {key} HAVING count(*) > 1)
        """).format(stage=stage, broken=broken, key=composed.listed(table.key, "s"))
    row = connection.execute(query).fetchone()
    return row is None or bool(row[0])


def _judged(table: Table, stage: Composable) -> Composed:
    """WITH … judged (at, reason): every staged row, and the first rule that it breaks, or NULL. Of rows with one key, the first sound one is kept."""
    cases = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {}").format(rule, Literal(name)) for name, rule in _rules(table, "s")
    )
    return sql.SQL("""
        WITH valued AS (SELECT s.ctid AS at, {s_key}, CASE {cases} END AS reason FROM {stage} AS s),
        judged AS (
            SELECT v.at, coalesce(v.reason, CASE WHEN row_number() OVER (PARTITION BY v.reason IS NULL, {v_key} ORDER BY v.at) > 1
                                                 THEN {again} END) AS reason
            FROM valued AS v)""").format(
        s_key=composed.listed(table.key, "s"),
        v_key=composed.listed(table.key, "v"),
        cases=cases,
        stage=stage,
        again=Literal(_AGAIN),
    )


def _rules(table: Table, alias: str) -> list[tuple[str, Composable]]:
    """(sentence, condition that is true where the rule is broken), the gravest first: what is missing breaks no other rule."""
    of_columns = [rule for column in table.columns for rule in _of_column(column, alias)]
    return sorted([*of_columns, *_of_rows(table, alias)], key=lambda rule: not rule[0].endswith("is missing"))


def _of_rows(table: Table, alias: str) -> list[tuple[str, Composable]]:
    return [
        (
            f"{left} is greater than {right}",
            sql.SQL("{} > {}").format(Identifier(alias, left), Identifier(alias, right)),
        )
        for left, right in table.checks
    ]


def _beyond(column: Column, alias: str) -> list[Composable]:
    """True where any rule of the column is broken: all rules of a float are two comparisons, for NaN is greater than every number."""
    if column.dtype != "float":
        return [rule for _, rule in _of_column(column, alias)]
    name = Identifier(alias, column.name)
    low = -_LARGEST if column.minimum is None else column.minimum
    high = _LARGEST if column.maximum is None else column.maximum
    outside = sql.SQL("{0} < {1}::double precision OR {0} > {2}::double precision").format(
        name, Literal(low), Literal(high)
    )
    return [outside] if column.nullable else [outside, sql.SQL("{} IS NULL").format(name)]


def _of_column(column: Column, alias: str) -> Sequence[tuple[str, Composable]]:
    name, found = Identifier(alias, column.name), []
    number = sql.SQL("double precision") if column.dtype == "float" else sql.SQL("bigint")
    if not column.nullable:
        # A float is missing as NaN, which PostgreSQL holds greater than every number.
        nan = sql.SQL(" OR {} = 'NaN'").format(name) if column.dtype == "float" else _EMPTY
        found.append((f"{column.name} is missing", sql.SQL("{} IS NULL{}").format(name, nan)))
    if column.dtype == "float":
        finite = sql.SQL("{} IN ('NaN', 'Infinity', '-Infinity')").format(name)
        found.append((f"{column.name} is not finite", finite))
    if column.minimum is not None:
        low = sql.SQL("{} < {}::{}").format(name, Literal(column.minimum), number)
        found.append((f"{column.name} is below {column.minimum:g}", low))
    if column.maximum is not None:
        high = sql.SQL("{} > {}::{}").format(name, Literal(column.maximum), number)
        found.append((f"{column.name} is above {column.maximum:g}", high))
    if column.allowed is not None:
        other = sql.SQL("{} <> ALL({})").format(name, Literal(list(column.allowed)))
        found.append((f"{column.name} is none of {', '.join(column.allowed)}", other))
    if column.pattern is not None:
        strange = sql.SQL("{} !~ {}").format(name, Literal(column.pattern))
        found.append((f"{column.name} does not match {column.pattern}", strange))
    return found
