"""The door to one PostgreSQL database: how to connect, and what to say when that fails.

What belongs here: connections and the wording of PostgreSQL's refusals. What does not: any table.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from tft_pipeline.errors import StorageError

MINIMUM_VERSION = 15

_SCHEME = re.compile(r"^postgres(?:ql)?(?:\+psycopg2?)?://", re.IGNORECASE)
_ROLE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FULL = "The server's disk is full. Make room there, then run it again."
_BUSY = "All of the server's connections are taken. End some, or raise max_connections, then run it again."
_REMEDY = {
    "08": "The connection broke. What was not committed is undone: run it again.",
    "23": "Nothing of this transaction was written. Mend the rows where they are made.",
    "25006": (
        "This server, or this connection, is read-only: connect to the primary, as a writer. Where another server can become the primary, "
        "name them all: postgresql://…@one,other/database?target_session_attrs=read-write. Nothing was written."
    ),
    "28": "Check user and password in TFT_POSTGRES_DSN.",
    "3D000": "Create the database, or correct its name in TFT_POSTGRES_DSN.",
    "3F000": "Run `tft-pipeline migrate`.",
    "40": "Another transaction was in the way: run it again.",
    "42501": "Grant the right to this user, or connect as the owner; `tft-pipeline doctor` prints the grants that are missing.",
    "42P01": "Run `tft-pipeline migrate`.",
    "42703": "Run `tft-pipeline migrate`.",
    "53": "The server is out of memory or of something else. Nothing of this transaction was written. Make room, then run it again.",
    "53100": f"{_FULL} Nothing of this transaction was written.",
    "53300": _BUSY,
    "53400": "The server's settings do not allow so much. Raise the limit that it names.",
    "55P03": "Another writer holds the lock. Wait for it, or end it, and run again.",
    "57014": "The statement ran into its time limit. Run a shorter range.",
    "57P": "The server went down or is starting up. What was not committed is undone: run it again.",
}
_TLS = ("certificate", "private key", "does not support ssl", "channel binding", "no encryption", "unknown ca")
_STARTING = "The server is starting up, recovering or going down. Wait for it, then run it again."
_NO_PRIMARY = "None of these servers takes writes now. Wait until one is promoted, or promote one, then run it again."
# A server whose machine died says nothing: without these, whoever waits for its answer waits for two hours.
_KEEPALIVES = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
_UNHEARD = (
    "It is committed on this server, but no standby of synchronous_standby_names has confirmed it: should the primary be lost now, it is "
    "lost, too. Bring the standby back, then run it again: that is confirmed only with all that came before."
)
_UNREACHABLE = "Check host and port in TFT_POSTGRES_DSN, and that the server runs; unset it to use the embedded server."
_REFUSALS = (
    (("session is read-only", "in hot standby mode"), _NO_PRIMARY),
    (("database system is", "not yet accepting connections"), _STARTING),
    # With no room at all the server cannot even write down its catalog's cache, and lets nobody in.
    (("no space left", "could not write init file"), _FULL),
    (("too many clients", "remaining connection slots", "too many connections"), _BUSY),
)
# Broken connection, serialization failure or deadlock, no room, lock timeout, shutdown or start: another try may find it well.
_PASSING = ("08", "40", "531", "532", "533", "55P03", "57P")


@dataclass(frozen=True)
class Database:
    """Where to connect and how patient to be. The DSN stays out of repr; a password is never shown anywhere.

    What else the DSN says, such as sslmode, sslrootcert or channel_binding, goes to libpq as it is.
    role: taken on after connecting (SET ROLE), so that only its rights count; see storage.roles. read_only: refuse to write anything.
    memory: the file outside of the database that says what was written to it last; see storage.lineage.
    """

    dsn: str = field(repr=False)
    application_name: str = "tft-pipeline"
    role: str | None = None
    read_only: bool = False
    lock_timeout_seconds: float = 60.0
    statement_timeout_seconds: float = 600.0
    memory: Path | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"Database({self.shown!r})"

    @property
    def shown(self) -> str:
        """The DSN without its password: for messages."""
        try:
            given = self._parameters()
        except StorageError:
            return "postgresql://(malformed)"
        user = f"{given['user']}@" if "user" in given else ""
        port = f":{given['port']}" if "port" in given and not given.get("host", "").startswith("/") else ""
        return f"postgresql://{user}{given.get('host', '')}{port}/{given.get('dbname', '')}"

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[psycopg.Connection[TupleRow]]:
        """A connection in UTC that commits at the block's end, rolls back when it raises, and closes either way.

        Raises StorageError: malformed DSN, no server, wrong password, server older than 15, or whatever PostgreSQL refuses within
        the block, with what to do about it. Also where a commit's wait for its standby was cut short.
        """
        connection = self._open()
        unheard: list[str] = []

        def noticed(notice: psycopg.errors.Diagnostic) -> None:
            # Whoever cancels this wait ends it with a warning only: PostgreSQL calls the commit a success. Its words may be in any language.
            if notice.source_function == "SyncRepWaitForLSN":
                unheard.append(str(notice.message_primary))

        connection.add_notice_handler(noticed)
        try:
            # Not `with connection`: it leaves the connection open where the commit itself is refused, as by a deferred trigger.
            connection.autocommit = autocommit
            yield connection
            connection.commit()
            if unheard:
                raise StorageError(f"{self.shown}: {unheard[0]}. {_UNHEARD}", transient=True)
        except psycopg.Error as error:
            raise self.explained(error) from error
        finally:
            connection.close()  # rolls back what was not committed

    def check(self) -> int:
        """The server's major version. Raises StorageError as connect does."""
        with self.connect() as connection:
            return connection.info.server_version // 10_000

    def explained(self, error: psycopg.Error) -> StorageError:
        """error as a StorageError: what PostgreSQL said, where, and what to do."""
        said = " ".join(str(error.diag.message_primary or error).split())
        detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
        # No state: libpq lost the connection, or psycopg refused what it was given.
        state = error.sqlstate or ("08" if isinstance(error, psycopg.OperationalError) else "")
        passes = state.startswith(_PASSING)
        remedy = next((_REMEDY[state[:n]] for n in (5, 3, 2) if state[:n] in _REMEDY), "See the server's log.")
        sentence = f"{self.shown}: {self._without_password(said + detail)}. {remedy}".replace("..", ".")
        return StorageError(sentence, transient=passes)

    def _open(self) -> psycopg.Connection[TupleRow]:
        given = self._parameters()
        if self.role is not None and not _ROLE.fullmatch(self.role):
            raise StorageError(
                f"{self.role!r} is no name of a role; use a-z, 0-9 and _, a letter first, at most 63 characters."
            )
        given.setdefault("connect_timeout", "10")
        given.setdefault("application_name", self.application_name)
        for name, value in _KEEPALIVES.items():
            given.setdefault(name, value)
        try:
            connection = psycopg.connect(make_conninfo("", **given), autocommit=True)
        except psycopg.Error as error:
            said = self._without_password(" ".join(str(error).split()))
            # Not there, starting up, out of connections: any of these may pass. A wrong password or name does not.
            advice = _advice(said)
            raise StorageError(
                f"{self.shown}: cannot connect: {said}. {advice}",
                transient=advice in (_UNREACHABLE, _STARTING, _BUSY, _FULL, _NO_PRIMARY),
            ) from None
        version = connection.info.server_version // 10_000
        if version < MINIMUM_VERSION:
            connection.close()
            raise StorageError(f"{self.shown}: PostgreSQL {version} is too old; {MINIMUM_VERSION} or newer is needed.")
        settings = {
            "timezone": "UTC",
            "lock_timeout": f"{round(self.lock_timeout_seconds * 1000)}ms",
            "statement_timeout": f"{round(self.statement_timeout_seconds * 1000)}ms",
            "jit": "off",  # compiling our short queries takes longer than running them
            "client_encoding": "UTF8",
        }
        if self.read_only:
            settings["default_transaction_read_only"] = "on"
        if self.role is not None:
            settings["role"] = self.role  # what SET ROLE sets; last, for it takes rights away
        calls = [sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in settings.items()]
        try:
            connection.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls)))
        except psycopg.Error as error:
            connection.close()
            if self.role is None:
                raise self.explained(error) from None
            raise StorageError(
                f"{self.shown}: cannot take on the role {self.role}: {error.diag.message_primary}. "
                "`tft-pipeline doctor` prints the SQL that an administrator has to run."
            ) from None
        return connection

    def _parameters(self) -> dict[str, str]:
        """The DSN taken apart. libpq's own complaints quote pieces of it, which may be pieces of the password: they are not passed on."""
        wrong = StorageError(
            "TFT_POSTGRES_DSN is no PostgreSQL URL. Write postgresql://user:password@host:port/database and "
            f"percent-encode special characters in the password, where @ is {quote('@')}, / is {quote('/', safe='')}, # is {quote('#')}."
        )
        if not _SCHEME.match(self.dsn):
            raise wrong
        try:
            found = conninfo_to_dict(_SCHEME.sub("postgresql://", self.dsn))
        except psycopg.Error:
            raise wrong from None
        given = {name: str(value) for name, value in found.items() if value is not None}
        ports = given.get("port", "").split(",")
        if any("@" in given.get(part, "") for part in ("host", "port", "dbname")) or any(
            p and not p.isdigit() for p in ports
        ):
            raise wrong  # an unescaped character has torn the password apart
        return given

    def _without_password(self, text: str) -> str:
        try:
            given = self._parameters()
        except StorageError:
            return text
        for name in ("password", "sslpassword"):
            if given.get(name):
                text = text.replace(given[name], "***")
        return text


def _advice(said: str) -> str:
    lowered = said.lower()
    # Not any "SSL error": a server that crashes breaks TLS connections, too, and comes back.
    if any(word in lowered for word in _TLS):
        return (
            "Check the TLS options in TFT_POSTGRES_DSN: sslmode, sslrootcert (the file with the authority that signed the server's "
            "certificate), sslcert and sslkey (your own), channel_binding."
        )
    if "password" in said or "no pg_hba.conf entry" in said:
        return "Check user and password in TFT_POSTGRES_DSN."
    if "does not exist" in said and "database" in said:
        return "Create the database, or correct its name in TFT_POSTGRES_DSN."
    # Of several servers, one that is up and refuses tells more than one that is gone.
    for words, advice in _REFUSALS:
        if any(word in lowered for word in words):
            return advice
    return _UNREACHABLE
