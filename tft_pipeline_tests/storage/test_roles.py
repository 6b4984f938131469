"""Three roles: who reads cannot write, who writes cannot alter, and a database is usable where they cannot be made."""

import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tft_pipeline.contracts import BARS, EQUITY, TABLES
from tft_pipeline.errors import StorageError
from tft_pipeline.storage import partitions, roles
from tft_pipeline.storage.database import Database
from tft_pipeline.storage.migrate import migrate
from tft_pipeline.storage.quarantine import listed
from tft_pipeline.storage.read import read
from tft_pipeline.storage.slices import write
from tft_pipeline_tests.servers import system_postgres

from .frames import frame

DAYS = [date(2024, 1, 31), date(2024, 2, 1)]
BY = {"run_id": "r", "code_version": "1"}


@pytest.fixture
def writer(any_database: Database) -> Database:
    return replace(any_database, role=roles.WRITER)


@pytest.fixture
def reader(any_database: Database) -> Database:
    """The role alone, without the transactions that refuse: the rights must do."""
    return replace(any_database, role=roles.READER)


def refused(database: Database, statement: str) -> str:
    with pytest.raises(StorageError) as caught, database.connect() as connection:
        connection.execute(statement)
    return str(caught.value)


def test_a_fresh_database_lacks_no_right(any_database: Database) -> None:
    assert roles.missing(any_database) == []


def test_the_reader_reads_every_table_and_a_month_made_after_the_grants(
    any_database: Database, reader: Database
) -> None:
    write(any_database, {BARS: frame(BARS, DAYS)}, DAYS, **BY)
    for table in TABLES:
        read(reader, table)
    assert len(read(reader, BARS)) == 2
    assert len(listed(reader)) == 0
    with reader.connect() as connection:  # a partition by its own name, too: default privileges
        assert connection.execute("SELECT count(*) FROM market.bars_2024_02").fetchone() == (1,)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM market.bars", "UPDATE ops.slices SET row_count = 0", "TRUNCATE market.bars", "INSERT INTO ops.fences VALUES ('a', '2024-01-01', 1)",
        "SELECT nextval('ops.generations')", "SELECT ops.make_partition('market', 'bars', '2030-01-01')", "DROP TABLE market.bars",
        "CREATE TABLE market.mine (n int)", "SELECT ops.apply_roles()",
    ],
)  # fmt: skip
def test_the_reader_cannot_write(reader: Database, statement: str) -> None:
    said = refused(reader, statement)
    assert "permission denied" in said or "must be owner" in said
    assert "tft-pipeline doctor` prints the grants" in said


def test_reading_refuses_twice_by_role_and_by_transaction(any_database: Database) -> None:
    reading = roles.reading(any_database)
    assert (reading.role, reading.read_only) == (roles.READER, True)
    assert "cannot execute DELETE in a read-only transaction" in refused(reading, "DELETE FROM market.bars")
    with reading.connect() as connection:
        assert connection.execute("SELECT current_user").fetchone() == (roles.READER,)
    # Whoever lifts the one meets the other.
    assert "permission denied" in refused(reading, "SET TRANSACTION READ WRITE; DELETE FROM market.bars")


def test_the_writer_writes_slices_into_months_that_it_makes(any_database: Database, writer: Database) -> None:
    for table in (BARS, EQUITY):  # a raw table with revisions, and one with the ledger's triggers
        write(writer, {table: frame(table, DAYS)}, DAYS, **BY)
    changed = frame(BARS, DAYS).assign(volume=7.0)
    assert write(writer, {BARS: changed}, DAYS, **BY)["market.bars"].rows_revised == 2
    with any_database.connect() as connection:
        owners = connection.execute(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relname LIKE 'bars%' AND relkind IN ('r', 'p')"
        ).fetchall()
    assert owners == [("tft_owner",)]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE market.bars", "ALTER TABLE market.bars ADD COLUMN more int", "TRUNCATE market.bars", "DROP SCHEMA market CASCADE",
        "CREATE TABLE market.mine (n int)", "DELETE FROM ops.migrations", "ALTER TABLE portfolio.equity DISABLE TRIGGER ALL",
        "CREATE INDEX ON market.bars (close)", "SELECT ops.apply_roles()",
    ],
)  # fmt: skip
def test_the_writer_cannot_drop_or_alter(writer: Database, statement: str) -> None:
    said = refused(writer, statement)
    assert "permission denied" in said or "must be owner" in said


