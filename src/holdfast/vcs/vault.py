"""The vault: a private bare repository per project that keeps every checkpoint and every plan branch.

The user's repository is only read (to copy its objects, to fetch a commit) and only written by `export_branch`,
`export_commit` and `take_back_branch`.
Whatever a method returns as written is on the disk: objects first, then the ref, then one `syncfs`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import IO

from holdfast.clock import boot_id, new_id
from holdfast.errors import Corruption, IllegalState, NotFound, UsageError, UserError
from holdfast.failpoints import failpoint
from holdfast.vcs import git, trees
from holdfast.vcs.git import disk_failures
from holdfast.vcs.objects import TEMPORARY_PREFIXES, Objects, sync_filesystem
from holdfast.vcs.refs import Refs
from holdfast.vcs.repository import branch_at, has_repository, inspect

AUTHOR = "Holdfast <holdfast@localhost>"
RAW_ATTRIBUTES = "* -text -ident -filter -working-tree-encoding !eol\n"
BASE_REFS = "refs/holdfast/base"
CHECKPOINT_REFS = "refs/holdfast/checkpoints"
OWN_REFS = "refs/holdfast/own"
NEEDED_REFS = "refs/holdfast/needed"
_EXACT = Path("holdfast", "exact")
_NEAR = 12
_COMMITS = 1000
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_CONTENT_COMPLAINT = re.compile(r"(error|warning) in (commit|tree|tag|blob) ")
_HARMLESS = ("notice:", "dangling ", "unreachable ", "Checking ")


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The commit that has both sides, or None and the paths that they changed differently."""

    commit: str | None
    conflicts: tuple[str, ...] = ()


