"""Makes a new worktree: a clone that shares the vault's objects, with its own `.git` and the files of one tree, raw.

Large files that another worktree of the vault is known to have are shared with it where the filesystem can.
It is made beside its place and renamed there; a note in the vault says which folder that is, so that after a kill it is
known whether the folder at the place is ours and whole. It is there before it is durable: if the machine goes down in
between, it is made again, so nobody may work in it before `settle`.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from holdfast.clock import boot_id, new_id
from holdfast.domain.own_git import fresh
from holdfast.errors import IllegalState
from holdfast.failpoints import failpoint
from holdfast.vcs import own_git_writing, own_index, reflink, statcache, trees
from holdfast.vcs.folder import gone, remove_folder
from holdfast.vcs.objects import sync_filesystem
from holdfast.vcs.reading import PERMISSIONS
from holdfast.vcs.trees import EXECUTABLE, FILE
from holdfast.vcs.vault import Vault

_NOTE = "worktree.json"
_AHEAD_NANOSECONDS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Note:
    """What the vault knows of a worktree: its branch and first commit, and which folder (inode) it is once renamed.

    `durable` says whether a power cut leaves it whole; until then only this `boot` of the machine does.
    """

    branch: str
    commit: str
    inode: int
    boot: str
    durable: bool = False

    @property
    def whole(self) -> bool:
        return self.durable or self.boot == boot_id()


def read_note(state: Path) -> Note | None:
    """Gives the note of the worktree whose state folder this is, None if none was ever begun."""
    try:
        said = json.loads((state / _NOTE).read_bytes())
    except FileNotFoundError:
        return None
    # Of an earlier version it says `ready`, and was flushed by then.
    return Note(
        said["branch"], said["commit"], said["inode"], said.get("boot", ""), said.get("durable", said.get("ready"))
    )


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
        _write_note(state, Note(note.branch, note.commit, path.stat().st_ino, boot_id()))
        failpoint("vcs.worktree.doomed")
        away = _beside(path)
        path.rename(away)
        failpoint("vcs.worktree.moved_away")
        remove_folder(away)
    shutil.rmtree(state)


def ensure_files(vault: Vault, state: Path, path: Path, branch: str, commit: str, recreate_at: str | None) -> bool:
    """Returns when a whole worktree is at `path`; makes it, finishes it, or leaves the one that is there as it is.

    Says whether it is durable; else `settle` makes it so.
    """
    note = read_note(state)
    there = path.is_dir() and not path.is_symlink()
    if note and there and (note.durable or path.stat().st_ino == note.inode):
        if note.whole:
            return note.durable
        path.rename(_beside(path))
        there = False
    if note and note.durable and recreate_at is None:
        raise gone(path)
    if os.path.lexists(path) and not (there and not any(path.iterdir())):
        raise IllegalState(
            f"{path} is in the way: it is not a worktree of Holdfast",
            hint="move it elsewhere, then run the command again",
            code="worktree_obstructed",
        )
    _make(vault, state, path, branch, commit, recreate_at or vault.tree_of(commit))
    return False


def settle(state: Path, path: Path) -> None:
    """Returns when the worktree at `path`, which was just made, is durable."""
    note = read_note(state)
    assert note is not None
    sync_filesystem(path)
    failpoint("vcs.worktree.synced")
    _write_note(state, replace(note, durable=True))


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.making-{new_id()}")


def _make(vault: Vault, state: Path, path: Path, branch: str, commit: str, tree: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{path.name}.making-*"):
        remove_folder(leftover)
    making = _beside(path)
    making.mkdir()
    settled = statcache.settled_before(state, making.stat().st_dev)
    # The agent's own: it may use or ruin it.
    own_git_writing.make(vault, making / ".git", path / ".git", fresh(branch, commit))
    _check_out(vault, state, path, making, tree)
    if vault.exact:
        _set_modes(vault, making, tree)
    own_index.begin(state, making / ".git", tree)
    index = statcache.Index((state / "index").read_bytes(), vault.objects.hash)
    known = statcache.from_index(index, _later(state, making, settled))
    statcache.save(state / "files", known)
    failpoint("vcs.worktree.checked_out")
    _write_note(state, Note(branch, commit, making.stat().st_ino, boot_id()))
    failpoint("vcs.worktree.noted")
    making.rename(path)
    failpoint("vcs.worktree.renamed")


def _set_modes(vault: Vault, making: Path, tree: str) -> None:
    """Gives the files that git has written the permission bits that it does not know."""
    for path, _, entry in trees.compare(vault.objects, None, bytes.fromhex(tree)):
        if entry is not None and stat.S_ISREG(entry[0]):
            place = os.path.join(os.fsencode(making), path)
            if stat.S_IMODE(os.lstat(place).st_mode) != entry[0] & PERMISSIONS:
                os.chmod(place, entry[0] & PERMISSIONS)


def _check_out(vault: Vault, state: Path, path: Path, making: Path, tree: str) -> None:
    """Writes the files of a tree, raw; the index is the agent's."""
    place = making / ".git" / "index"
    others = reflink.neighbours(state.parent, path) if reflink.can_share(making) else iter(())
    newest = next(others, None)
    if newest is None or not newest.large:
        vault.git(["read-tree", "--reset", "-u", tree], index=place, work_tree=making)
        return
    vault.git(["read-tree", tree], index=place)
    index = statcache.Index(place.read_bytes(), vault.objects.hash)
    _share([newest, *others], making, index)
    index.save(place)
    # git reads again what is as young as the index: it tells times by the second. It writes the index anew.
    written = place.stat().st_mtime_ns
    os.utime(place, ns=(written, written + _AHEAD_NANOSECONDS))
    _write(vault, making, place)


def _share(others: Iterable[reflink.Neighbour], making: Path, index: statcache.Index) -> None:
    """Makes the large files that another worktree has; they are noted in the index."""
    wanted = {entry.path: entry for entry in index.entries() if entry.mode in (FILE, EXECUTABLE)}
    neighbour = reflink.nearest(others, wanted)
    there = reflink.clone_large(making, neighbour, wanted) if neighbour else {}
    for each, status in there.items():
        index.note(wanted[each].at, status)


def _later(state: Path, making: Path, begun: int) -> int:
    """Nobody but git has written to the new folder, so all but its very last files have settled."""
    return max(begun, statcache.settled_before(state, making.stat().st_dev))


def write_files(vault: Vault, folder: Path, commit: str) -> None:
    """Makes `folder` with the files of a commit, to be looked at: it is no worktree, and nothing of it is durable."""
    folder.mkdir(parents=True)
    index = folder.with_name(f"{folder.name}.index")
    vault.git(["read-tree", commit], index=index)
    _write(vault, folder, index)
    index.unlink()


def _write(vault: Vault, folder: Path, index: Path) -> None:
    """Lets the vault's git write the files of an index, by its attributes, that are not there as it says already."""
    vault.git(["checkout-index", "-a", "-f", "-q", "-u"], index=index, work_tree=folder)
