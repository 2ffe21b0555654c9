"""Remembers on disk which content each file of a worktree had, so that a full scan after a restart reads only stats.

An entry is kept only if the file had settled when it was read: its times lie before the filesystem's clock at that
moment, so any later change must show (git calls the others "racily clean").
"""

from __future__ import annotations

import hashlib
import marshal
import os
import struct
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


def from_index(index: Path, hash_size: int, settled: int) -> Known:
    """Gives the cache that follows from a git index of version 2 which git has just filled by checking files out."""
    raw = index.read_bytes()
    signature, version, count = struct.unpack_from(">4sII", raw)
    if signature != b"DIRC" or version != 2:
        return {}
    known: Known = {}
    at = 12
    fixed = _INDEX_FIELDS.size + hash_size + 2
    for _ in range(count):
        c_seconds, c_nanoseconds, m_seconds, m_nanoseconds, _, inode, mode, _, _, size = _INDEX_FIELDS.unpack_from(
            raw, at
        )
        oid = raw[at + _INDEX_FIELDS.size : at + _INDEX_FIELDS.size + hash_size]
        end = raw.index(b"\0", at + fixed)
        changed, modified = c_seconds * 10**9 + c_nanoseconds, m_seconds * 10**9 + m_nanoseconds
        if mode >> 12 == 0o10 and max(changed, modified) < settled:
            known[raw[at + fixed : end]] = ((size, modified, changed, inode), oid)
        at += (fixed + end - (at + fixed) + 8) // 8 * 8
    return known


def is_settled(status: os.stat_result, settled: int) -> bool:
    """Says whether a file's entry may be kept, for files whose content was read after `settled` was taken."""
    return max(status.st_mtime_ns, status.st_ctime_ns) < settled
