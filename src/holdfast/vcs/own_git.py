"""The `.git` of a worktree, which its agent may use or ruin: read as files, never by a git that runs in it.

What it says is taken with care: no link is followed, every size is bounded, and its objects go through a repository of
ours, from which the vault fetches them as from a stranger. What is written goes beside its place and is renamed there.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from holdfast.clock import new_id
from holdfast.domain.own_git import OwnCommit, OwnGit
from holdfast.failpoints import failpoint
from holdfast.vcs import statcache, trees
from holdfast.vcs.folder import GONE, Folder, make_writable, open_file, remove_folder
from holdfast.vcs.git import GitDiskError, GitError
from holdfast.vcs.vault import Vault

MAX_BYTES = 1 << 28
MAX_REFS = 1000
MAX_OBJECTS = 100_000
MAX_COMMITS = 50
_MAX_FILE = 1 << 22
_MAX_DEPTH = 12
_SECONDS = 120.0
_UNDER_WAY = {
    b"MERGE_HEAD": "merge",
    b"CHERRY_PICK_HEAD": "cherry-pick",
    b"REVERT_HEAD": "revert",
    b"rebase-merge": "rebase",
    b"rebase-apply": "rebase",
    b"BISECT_LOG": "bisect",
}
# The agent's own, which stays as it is when its `.git` is set.
_KEPT = ("config", "hooks", "info", "logs", "objects")
_SET = ("HEAD", "index", "packed-refs", "refs")
_REF = re.compile(
    r"refs/(?:heads|tags)/(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]+(?<![./])|refs/stash"
)
_LOOSE = re.compile(rb"[0-9a-f]{38}(?:[0-9a-f]{24})?")
_PACK = re.compile(rb"pack-[0-9a-f]{40}(?:[0-9a-f]{24})?\.pack")


class _Unreadable(Exception):
    """What is there is not what git makes."""


# -- reading -----------------------------------------------------------------------------------------------------------


def read(folder: Folder, digits: int) -> OwnGit:
    """Gives what the `.git` of a worktree says; ids have `digits` digits. What cannot be read is its `problem`."""
    try:
        return _read(folder, re.compile(rf"[0-9a-f]{{{digits}}}"))
    except _Unreadable as error:
        return OwnGit("", problem=str(error))
    except OSError as error:
        if error.errno not in (*GONE, errno.EACCES):
            raise
        return OwnGit("", problem="its .git is not a repository any more")


def _read(folder: Folder, oid: re.Pattern[str]) -> OwnGit:
    head = _content(folder, b".git", b"HEAD").strip()
    name = head.removeprefix("ref: ")
    if not (_REF.fullmatch(name) if head != name else oid.fullmatch(name)):
        raise _Unreadable(f"its HEAD says {head[:100]!r}")
    refs: dict[str, str] = {}
    for line in _content(folder, b".git", b"packed-refs", missing="").splitlines():
        target, _, ref = line.partition(" ")
        if oid.fullmatch(target) and _REF.fullmatch(ref):
            refs[ref] = target
    for path in _loose_refs(folder, b".git/refs", 0):
        if len(refs) > MAX_REFS:
            break
        at, _, last = path.rpartition(b"/")
        ref = path.removeprefix(b".git/").decode("utf-8", "replace")
        target = _content(folder, at, last, missing="").strip()
        if oid.fullmatch(target) and _REF.fullmatch(ref):
            refs[ref] = target
    if len(refs) > MAX_REFS:
        raise _Unreadable(f"it has more than {MAX_REFS} refs")
    with folder.open(b".git") as descriptor:
        there = [word for file, word in _UNDER_WAY.items() if _lies_in(descriptor, file)]
    return OwnGit(name, refs, there[0] if there else "")


def _content(folder: Folder, at: bytes, name: bytes, missing: str | None = None) -> str:
    try:
        with folder.open(at) as descriptor:
            file = open_file(descriptor, name)
            try:
                data = os.read(file, _MAX_FILE + 1)
            finally:
                os.close(file)
    except FileNotFoundError:
        if missing is None:
            raise
        return missing
    if len(data) > _MAX_FILE:
        raise _Unreadable(f"its {name.decode('utf-8', 'replace')} is too large")
    return data.decode("utf-8", "replace")


def _loose_refs(folder: Folder, at: bytes, depth: int) -> Generator[bytes]:
    if depth > _MAX_DEPTH:
        return
    with folder.open(at) as descriptor:
        entries = [(os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in _some(descriptor)]
    for name, is_folder in entries:
        if is_folder:
            yield from _loose_refs(folder, at + b"/" + name, depth + 1)
        else:
            yield at + b"/" + name


def _some(descriptor: int) -> Iterator[os.DirEntry[str]]:
    """Gives what lies in a folder, unless that is far too much."""
    with os.scandir(descriptor) as listed:
        for count, entry in enumerate(listed):
            if count > MAX_OBJECTS:
                raise _Unreadable("a folder of it has too many files")
            yield entry


def _lies_in(descriptor: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


# -- its objects -------------------------------------------------------------------------------------------------------


def bring(vault: Vault, folder: Folder, found: OwnGit, room: Path) -> OwnGit:
    """Brings the commits that a worktree's `.git` names into the vault; says in `problem` why where that cannot be.

    They are not durable, nor does a ref keep them, until the caller writes one. `room` is a path for a repository that
    is ours and lives as long as this call.
    """
    unknown = sorted(oid.hex() for oid in vault.objects.missing(bytes.fromhex(tip) for tip in found.tips))
    if not unknown:
        return found
    shutil.rmtree(room, ignore_errors=True)
    try:
        _copy(vault, folder, room, unknown)
        failpoint("vcs.own.copied")
        fetch = ["-c", "fetch.fsckObjects=true", "-c", "fetch.unpackLimit=1", "fetch", "-q", "--no-tags"]
        fetch += ["--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules", str(room)]
        vault.git([*fetch, *(f"refs/own/{tip}" for tip in unknown)], file_transport=True, timeout=_SECONDS)
    except (_Unreadable, GitError) as error:
        return replace(found, problem=f"its commits could not be taken over: {error}"[:500])
    except GitDiskError as error:
        if error.code != "git_timeout":
            raise
        return replace(found, problem="its commits could not be taken over in time")
    except OSError as error:
        if error.errno not in GONE:
            raise
        return replace(found, problem="its objects are gone or changed while they were read")
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return found


def _copy(vault: Vault, folder: Folder, room: Path, tips: Collection[str]) -> None:
    """Makes a repository in `room` that has the loose objects and packs of the worktree's, and borrows the vault's."""
    _skeleton(vault, room, str(vault.path / "objects"))
    (room / "HEAD").write_text("ref: refs/heads/none\n")
    (room / "packed-refs").write_text("".join(f"{tip} refs/own/{tip}\n" for tip in sorted(tips)))
    budget = MAX_BYTES
    with folder.open(b".git/objects") as descriptor:
        names = sorted(os.fsencode(each.name) for each in _some(descriptor))
    loose: list[bytes] = []
    for name in names:
        if re.fullmatch(rb"[0-9a-f]{2}", name):
            with folder.open(b".git/objects/" + name) as descriptor:
                found = [os.fsencode(each.name) for each in _some(descriptor)]
            loose += [name + each for each in found if _LOOSE.fullmatch(each)]
            if len(loose) > MAX_OBJECTS:
                raise _Unreadable(f"it has more than {MAX_OBJECTS} objects")
    for oid in sorted(vault.objects.missing(bytes.fromhex(each.decode()) for each in loose)):
        name = oid.hex()
        (room / "objects" / name[:2]).mkdir(exist_ok=True)
        at = b".git/objects/" + name[:2].encode()
        budget = _copy_file(folder, at, name[2:].encode(), room / "objects" / name[:2] / name[2:], budget)
    if b"pack" not in names:
        return
    with folder.open(b".git/objects/pack") as descriptor:
        packs = [os.fsencode(each.name) for each in _some(descriptor)]
    for pack in packs:
        if _PACK.fullmatch(pack):
            target = room / "objects" / "pack" / os.fsdecode(pack)
            budget = _copy_file(folder, b".git/objects/pack", pack, target, budget)
            # Not its index: that could say anything.
            vault.git(["index-pack", str(target)], timeout=_SECONDS)


def _copy_file(folder: Folder, at: bytes, name: bytes, target: Path, budget: int) -> int:
    """Copies a file; gives how many bytes may still be copied after it."""
    with folder.open(at) as descriptor:
        source = open_file(descriptor, name)
    with open(source, "rb") as reading, open(target, "wb") as writing:
        while chunk := reading.read(1 << 20):
            budget -= len(chunk)
            if budget < 0:
                raise _Unreadable(f"they have more than {MAX_BYTES >> 20} MiB")
            writing.write(chunk)
    return budget


def new_commits(vault: Vault, tip: str, others: Collection[str]) -> tuple[OwnCommit, ...]:
    """Gives the newest commits of a tip's history that are in none of the others', as far as the vault has them."""
    known = [each for each in (tip, *others) if each and vault.has_commit(each)]
    if tip not in known:
        return ()
    args = ["log", "-z", f"--max-count={MAX_COMMITS}", "--format=%H %P%n%s", tip, *(f"^{each}" for each in known[1:])]
    found: list[OwnCommit] = []
    for record in vault.git(args).decode("utf-8", "replace").split("\0"):
        if record:
            ids, _, subject = record.partition("\n")
            commit, *parents = ids.split()
            found.append(OwnCommit(commit, tuple(parents), subject.strip()[:200]))
    return tuple(found)


# -- writing -----------------------------------------------------------------------------------------------------------


def make(vault: Vault, at: Path, place: Path, own: OwnGit) -> None:
    """Makes a new `.git` at `at`, which will lie at `place`, with those refs; objects are the vault's, lent."""
    _skeleton(vault, at, _lent(vault, place))
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


