"""Brings a database's schema to the one of this code, once, whatever number of processes start together.

The revisions are Alembic scripts in `migrations/versions/`, named 0001, 0002 …; each runs in one transaction with the
mark that it ran, so a kill leaves the old schema or the new one. Alembic is imported only when there is work for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from holdfast.errors import IllegalState
from holdfast.failpoints import failpoint
from holdfast.store.tables import SCHEMA

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from holdfast.store.database import Database

HEAD = "0001"
SCRIPTS = Path(__file__).parent / "migrations"
# Any fixed number of our own: who holds this advisory lock of PostgreSQL migrates.
_LOCK = 0x686F6C64666173


def head() -> str:
    """Gives the schema revision that this code was written for."""
    return HEAD


def current(connection: Connection) -> str | None:
    """Gives the schema revision of the database, or None for one without our tables."""
    schema = None if connection.dialect.name == "sqlite" else SCHEMA
    if not inspect(connection).has_table("alembic_version", schema=schema):
        return None
    table = "alembic_version" if schema is None else f"{schema}.alembic_version"
    return connection.execute(text(f"SELECT version_num FROM {table}")).scalar_one_or_none()


def require_known(database: Database) -> str | None:
    """Gives the database's revision; raises `IllegalState` if this code does not know it."""
    with database.read() as connection:
        revision = current(connection)
    _refuse_newer(database, revision)
    return revision


def upgrade(database: Database) -> bool:
    """Brings the schema to `head()`; True if it changed anything. Backs a SQLite file up before changing it.

    Raises `IllegalState` for a schema newer than this code. When it returns, the new schema is durable.
    """
    if require_known(database) == HEAD:
        return False
    with database.transaction() as connection:
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        revision = current(connection)
        _refuse_newer(database, revision)
        if revision == HEAD:
            return False
        if revision is not None and database.path is not None:
            _backup_first(database, revision)
        failpoint("store.migrate.before")
        _run(connection)
        failpoint("store.migrate.before_commit")
    failpoint("store.migrate.after")
    return True


def _refuse_newer(database: Database, revision: str | None) -> None:
    if revision is not None and revision > HEAD:
        raise IllegalState(
            f"{database.place} was made by a newer Holdfast (schema {revision}, this one knows {HEAD})",
            hint="upgrade Holdfast, or restore a backup of the time before",
            code="newer_schema",
        )


def _backup_first(database: Database, revision: str) -> None:
    from holdfast.store.backup import automatic

    automatic(database, f"before-{HEAD}-from-{revision}")


def _run(connection: Connection) -> None:
    from alembic.runtime.environment import EnvironmentContext

    config, script = _scripts()

    def steps(revision: object, _context: object) -> list[object]:
        return list(script._upgrade_revs("head", revision))  # pyright: ignore  # Alembic's own commands do so

    with EnvironmentContext(config, script, fn=steps, destination_rev="head") as environment:
        environment.configure(
            connection=connection,
            transactional_ddl=True,
            version_table_schema=None if connection.dialect.name == "sqlite" else SCHEMA,
            version_table="alembic_version",
        )
        environment.run_migrations()


def _scripts() -> tuple[Config, ScriptDirectory]:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config, ScriptDirectory.from_config(config)
