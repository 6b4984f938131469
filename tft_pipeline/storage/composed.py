"""Pieces of SQL made from a contract: names as identifiers, the order of a key, the image of a row. Composed, never formatted."""

from collections.abc import Iterable, Sequence

from psycopg import sql
from psycopg.sql import Composable, Composed, Identifier, Literal

from tft_pipeline.schema import Column, Dtype, Table

# Base types: the image of a row holds the types' numbers, and those of domains differ from database to database.
_TYPES: dict[Dtype, str] = {
    "text": "text",
    "time": "timestamptz",
    "float": "double precision",
    "int": "bigint",
    "bool": "boolean",
    "bytes": "bytea",
    "json": "jsonb",
}


def type_of(column: Column) -> sql.SQL:
    """The PostgreSQL type of a column, without domain or collation."""
    return sql.SQL(_TYPES[column.dtype])


def qualified(name: str) -> Identifier:
    """`schema.table` as an identifier."""
    return Identifier(*name.split("."))


def listed(names: Iterable[str], alias: str | None = None) -> Composed:
    """a, b or alias.a, alias.b."""
    return sql.SQL(", ").join(Identifier(alias, name) if alias else Identifier(name) for name in names)


def same_key(table: Table, left: str, right: str) -> Composed:
    """left.k1 = right.k1 AND …"""
    pairs = (sql.SQL("{} = {}").format(Identifier(left, name), Identifier(right, name)) for name in table.key)
    return sql.SQL(" AND ").join(pairs)


def image(columns: Sequence[Column], alias: str) -> Composed:
    """The row's columns as bytes: equal exactly where every value is equal bit for bit, on any server."""
    values = (sql.SQL("{}::{}").format(Identifier(alias, c.name), type_of(c)) for c in columns)
    return sql.SQL("record_send(ROW({}))").format(sql.SQL(", ").join(values))


def day_of(table: Table, alias: str) -> Composed:
    """The UTC day of a row, whatever the session's time zone."""
    return sql.SQL("({} AT TIME ZONE 'UTC')::date").format(Identifier(alias, table.time))


def between(table: Table, alias: str, low: object, high: object) -> Composed:
    """low <= time < high: lets PostgreSQL open only the partitions concerned."""
    time = Identifier(alias, table.time)
    return sql.SQL("{} >= {} AND {} < {}").format(time, Literal(low), time, Literal(high))


def key_order(table: Table, alias: str) -> Composed:
    """The key in the order in which Python sorts: texts by code point."""
    dtypes = {column.name: column.dtype for column in table.columns}
    parts: list[Composable] = []
    for name in table.key:
        collate = sql.SQL(' COLLATE "C"') if dtypes[name] == "text" else sql.SQL("")
        parts.append(sql.SQL("{}{}").format(Identifier(alias, name), collate))
    return sql.SQL(", ").join(parts)