def _skeleton(vault: Vault, at: Path, objects: str) -> None:
    (at / "objects" / "info").mkdir(parents=True)
    (at / "objects" / "pack").mkdir()
    (at / "refs" / "heads").mkdir(parents=True)
    (at / "refs" / "tags").mkdir()
    (at / "objects" / "info" / "alternates").write_text(objects + "\n")
    (at / "config").write_text(_config(vault))
    if (vault.path / "shallow").exists():
        shutil.copyfile(vault.path / "shallow", at / "shallow")


def _config(vault: Vault) -> str:
    sha256 = vault.object_format == "sha256"
    return (
        f"[core]\n\trepositoryFormatVersion = {int(sha256)}\n\tbare = false\n\tfileMode = true\n"
        "\tlogAllRefUpdates = true\n" + ("[extensions]\n\tobjectFormat = sha256\n" if sha256 else "")
    )


def put(vault: Vault, folder: Folder, state: Path, wanted: OwnGit, *, readable: bool) -> None:
    """Makes the worktree's `.git` one that says `wanted`; a call that was cut off is finished by the same call.

    Its configuration, hooks, logs and objects stay. One that was not `readable` is moved aside whole.
    """
    settle(folder.path)
    index = _index(vault, state / "index", wanted)
    failpoint("vcs.own.index_known")
    if readable:
        _set(vault, folder, index, wanted)
    else:
        _make_anew(vault, folder, state, index, wanted)


