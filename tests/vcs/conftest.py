from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.vcs.places import OPENED, Place, make_place


@pytest.fixture(autouse=True)
def _close_vaults() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A user's repository with one commit, its vault, and a branch at that commit."""
    return make_place(tmp_path)
