from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vcs.places import Place, make_place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A user's repository with one commit, its vault, and a branch at that commit."""
    made = make_place(tmp_path)
    yield made
    made.vault.close()
