"""The contracts, and that the tables of sql/ say the same: on both servers."""

import json
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pandera.pandas as pa
import psycopg
import pytest
from psycopg import sql

from tft_pipeline import contracts, schema
from tft_pipeline.contracts import TABLES, TICKER_PATTERN
from tft_pipeline.errors import ContractError
from tft_pipeline.storage import merge, partitions
from tft_pipeline.storage import rules as storage_rules

from .storage.frames import frame

DAYS = [date(2024, 1, 31), date(2024, 2, 1)]
TYPES = {
    "text": "text",
    "time": "timestamptz",
    "float": "float8",
    "int": "int8",
    "bool": "bool",
    "bytes": "bytea",
    "json": "jsonb",
}
by_name = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)


@pytest.fixture(scope="module", params=["embedded", "system"])
def migrated(request):
    """One migrated database for the module: nothing is committed to it but partitions."""
    from tft_pipeline.storage.database import Database

    database = Database(
        request.getfixturevalue("postgres_template" if request.param == "embedded" else "postgres15_template")()
    )
    for table in TABLES:
        partitions.ensure(database, partitions.of_table(table), DAYS)
    return database


def columns_of(connection, name):
    """{column: (base type, not null, generated, comment)}"""
    rows = connection.execute(
        """
        SELECT a.attname, coalesce(b.typname, t.typname), a.attnotnull, a.attgenerated = 's', col_description(a.attrelid, a.attnum)
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = nullif(t.typbasetype, 0)
        WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum""",
        (name,),
    ).fetchall()
    return {row[0]: row[1:] for row in rows}


@by_name
def test_columns_types_and_nullability_agree(migrated, table):
    expected = {c.name: (TYPES[c.dtype], not c.nullable, False) for c in table.columns}
    expected |= {c.name: (TYPES[c.dtype], True, True) for c in table.generated}
    if table.mode == "raw":
        expected["loaded_at"] = ("timestamptz", True, False)
    with migrated.connect() as connection:
        found = columns_of(connection, table.name)
        assert {name: column[:3] for name, column in found.items()} == expected
        for column in (*table.columns, *table.generated):
            # The unit must agree; of the wording, only that there is one: contracts may be put better without a migration.
            comment = found[column.name][3]
            assert comment
            assert comment.endswith("" if column.unit == "-" else f" [{column.unit}]")
        assert connection.execute("SELECT obj_description(%s::regclass)", (table.name,)).fetchone()[0]
        if table.mode == "raw":
            assert "known_at" in table.names
            assert columns_of(connection, f"{table.name}_revisions") == found | {
                "replaced_at": (
                    "timestamptz",
                    True,
                    False,
                    columns_of(connection, f"{table.name}_revisions")["replaced_at"][3],
                )
            }


@by_name
def test_key_partitioning_and_indexes_agree(migrated, table):
    with migrated.connect() as connection:
        indexes = [
            row[0]
            for row in connection.execute(
                "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass", (table.name,)
            )
        ]
        primary = connection.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'",
            (table.name,),
        ).fetchone()
        (partitioned,) = connection.execute("SELECT pg_get_partkeydef(%s::regclass)", (table.name,)).fetchone()
    assert primary == (f"PRIMARY KEY ({', '.join(table.key)})",)
    assert partitioned == f"RANGE ({table.time})"
    if "ticker" in table.names:
        assert any(f"(ticker, {table.time} DESC)" in index for index in indexes)


def test_every_table_of_the_stages_has_a_contract(migrated):
    with migrated.connect() as connection:
        found = {
            row[0]
            for row in connection.execute(
                "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind = 'p' AND n.nspname <> 'ops'"
            )
        }
    assert found == {name for table in TABLES for name in partitions.of_table(table)}