def test_a_month_is_made_of_our_tables_only_and_begins_on_its_first_day(
    any_database: Database, writer: Database
) -> None:
    with any_database.connect() as connection:
        connection.execute("CREATE TABLE public.theirs (day date) PARTITION BY RANGE (day)")
    assert "is not one of this pipeline's tables" in refused(
        writer, "SELECT ops.make_partition('public', 'theirs', '2024-01-01')"
    )
    assert "is not the first day of a month" in refused(
        writer, "SELECT ops.make_partition('market', 'bars', '2024-01-02')"
    )
    assert "is not the first day" in refused(writer, "SELECT ops.make_partition('market', 'bars', '9999-01-01')")


def test_a_month_that_lies_there_under_another_name_is_not_made_again(any_database: Database) -> None:
    with any_database.connect() as connection:
        for table, key in (("market.bars", "2024-01-01 00:00+00"), ("ops.quarantine", "2024-01-01")):
            connection.execute(
                f"CREATE TABLE {table}_p20240101 PARTITION OF {table} FOR VALUES FROM ('{key}') TO ('{key.replace('-01-', '-02-', 1)}')"
            )
    made = partitions.ensure(any_database, ["market.bars", "ops.quarantine"], DAYS)
    assert made == ["market.bars_2024_02", "ops.quarantine_2024_02"]


def test_a_role_that_is_no_name_or_not_there_is_refused(any_database: Database) -> None:
    with pytest.raises(StorageError, match="'x; DROP' is no name of a role"):
        replace(any_database, role="x; DROP").check()
    with pytest.raises(
        StorageError, match=r'cannot take on the role nobody_here: role "nobody_here" does not exist.*doctor'
    ):
        replace(any_database, role="nobody_here").check()


def test_a_right_that_was_taken_away_is_named_with_the_grant(any_database: Database) -> None:
    with any_database.connect() as connection:
        connection.execute(
            "REVOKE SELECT, INSERT ON market.bars FROM tft_writer; REVOKE USAGE ON SCHEMA signals FROM tft_reader"
        )
        connection.execute("REVOKE ALL ON SEQUENCE ops.generations FROM tft_writer")
    wanted = roles.missing(any_database)
    assert wanted == [
        "GRANT USAGE ON SCHEMA signals TO tft_reader",
        "GRANT USAGE ON SEQUENCE ops.generations TO tft_writer",
        "GRANT INSERT, SELECT ON market.bars TO tft_writer",
    ]
    with any_database.connect() as connection:
        for statement in wanted:
            connection.execute(statement)
    assert roles.missing(any_database) == []


def test_tables_of_a_later_migration_are_covered(any_database: Database) -> None:
    with any_database.connect() as connection:
        connection.execute("CREATE TABLE ops.later (n int)")
    with replace(any_database, role=roles.READER).connect() as connection:
        assert connection.execute("SELECT count(*) FROM ops.later").fetchone() == (0,)
    assert roles.missing(any_database) == []


# Clusters with other databases, and servers on which one may do little ------------------------------------------------------


class Cluster:
    """Fresh databases and users on a server, gone again at the end."""

    def __init__(self, admin: str) -> None:
        self.admin = admin
        self.databases: list[str] = []
        self.users: list[str] = []

    def run(self, statement: str, database: str | None = None) -> None:
        dsn = self.admin if database is None else self.dsn(database)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement)

    def dsn(self, database: str, user: str | None = None, password: str | None = None) -> str:
        given = {**conninfo_to_dict(self.admin), "dbname": database}
        if user:
            given |= {"user": user, "password": password or ""}
        host = f"?host={given['host']}&port={given.get('port', 5432)}" if str(given["host"]).startswith("/") else ""
        where = "" if host else f"{given['host']}:{given['port']}"
        secret = f":{given['password']}" if given.get("password") else ""
        return f"postgresql://{given['user']}{secret}@{where}/{given['dbname']}{host}"

    def user(self, options: str = "") -> tuple[str, str]:
        name, password = f"u_{secrets.token_hex(4)}", secrets.token_hex(8)
        self.run(f"CREATE ROLE {name} LOGIN {options} PASSWORD '{password}'")
        self.users.append(name)
        return name, password

    def database(self, owner: str | None = None) -> str:
        name = f"d_{secrets.token_hex(4)}"
        self.run(f"CREATE DATABASE {name}" + (f" OWNER {owner}" if owner else ""))
        self.databases.append(name)
        return name

    def forget_roles(self) -> bool:
        """The three roles gone, as on a server that never saw them; False where other databases of the session still use them."""
        try:
            self.run("DROP ROLE IF EXISTS tft_owner, tft_writer, tft_reader")
        except psycopg.errors.DependentObjectsStillExist:
            return False
        return True

    def close(self) -> None:
        for database in self.databases:
            self.run(f"DROP DATABASE {database} WITH (FORCE)")
        for user in self.users:
            self.run(f"DROP ROLE {user}")


