"""Makes the files of a worktree what a tree says, touching only those that differ and destroying nothing else.

Deletions come first, each new file is written beside its place and renamed there. What is in the way and in no snapshot
(an ignored folder, a skipped file) is moved aside into the vault, never removed. Doing it again finishes it.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from holdfast.clock import new_id
from holdfast.errors import Corruption
from holdfast.failpoints import failpoint
from holdfast.vcs.changes import TEMPORARY_PREFIX
from holdfast.vcs.folder import GONE, Folder, make_writable
from holdfast.vcs.ignore import IgnoreRules
from holdfast.vcs.trees import EXECUTABLE, GITLINK, SYMLINK, Change, Entry


class Contents(Protocol):
    """Where contents are taken from: the vault's objects, or the blobs of what git does not hold."""

    def copy_blob(self, oid: bytes, target: BinaryIO) -> None:
        """Writes a content to `target`; raises `Corruption` if it is not there or not what it was."""
        ...


class Restore:
    """Applies changes to a worktree. `skipped` are paths whose present content no snapshot has; `aside` takes them.

    With `exact` a file gets all permission bits of its entry's mode, else only git's executable one.
    """

    def __init__(
        self,
        folder: Folder,
        contents: Contents,
        rules: IgnoreRules,
        aside: Path,
        skipped: Collection[bytes],
        *,
        exact: bool = False,
    ) -> None:
        self._folder, self._contents, self._rules = folder, contents, rules
        self._aside, self._skipped, self._exact = aside, skipped, exact

    def apply(self, changes: Iterable[Change], *, spare_ignored: bool = True) -> set[bytes]:
        """Makes every path of `changes` (old, new) what it is to be; gives the folders that were written to.

        What rules that come with the changes begin to ignore is not deleted, unless told so.
        """
        first, rest = _apart(changes) if spare_ignored else ([], list(changes))
        spared: set[bytes] = set()
        folders: set[bytes] = set()
        if first:
            doomed = [path for path, _, new in rest if new is None]
            tracked = self._ignored(doomed)
            folders = self._change(first)
            spared = self._ignored(doomed) - tracked
        return folders | self._change([change for change in rest if change[0] not in spared])

    def _ignored(self, paths: list[bytes]) -> set[bytes]:
        self._rules.forget()
        return self._rules.ignored(paths)

    def _change(self, ordered: list[Change]) -> set[bytes]:
        self._delete([(path, old) for path, old, new in ordered if old is not None and _goes(old, new)])
        failpoint("vcs.restore.deleted")
        folders: set[bytes] = set()
        for path, old, new in ordered:
            if new is not None:
                self._write(path, old, new)
                failpoint("vcs.restore.file_written")
                folders |= _above(path)
        return folders

    def _delete(self, gone: list[tuple[bytes, Entry]]) -> None:
        emptied: set[bytes] = set()
        for path, old in gone:
            above, _, name = path.rpartition(b"/")
            with suppress(FileNotFoundError, NotADirectoryError), self._open(above) as descriptor:
                if old[0] == GITLINK:
                    with suppress(OSError):  # a submodule with files in it stays: no snapshot has them
                        os.rmdir(name, dir_fd=descriptor)
                elif path in self._skipped or _is_folder(name, descriptor):
                    self._move_aside(name, descriptor)
                else:
                    os.unlink(name, dir_fd=descriptor)
            emptied |= _above(path)
        for path in sorted(emptied - {b""}, key=len, reverse=True):
            above, _, name = path.rpartition(b"/")
            # only what is empty goes: ignored files keep their folder
            with suppress(OSError), self._open(above) as descriptor:
                os.rmdir(name, dir_fd=descriptor)

    def _write(self, path: bytes, old: Entry | None, new: Entry) -> None:
        above, _, name = path.rpartition(b"/")
        self._make_folders(above)
        with self._open(above) as descriptor:
            there = _status(name, descriptor)
            if new[0] == GITLINK:
                self._make_submodule(name, descriptor, there)
                return
            unknown = there is not None and (old is None or path in self._skipped)
            if there is not None and (unknown or stat.S_ISDIR(there.st_mode)):
                self._move_aside(name, descriptor)
            elif old and old[1] == new[1] and SYMLINK not in (old[0], new[0]) and there and stat.S_ISREG(there.st_mode):
                os.chmod(name, self._bits(new[0], there), dir_fd=descriptor)
                return
            self._replace(name, descriptor, new, there if there and stat.S_ISREG(there.st_mode) else None)

    def _bits(self, mode: int, there: os.stat_result) -> int:
        """Gives the permission bits for a file in the place of `there`: git knows only the executable one."""
        return mode & 0o777 if self._exact else _executable_bits(there, mode == EXECUTABLE)

    def _replace(self, name: bytes, descriptor: int, new: Entry, there: os.stat_result | None) -> None:
        temporary = TEMPORARY_PREFIX + new_id().encode()
        try:
            if new[0] == SYMLINK:
                os.symlink(self._link(new[1], name), temporary, dir_fd=descriptor)
            else:
                self._write_file(temporary, descriptor, new, name, there)
            os.rename(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=descriptor)
            raise

    def _link(self, oid: bytes, name: bytes) -> bytes:
        target = BytesIO()
        self._copy(oid, target, name)
        return target.getvalue()

    def _write_file(
        self, temporary: bytes, descriptor: int, new: Entry, name: bytes, there: os.stat_result | None
    ) -> None:
        exact = new[0] & 0o777 if self._exact else self._bits(new[0], there) if there else None
        mode = 0o600 if exact is not None else 0o777 if new[0] == EXECUTABLE else 0o666
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(temporary, flags, mode, dir_fd=descriptor), "wb") as target:
            self._copy(new[1], target, name)
            if exact is not None:
                target.flush()
                os.fchmod(target.fileno(), exact)

    def _copy(self, oid: bytes, target: BinaryIO, name: bytes) -> None:
        try:
            self._contents.copy_blob(oid, target)
        except Corruption as error:
            raise Corruption(f"{os.fsdecode(name)} cannot be restored: {error.message}", hint=error.hint) from error

    def _make_submodule(self, name: bytes, descriptor: int, there: os.stat_result | None) -> None:
        if there is not None and not stat.S_ISDIR(there.st_mode):
            self._move_aside(name, descriptor)
            there = None
        if there is None:
            os.mkdir(name, dir_fd=descriptor)

    def _make_folders(self, path: bytes) -> None:
        """Makes every part of `path` a real folder; a file or symlink in the way is in no snapshot and moved aside."""
        above = b""
        for name in path.split(b"/") if path else ():
            with self._open(above) as descriptor:
                there = _status(name, descriptor)
                if there is not None and not stat.S_ISDIR(there.st_mode):
                    self._move_aside(name, descriptor)
                    there = None
                if there is None:
                    os.mkdir(name, dir_fd=descriptor)
            above = above + b"/" + name if above else name

    def _move_aside(self, name: bytes, descriptor: int) -> None:
        place = self._aside / new_id()
        place.mkdir(parents=True)
        target = os.fsencode(place) + b"/" + name
        try:
            os.rename(name, target, src_dir_fd=descriptor)
        except OSError as error:
            if error.errno != 18:  # EXDEV: the vault is on another filesystem
                raise
            shutil.move(f"/proc/self/fd/{descriptor}/{os.fsdecode(name)}", os.fsdecode(target))

    @contextmanager
    def _open(self, path: bytes) -> Generator[int]:
        """Gives the folder at `path`, writable to us; raises FileNotFoundError if it is only there behind a symlink."""
        try:
            with self._folder.open(path) as descriptor:
                make_writable(descriptor)
                yield descriptor
        except OSError as error:
            if error.errno in GONE:
                raise FileNotFoundError(error.errno, error.strerror, path) from error
            raise


def _apart(changes: Iterable[Change]) -> tuple[list[Change], list[Change]]:
    """Parts the changes of ignore rules from the others: what the new rules ignore and the old did not is not deleted.

    Such a file came into a snapshot only because a restore took the rule away that kept it out.
    """
    first: list[Change] = []
    rest: list[Change] = []
    for change in changes:
        (first if change[0].rpartition(b"/")[2] == b".gitignore" else rest).append(change)
    return first, rest


def _goes(old: Entry, new: Entry | None) -> bool:
    """Says whether what is there must be gone before anything is written (a submodule's folder is no file's place)."""
    return new is None or (old[0] == GITLINK) != (new[0] == GITLINK)


def _above(path: bytes) -> set[bytes]:
    parts = path.split(b"/")
    return {b"/".join(parts[:count]) for count in range(len(parts))}


def _status(name: bytes, descriptor: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_folder(name: bytes, descriptor: int) -> bool:
    there = _status(name, descriptor)
    return there is not None and stat.S_ISDIR(there.st_mode)


def _executable_bits(there: os.stat_result, executable: bool) -> int:
    bits = there.st_mode & 0o777
    return bits | (bits & 0o444) >> 2 if executable else bits & ~0o111