class Vault:
    """One project's private repository. Safe to share between threads of one process; several processes may open it.

    An `exact` one, of a folder without git, keeps all permission bits of files, not only git's executable one.
    """

    def __init__(self, path: Path, object_format: str) -> None:
        self.path = path
        self.object_format = object_format
        self.exact = (path / _EXACT).exists()
        self._users = _lock_file(path / "holdfast" / "users.lock")
        fcntl.flock(self._users, fcntl.LOCK_SH)
        # git children keep the lock open: `recover` then knows that no orphan of a killed worker still writes
        self._pass_fds = (self._users.fileno(),)
        self.objects = Objects(path, object_format, self._pass_fds)
        self._refs = Refs(path, self.objects, self._pass_fds)
        self._commits: dict[str, tuple[list[tuple[str, str]], str]] = {}

    # -- making and opening -------------------------------------------------------------------------------------------

    @classmethod
    def open_or_create(cls, path: Path, repository: Path | None) -> Vault:
        """Gives the vault at `path`, made from the objects of `repository`, or empty and SHA-256, if there is none yet.

        Safe to call again after a crash and from several processes at once. The objects are hard-linked where that is
        possible, else copied; the result is on the disk on return.
        """
        path = path.absolute()
        if not (path / "HEAD").exists():
            with disk_failures():
                path.parent.mkdir(parents=True, exist_ok=True)
                with _lock_file(path.with_name(path.name + ".lock")) as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    if not (path / "HEAD").exists():
                        _build(path, repository)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Vault:
        """Gives the vault at `path`; raises `NotFound` if there is none."""
        path = path.absolute()
        if not (path / "HEAD").exists():
            raise NotFound(
                f"there is no vault at {path}", hint="restore the data folder, or register the project again"
            )
        with disk_failures():
            return cls(path, git.text(["rev-parse", "--show-object-format"], git_dir=path))

    def close(self) -> None:
        """Ends the git processes that this object keeps."""
        self.objects.close()
        self._refs.close()
        self._users.close()

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def git(self, args: Sequence[str | bytes], **options: object) -> bytes:
        """Gives the output of a git command on this vault, which sees all objects written so far."""
        self.objects.flush()
        return git.run(args, git_dir=self.path, pass_fds=self._pass_fds, **options)  # type: ignore[arg-type]

    # -- the user's repository ----------------------------------------------------------------------------------------

    def fetch(self, repository: Path, commit: str) -> str:
        """Gives the id of a commit (or ref) of the user's repository, brought in and pinned, durably.

        One that the vault has may be one that the repository has no more, or never had.
        """
        if _SHA.fullmatch(commit) and self._refs.get(f"{BASE_REFS}/{commit}") == commit:
            return commit
        found = git.text(
            ["rev-parse", "-q", "--verify", "--end-of-options", commit + "^{commit}"], cwd=repository, ok=(0, 1, 128)
        )
        if not found and _SHA.fullmatch(commit) and self.has_commit(commit):
            self.pin(commit)  # a fork's is one that only the vault has
            return commit
        if not found:
            raise NotFound(f"{repository} has no commit {commit}", hint="name a commit or branch that exists")
        pin = f"{BASE_REFS}/{found}"
        if self._refs.get(pin) == found:
            return found
        source = inspect(repository).git_dir
        args = ["fetch", "-q", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules"]
        self.git([*args, str(source), found], file_transport=True)
        failpoint("vcs.fetch.objects_written")
        self._refs.set(pin, found)
        self.sync()
        return found

    def pin(self, commit: str) -> None:
        """Keeps a commit of the vault for a plan that begins at it; durable on return."""
        self.keep(f"{BASE_REFS}/{commit}", commit)

    def export_branch(self, repository: Path, branch: str, name: str = "", *, commit: str = "") -> str:
        """Writes the vault's `branch` as branch `name` (default: the same) of the user's repository; gives its commit.

        With `commit` it is written as it was at that commit of it. Nothing happens if it is there already; raises
        `IllegalState` if a branch of that name is anywhere else.
        """
        head = self.head(branch)
        if head is None:
            raise NotFound(f"there is no branch {branch}", hint="look at `holdfast plan show` for the plan's branch")
        return self._export(repository, _branch_ref(branch), commit or head, name or branch)

    def export_commit(self, repository: Path, ref: str, name: str) -> str:
        """Writes the commit that the vault's `ref` keeps as branch `name` of the user's repository; gives the commit.

        As `export_branch` does: an illegal name, or one that is taken, is refused before anything is written.
        """
        commit = self._refs.get(ref)
        if commit is None:
            raise Corruption(f"the vault has no {ref}", hint="look: holdfast db check")
        return self._export(repository, ref, commit, name)

    def take_back_branch(self, repository: Path, name: str, commit: str) -> None:
        """Removes a branch that was exported at `commit` from the user's repository; nothing if it is gone already.

        Raises `IllegalState` if it has moved since then, or if it is checked out.
        """
        found = branch_at(repository, name)
        if found is None:
            return
        if found[0] != commit:
            raise IllegalState(
                f"the branch {name} of {repository} has moved since it was written: "
                f"it is at {found[0][:12]}, not at {commit[:12]}",
                hint=f"it is yours: git branch -D {name} removes it",
                code="changed_meanwhile",
            )
        if found[1]:
            raise IllegalState(
                f"the branch {name} is checked out in {found[1]}",
                hint="check out another branch there, then undo again",
                code="checked_out",
            )
        git.run(["update-ref", "-d", f"refs/heads/{name}", commit], cwd=repository)

    def _export(self, repository: Path, source: str, commit: str, name: str) -> str:
        if may_export(repository, name, commit):
            return commit
        ref = _branch_ref(name)
        self.objects.flush()
        args = ["fetch", "-q", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules"]
        git.run([*args, str(self.path), source], cwd=repository, file_transport=True)
        failpoint("vcs.export.objects_written")
        git.run(["update-ref", "-m", "holdfast: export", ref, commit, ""], cwd=repository)
        return commit

    # -- branches and refs --------------------------------------------------------------------------------------------

    def head(self, branch: str) -> str | None:
        """Gives the commit of a branch, None if there is no such branch."""
        return self._refs.get(_branch_ref(branch))

    def has_commit(self, commit: str) -> bool:
        """Tells whether the vault has the object of that id, whether anything names it or not."""
        return not self.objects.missing([bytes.fromhex(commit)])

    def create_branch(self, branch: str, commit: str) -> None:
        """Makes a branch at `commit`, durably; nothing if it is there already; `IllegalState` if it is elsewhere."""
        existing = self.head(branch)
        if existing == commit:
            return
        if existing is not None:
            raise IllegalState(
                f"the branch {branch} is at {existing[:12]}, not {commit[:12]}",
                hint="choose another branch name",
                code="branch_exists",
            )
        self.objects.flush()
        self._refs.create(_branch_ref(branch), commit)
        self.sync()

    def move_branch(self, branch: str, new: str, expected: str) -> None:
        """Moves a branch from `expected` to `new`, durably; raises `RefMoved` if it is at neither."""
        if new == expected or self.head(branch) == new:
            return
        self.objects.flush()
        failpoint("vcs.branch.objects_written")
        self._refs.move(_branch_ref(branch), new, expected)
        failpoint("vcs.branch.moved")
        self.sync()

    def delete_ref(self, ref: str) -> None:
        """Removes a ref; nothing if there is none."""
        self._refs.delete(ref)

    def refs(self, prefix: str) -> dict[str, str]:
        """Gives the refs below `prefix` (such as `refs/holdfast/checkpoints`) and the ids that they name."""
        return self._refs.list(prefix)

    # -- commits ------------------------------------------------------------------------------------------------------

    def write_commit(
        self, tree: str, parents: Sequence[str], message: str, *, author: str = AUTHOR, time: datetime
    ) -> str:
        """Gives the id of a commit object, durable on return; the same arguments give the same commit."""
        commit = self.put_commit(tree, parents, message, author=author, time=time)
        self.sync()
        return commit

    def write_checkpoint(self, ref: str, tree: str, parents: Sequence[str], message: str, time: datetime) -> str:
        """Gives the id of a checkpoint's commit that `ref` keeps alive; both are durable on return.

        A ref of the same name is replaced: a crash left it before its row was written.
        """
        commit = self.put_commit(tree, parents, message, time=time)
        self.objects.flush()
        failpoint("vcs.checkpoint.objects_written")
        self._refs.set(ref, commit)
        failpoint("vcs.checkpoint.ref_written")
        self.sync()
        return commit

    def keep(self, ref: str, commit: str) -> None:
        """Lets `ref` keep a commit that is there already; durable on return. A ref of the same name is replaced."""
        self.objects.flush()
        failpoint("vcs.checkpoint.objects_written")
        self._refs.set(ref, commit)
        failpoint("vcs.checkpoint.ref_written")
        self.sync()

    def keep_own(self, checkpoint_ref: str, oids: Collection[str]) -> None:
        """Keeps the objects that an agent's own refs named at a checkpoint, as long as its ref is kept; durable.

        Those that could not be brought here are left out.
        """
        lost = self.objects.missing(bytes.fromhex(oid) for oid in oids)
        self._refs.replace(own_prefix(checkpoint_ref), {oid for oid in oids if bytes.fromhex(oid) not in lost})
        self.sync()

    def put_commit(
        self, tree: str, parents: Sequence[str], message: str, *, author: str = AUTHOR, time: datetime
    ) -> str:
        """Gives the id of a commit object, durable with the next ref; the same arguments give the same commit."""
        who = f"{author} {int(time.timestamp())} +0000"
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {who}", f"committer {who}"]
        if re.search(r"[\n\0]", author) or not re.fullmatch(r"[^<>]* <[^<>]*>", author):
            raise UserError(f"not an author: {author!r}", hint="write it as: Name <address>")
        body = message.replace("\0", "").rstrip("\n") + "\n"
        return self.objects.put("commit", ("\n".join(lines) + "\n\n" + body).encode("utf-8", "surrogateescape")).hex()

    def _commit(self, commit: str) -> tuple[list[tuple[str, str]], str]:
        """Gives the fields and the message of a commit, from memory where it was seen before."""
        found = self._commits.get(commit)
        if found is None:
            if len(self._commits) >= _COMMITS:
                self._commits.clear()
            found = self._commits[commit] = self._read_commit(commit)
        return found

    def _read_commit(self, commit: str) -> tuple[list[tuple[str, str]], str]:
        kind, content = self.objects.read(bytes.fromhex(commit))
        if kind != "commit":
            raise Corruption(f"{commit} is a {kind}, not a commit")
        head, _, body = content.decode("utf-8", "surrogateescape").partition("\n\n")
        fields = [line.partition(" ") for line in head.split("\n")]
        return [(name, value) for name, _, value in fields], body

    def tree_of(self, commit: str) -> str:
        """Gives the id of a commit's tree."""
        return dict(self._commit(commit)[0])["tree"]

    def parents(self, commit: str) -> tuple[str, ...]:
        """Gives the ids of a commit's parents."""
        return tuple(value for name, value in self._commit(commit)[0] if name == "parent")

    def message(self, commit: str) -> str:
        """Gives a commit's message."""
        return self._commit(commit)[1]

    def trailers(self, commit: str) -> dict[str, str]:
        """Gives the `Name: value` lines of the last paragraph of a commit's message."""
        paragraph = self.message(commit).rstrip("\n").rpartition("\n\n")[2]
        found = (re.fullmatch(r"([A-Za-z0-9-]+): (.*)", line) for line in paragraph.split("\n"))
        return {match[1]: match[2] for match in found if match}

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Says whether `descendant` has `ancestor` in its history (or is it)."""
        if ancestor == descendant or ancestor in self._line(descendant):
            return True
        if descendant in self._line(ancestor):
            return False
        return not self.git(["rev-list", "-n1", ancestor, f"^{descendant}"])

    def commits_between(self, base: str, head: str) -> tuple[str, ...]:
        """Gives the commits that are in the history of `head` and not in that of `base`, newest first."""
        line = self._line(head)
        if base in line:
            return line[: line.index(base)]
        return tuple(self.git(["rev-list", head, f"^{base}"]).decode().split())

    def _line(self, commit: str) -> tuple[str, ...]:
        """Gives a commit and those before it, some at most, as far as each has one parent: git need not be asked."""
        line = [commit]
        with suppress(Corruption):  # a shallow history ends somewhere
            while len(line) < _NEAR and len(parents := self.parents(line[-1])) == 1:
                line += parents
        return tuple(line)

    def merge(
        self, ours: str, theirs: str, message: str, author: str, time: datetime, *, fast_forward: bool = True
    ) -> MergeResult:
        """Gives a commit that has the changes of both, or the conflicting paths; no worktree and no ref is touched.

        Where one side has the other already, that side is the answer (for theirs only with `fast_forward`).
        """
        if self.is_ancestor(theirs, ours):
            return MergeResult(ours)
        if fast_forward and self.is_ancestor(ours, theirs):
            return MergeResult(theirs)
        args = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs]
        tree, *conflicts = self.git(args, ok=(0, 1)).rstrip(b"\0").split(b"\0")
        if conflicts:
            return MergeResult(None, tuple(os.fsdecode(path) for path in conflicts))
        merged = self._with_modes(tree.decode(), ours, theirs) if self.exact else tree.decode()
        return MergeResult(self.write_commit(merged, (ours, theirs), message, author=author, time=time))

    def _with_modes(self, merged: str, ours: str, theirs: str) -> str:
        base = self.git(["merge-base", ours, theirs], ok=(0, 1)).decode().strip()
        before = bytes.fromhex(self.tree_of(base)) if base else None
        sides = (bytes.fromhex(self.tree_of(each)) for each in (ours, theirs))
        return trees.with_modes(self.objects, bytes.fromhex(merged), before, *sides).hex()

    def graft(self, onto: str, source: str, paths: Sequence[str]) -> str:
        """Gives the tree `onto` with `paths` (files or folders) as the tree `source` has them, gone where it has none.

        Raises `NotFound` for a path that is in neither, and `UsageError` for one that is no path below a folder.
        """
        changes: dict[bytes, trees.Entry | None] = {}
        for path in paths:
            name = os.fsencode(path).rstrip(b"/")
            if not name or name.startswith(b"/") or {b"", b".", b".."} & set(name.split(b"/")):
                raise UsageError(f"{path!r} is not a path in the worktree", hint="name it from the worktree's top")
            found = trees.lookup(self.objects, bytes.fromhex(source), name)
            if found is None and trees.lookup(self.objects, bytes.fromhex(onto), name) is None:
                raise NotFound(f"there is no file {path}, neither then nor now", hint="look: holdfast task diff")
            changes[name] = found
        tree = trees.apply(self.objects, bytes.fromhex(onto), changes)
        self.objects.flush()
        return tree.hex()

    def before(self, head: str, commit: str) -> str | None:
        """Gives the newest commit of `head`'s main line that does not have `commit` in its history, None if none."""
        line = self.git(["rev-list", "--first-parent", "--ancestry-path", f"{commit}..{head}"]).decode().split()
        oldest = line[-1] if line else head
        if oldest != commit and self.parents(oldest) and self.is_ancestor(commit, self.parents(oldest)[0]):
            oldest = commit
        return next(iter(self.parents(oldest)), None)

    # -- the disk -----------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Returns when all that was written to the vault's filesystem is on the disk. A failure is never retried."""
        self.objects.sync()

    def fsck(self) -> list[str]:
        """Gives the problems that git finds in the vault: lost or damaged objects, refs to nothing. Empty = clean."""
        self.objects.flush()
        args = ["fsck", "--full", "--no-dangling", "--no-progress"]
        line = git.command(args, git_dir=self.path)
        return _fsck_problems(line, self._pass_fds)

    def compact(self, packs: int = 100) -> bool:
        """Joins small packs, and loose refs, if there are more than `packs` packs; says whether it did.

        Nothing is dropped, whether reachable or not, so it may run beside everything else.
        """
        if len(list((self.path / "objects" / "pack").glob("*.pack"))) <= packs:
            return False
        self.git(["repack", "-d", "-q", "-l", "--geometric=2"])
        self.git(["pack-refs", "--all"])
        self.sync()
        return True

    @contextmanager
    def alone(self, wait_seconds: float = 5.0) -> Generator[None]:
        """Keeps everybody else from opening the vault for the block; raises `IllegalState` if somebody has it open."""
        if not self._alone(wait_seconds):
            raise IllegalState(
                f"another process works with {self.path}",
                hint="let it end, or stop the worker, then run the command again",
                code="vault_in_use",
            )
        try:
            yield
        finally:
            fcntl.flock(self._users, fcntl.LOCK_SH)

    def sweep(self, needed: Collection[str]) -> int:
        """Drops every object that neither a ref nor one of `needed` (ids of commits or trees) leads to; gives bytes.

        Only within `alone`: who writes an object that is there already does not write it again. What is kept is on the
        disk before anything goes, so a kill leaves too much and never too little.
        """
        pins = [oid for oid in needed if _SHA.fullmatch(oid) and len(oid) == 2 * self.objects.hash_size]
        lost = self.objects.missing({bytes.fromhex(oid) for oid in pins})
        self._refs.replace(NEEDED_REFS, {oid for oid in pins if bytes.fromhex(oid) not in lost})
        before = _size(self.path / "objects")
        packs = self.path / "objects" / "pack"
        old = set(packs.glob("pack-*"))
        args = ["pack-objects", "--revs", "--all", "--delta-base-offset", "-q", str(packs / "pack")]
        kept = self.git(args).decode().split()
        self.sync()
        failpoint("vcs.sweep.packed")
        self.objects.close()
        for path in sorted(old):  # .idx before .pack: a pack without its index is no pack
            if path.name.partition(".")[0] not in {f"pack-{name}" for name in kept}:
                path.unlink()
                failpoint("vcs.sweep.pack_dropped")
        self.git(["prune-packed", "-q"])
        self.git(["prune", "--expire=now"])
        for cache in (self.path / "holdfast" / "worktrees").glob("*/files"):
            cache.unlink()  # it may name blobs that are gone
        self._refs.replace(NEEDED_REFS, set())
        self.sync()
        return before - _size(self.path / "objects")

    def worktree_roots(self) -> set[str]:
        """Gives the trees and commits that worktrees stand on, whether a ref leads to them or not."""
        found: set[str] = set()
        for state in (self.path / "holdfast" / "worktrees").glob("*"):
            with suppress(FileNotFoundError):
                found.add((state / "root").read_text())
            with suppress(FileNotFoundError, ValueError, KeyError):
                found.add(json.loads((state / "worktree.json").read_bytes())["commit"])
        return found

    def delete_refs(self, refs: Collection[str]) -> None:
        """Removes refs, all or none; those that are not there are no matter. Durable on return."""
        self._refs.delete_all(refs)
        self.sync()

    def recover(self, wait_seconds: float = 5.0) -> bool:
        """Removes what a killed process left half-made; gives False if another live process uses the vault.

        Stale locks of refs, temporary packs, packs without an index, and checkpoint refs whose objects never reached
        the disk (no row can name them, rows come last). To be called when a worker starts.
        """
        if not self._alone(wait_seconds):
            return False
        try:
            with disk_failures():
                _remove_leftovers(self.path)
                self._drop_broken_refs()
        finally:
            fcntl.flock(self._users, fcntl.LOCK_SH)
        return True

    def _alone(self, wait_seconds: float) -> bool:
        self.objects.flush()
        self.objects.close()
        self._refs.close()
        deadline = monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic() > deadline:
                    fcntl.flock(self._users, fcntl.LOCK_SH)
                    return False
                sleep(0.02)
            else:
                return True

    def _drop_broken_refs(self) -> None:
        """Objects are written before the refs to them: only a machine that went down can have lost them, and once."""
        checked, boot = self.path / "holdfast" / "checked", boot_id()
        if checked.exists() and checked.read_text("ascii") == boot:
            return
        refs = {**self.refs(CHECKPOINT_REFS), **self.refs(OWN_REFS)}
        gone = self.objects.missing({bytes.fromhex(oid) for oid in refs.values()})
        for ref, oid in refs.items():
            if bytes.fromhex(oid) in gone:
                self._refs.delete(ref)
        checked.write_text(boot, "ascii")


def own_prefix(checkpoint_ref: str) -> str:
    """Gives what the refs of what an agent committed itself begin with, by the ref of the checkpoint that saw it."""
    return OWN_REFS + checkpoint_ref.removeprefix(CHECKPOINT_REFS)


def may_export(repository: Path, name: str, commit: str = "") -> bool:
    """Tells whether a user's repository has branch `name` at `commit` already; raises `UserError` if it cannot be."""
    check_branch(name)
    if not repository.exists():
        told = f"the repository {repository} is not there: it was moved or deleted"
        raise NotFound(told, hint="bring it back to that place; all that Holdfast made of it is kept meanwhile")
    if not has_repository(repository):
        told = f"{repository} has no branches: it is no git repository"
        raise IllegalState(told, hint="its files are written by `holdfast plan merge`", code="no_git")
    ref = _branch_ref(name)
    listed = git.text(["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads"], cwd=repository)
    heads = {taken: found for found, _, taken in (line.partition(" ") for line in listed.splitlines())}
    existing = heads.get(ref)
    if existing and existing == commit:
        return True
    if existing:
        at = f"{existing[:12]}, not {commit[:12]}" if commit else existing[:12]
        raise IllegalState(
            f"the branch {name} exists in {repository} and is at {at}",
            hint="choose another name, or delete or rename that branch",
            code="branch_exists",
        )
    beside = next((each for each in heads if each.startswith(f"{ref}/") or ref.startswith(f"{each}/")), None)
    if beside:
        raise IllegalState(
            f"git cannot have the branch {name} beside {beside.removeprefix('refs/heads/')}",
            hint="choose another name",
            code="branch_exists",
        )
    return False


def check_branch(name: str) -> None:
    """Raises `UsageError` for what git does not take as the name of a branch."""
    legal = name and not name.startswith(("-", "refs/")) and "@{" not in name and "\0" not in name
    if not legal or git.text(["check-ref-format", "--branch", name], ok=(0, 1, 128)) != name:
        raise UsageError(f"{name!r} is not a name for a branch", hint="see: git help check-ref-format")


def _branch_ref(branch: str) -> str:
    return branch if branch.startswith("refs/") else f"refs/heads/{branch}"


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _lock_file(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open(path, "ab")


def _build(path: Path, repository: Path | None) -> None:
    """Makes the vault beside its place, flushes it, and renames it there: a kill leaves none or a whole one."""
    for leftover in path.parent.glob(f"{path.name}.making-*"):
        shutil.rmtree(leftover)
    making = path.with_name(f"{path.name}.making-{new_id()}")
    if repository is None:
        _make_empty(making, "sha256")
        _make_private(making, "sha256", making / "info" / "exclude")
        (making / _EXACT).touch()
    else:
        _copy_objects(making, repository)
    failpoint("vcs.vault.built")
    sync_filesystem(making)
    making.rename(path)
    failpoint("vcs.vault.renamed")
    sync_filesystem(path)


def _make_empty(making: Path, object_format: str) -> None:
    git.run(["init", "-q", "--bare", "--template=", f"--object-format={object_format}", str(making)])


def _copy_objects(making: Path, repository: Path) -> None:
    state = inspect(repository)
    if state.partial:
        raise UserError(
            f"{repository} is a partial clone: git has not all of its objects",
            hint="run `git fetch --refetch --no-filter` in it, and `git config --unset remote.origin.promisor`",
            code="partial_clone",
        )
    if state.head_commit is None and not _has_refs(state.git_dir):
        _make_empty(making, state.object_format)
    else:
        git.run(["clone", "-q", "--bare", "--template=", str(state.git_dir), str(making)], file_transport=True)
        if (making / "objects" / "info" / "alternates").exists():
            git.run(["repack", "-a", "-d", "-q"], git_dir=making)
            (making / "objects" / "info" / "alternates").unlink()
    _make_private(making, state.object_format, state.git_dir / "info" / "exclude")


def _has_refs(git_dir: Path) -> bool:
    return bool(git.run(["for-each-ref", "--count=1"], git_dir=git_dir))


def _make_private(making: Path, object_format: str, exclude: Path) -> None:
    """Leaves the objects alone and makes all the rest ours: no refs, our configuration, raw attributes."""
    (making / "packed-refs").unlink(missing_ok=True)
    shutil.rmtree(making / "refs")
    (making / "refs" / "heads").mkdir(parents=True)
    (making / "objects" / "pack").mkdir(exist_ok=True)
    (making / "info").mkdir(exist_ok=True)
    (making / "info" / "attributes").write_text(RAW_ATTRIBUTES)
    (making / "info" / "exclude").write_bytes(exclude.read_bytes() if exclude.is_file() else b"")
    (making / "HEAD").write_text("ref: refs/heads/holdfast\n")
    extension = "[extensions]\n\tobjectFormat = sha256\n" if object_format == "sha256" else ""
    (making / "config").write_text(
        f"[core]\n\trepositoryFormatVersion = {1 if extension else 0}\n\tbare = true\n\tfileMode = true\n"
        "\tlogAllRefUpdates = false\n\tfsync = committed\n\tautocrlf = false\n\tsymlinks = true\n\tignoreCase = false\n"
        f"[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[repack]\n\twriteBitmaps = false\n{extension}"
    )
    (making / "holdfast").mkdir()


def _remove_leftovers(path: Path) -> None:
    walked = os.walk(path / "refs")  # of what may be many thousand refs, no path is made
    stale = (Path(at, name) for at, _, names in walked for name in names if name.endswith(".lock"))
    for lock in (*path.glob("*.lock"), *stale):
        lock.unlink(missing_ok=True)
    objects = path / "objects"
    for folder in (objects, objects / "pack"):
        for leftover in folder.iterdir():
            if leftover.name.startswith(TEMPORARY_PREFIXES):
                leftover.unlink(missing_ok=True)
    for pack in (objects / "pack").glob("pack-*.pack"):
        if not pack.with_suffix(".idx").exists():
            _index_or_drop(pack)


def _index_or_drop(pack: Path) -> None:
    """A pack whose index did not get its name: no ref needs it (refs come later), so it is kept only if it is whole."""
    try:
        git.run(["index-pack", str(pack)])
    except git.GitError:
        pack.unlink()


def _fsck_problems(line: list[str | bytes], pass_fds: tuple[int, ...]) -> list[str]:
    done = subprocess.run(line, capture_output=True, env=git.environment(), pass_fds=pass_fds, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    # what git says of the content of objects (odd names, old dates) is the user's history, not damage
    return [line for line in said if line and not _CONTENT_COMPLAINT.match(line) and not line.startswith(_HARMLESS)]
