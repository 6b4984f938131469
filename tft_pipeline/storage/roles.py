"""Three roles of PostgreSQL: who owns, who writes, who only reads. Made by sql/0011; docs/decisions/0008 says what each may do.

What belongs here: taking a role on, and what is missing where the roles could not be made. What does not: what a role may do.
"""

from dataclasses import replace

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from tft_pipeline.contracts import TABLES
from tft_pipeline.storage.database import Database

OWNER, WRITER, READER = ROLES = ("tft_owner", "tft_writer", "tft_reader")
SCHEMAS = ("ops", *dict.fromkeys(table.name.split(".")[0] for table in TABLES))
_OWNERS_BOOKS = ("ops.migrations", "ops.retired")  # a writer only reads them

# Since 16 a membership may be held without the right to SET ROLE; before, every member has it.
_MAY_TAKE = """
    SELECT coalesce((SELECT pg_has_role(current_user, rolname, CASE WHEN current_setting('server_version_num')::int >= 160000
                                                                    THEN 'SET' ELSE 'MEMBER' END)
                     FROM pg_roles WHERE rolname = %s), false)"""


def reading(database: Database) -> Database:
    """database as one who cannot write: the role tft_reader, and transactions that refuse to.

    Where the role is not there or may not be taken, as on a managed server before an administrator has run what `doctor` prints, only
    the latter.
    """
    with database.connect() as connection:
        row = connection.execute(_MAY_TAKE, (READER,)).fetchone()
    return replace(database, role=READER if row and row[0] else None, read_only=True)


def missing(database: Database) -> list[str]:
    """The SQL that an administrator has to run so that the three roles have all their rights and this user may take them; or []."""
    with database.connect() as connection:
        there = [
            str(name)
            for (name,) in connection.execute(
                "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (list(ROLES),)
            ).fetchall()
        ]
        found = [sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)) for role in ROLES if role not in there]
        me = connection.info.user
        for role in ROLES:
            row = connection.execute(_MAY_TAKE, (role,)).fetchone()
            if row is None or not row[0]:
                found.append(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(me)))
        statements = [statement.as_string(connection) for statement in found]
        if len(there) < len(ROLES):
            # The rest needs the roles to be there; the function knows it all, and says what it may not do.
            return [*statements, "SELECT ops.apply_roles()"]
        return statements + _grants(connection)


def _grants(connection: psycopg.Connection[TupleRow]) -> list[str]:
    """GRANTs of writer and reader that are missing on schemas, tables and sequences; partitions are reached through their tables."""
    rows = connection.execute(
        """
        WITH schemas AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = ANY(%(schemas)s)),
        relations AS (
            SELECT c.oid, c.relkind, quote_ident(s.nspname) || '.' || quote_ident(c.relname) AS name
            FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'S') AND NOT c.relispartition),
        wanted AS (
            SELECT 'USAGE' AS privilege, 'SCHEMA ' || quote_ident(nspname) AS thing, role, has_schema_privilege(role, oid, 'USAGE') AS held
            FROM schemas CROSS JOIN unnest(%(both)s::text[]) AS role
            UNION ALL
            SELECT 'SELECT', name, role, has_table_privilege(role, oid, 'SELECT')
            FROM relations CROSS JOIN unnest(%(both)s::text[]) AS role WHERE relkind <> 'S'
            UNION ALL
            SELECT p, name, %(writer)s::text, has_table_privilege(%(writer)s::text, oid, p)
            FROM relations CROSS JOIN unnest(ARRAY['INSERT', 'UPDATE', 'DELETE']) AS p
            WHERE relkind <> 'S' AND name <> ALL(%(books)s)
            UNION ALL
            SELECT 'USAGE', 'SEQUENCE ' || name, %(writer)s::text, held
            FROM relations CROSS JOIN LATERAL ( -- CASE, for the planner may ask before it looks at the kind
                SELECT CASE WHEN relkind = 'S' THEN has_sequence_privilege(%(writer)s::text, oid, 'USAGE') END) AS asked (held)
            WHERE relkind = 'S'
            UNION ALL
            SELECT 'EXECUTE', 'FUNCTION ' || oid::regprocedure, %(writer)s::text, has_function_privilege(%(writer)s::text, oid, 'EXECUTE')
            FROM pg_proc WHERE oid = to_regprocedure('ops.make_partition(text,text,date)'))
        SELECT string_agg(privilege, ', ' ORDER BY privilege), thing, role FROM wanted WHERE NOT held GROUP BY thing, role ORDER BY role, thing""",
        {
            "schemas": [*SCHEMAS, "retired"],
            "both": [READER, WRITER],
            "writer": WRITER,
            "books": list(_OWNERS_BOOKS),
        },
    ).fetchall()
    return [
        f"GRANT {rights} ON {thing} TO {role}"
        for rights, thing, role in rows
        if (thing, role) != ("SCHEMA retired", WRITER)
    ]
