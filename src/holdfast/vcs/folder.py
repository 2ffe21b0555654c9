"""Files of a folder that somebody else may be changing: opened component by component, never through a symlink."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGURG

from holdfast.errors import IllegalState

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What the system says of a path that is not there, or only behind a symlink."""


class Folder:
    """A folder held open. Paths are bytes, relative to it, `b""` for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, _FOLDER_FLAGS)

    def check(self) -> None:
        """Raises `IllegalState` if the folder that is open is no longer the one at its path."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = None
        mine = os.fstat(self._descriptor)
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise gone(self.path)

    @contextmanager
    def open(self, path: bytes) -> Generator[int]:
        """Gives a descriptor of the folder at `path`; raises OSError with an errno in `GONE` if there is none.

        It is a new one, for `b""` too: btrfs lists through a descriptor only what was there when it was opened.
        """
        descriptor = os.open(b".", _FOLDER_FLAGS, dir_fd=self._descriptor)
        try:
            for name in path.split(b"/") if path else ():
                inner = os.open(name, _FOLDER_FLAGS, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Closes the folder."""
        os.close(self._descriptor)


def make_writable(descriptor: int) -> None:
    """Lets us write to a folder that its tools made read-only (module caches do): no snapshot has a folder's mode."""
    mode = os.fstat(descriptor).st_mode & 0o7777
    if mode & 0o300 != 0o300:
        os.fchmod(descriptor, mode | 0o300)


def remove_folder(folder: Path) -> None:
    """Removes a folder with all that is in it, also what its writer made read-only."""

    def again(_function: object, name: str, _error: object) -> None:
        place = Path(name)
        for each in (place.parent, place):
            if not each.is_symlink():
                each.chmod(0o700)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()

    shutil.rmtree(folder, onerror=again)


def gone(path: Path) -> IllegalState:
    """Gives the error for a worktree whose folder somebody deleted or replaced."""
    return IllegalState(
        f"the worktree folder {path} is gone: it was deleted or replaced by hand",
        hint="its checkpoints are safe: recreate it from one (resume or retry the task)",
        code="worktree_gone",
    )


def open_file(folder: int, name: bytes) -> int:
    """Gives a descriptor of a regular file in an open folder; raises FileNotFoundError if it is not one (any more)."""
    descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", name)
    return descriptor


def has_writer(descriptor: int) -> bool:
    """Says whether a process has the file open for writing, or mapped so; False where the system does not tell.

    The kernel grants a read lease only if nobody has. It is given back at once, and its signal is one that is ignored
    by default, so that a writer that comes at that instant does not end us.
    """
    with suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, SIGURG)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False  # not ours, or a filesystem without leases: comparing the times before and after must do
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def signature(status: os.stat_result) -> tuple[int, int, int, int]:
    """Gives what changes whenever a file's content does: size, modification and change time, inode (as git's index)."""
    return (status.st_size & 0xFFFFFFFF, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & 0xFFFFFFFF)
