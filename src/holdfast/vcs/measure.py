"""How much differs between two commits, without looking at what."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from holdfast.vcs import trees
from holdfast.vcs.vault import Vault


@dataclass(frozen=True, slots=True)
class Change:
    """Paths that differ, and the bytes of their new content (links and submodules count as nothing)."""

    files: int
    bytes: int


def measure(vault: Vault, before: str, after: str) -> Change:
    """Gives how much differs from commit `before` to commit `after`; costs what differs, not the tree."""
    if before == after:
        return Change(0, 0)
    roots = (bytes.fromhex(vault.tree_of(commit)) for commit in (before, after))
    files, blobs = 0, list[bytes]()
    for _, _, entry in trees.compare(vault.objects, *roots):
        files += 1
        if entry is not None and stat.S_ISREG(entry[0]):
            blobs.append(entry[1])
    if not blobs:
        return Change(files, 0)
    asked = b"".join(blob.hex().encode() + b"\n" for blob in blobs)
    sizes = vault.git(["cat-file", "--batch-check=%(objectsize)"], stdin=asked).split()
    return Change(files, sum(map(int, sizes)))
