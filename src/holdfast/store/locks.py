"""Who is alive: a lock that a worker holds as long as its process lives, and that the system frees when it dies.

SQLite: `flock` on `<database file>.worker.lock`, one executing process per file. PostgreSQL: a session advisory lock
per worker on a connection of its own. Liveness is never told by time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from holdfast.errors import InfraError, Unavailable
from holdfast.store.database import Database
from holdfast.store.faults import translated
from holdfast.store.files import told

# A test of liveness holds the file's lock for an instant; who starts meanwhile tries again.
_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class WorkerLock:
    """A held lock. PostgreSQL frees it when its connection breaks: `check()` before work that must not run twice."""

    worker_id: str
    connection: Connection | None = None

    def check(self) -> None:
        """Raises `InfraError` (`lock_lost`) if the lock is no longer held: then stop at once."""
        if self.connection is None:
            return
        try:
            held = self.connection.execute(_HELD, _halves(self.worker_id)).scalar_one()
        except DBAPIError as error:
            raise _lost() from error
        if not held:
            raise _lost()


def _lost() -> InfraError:
    return InfraError("the worker's lock is lost with its connection", hint="start the worker again", code="lock_lost")


@contextmanager
def worker_lock(database: Database, worker_id: str) -> Generator[WorkerLock]:
    """Holds the liveness lock of a worker; it is freed at the end of the block or of the process, however that ends.

    On SQLite raises `Unavailable` that names the process which executes on this file already.
    """
    holding = _file_lock(database.path, worker_id) if database.path else _advisory_lock(database, worker_id)
    with holding as lock:
        yield lock


def is_alive(database: Database, worker_id: str) -> bool:
    """Tells whether the worker's process holds its lock now."""
    if database.path is not None:
        holder = holder_of(database)
        return holder is not None and holder[0] == worker_id
    with database.read() as connection:
        return bool(connection.execute(_HELD, _halves(worker_id)).scalar_one())


def holder_of(database: Database) -> tuple[str, int] | None:
    """Gives the worker id and pid of the process that executes on a SQLite file, or None."""
    path = lock_path(cast("Path", database.path))
    if not path.exists():
        return None
    with told(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(descriptor)
        finally:
            os.close(descriptor)
    return None


def lock_path(database_path: Path) -> Path:
    """Gives the lock file beside a SQLite database."""
    return database_path.with_name(database_path.name + ".worker.lock")


def _read_holder(descriptor: int) -> tuple[str, int]:
    written = os.pread(descriptor, 4096, 0)
    try:
        holder = json.loads(written)
    except ValueError:
        return "", 0
    return str(holder["worker"]), int(holder["pid"])


@contextmanager
def _file_lock(database_path: Path, worker_id: str) -> Generator[WorkerLock]:
    path = lock_path(database_path)
    with told(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(descriptor, database_path)
        with told(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"worker": worker_id, "pid": os.getpid()}).encode(), 0)
        yield WorkerLock(worker_id)
    finally:
        os.close(descriptor)


def _take(descriptor: int, database_path: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                _, pid = _read_holder(descriptor)
                raise Unavailable(
                    f"process {pid} executes on {database_path} already",
                    hint="it takes up what you start; or stop it, or use PostgreSQL for several workers",
                    code="worker_running",
                ) from error
            time.sleep(0.01)


_HELD = text(
    "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND classid = CAST(:high AS bigint)::oid AND objid = CAST(:low AS bigint)::oid)"
)


def _key(worker_id: str) -> int:
    digest = hashlib.sha256(f"holdfast worker {worker_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _halves(worker_id: str) -> dict[str, int]:
    key = _key(worker_id) & 0xFFFF_FFFF_FFFF_FFFF
    return {"high": key >> 32, "low": key & 0xFFFF_FFFF}


@contextmanager
def _advisory_lock(database: Database, worker_id: str) -> Generator[WorkerLock]:
    with translated(database.place):
        connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        with translated(database.place):
            connection.execute(text("SET idle_session_timeout = 0"))
            taken = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _key(worker_id)})
        if not taken.scalar_one():
            raise Unavailable(f"the worker {worker_id} runs already", code="worker_running")
        yield WorkerLock(worker_id, connection)
    finally:
        # Its end frees the lock, also where the connection would go back to the pool.
        connection.invalidate()
        connection.close()