def violations(table):
    """(rule, frame with one row that breaks it), for each rule of the contract."""
    good = frame(table, DAYS[:1], hours=(0,))
    for column in table.columns:
        for rule, value in rules(column):
            yield (
                f"{column.name} {rule}",
                good.astype({column.name: object}).assign(**{column.name: pd.Series([value], dtype=object)}),
            )
    for left, right in table.checks:
        bad = good.copy()
        if bad[left].dtype.kind == "M":
            bad[left] = bad[right] + timedelta(microseconds=1)
        else:
            bad[left] = bad[right] + 0.001
        yield f"{left} <= {right}", bad


def rules(column):
    if not column.nullable:
        yield "not null", None
    if column.dtype == "float":
        yield from (("NaN", np.nan), ("infinite", np.inf), ("-infinite", -np.inf))
    step = 1 if column.dtype == "int" else 1e-6
    if column.minimum is not None:
        yield "minimum", (int if column.dtype == "int" else float)(column.minimum - step)
    if column.maximum is not None:
        yield "maximum", (int if column.dtype == "int" else float)(column.maximum + step)
    if column.allowed is not None:
        yield "allowed", "another"
    if column.pattern == TICKER_PATTERN:
        yield from (("pattern", bad) for bad in ("aapl", "", "A" * 11, "BRK.", "../x", "A\nB", "AAPL\n"))


@by_name
def test_the_database_refuses_what_the_contract_refuses(migrated, table):
    good = frame(table, DAYS[:1], hours=(0,))
    names = ", ".join(f'"{name}"' for name in table.names)
    insert = f"INSERT INTO {table.name} ({names}) VALUES ({', '.join(['%s'] * len(table.names))})"
    refused = (psycopg.errors.CheckViolation, psycopg.errors.NotNullViolation)
    with migrated.connect() as connection:
        connection.execute(insert, values(good, table))
        connection.rollback()
        for rule, bad in violations(table):
            with pytest.raises(refused), connection.transaction():  # noqa: PT012
                connection.execute(insert, values(bad, table))
                pytest.fail(f"PostgreSQL takes {rule} of {table.name}")
        connection.rollback()


@by_name
def test_the_writer_asks_the_same_of_staged_rows(migrated, table):
    good = frame(table, DAYS[:1], hours=(0, 1))
    stage = sql.Identifier("pg_temp", f"stage_{table.name.replace('.', '_')}")
    names = ", ".join(f'"{name}"' for name in table.names)
    insert = f"INSERT INTO {stage.as_string()} ({names}) VALUES ({', '.join(['%s'] * len(table.names))})"
    with migrated.connect() as connection:
        merge.stage(connection, table)
        connection.commit()
        connection.execute(insert, values(good, table))
        connection.execute(insert, values(good.iloc[1:], table))
        storage_rules.demand_kept(connection, table, stage)
        assert storage_rules.set_apart(connection, table, stage).empty
        for rule, bad in violations(table):
            connection.commit()  # the stage is empty
            connection.execute(insert, values(good.iloc[1:], table))
            connection.execute(insert, values(bad, table))
            with pytest.raises(
                ContractError, match=rf"(?s){table.name}: .* in 1 row\(s\), first at {table.key[0]}=.*contracts\."
            ) as told:
                storage_rules.demand_kept(connection, table, stage)
            refused = storage_rules.set_apart(connection, table, stage)
            assert len(refused) == 1, f"the writer takes {rule} of {table.name}"
            assert refused["reason"].iloc[0] in str(told.value)
            assert refused["reason"].iloc[0].startswith(rule.split(maxsplit=1)[0])
            assert set(json.loads(refused["row"].iloc[0])) == set(table.names)
            assert connection.execute(f"SELECT count(*) FROM {stage.as_string()}").fetchone() == (1,)
        connection.commit()
        for _ in range(3):
            connection.execute(insert, values(good, table))
        again = storage_rules.set_apart(connection, table, stage)
        assert again["reason"].tolist() == ["another row of the same key came before it"] * 2
        connection.rollback()


