"""The schema: what the tables say is what the revisions make, once, whole or not at all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text
from tests.store.world import build

from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.history import Event
from holdfast.domain.plan import Approval, Phase, Plan, Project
from holdfast.domain.step import Step
from holdfast.domain.task import Task
from holdfast.store import migrate
from holdfast.store.check import check
from holdfast.store.database import Database
from holdfast.store.tables import metadata

ROOT = Path(__file__).parents[2]
OPEN = "import sys; from pathlib import Path; from holdfast.store.database import Database\n"
OPEN += "Database.open(sys.argv[1], data=Path(sys.argv[2]))"


def test_the_revisions_make_the_tables_that_the_code_has(sqlite_database: Database) -> None:
    made = create_engine("sqlite://")
    metadata.create_all(made)
    with made.connect() as wanted, sqlite_database.read() as found:
        assert _definitions(found) == _definitions(wanted)


def _definitions(connection: Any) -> dict[str, list[str]]:
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type IN ('table', 'index')"
    ignored = ("alembic_version", "sqlite_sequence")
    return {name: _clauses(sql) for name, sql in connection.exec_driver_sql(query) if name not in ignored}


def _clauses(sql: str) -> list[str]:
    """A definition without what differs only in its writing: order of constraints, spaces, quotes, brackets."""
    plain = re.sub(r"[\s()]+", " ", sql.replace('"', "")).replace("DEFAULT false", "DEFAULT 0")
    return sorted(part.strip() for part in plain.split(","))


def test_both_databases_have_the_same_tables_and_columns(postgres_url: str, tmp_path: Path) -> None:
    database = Database.open(postgres_url, data=tmp_path)
    with database.read() as connection:
        found = inspect(connection)
        for table in metadata.sorted_tables:
            columns = {
                column["name"]: column["nullable"] for column in found.get_columns(table.name, schema="holdfast")
            }
            assert columns == {column.name: column.nullable for column in table.columns}
            checks = {check["name"] for check in found.get_check_constraints(table.name, schema="holdfast")}
            wanted = {str(each.name) for each in table.constraints if type(each).__name__ == "CheckConstraint"}
            assert checks == wanted
            indexes = {index["name"] for index in found.get_indexes(table.name, schema="holdfast")}
            assert {str(index.name) for index in table.indexes} <= indexes
    database.close()


def test_head_is_the_last_revision() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(migrate.SCRIPTS)).get_current_head() == migrate.head()


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (Project, "projects"),
        (Plan, "plans"),
        (Phase, "phases"),
        (Task, "tasks"),
        (Step, "steps"),
        (Checkpoint, "checkpoints"),
        (Approval, "approvals"),
        (Event, "events"),
    ],
)
def test_every_field_of_the_domain_has_its_column(kind: Any, table: str) -> None:
    elsewhere = {"budget", "depends_on"}
    assert {field.name for field in fields(kind)} - elsewhere <= set(metadata.tables[table].c.keys())


def test_opening_again_changes_nothing_and_makes_no_backup(database: Database, tmp_path: Path) -> None:
    assert migrate.upgrade(database) is False
    assert not (tmp_path / "backups").exists()


@pytest.mark.parametrize("where", ["before", "before_commit", "after"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_kill_in_a_migration_leaves_the_old_schema_or_the_new(
    kind: str, where: str, postgres: Any, tmp_path: Path
) -> None:
    with postgres.database(empty=True) as postgres_url:
        url = postgres_url if kind == "postgres" else f"sqlite:///{tmp_path}/holdfast.db"
        environment = os.environ | {"HOLDFAST_FAILPOINT": f"store.migrate.{where}"}
        command = [sys.executable, "-c", OPEN, url, str(tmp_path)]
        killed = subprocess.run(command, cwd=ROOT, env=environment, timeout=240)
        assert killed.returncode == -signal.SIGKILL
        raw = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        schema = None if kind == "sqlite" else "holdfast"
        expected = len(metadata.tables) + 1 if where == "after" else 0
        with raw.connect() as connection:
            tables = inspect(connection).get_table_names(schema=schema)
        raw.dispose()
        assert len([name for name in tables if name != "sqlite_sequence"]) == expected
        database = Database.open(url, data=tmp_path)
        build(database)
        assert check(database) == []
        database.close()


def test_an_old_sqlite_file_is_backed_up_before_it_is_changed(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revision 0002 that exists only here: the file is copied, then changed; a kill in between loses neither."""
    scripts = tmp_path / "scripts"
    (scripts / "versions").mkdir(parents=True)
    first = (migrate.SCRIPTS / "versions" / "0001_first.py").read_text()
    (scripts / "versions" / "0001_first.py").write_text(first)
    (scripts / "versions" / "0002_next.py").write_text(
        "from alembic import op\nrevision = '0002'\ndown_revision = '0001'\n"
        "def upgrade():\n    op.execute('ALTER TABLE plans ADD COLUMN colour TEXT')\n"
    )
    old = Database.open(sqlite_url, data=tmp_path)
    world = build(old)
    old.close()
    monkeypatch.setattr(migrate, "HEAD", "0002")
    monkeypatch.setattr(migrate, "SCRIPTS", scripts)
    new = Database.open(sqlite_url, data=tmp_path)
    with new.read() as connection:
        assert migrate.current(connection) == "0002"
        assert connection.execute(text("SELECT slug, colour FROM plans")).one() == (world.plan.slug, None)
    new.close()
    (kept,) = (tmp_path / "backups").iterdir()
    assert kept.name.endswith("-before-0002-from-0001.db")
    before = create_engine(f"sqlite:///{kept}")
    with before.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "0001"
        assert connection.execute(text("SELECT slug FROM plans")).scalar_one() == world.plan.slug
    before.dispose()
