"""Makes the `.git` of a worktree say what is wanted: file by file, each written beside its place and renamed there.

No link is followed, and nothing that the agent has there is believed.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from holdfast.clock import new_id
from holdfast.domain.own_git import OwnGit
from holdfast.failpoints import failpoint
from holdfast.vcs import own_index
from holdfast.vcs.folder import GONE, Folder, make_writable, open_file, remove_folder
from holdfast.vcs.own_git import configuration, lies_in, loose_refs, skeleton
from holdfast.vcs.vault import Vault

# The agent's own, which stays as it is.
_KEPT = ("config", "hooks", "info", "logs", "objects")
_SET = ("HEAD", "index", "packed-refs", "refs")


def make(vault: Vault, at: Path, place: Path, own: OwnGit) -> None:
    """Makes a new `.git` at `at`, which will lie at `place`, with those refs; objects are the vault's, lent."""
    skeleton(vault, at, _lent(vault, place))
    (at / "info").mkdir(exist_ok=True)
    (at / "info" / "exclude").write_bytes((vault.path / "info" / "exclude").read_bytes())
    (at / "HEAD").write_text(_head(own))
    (at / "packed-refs").write_text(_packed(own))


def _lent(vault: Vault, place: Path) -> str:
    return os.path.relpath(vault.path / "objects", place / "objects")


def _head(own: OwnGit) -> str:
    return f"ref: {own.head}\n" if own.head.startswith("refs/") else f"{own.head}\n"


def _packed(own: OwnGit) -> str:
    return "".join(f"{own.refs[name]} {name}\n" for name in sorted(own.refs))


def put(vault: Vault, folder: Folder, state: Path, wanted: OwnGit, *, readable: bool) -> None:
    """Makes the worktree's `.git` one that says `wanted`; a call that was cut off is finished by the same call.

    Its configuration, hooks, logs and objects stay. One that was not `readable` is moved aside whole.
    """
    settle(folder.path)
    if readable:
        _set(vault, folder, state, wanted)
    else:
        _make_anew(vault, folder, state, wanted)


def is_put(vault: Vault, folder: Folder, state: Path, wanted: OwnGit) -> bool:
    """Says whether the index is the one that was put there for the commit that `wanted` has checked out."""
    tree = _tree(vault, wanted)
    with folder.open(b".git") as git:
        return not tree or own_index.is_of(state, git, tree)


def _tree(vault: Vault, own: OwnGit) -> str:
    """Gives the tree of the commit that is checked out, empty if the vault has none."""
    commit = own.refs.get(own.head, "" if own.head.startswith("refs/") else own.head)
    return vault.tree_of(commit) if commit and vault.has_commit(commit) else ""


def _put_index(vault: Vault, state: Path, git: int, wanted: OwnGit, out: Path) -> None:
    tree = _tree(vault, wanted)
    if tree:
        own_index.put(vault, state, git, tree, lambda content: _replace(git, b"index", content, out))


def _make_anew(vault: Vault, folder: Folder, state: Path, wanted: OwnGit) -> None:
    making, out = _beside(folder.path)
    make(vault, making, folder.path / ".git", wanted)
    with closing(Folder(making)) as made, made.open(b"") as git:
        _put_index(vault, state, git, wanted, out)
    failpoint("vcs.own.made")
    with folder.open(b"") as descriptor:
        if lies_in(descriptor, b".git"):
            aside = state / "aside" / f"git-{os.lstat(folder.path / '.git').st_ino}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            _remove(aside)
            shutil.move(folder.path / ".git", aside)
            failpoint("vcs.own.moved_away")
    os.rename(making, folder.path / ".git")


def _set(vault: Vault, folder: Folder, state: Path, wanted: OwnGit) -> None:
    """Sets what differs, refs and HEAD last: as long as not all is done, they say that it is not."""
    _, out = _beside(folder.path)
    out.mkdir()
    with _writable(folder, b".git") as git:
        _put_index(vault, state, git, wanted, out)
        failpoint("vcs.own.index_set")
        for name in os.listdir(git):
            if name not in (*_KEPT, *_SET):
                _put_out(git, os.fsencode(name), out)
        if (vault.path / "shallow").exists():
            _write(git, b"shallow", (vault.path / "shallow").read_bytes(), out)
        if not lies_in(git, b"config"):
            _write(git, b"config", configuration(vault).encode(), out)
        _lend(folder, git, _lent(vault, folder.path / ".git"), out)
        failpoint("vcs.own.rest_set")
        _write(git, b"HEAD", _head(wanted).encode(), out)
        _write(git, b"packed-refs", _packed(wanted).encode(), out)
        failpoint("vcs.own.refs_set")
    for path in list(loose_refs(folder, b".git/refs")):
        above, _, name = path.rpartition(b"/")
        with _writable(folder, above) as at:
            _put_out(at, name, out)
    failpoint("vcs.own.in_place")
    remove_folder(out)


@contextmanager
def _writable(folder: Folder, path: bytes) -> Generator[int]:
    with folder.open(path) as descriptor:
        make_writable(descriptor)
        yield descriptor


def _lend(folder: Folder, git: int, lent: str, out: Path) -> None:
    """Lets the repository borrow the vault's objects and no others; its own stay."""
    try:
        with _writable(folder, b".git/objects/info") as at:
            _write(at, b"alternates", f"{lent}\n".encode(), out)
    except OSError as error:
        if error.errno not in GONE:
            raise
        if lies_in(git, b"objects"):
            _put_out(git, b"objects", out)
        for name in (b"objects", b"objects/info", b"objects/pack"):
            os.mkdir(name, dir_fd=git)
        with folder.open(b".git/objects/info") as at:
            _write(at, b"alternates", f"{lent}\n".encode(), out)


def _write(at: int, name: bytes, content: bytes, out: Path) -> None:
    """Writes a file in place of whatever has its name, which may be a link or a folder; nothing if it says that."""
    if not _says(at, name, content):
        _replace(at, name, content, out)


def _replace(at: int, name: bytes, content: bytes, out: Path) -> None:
    temporary = b"holdfast-" + new_id().encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o666, dir_fd=at), "wb") as target:
        target.write(content)
    try:
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except IsADirectoryError:
        _put_out(at, name, out)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)


def _says(at: int, name: bytes, content: bytes) -> bool:
    try:
        with open(open_file(at, name), "rb") as there:
            return there.read(len(content) + 1) == content
    except OSError:
        return False


def _put_out(at: int, name: bytes, out: Path) -> None:
    """Moves what has that name into `out`, also a folder that its writer made read-only."""
    target = os.fsencode(out / new_id())
    try:
        os.rename(name, target, src_dir_fd=at)
    except PermissionError:
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            make_writable(inner)
        finally:
            os.close(inner)
        os.rename(name, target, src_dir_fd=at)


def settle(path: Path) -> None:
    """Removes what a kill left beside the worktree at `path` while its `.git` was set."""
    for leftover in _beside(path):
        if os.path.lexists(leftover):
            _remove(leftover)


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.git-new"), path.with_name(f".{path.name}.git-old")


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _remove(path: Path) -> None:
    if _is_folder(path):
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)
