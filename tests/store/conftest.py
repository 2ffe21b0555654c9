"""A plan with work in it, in a database of the test's own."""

from __future__ import annotations

import pytest
from tests.store.world import World, build

from holdfast.store.database import Database


@pytest.fixture
def world(database: Database) -> World:
    """A project with one plan of two phases and three tasks."""
    return build(database)


@pytest.fixture
def sqlite_world(sqlite_database: Database) -> World:
    return build(sqlite_database)
