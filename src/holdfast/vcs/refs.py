"""Refs of the vault: read, set with compare-and-swap, deleted, through one `git update-ref` that stays."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path

from holdfast.errors import IllegalState
from holdfast.vcs import git
from holdfast.vcs.git import Coprocess, GitError
from holdfast.vcs.objects import Objects


class RefMoved(IllegalState):
    """A ref is not where the caller expected it to be; nothing was changed."""

    default_code = "ref_moved"


class Refs:
    """Writes refs one transaction at a time; safe to share between threads."""

    def __init__(self, git_dir: Path, objects: Objects, pass_fds: tuple[int, ...] = ()) -> None:
        self._git_dir = git_dir
        self._objects = objects
        self._absent = "0" * (2 * objects.hash_size)
        self._pass_fds = pass_fds
        self._writer: Coprocess | None = None
        self._lock = threading.Lock()

    def get(self, ref: str) -> str | None:
        """Gives the object id that `ref` names, None if there is no such ref (or it names an object that is lost)."""
        return self._objects.named(ref)

    def list(self, prefix: str) -> dict[str, str]:
        """Gives the refs below `prefix` (such as `refs/heads`) and the ids that they name."""
        args = ["for-each-ref", "--format=%(objectname) %(refname)", prefix]
        lines = git.text(args, git_dir=self._git_dir).splitlines()
        return {name: oid for oid, _, name in (line.partition(" ") for line in lines)}

    def set(self, ref: str, new: str) -> None:
        """Makes `ref` name `new`, whatever it named before."""
        self._transact(f"update {ref} {new}\n")

    def create(self, ref: str, new: str) -> None:
        """Makes `ref` name `new`; raises `RefMoved` if it exists."""
        self.move(ref, new, self._absent)

    def move(self, ref: str, new: str, expected: str) -> None:
        """Makes `ref` name `new` if it names `expected`, else raises `RefMoved`."""
        try:
            self._transact(f"update {ref} {new} {expected}\n")
        except GitError as error:
            found = self.get(ref)
            wanted = None if expected == self._absent else expected
            if found == wanted:
                raise
            raise RefMoved(
                f"{ref} is at {found or 'nothing'}, not at {wanted or 'nothing'}",
                hint="somebody else moved it; look at it and try again",
            ) from error

    def delete(self, ref: str) -> None:
        """Removes `ref`; does nothing if there is none."""
        self._transact(f"delete {ref}\n")

    def delete_all(self, refs: Collection[str]) -> None:
        """Removes refs in one transaction."""
        if refs:
            self._transact("".join(f"delete {ref}\n" for ref in sorted(refs)))

    def replace(self, prefix: str, oids: Collection[str]) -> None:
        """Makes the refs below `prefix` one for each of `oids`, named after it, in one transaction."""
        wanted = {f"{prefix}/{oid}": oid for oid in oids}
        changes = [f"delete {ref}\n" for ref in self.list(prefix) if ref not in wanted]
        changes += [f"update {ref} {oid}\n" for ref, oid in wanted.items()]
        if changes:
            self._transact("".join(changes))

    def _transact(self, change: str) -> None:
        with self._lock:
            if self._writer is None:
                args = ["update-ref", "--stdin"]
                self._writer = Coprocess(args, git_dir=self._git_dir, pass_fds=self._pass_fds)
            try:
                self._writer.send(f"start\n{change}prepare\ncommit\n".encode("utf-8", "surrogateescape"))
                for _ in ("start", "prepare", "commit"):
                    self._writer.line()
            except (git.GitError, git.GitDiskError):
                self._writer = None
                raise

    def close(self) -> None:
        """Ends the writer."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
            self._writer = None