def _make_anew(vault: Vault, folder: Folder, state: Path, index: bytes | None, wanted: OwnGit) -> None:
    making, _ = _beside(folder.path)
    make(vault, making, folder.path / ".git", wanted)
    if index:
        (making / "index").write_bytes(index)
    failpoint("vcs.own.made")
    with folder.open(b"") as descriptor:
        if _lies_in(descriptor, b".git"):
            aside = state / "aside" / f"git-{os.lstat(folder.path / '.git').st_ino}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            _remove(aside)
            shutil.move(folder.path / ".git", aside)
            failpoint("vcs.own.moved_away")
    os.rename(making, folder.path / ".git")


def _set(vault: Vault, folder: Folder, index: bytes | None, wanted: OwnGit) -> None:
    """Sets what differs, refs and HEAD last: as long as not all is done, they say that it is not."""
    _, out = _beside(folder.path)
    out.mkdir()
    with _writable(folder, b".git") as git:
        if index:
            _write(git, b"index", index, out)
        failpoint("vcs.own.index_set")
        for name in os.listdir(git):
            if name not in (*_KEPT, *_SET):
                _put_out(git, os.fsencode(name), out)
        if (vault.path / "shallow").exists():
            _write(git, b"shallow", (vault.path / "shallow").read_bytes(), out)
        if not _lies_in(git, b"config"):
            _write(git, b"config", _config(vault).encode(), out)
        _lend(folder, git, _lent(vault, folder.path / ".git"), out)
        failpoint("vcs.own.rest_set")
        _write(git, b"HEAD", _head(wanted).encode(), out)
        _write(git, b"packed-refs", _packed(wanted).encode(), out)
        failpoint("vcs.own.refs_set")
    for path in list(_loose_refs(folder, b".git/refs", 0)):
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
        if _lies_in(git, b"objects"):
            _put_out(git, b"objects", out)
        for name in (b"objects", b"objects/info", b"objects/pack"):
            os.mkdir(name, dir_fd=git)
        with folder.open(b".git/objects/info") as at:
            _write(at, b"alternates", f"{lent}\n".encode(), out)


def _write(at: int, name: bytes, content: bytes, out: Path) -> None:
    """Writes a file in place of whatever has its name, which may be a link or a folder."""
    temporary = b"holdfast-" + new_id().encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o666, dir_fd=at), "wb") as target:
        target.write(content)
    try:
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except IsADirectoryError:
        _put_out(at, name, out)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)


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


def _index(vault: Vault, base: Path, own: OwnGit) -> bytes | None:
    """Gives the index of the commit that is checked out; it keeps what is known of files that did not change.

    `base` is the last one. Of it only what differs is changed, which git would take many times as long for.
    """
    commit = own.refs.get(own.head, "" if own.head.startswith("refs/") else own.head)
    if not commit or not vault.has_commit(commit):
        return None
    tree = bytes.fromhex(vault.tree_of(commit))
    before = statcache.read_index(base, vault.objects.hash)
    said = before.tree() if before else None
    if before is None or said is None:
        base.unlink(missing_ok=True)
        vault.git(["read-tree", tree.hex()], index=base)
        return base.read_bytes()
    content = before.turned(tree, trees.compare(vault.objects, said, tree))
    temporary = base.with_name("index.new")
    temporary.write_bytes(content)
    temporary.replace(base)
    return content


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
