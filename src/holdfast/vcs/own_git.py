"""The `.git` of a worktree, which its agent may use or ruin: read as files, never by a git that runs in it.

What it says is taken with care: no link is followed, every size is bounded, and its objects go through a repository of
ours, from which the vault fetches them as from a stranger.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Collection, Generator, Iterator
from dataclasses import replace
from pathlib import Path

from holdfast.domain.own_git import OwnCommit, OwnGit
from holdfast.failpoints import failpoint
from holdfast.vcs.folder import GONE, Folder, open_file
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
    for path in loose_refs(folder, b".git/refs"):
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
        there = [word for file, word in _UNDER_WAY.items() if lies_in(descriptor, file)]
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


def loose_refs(folder: Folder, at: bytes, depth: int = 0) -> Generator[bytes]:
    """Gives the paths of the files below a folder of the `.git`."""
    if depth > _MAX_DEPTH:
        return
    with folder.open(at) as descriptor:
        entries = [(os.fsencode(each.name), each.is_dir(follow_symlinks=False)) for each in _some(descriptor)]
    for name, is_folder in entries:
        if is_folder:
            yield from loose_refs(folder, at + b"/" + name, depth + 1)
        else:
            yield at + b"/" + name


def _some(descriptor: int) -> Iterator[os.DirEntry[str]]:
    """Gives what lies in a folder, unless that is far too much."""
    with os.scandir(descriptor) as listed:
        for count, entry in enumerate(listed):
            if count > MAX_OBJECTS:
                raise _Unreadable("a folder of it has too many files")
            yield entry


def lies_in(descriptor: int, name: bytes) -> bool:
    """Says whether an open folder has something of that name."""
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
    skeleton(vault, room, str(vault.path / "objects"))
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


# -- what any `.git` of ours has ---------------------------------------------------------------------------------------


def skeleton(vault: Vault, at: Path, objects: str) -> None:
    """Makes a `.git` at `at` that has no ref yet and borrows the objects that lie at `objects`."""
    (at / "objects" / "info").mkdir(parents=True)
    (at / "objects" / "pack").mkdir()
    (at / "refs" / "heads").mkdir(parents=True)
    (at / "refs" / "tags").mkdir()
    (at / "objects" / "info" / "alternates").write_text(objects + "\n")
    (at / "config").write_text(configuration(vault))
    if (vault.path / "shallow").exists():
        shutil.copyfile(vault.path / "shallow", at / "shallow")


def configuration(vault: Vault) -> str:
    """Gives the `config` of a worktree's own git."""
    sha256 = vault.object_format == "sha256"
    return (
        f"[core]\n\trepositoryFormatVersion = {int(sha256)}\n\tbare = false\n\tfileMode = true\n"
        "\tlogAllRefUpdates = true\n" + ("[extensions]\n\tobjectFormat = sha256\n" if sha256 else "")
    )
