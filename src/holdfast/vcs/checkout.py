"""Makes a new worktree: a clone that shares the vault's objects, with its own `.git` and the files of one tree, raw.

It is made beside its place and renamed there; a note in the vault says which folder that is, so that after a kill it is
known whether the folder at the place is ours and whole.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from holdfast.clock import new_id
from holdfast.domain.own_git import fresh
from holdfast.errors import IllegalState
from holdfast.failpoints import failpoint
from holdfast.vcs import own_git, statcache
from holdfast.vcs.folder import gone
from holdfast.vcs.objects import sync_filesystem
from holdfast.vcs.vault import Vault

_NOTE = "worktree.json"


@dataclass(frozen=True, slots=True)
class Note:
    """What the vault knows of a worktree: its branch and first commit, and which folder (inode) it is once renamed."""

    branch: str
    commit: str
    inode: int
    ready: bool


def read_note(state: Path) -> Note | None:
    """Gives the note of the worktree whose state folder this is, None if none was ever begun."""
    try:
        return Note(**json.loads((state / _NOTE).read_bytes()))
    except FileNotFoundError:
        return None


def _write_note(state: Path, note: Note) -> None:
    temporary = state / f"{_NOTE}.new"
    with open(temporary, "wb") as target:
        target.write(json.dumps(asdict(note)).encode())
        target.flush()
        os.fsync(target.fileno())
    temporary.replace(state / _NOTE)


def remove(state: Path, path: Path) -> None:
    """Removes the worktree at `path` and what the vault knows of it, as if it had never been made.

    A kill leaves it whole, or to be made again by `ensure_files`.
    """
    note = read_note(state)
    if note is not None and path.is_dir():
        _write_note(state, Note(note.branch, note.commit, path.stat().st_ino, ready=False))
        failpoint("vcs.worktree.doomed")
        away = path.with_name(f".{path.name}.making-{new_id()}")
        path.rename(away)
        failpoint("vcs.worktree.moved_away")
        remove_folder(away)
    shutil.rmtree(state)


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


def ensure_files(vault: Vault, state: Path, path: Path, branch: str, commit: str, recreate_at: str | None) -> None:
    """Returns when a whole worktree is at `path`; makes it, finishes it, or leaves the one that is there as it is."""
    note = read_note(state)
    there = path.is_dir() and not path.is_symlink()
    if note and there and (note.ready or path.stat().st_ino == note.inode):
        if not note.ready:
            _write_note(state, Note(note.branch, note.commit, note.inode, ready=True))
        return
    if note and note.ready and recreate_at is None:
        raise gone(path)
    if os.path.lexists(path) and not (there and not any(path.iterdir())):
        raise IllegalState(
            f"{path} is in the way: it is not a worktree of Holdfast",
            hint="move it elsewhere, then run the command again",
            code="worktree_obstructed",
        )
    _make(vault, state, path, branch, commit, recreate_at or vault.tree_of(commit))


def _make(vault: Vault, state: Path, path: Path, branch: str, commit: str, tree: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}.making-*"):
        shutil.rmtree(leftover)
    making = path.with_name(f".{path.name}.making-{new_id()}")
    making.mkdir()
    settled = statcache.settled_before(state, making.stat().st_dev)
    # The agent's own: it may use or ruin it.
    own_git.make(vault, making / ".git", path / ".git", fresh(branch, commit))
    _check_out(vault, making, tree)
    shutil.copyfile(making / ".git" / "index", state / "index")
    known = statcache.from_index(making / ".git" / "index", vault.objects.hash_size, _later(state, making, settled))
    statcache.save(state / "files", known)
    failpoint("vcs.worktree.checked_out")
    _write_note(state, Note(branch, commit, making.stat().st_ino, ready=False))
    sync_filesystem(making)
    failpoint("vcs.worktree.noted")
    making.rename(path)
    failpoint("vcs.worktree.renamed")
    _write_note(state, Note(branch, commit, path.stat().st_ino, ready=True))


def _later(state: Path, making: Path, begun: int) -> int:
    """Nobody but git has written to the new folder, so all but its very last files have settled."""
    return max(begun, statcache.settled_before(state, making.stat().st_dev))


def _check_out(vault: Vault, making: Path, tree: str) -> None:
    """Writes the files with the vault's git (raw, by its attributes); the index that git made is the agent's."""
    _write(vault, making, tree, making / ".git" / "index")


def write_files(vault: Vault, folder: Path, commit: str) -> None:
    """Makes `folder` with the files of a commit, to be looked at: it is no worktree, and nothing of it is durable."""
    folder.mkdir(parents=True)
    index = folder.with_name(f"{folder.name}.index")
    _write(vault, folder, commit, index)
    index.unlink()


def _write(vault: Vault, folder: Path, tree: str, index: Path) -> None:
    vault.git(["read-tree", tree], index=index, work_tree=folder)
    vault.git(["checkout-index", "-a", "-f", "-q", "-u"], index=index, work_tree=folder)
