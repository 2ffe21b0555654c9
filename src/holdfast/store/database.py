"""One database, SQLite or PostgreSQL: opened, checked, brought to this code's schema.

`transaction()` is for writing and `read()` for reading; both give a SQLAlchemy connection that the query modules take.
Readers have connections of their own, which cannot write. To switch that on and off for each read costs trips to
PostgreSQL, and SQLite every prepared statement of the connection, a tenth of a no-op task.
`workflow_engine` is what the workflow engine works with; what it enqueues commits with our rows in our transactions.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError

from holdfast import clock
from holdfast.errors import HoldfastError, InfraError, UsageError
from holdfast.store.faults import translated
from holdfast.store.tables import SCHEMA

# Connections of one pool: so many are kept open, and so many there may be. The one used last is used next, as it has
# its statements prepared.
_KEPT = 10
_MOST = 40
_CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Database:
    """An open database. Safe to use from many threads; each `transaction()` and `read()` has its own connection."""

    url: str
    engine: Engine
    reading_engine: Engine
    workflow_engine: Engine
    path: Path | None
    data: Path

    @classmethod
    def open(cls, url: str, *, data: Path, migrate: bool = True, busy_timeout_seconds: float = 30.0) -> Database:
        """Opens the database that `url` names, creates or migrates its schema, and checks every setting it relies on.

        `data` is the folder where backups before a migration go. Raises `UsageError` for a URL that is none,
        `InfraError` (`database_unreachable`, `database_readonly`, `database_locked`, `disk_full`), `Corruption` for a
        damaged or foreign file, and `IllegalState` for one that a newer Holdfast made.
        """
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite":
            path = Path(cast("str", parsed.database)).absolute()
            writing = _sqlite_engine(parsed, path, busy_timeout_seconds)
            reading = _sqlite_engine(parsed, path, busy_timeout_seconds, reading=True)
            database = cls(url, writing, reading, _dbos_engine(parsed, path, busy_timeout_seconds), path, data)
        else:
            engine = _postgres_engine(parsed)
            database = cls(url, engine, _postgres_engine(parsed, reading=True), engine, None, data)
        try:
            _first_contact(database, busy_timeout_seconds)
            _bring_up(database, migrate)
        except HoldfastError:
            database.close()
            raise
        return database

    @property
    def is_sqlite(self) -> bool:
        return self.path is not None

    @property
    def place(self) -> str:
        """Names the database in messages, without a password."""
        return f"the database {self.path}" if self.path else f"the database {self.engine.url!r}"

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """Gives a connection in a write transaction: durable when the block ends, undone when it raises.

        SQLite takes the write lock at the start (BEGIN IMMEDIATE); PostgreSQL is READ COMMITTED. Raises `InfraError`
        for a failing database, `ConstraintViolated` for what the schema refuses, `Conflict` for what may be repeated.
        """
        with translated(self.place), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self, *, snapshot: bool = False) -> Generator[Connection]:
        """Gives a connection that cannot write and never waits for a writer.

        With `snapshot` all that the block reads is of one moment; SQLite has it so always.
        """
        # What comes of one statement is of one moment anyway: PostgreSQL is spared the two trips of a transaction.
        options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"} if snapshot and not self.is_sqlite else {}
        with translated(self.place), self.reading_engine.connect().execution_options(**options) as connection:
            yield connection

    def has_table(self, name: str, *, schema: str) -> bool:
        """Tells whether a table is there that is not ours; SQLite has no schemas."""
        with self.read() as connection:
            return inspect(connection).has_table(name, schema=None if self.is_sqlite else schema)

    def close(self) -> None:
        """Closes all pooled connections."""
        self.engine.dispose()
        self.reading_engine.dispose()
        self.workflow_engine.dispose()


def _parse(url: str) -> URL:
    hint = "sqlite:///path/to/file.db or postgresql://user@host/name"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UsageError("HOLDFAST_DB is not a database URL", hint=hint) from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return parsed.set(drivername="sqlite+pysqlite")
        case "sqlite":
            raise UsageError("a database in memory would be lost at the end of each command", hint=hint)
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise UsageError(f"a {other} database is not supported", hint=hint)


def _sqlite_engine(url: URL, path: Path, busy_timeout_seconds: float, *, reading: bool = False) -> Engine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfraError(
            f"the folder {path.parent} cannot be made: {error.strerror}",
            hint="make it writable, or name another place in HOLDFAST_DB",
            code="database_readonly",
        ) from error
    engine = _sqlite_pool(url, path, busy_timeout_seconds, isolation_level=None, reading=reading)
    begin_with = "BEGIN" if reading else "BEGIN IMMEDIATE"

    def begin(dbapi_connection: PoolProxiedConnection) -> None:
        cast("sqlite3.Connection", dbapi_connection.dbapi_connection).execute(begin_with).close()

    # Not as an event: an engine that anybody listens to looks for listeners several times a statement.
    engine.dialect.do_begin = begin
    return engine


def _dbos_engine(url: URL, path: Path, busy_timeout_seconds: float) -> Engine:
    """Gives the pool that DBOS works with: it begins by itself, and only before it writes, so its looks lock nobody."""
    return _sqlite_pool(url, path, busy_timeout_seconds, isolation_level="IMMEDIATE")


def _sqlite_pool(
    url: URL,
    path: Path,
    busy_timeout_seconds: float,
    *,
    isolation_level: Literal["IMMEDIATE"] | None,
    reading: bool = False,
) -> Engine:
    engine = create_engine(
        url.set(database=str(path)),
        pool_size=_KEPT,
        max_overflow=_MOST - _KEPT,
        pool_use_lifo=True,
        connect_args={"timeout": busy_timeout_seconds, "check_same_thread": False},
    )

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        _supply_unixepoch(connection)
        _configure(connection, busy_timeout_seconds)
        if reading:
            connection.execute("PRAGMA query_only=1").close()
        connection.isolation_level = isolation_level

    event.listen(engine, "connect", connected)
    return engine


def _configure(connection: sqlite3.Connection, busy_timeout_seconds: float) -> None:
    """Sets each pragma, fetches it back and refuses to go on without it: an unfetched PRAGMA hides its error."""
    wanted: dict[str, str | int] = {
        "busy_timeout": int(busy_timeout_seconds * 1000),
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
    }
    for name, value in wanted.items():
        if connection.execute(f"PRAGMA {name}").fetchone()[0] == value:
            continue
        connection.execute(f"PRAGMA {name}={value}").fetchall()
        got = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if got != value:
            raise InfraError(
                f"SQLite did not take the setting {name}={value} (it says {got})",
                hint="the database must be on a local file system that allows shared memory, not a network share",
                code="database_setting",
            )


def _supply_unixepoch(connection: sqlite3.Connection) -> None:
    """Gives SQLite before 3.42 the `unixepoch('subsec')` in which DBOS 3.4 on Python 3.12 keeps its times."""
    if sqlite3.sqlite_version_info >= (3, 42):
        return

    def unixepoch(*arguments: object) -> float | int | None:
        match arguments:
            case () | ("now",):
                return int(clock.now().timestamp())
            case ("subsec",) | ("subsecond",) | ("now", "subsec") | ("now", "subsecond"):
                return round(clock.now().timestamp(), 3)
            case _:
                return None

    connection.create_function("unixepoch", -1, unixepoch)


def _postgres_engine(url: URL, *, reading: bool = False) -> Engine:
    given = url.query.get("options", "")
    options = f"{given if isinstance(given, str) else ' '.join(given)} -c search_path={SCHEMA},public".strip()
    if reading:
        options += " -c default_transaction_read_only=on"
    query = {name: value for name, value in url.query.items() if name != "options"}
    arguments: dict[str, object] = {"options": options, "application_name": "holdfast"}
    if "connect_timeout" not in query:
        arguments["connect_timeout"] = _CONNECT_SECONDS
    return create_engine(
        url.set(query=query),
        pool_pre_ping=True,
        pool_size=_KEPT,
        max_overflow=_MOST - _KEPT,
        pool_use_lifo=True,
        isolation_level="AUTOCOMMIT" if reading else "READ COMMITTED",
        connect_args=arguments,
    )


def _first_contact(database: Database, busy_timeout_seconds: float) -> None:
    """Opens the first connection; two processes that make a SQLite file at once meet its lock while it turns to WAL."""
    deadline = time.monotonic() + busy_timeout_seconds
    while True:
        try:
            with translated(database.place), database.engine.connect():
                return
        except InfraError as error:
            if error.code != "database_locked" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _bring_up(database: Database, migrate: bool) -> None:
    from holdfast.store import migrate as migration

    if migrate:
        migration.upgrade(database)
    else:
        migration.require_known(database)
