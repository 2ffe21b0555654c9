"""Opening a database: every setting holds, and every fault has one clear message."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from tests.store.world import World, build

from holdfast.errors import Corruption, HoldfastError, IllegalState, InfraError, UsageError
from holdfast.store.database import Database
from holdfast.store.faults import meaning

needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


def test_every_connection_has_the_settings_that_durability_rests_on(sqlite_database: Database) -> None:
    with sqlite_database.read() as one, sqlite_database.transaction() as two:
        for connection in (one, two):
            settings = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
            assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30000}


def test_reading_cannot_write_and_a_transaction_can_afterwards(world: World) -> None:
    wipe = text("UPDATE counters SET value = 0")
    for snapshot in (False, True):
        with pytest.raises(InfraError) as caught, world.database.read(snapshot=snapshot) as connection:
            connection.execute(wipe)
        assert caught.value.code == "database_readonly"
        with world.database.transaction() as connection:
            connection.execute(wipe)


def test_a_reader_uses_the_statement_that_the_one_before_it_prepared(sqlite_database: Database) -> None:
    """SQLite asks the authorizer only when it prepares a statement."""
    prepared: list[int] = []

    def ask(action: int, *_: object) -> int:
        prepared.append(action)
        return sqlite3.SQLITE_OK

    def look() -> int:
        with sqlite_database.read() as connection:
            connection.execute(text("SELECT count(*) FROM counters")).scalar_one()
        return prepared.count(sqlite3.SQLITE_SELECT)

    with sqlite_database.read() as connection:
        cast("sqlite3.Connection", connection.connection.dbapi_connection).set_authorizer(ask)
    once = look()
    with sqlite_database.transaction() as connection:
        connection.execute(text("UPDATE counters SET value = 1"))
    assert (once, look()) == (1, 1)


def test_a_reader_of_postgresql_is_in_a_transaction_for_a_snapshot_only(postgres_url: str, tmp_path: Path) -> None:
    database = Database.open(postgres_url, data=tmp_path)
    for snapshot in (False, True, False):
        with database.read(snapshot=snapshot) as connection:
            assert connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
            driver = cast("psycopg.Connection", connection.connection.dbapi_connection)
            assert (driver.info.transaction_status is TransactionStatus.INTRANS) == snapshot
    database.close()


def test_a_snapshot_is_of_one_moment(world: World) -> None:
    count = text("SELECT value FROM counters WHERE name = 'tasks'")
    with world.database.read(snapshot=True) as reader:
        before = reader.execute(count).scalar_one()
        with world.database.transaction() as writer:
            writer.execute(text("UPDATE counters SET value = 99 WHERE name = 'tasks'"))
        assert (before, reader.execute(count).scalar_one()) == (3, 3)


def test_a_reader_neither_waits_for_a_writer_nor_sees_half_of_it(world: World) -> None:
    count = text("SELECT value FROM counters WHERE name = 'tasks'")
    with world.database.transaction() as writer:
        writer.execute(text("UPDATE counters SET value = 99 WHERE name = 'tasks'"))
        with world.database.read() as reader:
            assert reader.execute(count).scalar_one() == 3
    with world.database.read() as reader:
        assert reader.execute(count).scalar_one() == 99


def test_a_write_transaction_has_the_lock_before_it_reads(sqlite_url: str, tmp_path: Path) -> None:
    first = Database.open(sqlite_url, data=tmp_path)
    second = Database.open(sqlite_url, data=tmp_path, busy_timeout_seconds=0.05)
    with first.transaction() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(InfraError, match="locked by another process") as caught, second.transaction():
            pass
    assert caught.value.code == "database_locked"
    first.close()
    second.close()


def test_dbos_may_begin_for_itself(sqlite_database: Database) -> None:
    with sqlite_database.workflow_engine.begin() as connection:
        connection.execute(text("BEGIN IMMEDIATE"))
        connection.execute(text("UPDATE counters SET value = 5"))
    with sqlite_database.read() as connection:
        assert connection.execute(text("SELECT min(value) FROM counters")).scalar_one() == 5


def test_milliseconds_that_dbos_keeps_are_there_on_old_sqlite(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as connection:
        connection.execute(text("CREATE TABLE t (a, at INTEGER NOT NULL DEFAULT (unixepoch('subsec') * 1000))"))
        connection.execute(text("INSERT INTO t (a) VALUES (1)"))
        at, now = connection.execute(text("SELECT at, unixepoch() * 1000 FROM t")).one()
    assert abs(now - at) < 60_000


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://x/y", "mysql database is not supported"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_a_url_that_is_none_is_a_usage_error(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Database.open(url, data=tmp_path)
    assert "postgresql://" in caught.value.hint


def test_the_folder_of_a_new_database_is_made(tmp_path: Path) -> None:
    Database.open(f"sqlite:///{tmp_path}/a/b/c.db", data=tmp_path).close()
    assert (tmp_path / "a/b/c.db").stat().st_size > 0


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are my notes\n" * 500)
    with pytest.raises(Corruption, match=r"notes\.db is not a Holdfast database") as caught:
        Database.open(f"sqlite:///{path}", data=tmp_path)
    assert "db restore" in caught.value.hint
    assert path.read_text().startswith("these are my notes")


def test_a_damaged_file_is_named(sqlite_url: str, tmp_path: Path) -> None:
    build(opened := Database.open(sqlite_url, data=tmp_path))
    opened.close()
    path = tmp_path / "holdfast.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(Corruption, match="is damaged"):
        _count_events(sqlite_url, tmp_path)


def _count_events(url: str, data: Path) -> None:
    with Database.open(url, data=data).read() as connection:
        connection.execute(text("SELECT count(*) FROM events")).scalar_one()


def test_a_newer_schema_is_refused_and_left_alone(database_url: str, tmp_path: Path) -> None:
    database = Database.open(database_url, data=tmp_path)
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for migrate in (True, False):
        with pytest.raises(IllegalState, match="made by a newer Holdfast \\(schema 9999") as caught:
            Database.open(database_url, data=tmp_path, migrate=migrate)
        assert "upgrade" in caught.value.hint
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
    database.close()


@pytest.mark.parametrize(
    "url",
    ["postgresql://nobody@127.0.0.1:1/none", "postgresql://nobody@/none?host=/nowhere"],
)
def test_a_postgresql_that_is_not_there_is_told_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(InfraError, match="cannot be reached") as caught:
        Database.open(url.replace("nobody", "nobody:hunter2"), data=tmp_path)
    assert caught.value.code == "database_unreachable"
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    "said",
    [
        "connection failed: FATAL:  sorry, too many clients already",
        'connection failed: FATAL:  too many connections for role "me"',
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    ],
)
def test_a_postgresql_that_takes_no_more_connections_is_told_as_that(said: str) -> None:
    told = meaning(psycopg.OperationalError(said))
    assert (told.code, "max_connections" in told.hint) == ("too_many_connections", True)


def test_a_missing_postgresql_database_is_told(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="cannot be reached") as caught:
        Database.open(postgres_url.replace("/test_", "/missing_"), data=tmp_path)
    assert caught.value.code == "database_unreachable"


def test_a_lost_connection_is_nobodys_task_failure_and_the_next_one_works(postgres_url: str, tmp_path: Path) -> None:
    database = Database.open(postgres_url, data=tmp_path)
    with pytest.raises(InfraError) as caught, database.transaction() as connection:
        _cut(database, connection)
    assert caught.value.code == "database_unreachable"
    with database.transaction() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    database.close()


def _cut(database: Database, connection: Connection) -> None:
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with database.transaction() as other:
        other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    connection.execute(text("SELECT 1"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@needs_mount
def test_a_full_disk_is_told_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{small_disk}/h.db", data=tmp_path)
    world = build(database)
    with pytest.raises(InfraError) as caught:
        _fill(database)
    assert caught.value.code == "disk_full"
    assert "nothing is lost" in caught.value.hint
    again = Database.open(f"sqlite:///{small_disk}/h.db", data=tmp_path)
    with again.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM tasks")).scalar_one() == len(world.tasks)
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    again.close()
    database.close()


def _fill(database: Database) -> None:
    for _ in range(40):
        with database.transaction() as connection:
            connection.execute(text("UPDATE plans SET spec = spec || :more"), {"more": "x" * 100_000})


@needs_mount
def test_a_read_only_folder_is_told(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for path in ("h.db", "deep/h.db"):
        with pytest.raises(InfraError) as caught:
            Database.open(f"sqlite:///{small_disk}/{path}", data=tmp_path)
        assert caught.value.code == "database_readonly"
        assert "HOLDFAST_DB" in caught.value.hint


@needs_mount
def test_a_database_that_became_read_only_is_told(small_disk: Path, sqlite_url: str, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "holdfast.db", small_disk / "h.db")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(InfraError) as caught:
        Database.open(f"sqlite:///{small_disk}/h.db", data=tmp_path)
    assert caught.value.code == "database_readonly"


@pytest.mark.parametrize(
    ("code", "expected"),
    [(sqlite3.SQLITE_IOERR, "database_io"), (sqlite3.SQLITE_IOERR | 4 << 8, "database_io"), (13, "disk_full")],
)
def test_a_failing_disk_is_an_infrastructure_error(code: int, expected: str) -> None:
    cause = sqlite3.OperationalError("disk I/O error")
    cause.sqlite_errorcode = code
    told: HoldfastError = meaning(DBAPIError("SELECT 1", {}, cause))
    assert isinstance(told, InfraError)
    assert told.code == expected
