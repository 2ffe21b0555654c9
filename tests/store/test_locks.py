"""The lock of a worker is held while its process lives, and not an instant longer."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from holdfast import clock
from holdfast.errors import InfraError, Unavailable
from holdfast.store.database import Database
from holdfast.store.locks import holder_of, is_alive, worker_lock

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from holdfast.store.database import Database
from holdfast.store.locks import worker_lock
with worker_lock(Database.open(sys.argv[1], data=Path(sys.argv[2])), sys.argv[3]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_worker_is_alive_while_it_holds_its_lock(database: Database) -> None:
    worker, other = clock.new_id(), clock.new_id()
    assert not is_alive(database, worker)
    with worker_lock(database, worker) as lock:
        lock.check()
        assert is_alive(database, worker)
        assert not is_alive(database, other)
    assert not is_alive(database, worker)
    with worker_lock(database, worker):
        assert is_alive(database, worker)


def test_a_killed_worker_is_dead_at_once(database: Database, tmp_path: Path) -> None:
    worker = clock.new_id()
    command = [sys.executable, "-c", HOLD, database.url, str(tmp_path), worker]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert is_alive(database, worker)
    with pytest.raises(Unavailable), worker_lock(database, worker):
        pass
    process.kill()
    process.communicate()
    # PostgreSQL sees the closed socket a moment later.
    deadline = time.monotonic() + 240
    while is_alive(database, worker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(database, worker)
    with worker_lock(database, worker):
        assert is_alive(database, worker)


def test_one_process_executes_on_a_sqlite_file_and_is_named(sqlite_database: Database) -> None:
    import os

    with worker_lock(sqlite_database, "one"):
        assert holder_of(sqlite_database) == ("one", os.getpid())
        with pytest.raises(Unavailable, match=f"process {os.getpid()} executes on .*holdfast.db already"):
            with worker_lock(sqlite_database, "two"):
                pass
    assert holder_of(sqlite_database) is None


def test_several_workers_run_on_one_postgresql(postgres_url: str, tmp_path: Path) -> None:
    database = Database.open(postgres_url, data=tmp_path)
    with worker_lock(database, "one"), worker_lock(database, "two"):
        assert is_alive(database, "one")
        assert is_alive(database, "two")
    database.close()


def test_a_worker_whose_connection_broke_learns_that_its_lock_is_gone(postgres_url: str, tmp_path: Path) -> None:
    database = Database.open(postgres_url, data=tmp_path)
    with worker_lock(database, "one") as lock:
        lock.check()
        with database.transaction() as connection:
            query = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            connection.execute(text(query))
        with pytest.raises(InfraError) as caught:
            lock.check()
        assert caught.value.code == "lock_lost"
    assert not is_alive(database, "one")
    database.close()