@pytest.fixture(scope="module")
def fresh_server() -> Iterator[str]:
    with system_postgres() as dsn:
        yield dsn


@pytest.fixture
def cluster(fresh_server: str) -> Iterator[Cluster]:
    """A server on which no database holds the roles."""
    made = Cluster(fresh_server)
    yield made
    made.close()
    assert made.forget_roles()


def test_two_databases_that_migrate_at_once_make_the_roles_once(cluster: Cluster) -> None:
    for _ in range(3):
        databases = [Database(cluster.dsn(cluster.database())) for _ in range(4)]
        barrier, errors = threading.Barrier(len(databases)), []

        def run(database: Database, barrier: threading.Barrier = barrier, errors: list[StorageError] = errors) -> None:
            barrier.wait()
            try:
                migrate(database)
            except StorageError as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(database,)) for database in databases]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        for database in databases:
            assert roles.missing(database) == []
        while cluster.databases:
            cluster.run(f"DROP DATABASE {cluster.databases.pop()} WITH (FORCE)")
        assert cluster.forget_roles()


def test_who_may_not_make_roles_goes_on_without_and_is_told_the_sql(cluster: Cluster) -> None:
    user, password = cluster.user()
    name = cluster.database(owner=user)
    mine = Database(cluster.dsn(name, user, password))
    migrate(mine)
    write(mine, {BARS: frame(BARS, DAYS)}, DAYS, **BY)
    reading = roles.reading(mine)
    assert (reading.role, reading.read_only) == (None, True)
    assert len(read(reading, BARS)) == 2
    wanted = roles.missing(mine)
    assert wanted == [
        "CREATE ROLE \"tft_owner\" NOLOGIN", "CREATE ROLE \"tft_writer\" NOLOGIN", "CREATE ROLE \"tft_reader\" NOLOGIN",
        *(f'GRANT "{role}" TO "{user}"' for role in roles.ROLES), "SELECT ops.apply_roles()",
    ]  # fmt: skip
    for statement in wanted:  # the administrator, in this database
        cluster.run(statement, name)
    assert roles.missing(mine) == []
    assert len(read(roles.reading(mine), BARS)) == 2
    assert roles.reading(mine).role == roles.READER
    write(replace(mine, role=roles.WRITER), {BARS: frame(BARS, [date(2024, 5, 2)])}, [date(2024, 5, 2)], **BY)


def test_roles_that_another_user_made_are_asked_for_not_taken(cluster: Cluster) -> None:
    migrate(Database(cluster.dsn(cluster.database())))  # a superuser's
    user, password = cluster.user()
    name = cluster.database(owner=user)
    mine = Database(cluster.dsn(name, user, password))
    migrate(mine)
    write(mine, {BARS: frame(BARS, DAYS)}, DAYS, **BY)
    assert roles.missing(mine) == [f'GRANT "{role}" TO "{user}"' for role in roles.ROLES]
    assert roles.reading(mine).role is None
    cluster.run(f"GRANT tft_owner, tft_writer, tft_reader TO {user}")
    assert roles.missing(mine) == []
    with mine.connect() as connection:  # hands everything to the owner, now that it may
        assert connection.execute("SELECT ops.apply_roles()").fetchall() == []
    write(mine, {BARS: frame(BARS, [date(2024, 6, 3)])}, [date(2024, 6, 3)], **BY)


def test_who_may_make_roles_but_is_no_superuser_has_all_of_it(cluster: Cluster) -> None:
    user, password = cluster.user("CREATEROLE")
    mine = Database(cluster.dsn(cluster.database(owner=user), user, password))
    migrate(mine)
    assert roles.missing(mine) == []
    write(replace(mine, role=roles.WRITER), {BARS: frame(BARS, DAYS)}, DAYS, **BY)
    assert len(read(roles.reading(mine), BARS)) == 2
    assert migrate(mine) == []


def test_a_login_that_is_a_writer_only_can_do_a_writers_work(cluster: Cluster) -> None:
    name = cluster.database()
    migrate(Database(cluster.dsn(name)))
    user, password = cluster.user("IN ROLE tft_writer")
    mine = Database(cluster.dsn(name, user, password))
    assert migrate(mine) == []
    write(mine, {BARS: frame(BARS, DAYS)}, DAYS, **BY)
    assert "must be owner" in refused(mine, "DROP TABLE market.bars")
    assert roles.missing(mine) == [f'GRANT "{role}" TO "{user}"' for role in (roles.OWNER, roles.READER)]
