"""Takes large files of a new worktree from another one of the same vault, where the filesystem can share their blocks.

Only a file whose content is known for sure is taken: its size, times and inode are those of the file cache, before it
is cloned and after. Git writes the rest, and finds what was taken up to date, since the index says so. A small file is
written as fast as it is cloned.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from holdfast.clock import new_id
from holdfast.vcs import statcache
from holdfast.vcs.folder import Folder, open_file, signature
from holdfast.vcs.statcache import IndexEntry, Known, Signature
from holdfast.vcs.trees import EXECUTABLE

LARGE_BYTES = 64 << 10
"""From this size on a file is cloned rather than written."""
_FICLONE = 0x40049409
_LOOKED_AT = 4

Entries = Mapping[bytes, IndexEntry]
"""The files of an index that are to be there, by path."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another worktree, and what is known of its large files."""

    path: Path
    large: Known


def neighbours(states: Path, path: Path) -> Iterator[Neighbour]:
    """Gives the worktrees but that at `path`, those first that were looked through last.

    `states` holds what the vault knows of its worktrees.
    """
    found: list[tuple[float, Path]] = []
    for cache in states.glob("*/files"):
        with suppress(FileNotFoundError):
            if cache.parent.name != path.name:
                found.append((cache.stat().st_mtime, cache))
    for _, cache in sorted(found, reverse=True)[:_LOOKED_AT]:
        folder = path.parent / cache.parent.name
        if folder.is_dir() and not folder.is_symlink():
            known = statcache.load(cache)
            yield Neighbour(folder, {each: one for each, one in known.items() if one[0][0] >= LARGE_BYTES})


def nearest(among: Iterable[Neighbour], wanted: Entries) -> Neighbour | None:
    """Gives the worktree that has most of the large files that are `wanted`; None if none has any."""
    best, most = None, 0
    for each in among:
        count = sum(1 for path, (_, oid) in each.large.items() if path in wanted and wanted[path].oid == oid)
        if count > most:
            best, most = each, count
    return best


def share_blocks(target: int, source: int) -> None:
    """Gives an empty file the content of another by sharing its blocks; raises OSError where that cannot be."""
    fcntl.ioctl(target, _FICLONE, source)


def clone_large(folder: Path, neighbour: Neighbour, wanted: Entries) -> dict[bytes, os.stat_result]:
    """Clones into the empty `folder` the large files that are wanted; gives the status of each by path."""
    made: dict[bytes, os.stat_result] = {}
    with closing(Folder(neighbour.path)) as source, closing(Folder(folder)) as target:
        for path, (seen, oid) in neighbour.large.items():
            if path not in wanted or wanted[path].oid != oid:
                continue
            above, _, name = path.rpartition(b"/")
            os.makedirs(os.path.join(os.fsencode(folder), above), exist_ok=True)
            # What cannot be opened or cloned, whyever, git writes.
            with suppress(OSError), source.open(above) as from_, target.open(above) as to:
                status = _clone(from_, to, name, seen, executable=wanted[path].mode == EXECUTABLE)
                if status is not None:
                    made[path] = status
    return made


def _clone(source: int, target: int, name: bytes, wanted: Signature, *, executable: bool) -> os.stat_result | None:
    """Clones one file; None, and there is none, if it is not or no longer what is known of it."""
    there = open_file(source, name)
    try:
        if signature(os.fstat(there)) != wanted:
            return None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, 0o777 if executable else 0o666, dir_fd=target)
        cloned = False
        try:
            share_blocks(made, there)
            cloned = signature(os.fstat(there)) == wanted
            return os.fstat(made) if cloned else None
        finally:
            os.close(made)
            if not cloned:
                os.unlink(name, dir_fd=target)
    finally:
        os.close(there)


def can_share(folder: Path) -> bool:
    """Says whether files in `folder` can share blocks, by doing it with two files that are gone on return."""
    places = [folder / f".clone-{new_id()}" for _ in range(2)]
    try:
        places[0].write_bytes(b"x" * 4096)
        with places[0].open("rb") as source, places[1].open("xb") as target:
            share_blocks(target.fileno(), source.fileno())
    except OSError:
        return False
    else:
        return True
    finally:
        for place in places:
            place.unlink(missing_ok=True)
