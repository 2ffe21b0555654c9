"""The index of a worktree's own git, of 10 MB where there are 100,000 files: written no more often than it must be.

There are two, each of one tree: that in the `.git`, and another one in the worktree's `state` folder. A note says which
tree each is of, and how its file looked when it was put there. One that looks otherwise was written by somebody else.
To go back to the tree of the other one the two change places, and neither is read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from holdfast.failpoints import failpoint
from holdfast.vcs import statcache, trees
from holdfast.vcs.folder import open_file, signature
from holdfast.vcs.statcache import Index
from holdfast.vcs.vault import Vault

_NAME = "index"
_NOTE = "index.json"
_FAR = 1000
"""So many changes from the kept index make a new one worth writing."""


def begin(state: Path, git: Path, tree: str) -> None:
    """Notes that the index in the folder `git` is of `tree`, and keeps a copy of it in `state`."""
    shutil.copyfile(git / _NAME, state / _NAME)
    descriptor = os.open(git, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _note(state, descriptor, tree, tree)
    finally:
        os.close(descriptor)


def is_of(state: Path, git: int, tree: str) -> bool:
    """Says whether the index in the open folder `git` is the one that was put there for `tree`."""
    return _noted(state, git)[0] == tree


def put(vault: Vault, state: Path, git: int, tree: str, write: Callable[[bytes], None]) -> None:
    """Makes the index in the open folder `git` one of `tree`, which `write` puts there if it has to be written.

    What is known of files that did not change is kept, so the agent's git need not read them again.
    """
    own, kept = _noted(state, git)
    if own == tree:
        return
    if own and kept == tree and _change_places(state, git):
        _note(state, git, tree, own)
        return
    content, changes = _content(vault, state, git, own, kept, tree)
    failpoint("vcs.own.index_known")
    lent = bool(own) and _lend(state, git)
    write(content)
    failpoint("vcs.own.index_written")
    if lent:
        (state / f"{_NAME}.was").replace(state / _NAME)
        kept = own
    elif own or not kept or changes > _FAR:
        temporary = state / f"{_NAME}.new"
        temporary.write_bytes(content)
        temporary.replace(state / _NAME)
        kept = tree
    _note(state, git, tree, kept)


def _change_places(state: Path, git: int) -> bool:
    """Lets the two files change places, if they can; the `.git` has one of them all the time."""
    if not _lend(state, git):
        return False
    failpoint("vcs.own.index_lent")
    os.rename(state / _NAME, _NAME, dst_dir_fd=git)
    failpoint("vcs.own.index_changed")
    (state / f"{_NAME}.was").replace(state / _NAME)
    return True


def _lend(state: Path, git: int) -> bool:
    """Gives the index in the `.git` a second name in `state`; False where that cannot be, as on another filesystem."""
    was = state / f"{_NAME}.was"
    was.unlink(missing_ok=True)
    try:
        os.link(_NAME, was, src_dir_fd=git, follow_symlinks=False)
    except OSError:
        return False
    return True


def _content(vault: Vault, state: Path, git: int, own: str, kept: str, tree: str) -> tuple[bytes, int]:
    """Gives the content of an index of `tree`, and from how many changes to one of the two it was made."""
    if kept == tree:
        return (state / _NAME).read_bytes(), 0
    base, before = _base(vault, state, git, own, kept)
    if base is None or before is None:
        fresh = state / f"{_NAME}.new"
        fresh.unlink(missing_ok=True)
        vault.git(["read-tree", tree], index=fresh)
        return fresh.read_bytes(), _FAR + 1
    after = bytes.fromhex(tree)
    changes = list(trees.compare(vault.objects, before, after))
    return base.turned(after, changes), len(changes)


def _base(vault: Vault, state: Path, git: int, own: str, kept: str) -> tuple[Index | None, bytes | None]:
    """Gives the index to begin with, and its tree: one that is noted, else a kept one that is whole."""
    digest = vault.objects.hash
    if own:
        with open(open_file(git, os.fsencode(_NAME)), "rb") as source:
            return Index(source.read(), digest), bytes.fromhex(own)
    if kept:
        return Index((state / _NAME).read_bytes(), digest), bytes.fromhex(kept)
    found = statcache.read_index(state / _NAME, digest)
    return found, found.tree() if found else None


# -- the note ----------------------------------------------------------------------------------------------------------


def _note(state: Path, git: int, own: str, kept: str) -> None:
    """Not flushed: where it is lost or stale, an index is written that need not be."""
    trees_and_looks = [[own, _look(os.fsencode(_NAME), git)], [kept, _look(state / _NAME)]]
    temporary = state / f"{_NOTE}.new"
    temporary.write_text(json.dumps(trees_and_looks))
    temporary.replace(state / _NOTE)


def _noted(state: Path, git: int) -> tuple[str, str]:
    """Gives the trees of the index in the `.git` and of the kept one; empty for one that is not as it was put there."""
    try:
        (own, own_look), (kept, kept_look) = json.loads((state / _NOTE).read_bytes())
    except (FileNotFoundError, ValueError):
        return "", ""
    return (
        own if own_look == _look(os.fsencode(_NAME), git) else "",
        kept if kept_look == _look(state / _NAME) else "",
    )


def _look(place: bytes | Path, folder: int | None = None) -> list[int] | None:
    try:
        status = os.stat(place, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return [*signature(status), status.st_mode]
