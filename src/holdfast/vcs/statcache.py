"""Remembers on disk which content each file of a worktree had, so that a full scan after a restart reads only stats.

An entry is kept only if the file had settled when it was read: its times lie before the filesystem's clock at that
moment, so any later change must show (git calls the others "racily clean").
"""

from __future__ import annotations

import hashlib
import marshal
import os
import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeAlias

from holdfast.clock import new_id
from holdfast.vcs.trees import Change, Entry, git_mode

Signature: TypeAlias = tuple[int, int, int, int]
Known: TypeAlias = dict[bytes, tuple[Signature, bytes]]
"""Path to signature and blob id."""

_SETTLE_NANOSECONDS = 20_000_000
_DIGEST_BYTES = 32
_INDEX_HEAD = struct.Struct(">4sII")
_INDEX_FIELDS = struct.Struct(">10I")
_LONG_NAME = 0xFFF


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


class IndexEntry(NamedTuple):
    """One line of a git index: where it is in the file, and what it says (the mode as in a tree).

    A tuple, because there may be 100,000 of them.
    """

    at: int
    path: bytes
    mode: int
    oid: bytes
    seen: Signature


class Index:
    """The content of a git index of version 2, as git wrote it; of another version it has no entries."""

    def __init__(self, content: bytes, digest: Callable[[bytes], hashlib._Hash]) -> None:
        self._digest = digest
        self._raw = bytearray(content)
        self._hash_size = digest(b"").digest_size
        self._fixed = _INDEX_FIELDS.size + self._hash_size + 2

    @cached_property
    def _places(self) -> list[int]:
        """Gives where each entry begins, and where the last one ends."""
        raw, fixed = bytes(self._raw), self._fixed
        signature, version, count = _INDEX_HEAD.unpack_from(raw)
        at, places = _INDEX_HEAD.size, [_INDEX_HEAD.size]
        for _ in range(count if (signature, version) == (b"DIRC", 2) else 0):
            length = (raw[at + fixed - 2] & 0x0F) << 8 | raw[at + fixed - 1]
            if length == _LONG_NAME:
                length = raw.index(b"\0", at + fixed) - at - fixed
            at += (fixed + length + 8) & ~7
            places.append(at)
        return places

    def _name(self, at: int) -> bytes:
        return bytes(self._raw[at + self._fixed : self._raw.index(b"\0", at + self._fixed)])

    def entries(self) -> Iterator[IndexEntry]:
        """Gives what the index has, in its order."""
        raw, places, name = bytes(self._raw), self._places, self._fixed
        fields = struct.Struct(f"{_INDEX_FIELDS.format}{self._hash_size}s")
        for at, end in pairwise(places):
            c_seconds, c_nanoseconds, m_seconds, m_nanoseconds, _, inode, mode, _, _, size, oid = fields.unpack_from(
                raw, at
            )
            changed, modified = c_seconds * 10**9 + c_nanoseconds, m_seconds * 10**9 + m_nanoseconds
            path = raw[at + name : end].rstrip(b"\0")
            yield IndexEntry(at, path, mode, oid, (size, modified, changed, inode))

    def note(self, at: int, status: os.stat_result) -> None:
        """Notes that the file of the entry at `at` is there, with that status; written by `save`."""
        mode = _INDEX_FIELDS.unpack_from(self._raw, at)[6]
        times = (*divmod(status.st_ctime_ns, 10**9), *divmod(status.st_mtime_ns, 10**9))
        rest = (status.st_dev, status.st_ino, mode, status.st_uid, status.st_gid, status.st_size)
        _INDEX_FIELDS.pack_into(self._raw, at, *(number & 0xFFFFFFFF for number in (*times, *rest)))

    def save(self, path: Path) -> None:
        """Writes the index to `path`, for git to read."""
        self._raw[-self._hash_size :] = self._sum(self._raw)
        path.write_bytes(self._raw)

    def _sum(self, raw: bytearray) -> bytes:
        return self._digest(bytes(memoryview(raw)[: -self._hash_size])).digest()

    @property
    def whole(self) -> bool:
        """Says whether it is as it was written."""
        return len(self._raw) > _INDEX_HEAD.size + self._hash_size and self._raw[-self._hash_size :] == self._sum(
            self._raw
        )

    def tree(self) -> bytes | None:
        """Gives the tree whose files are just the entries, as far as the index says so."""
        found = re.compile(rb"TREE....\0(\d+) \d+\n", re.DOTALL).match(self._raw, self._places[-1])
        return bytes(self._raw[found.end() : found.end() + self._hash_size]) if found else None

    def turned(self, tree: bytes, changes: Iterable[Change]) -> bytes:
        """Gives the content of an index of `tree`, from which this one differs by `changes`.

        It knows of the others what this one knows, and of those that change nothing: git looks at them when it has to.
        """
        raw, places = memoryview(self._raw), self._places
        parts: list[bytes | memoryview] = []
        kept, count = places[0], len(places) - 1
        for path, _, new in sorted(changes, key=lambda change: change[0]):
            number = bisect_left(places, path, hi=len(places) - 1, key=self._name)
            at = places[number]
            there = at != places[-1] and self._name(at) == path
            parts += [raw[kept:at], _index_entry(path, new) if new else b""]
            kept = places[number + 1] if there else at
            count += (new is not None) - there
        said = b"\0%d 0\n%s" % (count, tree)
        parts += [raw[kept : places[-1]], b"TREE", len(said).to_bytes(4), said]
        parts.insert(0, _INDEX_HEAD.pack(b"DIRC", 2, count))
        digest = self._digest(b"")
        for part in parts:
            digest.update(part)
        return b"".join([*parts, digest.digest()])


def _index_entry(path: bytes, entry: Entry) -> bytes:
    mode, oid = entry
    fields = _INDEX_FIELDS.pack(0, 0, 0, 0, 0, 0, git_mode(mode), 0, 0, 0)
    content = fields + oid + min(len(path), _LONG_NAME).to_bytes(2) + path
    return content + b"\0" * (8 - len(content) % 8)


def read_index(path: Path, digest: Callable[[bytes], hashlib._Hash]) -> Index | None:
    """Gives the index at `path`, None if there is none or it is damaged."""
    try:
        index = Index(path.read_bytes(), digest)
    except FileNotFoundError:
        return None
    return index if index.whole else None


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
