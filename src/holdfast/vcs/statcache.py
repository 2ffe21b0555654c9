"""Remembers on disk which content each file of a worktree had, so that a full scan after a restart reads only stats.

An entry is kept only if the file had settled when it was read: its times lie before the filesystem's clock at that
moment, so any later change must show (git calls the others "racily clean").
"""

from __future__ import annotations

import hashlib
import marshal
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from holdfast.clock import new_id

Signature: TypeAlias = tuple[int, int, int, int]
Known: TypeAlias = dict[bytes, tuple[Signature, bytes]]
"""Path to signature and blob id."""

_SETTLE_NANOSECONDS = 20_000_000
_DIGEST_BYTES = 32
_INDEX_FIELDS = struct.Struct(">10I")


def load(path: Path) -> Known:
    """Gives what `save` wrote, nothing if there is none or it is damaged: the scan then reads the files."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    if hashlib.sha256(raw[_DIGEST_BYTES:]).digest() != raw[:_DIGEST_BYTES]:
        return {}
    return marshal.loads(raw[_DIGEST_BYTES:])


def save(path: Path, known: Known) -> None:
    """Writes the cache whole or not at all; not flushed, a lost one costs a slower scan.

    marshal, because it is ten times as fast as JSON here and only this process's own file is ever read.
    """
    content = marshal.dumps(known)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(hashlib.sha256(content).digest() + content)
    temporary.replace(path)


def settled_before(folder: Path, worktree_device: int) -> int:
    """Gives the time, in the filesystem's own nanoseconds, before which a file's last change cannot be mistaken."""
    probe = folder / f"clock-{new_id()}"
    probe.touch()
    status = probe.stat()
    probe.unlink()
    margin = _SETTLE_NANOSECONDS if status.st_dev == worktree_device else 2_000_000_000
    return status.st_mtime_ns - margin


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of a git index: where it is in the file, and what it says (the mode as in a tree)."""

    at: int
    path: bytes
    mode: int
    oid: bytes
    seen: Signature


class Index:
    """A git index of version 2, as git wrote it; of another version it has no entries."""

    def __init__(self, path: Path, digest: Callable[[bytes], hashlib._Hash]) -> None:
        self._digest = digest
        self._raw = bytearray(path.read_bytes())
        self._hash_size = digest(b"").digest_size

    def entries(self) -> Iterator[IndexEntry]:
        """Gives what the index has, in its order."""
        raw = bytes(self._raw)
        signature, version, count = struct.unpack_from(">4sII", raw)
        if signature != b"DIRC" or version != 2:
            return
        at = 12
        fixed = _INDEX_FIELDS.size + self._hash_size + 2
        for _ in range(count):
            c_seconds, c_nanoseconds, m_seconds, m_nanoseconds, _, inode, mode, _, _, size = _INDEX_FIELDS.unpack_from(
                raw, at
            )
            oid = raw[at + _INDEX_FIELDS.size : at + _INDEX_FIELDS.size + self._hash_size]
            end = raw.index(b"\0", at + fixed)
            changed, modified = c_seconds * 10**9 + c_nanoseconds, m_seconds * 10**9 + m_nanoseconds
            yield IndexEntry(at, raw[at + fixed : end], mode, oid, (size, modified, changed, inode))
            at += (fixed + end - (at + fixed) + 8) // 8 * 8

    def note(self, at: int, status: os.stat_result) -> None:
        """Notes that the file of the entry at `at` is there, with that status; written by `save`."""
        mode = _INDEX_FIELDS.unpack_from(self._raw, at)[6]
        times = (*divmod(status.st_ctime_ns, 10**9), *divmod(status.st_mtime_ns, 10**9))
        rest = (status.st_dev, status.st_ino, mode, status.st_uid, status.st_gid, status.st_size)
        _INDEX_FIELDS.pack_into(self._raw, at, *(number & 0xFFFFFFFF for number in (*times, *rest)))

    def save(self, path: Path) -> None:
        """Writes the index to `path`, for git to read."""
        self._raw[-self._hash_size :] = self._digest(bytes(self._raw[: -self._hash_size])).digest()
        path.write_bytes(self._raw)


def from_index(index: Index, settled: int) -> Known:
    """Gives the cache that follows from an index which git has just filled by checking files out."""
    return {
        entry.path: (entry.seen, entry.oid)
        for entry in index.entries()
        if entry.mode >> 12 == 0o10 and max(entry.seen[1], entry.seen[2]) < settled
    }


def is_settled(status: os.stat_result, settled: int) -> bool:
    """Says whether a file's entry may be kept, for files whose content was read after `settled` was taken."""
    return max(status.st_mtime_ns, status.st_ctime_ns) < settled
