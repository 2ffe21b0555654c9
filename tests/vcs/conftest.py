from __future__ import annotations

import os
import shutil
import subprocess
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


@pytest.fixture
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A filesystem of the kind of the parameter, in a file; only root can have one."""
    if os.geteuid() or not shutil.which(f"mkfs.{request.param}") or not Path("/dev/loop-control").exists():
        pytest.skip(f"needs root, mkfs.{request.param} and a loop device")
    image, folder = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([f"mkfs.{request.param}", "-q", str(image)], check=True)
    folder.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    yield folder
    while OPENED:
        OPENED.pop().close()
    subprocess.run(["umount", str(folder)], check=True)
