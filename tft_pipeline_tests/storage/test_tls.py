"""TLS options of the DSN reach libpq: ours, and Dagster's by SQLAlchemy and psycopg2. A server that speaks only TLS, certified by a CA of the test's."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from psycopg.conninfo import conninfo_to_dict

from tft_pipeline import config
from tft_pipeline.errors import StorageError
from tft_pipeline.storage.database import Database
from tft_pipeline_tests.servers import missing_tool, system_postgres


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def authority(folder: Path, name: str) -> Path:
    """A self-signed CA; its certificate."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2, "-subj", f"/CN={name}",
            "-keyout", key, "-out", certificate)  # fmt: skip
    return certificate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        missing_tool("no openssl on this machine: certificates cannot be made")
    made = tmp_path_factory.mktemp("tls")
    for name in ("right", "wrong"):
        authority(made, name)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
            "-keyout", made / "server.key", "-out", made / "server.csr")  # fmt: skip
    (made / "names").write_text("subjectAltName=DNS:localhost")
    openssl("x509", "-req", "-in", made / "server.csr", "-CA", made / "right.crt", "-CAkey", made / "right.key", "-CAcreateserial", "-days", 2,
            "-extfile", made / "names", "-out", made / "server.crt")  # fmt: skip
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """`postgresql://user:password@localhost:port/postgres` of a server that refuses what is not encrypted."""

    def prepare(data: Path) -> None:
        for name in ("server.key", "server.crt"):
            shutil.copyfile(folder / name, data / name)
            (data / name).chmod(0o600)
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")

    with system_postgres("ssl=on", prepare=prepare) as dsn:
        yield dsn.replace("127.0.0.1", "localhost")


def test_a_certified_server_is_spoken_to_in_tls(server: str, folder: Path) -> None:
    database = Database(f"{server}?sslmode=verify-full&sslrootcert={folder / 'right.crt'}&channel_binding=require")
    with database.connect() as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)


def test_dagsters_own_connections_are_given_the_same(server: str, folder: Path, tmp_path: Path) -> None:
    given = f"{server}?sslmode=verify-full&sslrootcert={folder / 'right.crt'}&channel_binding=require".replace(
        "postgresql://", "postgres://"
    )
    dsn = config.load(home=tmp_path).child_environment(given)["TFT_POSTGRES_DSN"]
    assert dsn.startswith("postgresql://")  # SQLAlchemy knows no other
    engine = sqlalchemy.create_engine(dsn, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        assert engine.driver == "psycopg2"
        assert (
            connection.execute(sqlalchemy.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).scalar()
            is True
        )
    wrong = dsn.replace("right.crt", "wrong.crt")
    with pytest.raises(sqlalchemy.exc.OperationalError, match="certificate verify failed"):
        sqlalchemy.create_engine(wrong, poolclass=sqlalchemy.NullPool).connect()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("sslmode=verify-full&sslrootcert={}/wrong.crt", "certificate verify failed"),
        ("sslmode=verify-full&sslrootcert={}/none.crt", "does not exist"),
        ("sslmode=disable", "no encryption"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_option_and_no_password(
    server: str, folder: Path, options: str, said: str
) -> None:
    database = Database(f"{server}?sslpassword=s3same&{options.format(folder)}")
    with pytest.raises(StorageError) as caught:
        database.check()
    message = " ".join(str(caught.value).split())
    assert said in message
    assert "sslmode, sslrootcert" in message
    assert not caught.value.transient
    for secret in (str(conninfo_to_dict(server)["password"]), "s3same"):
        assert secret not in message + repr(caught.value) + repr(database)


def test_a_server_of_another_name_is_refused(server: str, folder: Path) -> None:
    database = Database(
        f"{server}?sslmode=verify-full&sslrootcert={folder / 'right.crt'}".replace("localhost", "127.0.0.1")
    )
    with pytest.raises(
        StorageError, match=re.compile(r"certificate.*does not match host name.*sslrootcert", re.DOTALL)
    ):
        database.check()
