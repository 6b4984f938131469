"""Connections, and what is said when there is none. The password never shows."""

import re

import psycopg
import pytest

from tft_pipeline.errors import StorageError
from tft_pipeline.storage import database as module
from tft_pipeline.storage.database import Database


def test_a_connection_speaks_utc_and_gives_up_in_time(any_database):
    with any_database.connect() as connection:
        shown = connection.execute(
            "SELECT current_setting('timezone'), current_setting('lock_timeout'), current_setting('statement_timeout'), "
            "current_setting('application_name')"
        ).fetchone()
    assert shown == ("UTC", "1min", "10min", "tft-pipeline")


def test_check_tells_the_major_version(database, postgres15_dsn):
    assert database.check() == 18
    assert Database(postgres15_dsn).check() >= 15


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_the_schemes_of_other_libraries_are_understood(postgres15_dsn, scheme):
    assert Database(postgres15_dsn.replace("postgresql", scheme, 1)).check() >= 15


def test_a_block_that_ends_commits_and_one_that_raises_rolls_back(database):
    with database.connect() as connection:
        connection.execute("CREATE TABLE kept (n int)")
    with pytest.raises(KeyError), database.connect() as connection:  # noqa: PT012 - raises on leaving
        connection.execute("DROP TABLE kept")
        raise KeyError("stop")
    with database.connect(autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert connection.closed


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:s3cr/et@localhost/db",  # an unescaped slash
        "postgresql://me:s3cr@et@localhost/db",
        "postgresql://me:s3cr#et@localhost:x/db",
        "postgresql://me:s3cret%zz@localhost/db",
        "postgresql://me:s3cret@localhost:port/db",
        "mysql://me:s3cret@localhost/db",
        "host=localhost password=s3cret",
        "postgresql://me:s3cret@localhost/db?nonsense=1",
        "",
    ],
)
def test_a_malformed_dsn_is_explained_without_a_piece_of_the_password(dsn):
    database = Database(dsn)
    with pytest.raises(StorageError) as caught:
        database.check()
    shown = f"{caught.value} {caught.value!r} {database} {database!r} {caught.value.__cause__} {database.shown}"
    assert "TFT_POSTGRES_DSN" in shown
    assert not re.search(r"s3cr|(?<!\w)et(?!\w)", shown)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_wrong_password_is_said_but_not_shown(postgres15_dsn):
    wrong = re.sub(r":[^:@]+@", ":s3cret@", postgres15_dsn)
    with pytest.raises(
        StorageError, match=r"cannot connect: .*password authentication failed.*Check user and password"
    ) as caught:
        Database(wrong).check()
    assert "s3cret" not in str(caught.value)
    assert "postgres@127.0.0.1" in str(caught.value)


def test_a_server_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        StorageError, match=r"postgresql://me@127\.0\.0\.1:1/db: cannot connect: .*Check host and port"
    ) as caught:
        Database("postgresql://me:s3cret@127.0.0.1:1/db").check()
    assert "s3cret" not in str(caught.value)
    with pytest.raises(StorageError, match=r"Check host and port in TFT_POSTGRES_DSN"):
        Database(f"postgresql://me@/db?host={tmp_path}").check()


def test_a_database_that_is_not_there_is_named(postgres15_dsn):
    with pytest.raises(StorageError, match=r'database "nowhere" does not exist.*Create the database'):
        Database(postgres15_dsn.removesuffix("postgres") + "nowhere").check()


def test_a_server_that_is_too_old_is_refused(database, monkeypatch):
    monkeypatch.setattr(module, "MINIMUM_VERSION", 99)
    with pytest.raises(StorageError, match=r"PostgreSQL 18 is too old; 99 or newer is needed"):
        database.check()


def test_what_postgres_refuses_comes_with_a_remedy(database):
    for statement, message in (
        ("SELECT * FROM nowhere", r'relation "nowhere" does not exist\. Run `tft-pipeline migrate`'),
        ("SELECT 1/0", r"division by zero\. See the server's log"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", r"terminating connection.*run it again"),
        ("SET statement_timeout = 1; SELECT pg_sleep(5)", "statement timeout.*shorter range"),
    ):
        with pytest.raises(StorageError, match=message) as caught, database.connect() as connection:
            connection.execute(statement)
        assert isinstance(caught.value.__cause__, psycopg.Error)


def test_repr_shows_where_but_no_password():
    assert repr(Database("postgresql+psycopg://me:s3cret@host:5433/db")) == "Database('postgresql://me@host:5433/db')"
    assert (
        repr(Database("postgresql://postgres@/db?host=/run/pg&port=5432"))
        == "Database('postgresql://postgres@/run/pg/db')"
    )
    assert "malformed" in repr(Database("nonsense:s3cret@"))
    assert "s3cret" not in repr(Database("nonsense:s3cret@"))


def test_a_server_that_died_without_a_word_is_given_up_in_a_minute_unless_the_dsn_says_otherwise(postgres15_dsn):
    with Database(postgres15_dsn).connect() as connection:
        given = connection.info.get_parameters()
    assert (given["keepalives_idle"], given["keepalives_interval"], given["keepalives_count"]) == ("30", "10", "3")
    assert given["tcp_user_timeout"] == "60000"
    with Database(f"{postgres15_dsn}?keepalives_idle=7").connect() as connection:
        assert connection.info.get_parameters()["keepalives_idle"] == "7"


def test_a_server_without_a_free_connection_or_that_just_starts_may_be_asked_again(postgres15_dsn):
    with psycopg.connect(postgres15_dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE one LOGIN PASSWORD 'one' CONNECTION LIMIT 1")
    one = re.sub(r"//[^@]+@", "//one:one@", postgres15_dsn)
    with (
        psycopg.connect(one),
        pytest.raises(StorageError, match=r"too many connections.*raise max_connections") as caught,
    ):
        Database(one).check()
    assert caught.value.transient
    assert module._advice("FATAL: the database system is starting up").startswith("The server is starting up")


def test_only_what_may_pass_by_itself_is_transient(database):
    for statement, passes in (
        ("DO $$ BEGIN RAISE 'disk' USING ERRCODE = '53100'; END $$", True),
        ("DO $$ BEGIN RAISE 'memory' USING ERRCODE = '53200'; END $$", True),
        ("DO $$ BEGIN RAISE 'temp_file_limit' USING ERRCODE = '53400'; END $$", False),
        ("DO $$ BEGIN RAISE 'deadlock' USING ERRCODE = '40P01'; END $$", True),
        ("DO $$ BEGIN RAISE 'readonly' USING ERRCODE = '25006'; END $$", False),
        ("SELECT 1/0", False),
    ):
        with pytest.raises(StorageError) as caught, database.connect() as connection:
            connection.execute(statement)
        assert caught.value.transient == passes, statement
    with pytest.raises(StorageError) as caught, database.connect() as connection:
        connection.execute("SELECT %s", (object(),))  # refused by psycopg itself: nothing is wrong with the connection
    assert not caught.value.transient
