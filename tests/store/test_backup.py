"""Backups and restores of both databases."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.store.world import World, build, end, new_plan, new_worker, start

from holdfast.errors import Corruption, IllegalState, Unavailable, UsageError
from holdfast.settings import settings
from holdfast.store import backup, dump, events, plans, steps
from holdfast.store.check import check
from holdfast.store.database import Database
from holdfast.store.locks import worker_lock

ROOT = Path(__file__).parents[2]


def _titles(database: Database) -> list[str]:
    with database.read() as connection:
        return [plan.slug for plan in plans.list_(connection).items]


def _add(world: World, slug: str) -> None:
    with world.database.transaction() as connection:
        plans.add(connection, new_plan(world.project, slug), (), ())


def test_a_restored_backup_is_the_database_of_its_moment(world: World, tmp_path: Path) -> None:
    end(world, start(world, world.task))
    start(world, world.tasks[1])
    with world.database.read() as connection:
        before = (plans.get(connection, world.plan.id), steps.of_plan(connection, world.plan.id))
        told = events.list_(connection).items
    kept = backup.backup(world.database, tmp_path / "kept")
    _add(world, "later")
    aside = backup.restore(world.database.url, kept, data=tmp_path)
    again = Database.open(world.database.url, data=tmp_path)
    with again.read() as connection:
        assert (plans.get(connection, world.plan.id), steps.of_plan(connection, world.plan.id)) == before
        assert events.list_(connection).items == told
    assert _titles(again) == ["add-login"]
    assert check(again) == []
    _add(world, "after")
    with again.read() as connection:
        assert [event.subtype for event in events.list_(connection, after=told[0].id).items] == ["created"]
    assert aside is not None
    backup.restore(world.database.url, aside, data=tmp_path)
    assert _titles(again) == ["later", "add-login"]
    again.close()


def test_a_dump_moves_a_database_from_sqlite_to_postgresql(
    sqlite_world: World, postgres_url: str, tmp_path: Path
) -> None:
    end(sqlite_world, start(sqlite_world, sqlite_world.task))
    dump.write(sqlite_world.database, tmp_path / "all.jsonl.zst")
    backup.restore(postgres_url, tmp_path / "all.jsonl.zst", data=tmp_path)
    moved = Database.open(postgres_url, data=tmp_path)
    with moved.read() as connection:
        assert plans.tasks_of(connection, sqlite_world.plan.id) == sqlite_world.tasks
    assert check(moved) == []
    moved.close()


def test_a_backup_overwrites_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        backup.backup(world.database, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"


def test_the_newest_automatic_backups_are_kept(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_BACKUPS_KEPT", "2")
    settings.cache_clear()
    made = [backup.automatic(world.database, "test") for _ in range(4)]
    assert sorted((tmp_path / "backups").iterdir()) == made[2:]
    assert backup.on_start(world.database) is None
    monkeypatch.setenv("HOLDFAST_BACKUP_ON_START", "1")
    settings.cache_clear()
    assert backup.on_start(world.database) is not None
    settings.cache_clear()


def test_nothing_is_restored_while_a_worker_runs(world: World, tmp_path: Path) -> None:
    worker = new_worker(world.database)
    kept = backup.backup(world.database, tmp_path / "kept")
    with worker_lock(world.database, worker), pytest.raises(Unavailable):
        backup.restore(world.database.url, kept, data=tmp_path)
    backup.restore(world.database.url, kept, data=tmp_path)


@pytest.mark.parametrize("damage", ["cut", "scrambled", "text"])
def test_a_damaged_backup_is_refused_and_changes_nothing(world: World, tmp_path: Path, damage: str) -> None:
    kept = backup.backup(world.database, tmp_path / "kept")
    content = kept.read_bytes()
    half = len(content) // 2
    match damage:
        case "cut":
            kept.write_bytes(content[:half])
        case "scrambled":
            kept.write_bytes(content[:half] + os.urandom(len(content) - half))
        case _:
            kept.write_text("notes\n")
    with pytest.raises((Corruption, UsageError)):
        backup.restore(world.database.url, kept, data=tmp_path)
    assert _titles(world.database) == ["add-login"]
    assert not list((tmp_path / "backups").glob("*before-restore*")), "nothing was going to be replaced"


def test_a_backup_of_a_newer_holdfast_is_refused(sqlite_world: World, tmp_path: Path) -> None:
    kept = backup.backup(sqlite_world.database, tmp_path / "kept")
    connection = sqlite3.connect(kept)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(IllegalState, match="newer Holdfast"):
        backup.restore(sqlite_world.database.url, kept, data=tmp_path)


def test_an_unreadable_file_is_kept_aside_when_a_backup_replaces_it(sqlite_world: World, tmp_path: Path) -> None:
    kept = backup.backup(sqlite_world.database, tmp_path / "kept")
    sqlite_world.database.close()
    (tmp_path / "holdfast.db").write_bytes(b"\x00garbage" * 9999)
    aside = backup.restore(sqlite_world.database.url, kept, data=tmp_path)
    assert aside is not None
    assert aside.read_bytes().startswith(b"\x00garbage")
    again = Database.open(sqlite_world.database.url, data=tmp_path)
    assert _titles(again) == ["add-login"]
    again.close()


@pytest.mark.parametrize("where", ["backup.before_flush", "backup.before_rename", "restore.before_copy"])
def test_a_kill_in_a_restore_leaves_the_old_content(sqlite_world: World, tmp_path: Path, where: str) -> None:
    kept = backup.backup(sqlite_world.database, tmp_path / "kept")
    _add(sqlite_world, "later")
    code = "import sys; from pathlib import Path; from holdfast.store import backup\n"
    code += "backup.restore(sys.argv[1], Path(sys.argv[2]), data=Path(sys.argv[3]))"
    arguments = [sys.executable, "-c", code, sqlite_world.database.url, kept, tmp_path]
    environment = os.environ | {"HOLDFAST_FAILPOINT": f"store.{where}"}
    killed = subprocess.run(arguments, cwd=ROOT, env=environment, timeout=240)
    assert killed.returncode == -signal.SIGKILL
    assert _titles(sqlite_world.database) == ["later", "add-login"]
    assert check(sqlite_world.database) == []
    backup.restore(sqlite_world.database.url, kept, data=tmp_path)
    assert _titles(sqlite_world.database) == ["add-login"]


def test_a_backup_of_a_database_that_is_written_to_is_consistent(world: World, tmp_path: Path) -> None:
    """The backup starts in the middle of another transaction and holds nothing of it."""
    with world.database.transaction() as connection:
        connection.execute(text("UPDATE plans SET title = 'half done'"))
        kept = backup.backup(world.database, tmp_path / "kept")
    backup.restore(world.database.url, kept, data=tmp_path)
    with world.database.read() as connection:
        assert plans.get(connection, world.plan.id).title == world.plan.title


def test_what_is_no_backup_is_a_usage_error(sqlite_world: World, postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no backup"):
        backup.restore(sqlite_world.database.url, tmp_path / "missing", data=tmp_path)
    kept = backup.backup(sqlite_world.database, tmp_path / "kept")
    with pytest.raises(UsageError, match="SQLite backup"):
        backup.restore(postgres_url, kept, data=tmp_path)
    build(sqlite_world.database, "till")
