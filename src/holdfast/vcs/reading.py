"""Turns one file of a worktree into a tree entry, and tells when that cannot be done faithfully."""

from __future__ import annotations

import os
import stat
import time
from typing import BinaryIO, Protocol

from holdfast.vcs.folder import has_writer, open_file, signature
from holdfast.vcs.objects import LARGE_BYTES
from holdfast.vcs.trees import FOLDER, GITLINK, SYMLINK, Entry, git_mode

PERMISSIONS = 0o777
_TRIES = 5
_PATIENCE = 50
"""Pauses of one snapshot for files that are being written."""
_PAUSE_SECONDS = 0.002


class Contents(Protocol):
    """Where what was read goes: the vault's objects, or the blobs of what git does not hold."""

    def oid(self, kind: str, data: bytes) -> bytes:
        """Gives the id that a content has."""
        ...

    def put(self, kind: str, data: bytes) -> bytes:
        """Takes a content and gives its id."""
        ...

    def put_large(self, source: BinaryIO, size: int) -> bytes | None:
        """Does that with a file from its beginning; None if it had not `size` bytes."""
        ...


class Reader:
    """Reads files for one worktree.

    `skipped` has the paths that the last look found too large or not readable: their old entry stays. `busy` has those
    of the present snapshot that somebody was writing to at every try: what was read of them is kept, but may be torn.
    `bytes_read` counts the content that is new in the present snapshot. With `exact` a mode has all permission bits.
    """

    def __init__(self, contents: Contents, max_file_bytes: int, *, exact: bool = False) -> None:
        self._contents = contents
        self._max_file_bytes = max_file_bytes
        self._exact = exact
        self._patience = 0
        self.skipped: set[bytes] = set()
        self.busy: set[bytes] = set()
        self.bytes_read = 0

    def begin(self) -> None:
        """Starts the counts of a new snapshot."""
        self.busy = set()
        self.bytes_read = 0
        self._patience = _PATIENCE

    def entry(self, folder: int, name: bytes, path: bytes, status: os.stat_result, old: Entry | None) -> Entry | None:
        """Gives the entry for what is at `name` in an open folder, None for what git cannot keep (a fifo, a socket).

        Raises FileNotFoundError if it went away. `old` is the entry of the snapshot before.
        """
        self.skipped.discard(path)
        if stat.S_ISLNK(status.st_mode):
            return SYMLINK, self._put(os.readlink(name, dir_fd=folder), old)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size > self._max_file_bytes:
            return self._skip(path, old)
        try:
            oid = self._content(folder, name, path, old)
        except PermissionError:
            return self._skip(path, old)
        if oid is None:
            return self._skip(path, old)
        return self.mode(status), oid

    def mode(self, status: os.stat_result) -> int:
        """Gives the mode of a file's entry."""
        mode = stat.S_IFREG | status.st_mode & PERMISSIONS
        return mode if self._exact else git_mode(mode)

    def _skip(self, path: bytes, old: Entry | None) -> Entry | None:
        self.skipped.add(path)
        return old if old and old[0] not in (FOLDER, GITLINK) else None

    def _content(self, folder: int, name: bytes, path: bytes, old: Entry | None) -> bytes | None:
        """Reads until nothing changed meanwhile; gives the last reading, and marks the path busy, if that never is."""
        oid: bytes | None = None
        for attempt in range(_TRIES):
            descriptor = open_file(folder, name)
            with open(descriptor, "rb", buffering=0) as source:
                torn = has_writer(descriptor)
                before = os.fstat(descriptor)
                if before.st_size > self._max_file_bytes:
                    return None
                oid = self._read(source, before.st_size, old) or oid
                torn = torn or has_writer(descriptor) or signature(os.fstat(descriptor)) != signature(before)
            if not torn:
                self.busy.discard(path)
                break
            self.busy.add(path)
            if self._patience == 0:
                break
            if attempt + 1 < _TRIES:
                self._patience -= 1
                time.sleep(_PAUSE_SECONDS)
        return oid

    def _read(self, source: object, size: int, old: Entry | None) -> bytes | None:
        if size >= LARGE_BYTES:
            return self._contents.put_large(source, size)  # type: ignore[arg-type]
        content = bytearray()
        while len(content) <= self._max_file_bytes and (chunk := source.read(max(size, 4096) + 1)):  # type: ignore[attr-defined]
            content += chunk
        return self._put(bytes(content), old)

    def _put(self, content: bytes, old: Entry | None) -> bytes:
        oid = self._contents.oid("blob", content)
        if old is None or old[1] != oid:
            self.bytes_read += len(content)
            self._contents.put("blob", content)
        return oid
