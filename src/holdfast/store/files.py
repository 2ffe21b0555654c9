"""Files that are whole or absent: written aside, flushed, renamed, and their folder flushed."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from holdfast.errors import InfraError

_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT


@contextmanager
def told(path: Path) -> Generator[None]:
    """Turns operating system errors inside the block into `InfraError`s that name `path`."""
    try:
        yield
    except OSError as error:
        code = "disk_full" if error.errno in _NO_SPACE else "disk_failed"
        hint = "free some disk space" if code == "disk_full" else "check the disk and the folder's rights"
        raise InfraError(f"{path}: {error.strerror or error}", hint=hint, code=code) from error


def flush(path: Path) -> None:
    """Makes a file's content, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(temporary: Path, target: Path) -> None:
    """Renames a flushed file to its final name, durably."""
    temporary.rename(target)
    flush(target.parent)
