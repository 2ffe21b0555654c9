"""Databases for every test that wants one: real SQLite files and a real PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.harness import forked
from tests.harness.postgres import PostgresServer, postgres_server

from holdfast.store.database import Database

# The machines that run this are shared: a slow example is not a wrong one.
settings.register_profile("holdfast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("holdfast")


def pytest_xdist_auto_num_workers() -> int:
    """Most of what the tests take is waiting for processes, so a machine of two cores does four at once."""
    return 4


@pytest.fixture(scope="session", autouse=True)
def _close_forked() -> Iterator[None]:
    yield
    forked.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of this test process, started when the first test asks for it."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database with the schema in it, for this test alone."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    Database.open(f"sqlite:///{folder}/holdfast.db", data=folder).close()
    return folder / "holdfast.db"


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """A SQLite database with the schema in it, for this test alone."""
    shutil.copyfile(sqlite_template, tmp_path / "holdfast.db")
    return f"sqlite:///{tmp_path}/holdfast.db"


@pytest.fixture
def sqlite_database(sqlite_url: str, tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(sqlite_url, data=tmp_path)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database for this test alone, once as SQLite and once as PostgreSQL."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """An open database for this test alone, once as SQLite and once as PostgreSQL."""
    opened = Database.open(database_url, data=tmp_path)
    yield opened
    opened.close()