@by_name
def test_the_contract_refuses_what_the_database_refuses(table):
    good = frame(table, DAYS[:1], hours=(0,))
    schema.validate(good, table)
    for column in table.columns:  # each column alone: all of a table's for every rule of each takes long
        alone = pa.DataFrameSchema({column.name: column.pandera()})
        for rule, value in rules(column):
            dtype = object if value is None else good[column.name].dtype
            with pytest.raises(pa.errors.SchemaErrors):  # noqa: PT012
                alone.validate(pd.DataFrame({column.name: pd.Series([value], dtype=dtype)}), lazy=True)
                pytest.fail(f"contracts take {rule} of {column.name}")
    for left, right in table.checks:
        (bad,) = [bad for rule, bad in violations(table) if rule == f"{left} <= {right}"]
        with pytest.raises(ContractError, match=rf"{table.name}: a row breaks the rule '\w+ <= \w+' in 1 row"):
            schema.validate(bad, table)


def values(rows, table):
    row = rows.iloc[0]
    plain = [row[name].item() if isinstance(row[name], np.generic) else row[name] for name in table.names]
    plain = [
        None if c.dtype == "text" and pd.isna(v) else v for v, c in zip(plain, table.columns, strict=True)
    ]  # a null
    return [
        psycopg.types.json.Jsonb(v) if c.dtype == "json" and v is not None else v
        for v, c in zip(plain, table.columns, strict=True)
    ]


# The contracts themselves ----------------------------------------------------------------------------------------------


def test_validate_orders_columns_and_rows_and_changes_no_value():
    rows = frame(contracts.BARS, DAYS, tickers=("MSFT", "AAPL"))
    shuffled = rows[list(reversed(rows.columns))].sample(frac=1.0, random_state=1)
    ordered = schema.validate(shuffled, contracts.BARS)
    assert ordered.columns.tolist() == contracts.BARS.names
    assert ordered["ticker"].tolist() == ["AAPL", "AAPL", "MSFT", "MSFT"]
    assert ordered["bar_start"].is_monotonic_increasing is False
    pd.testing.assert_frame_equal(schema.validate(ordered, contracts.BARS), ordered)


def test_a_missing_column_an_extra_one_and_a_double_key_are_named():
    rows = frame(contracts.BARS, DAYS)
    with pytest.raises(ContractError, match=r"market.bars: column 'open' is missing; the frame has \[.*contracts.BARS"):
        schema.validate(rows.drop(columns="open"), contracts.BARS)
    with pytest.raises(ContractError, match=r"market.bars: column 'vwap' is not in the contract"):
        schema.validate(rows.assign(vwap=1.0), contracts.BARS)
    with pytest.raises(ContractError, match=r"market.bars"):
        schema.validate(pd.concat([rows, rows]), contracts.BARS)


def test_a_row_that_breaks_a_rule_is_shown():
    rows = frame(contracts.BARS, DAYS)
    rows.loc[1, "low"] = 13.0
    with pytest.raises(
        ContractError,
        match=r"market.bars: a row breaks the rule 'low <= high' in 1 row\(s\), first at ticker=AAPL, bar_start=2024-02-01",
    ):
        schema.validate(rows, contracts.BARS)
    rows = frame(contracts.BARS, DAYS).assign(volume=-1.0)
    with pytest.raises(ContractError, match=r"column 'volume' breaks the rule .* in 2 row\(s\).*found .*-1.0"):
        schema.validate(rows, contracts.BARS)


def test_tables_are_found_by_name_and_frames_joined_with_their_dtypes():
    assert contracts.table("market.bars") is contracts.BARS
    with pytest.raises(ContractError, match=r"no table 'market.bar'"):
        contracts.table("market.bar")
    one = frame(contracts.BARS, DAYS)
    assert schema.concat([], contracts.BARS).dtypes.equals(one.dtypes)
    assert len(schema.concat([one, contracts.BARS.empty(), one], contracts.BARS)) == 4
    assert str(schema.utc(pd.Series(pd.to_datetime(["2024-01-01T12:00+01:00"]))).dtype) == schema.UTC


@pytest.mark.parametrize("table", contracts.TABLES, ids=lambda table: table.name)
def test_a_message_names_the_constant_to_change(table):
    assert getattr(contracts, table.constant) is table
