"""One worktree: the folder that an agent works in, seen from outside."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import IO

from holdfast.domain.own_git import OwnGit
from holdfast.errors import Corruption, IllegalState
from holdfast.failpoints import failpoint
from holdfast.vcs import checkout, own_git, own_git_writing, trees
from holdfast.vcs.checkout import ensure_files
from holdfast.vcs.checkpoint import Snapshot, Tracker
from holdfast.vcs.folder import Folder
from holdfast.vcs.git import disk_failures
from holdfast.vcs.ignore import IgnoreRules
from holdfast.vcs.ignored import Blobs, IgnoredFiles, Kept, Wanted
from holdfast.vcs.objects import sync_filesystem
from holdfast.vcs.reading import Reader
from holdfast.vcs.restore import Restore
from holdfast.vcs.trees import Change, Entry
from holdfast.vcs.vault import Vault


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worktree keeps at most, and how often a watched one is looked at whole all the same."""

    max_file_bytes: int = 1 << 30
    max_ignored_files: int = 10_000
    scan_every: int = 50
    lock_seconds: float = 10.0


class Worktree:
    """A worktree folder, exclusively ours while this object is open; used by one thread at a time.

    What belongs to it but must not lie in it (lock, file cache, what was moved aside) is in the vault's
    `holdfast/worktrees/<name>/`. The lock dies with the process, and no child inherits it.
    """

    def __init__(
        self,
        vault: Vault,
        path: Path,
        state: Path,
        lock: IO[bytes],
        commit: str,
        watch: bool,
        limits: Limits,
        durable: bool,
    ):
        self.vault, self.path, self._state, self._lock = vault, path, state, lock
        self._folder = Folder(path)
        self._rules = IgnoreRules(vault.path, path)
        self._reader = Reader(vault.objects, limits.max_file_bytes, exact=vault.exact)
        self._limits = limits
        self._tracker = Tracker(
            self._folder,
            vault.objects,
            self._rules,
            self._reader,
            root=self._last_root(commit),
            cache=state / "files",
            watch=watch,
            scan_every=limits.scan_every,
        )
        self._settling = None if durable else _at_once(checkout.settle, state, path)
        self._touched = False

    @classmethod
    def ensure(
        cls,
        vault: Vault,
        path: Path,
        branch: str,
        commit: str,
        *,
        watch: bool = True,
        limits: Limits | None = None,
        recreate_at: str | None = None,
    ) -> Worktree:
        """Gives the worktree at `path`, made with the files of `commit` on `branch` if it was never made.

        One that exists is left as it is, whatever its content: that is the work. One that a kill left half-made is made
        again. One that was deleted by hand raises `IllegalState`, unless `recreate_at` gives the tree to bring back.
        What is made and set is on its way to the disk: nobody may work in it before `settle` or `close` has returned.
        Raises `IllegalState` if somebody else has it open for longer than `limits.lock_seconds`.
        """
        path = path.absolute()
        limits = limits or Limits()
        state = vault.path / "holdfast" / "worktrees" / path.name
        with disk_failures():
            state.mkdir(parents=True, exist_ok=True)
            lock = locked(state / "lock", path, limits.lock_seconds)
            try:
                durable = ensure_files(vault, state, path, branch, commit, recreate_at)
                own_git_writing.settle(path)
                return cls(vault, path, state, lock, commit, watch, limits, durable)
            except BaseException:
                lock.close()
                raise

    def settle(self) -> None:
        """Returns when all that was made and set here is durable: from then on somebody may work in it."""
        with disk_failures():
            if self._settling is not None:
                self._settling.result()
            if self._touched:
                sync_filesystem(self.path)
        self._settling, self._touched = None, False

    def _last_root(self, commit: str) -> bytes:
        """The tree that says what is tracked: of the last restore or scan if it is still there, else of `commit`."""
        try:
            noted = bytes.fromhex((self._state / "root").read_text())
        except (FileNotFoundError, ValueError):
            noted = b""
        if len(noted) == self.vault.objects.hash_size and not self.vault.objects.missing([noted]):
            return noted
        return bytes.fromhex(self.vault.tree_of(commit))

    def _note_root(self) -> None:
        temporary = self._state / "root.new"
        temporary.write_text(self._tracker.root.hex())
        temporary.replace(self._state / "root")

    def snapshot(self, *, full: bool = False, own: OwnGit | None = None) -> Snapshot:
        """Gives the tree of all files that are not ignored; costs what changed since the last one if that is known.

        `own` is what its own git says, where the caller has just asked.
        """
        with disk_failures():
            return replace(self._tracker.snapshot(full=full), own=own or self.own_git())

    def own_git(self) -> OwnGit:
        """Gives what the worktree's own `.git` says, its commits brought into the vault."""
        with disk_failures():
            found = own_git.read(self._folder, 2 * self.vault.objects.hash_size)
            return own_git.bring(self.vault, self._folder, found, self._state / "incoming")

    def set_own_git(self, wanted: OwnGit, found: OwnGit | None = None) -> OwnGit:
        """Makes the worktree's own `.git` say that; its configuration, hooks and objects stay. No file is touched.

        Gives what it says then. `found` is what it says now, where the caller has just asked.
        """
        wanted = replace(wanted, under_way="", problem="")
        with disk_failures():
            found = found or own_git.read(self._folder, 2 * self.vault.objects.hash_size)
            readable = bool(found.head)
            same = readable and replace(found, problem="") == wanted
            if not same or not own_git_writing.is_put(self.vault, self._folder, self._state, wanted):
                self._touched = True
                own_git_writing.put(self.vault, self._folder, self._state, wanted, readable=readable)
            return wanted

    def dirty(self, commit: str) -> bool:
        """Says whether the files differ from those of `commit`."""
        with disk_failures():
            return self._tracker.snapshot(full=False).tree != self.vault.tree_of(commit)

    def set_tree(self, tree: str) -> None:
        """Makes the files exactly those of `tree`; ignored and skipped ones stay (moved aside where one is in the way).

        Ignored is what the present rules ignore, or those of `tree`; what was and is no longer, the next snapshot has.
        Only what differs is touched. Verified by looking again; a call that was cut off is finished by the same call.
        """
        with disk_failures():
            self.vault.objects.flush()
            target = bytes.fromhex(tree)
            before = bytes.fromhex(self._tracker.snapshot(full=False).tree)
            aside = self._state / "aside"
            objects, exact = self.vault.objects, self.vault.exact
            restore = Restore(self._folder, objects, self._rules, aside, self._tracker.skipped, exact=exact)
            self._touched |= before != target
            folders = restore.apply(trees.compare(self.vault.objects, before, target))
            failpoint("vcs.restore.written")
            self._tracker.adopt(target, folders)
            self._verify(before, target)
            self._note_root()

    def _verify(self, before: bytes, target: bytes) -> None:
        """What the target has must be there, what only the state before had must be gone.

        More than that may be there: files that were ignored before and are not under the target's rules.
        """
        found = bytes.fromhex(self._tracker.snapshot(full=False).tree)
        objects = self.vault.objects
        wrong = [
            path
            for path, _, wanted in trees.compare(objects, found, target)
            if wanted is not None or trees.lookup(objects, before, path) is not None
        ]
        self._refuse_wrong(wrong)

    def _refuse_wrong(self, paths: Iterable[bytes]) -> None:
        wrong = [os.fsdecode(path) for path in paths]
        if wrong:
            raise Corruption(
                f"{len(wrong)} files of {self.path} are not what the checkpoint has, the first is {wrong[0]}",
                hint="something else writes to the worktree; stop it and run the command again",
            )

    def keep_ignored(self, patterns: Sequence[str], blobs: Blobs) -> Kept:
        """Keeps the content of each ignored file that one of the globs matches; costs little for those unchanged."""
        with disk_failures():
            return self._ignored(blobs).kept(patterns, self._limits.max_ignored_files)

    def _ignored(self, blobs: Blobs | None) -> IgnoredFiles:
        objects, tracker = self.vault.objects, self._tracker
        return IgnoredFiles(
            self._folder,
            self._rules,
            lambda path: trees.lookup(objects, tracker.root, path) is not None,
            blobs,
            max_file_bytes=self._limits.max_file_bytes,
            cache=self._state / "ignored",
        )

    def set_ignored(
        self, wanted: Wanted, backup: Mapping[str, Entry], blobs: Blobs, *, dry_run: bool = False
    ) -> tuple[str, ...]:
        """Makes the ignored files what is `wanted`; gives the paths that this changes, also for `dry_run`.

        Only what `backup` has as it is now is overwritten or deleted, all else that is in the way is moved aside.
        Tracked files, and those that cannot be read or are too large, stay. Nothing is touched unless all contents are
        undamaged. Verified by looking again; a call that was cut off is finished by the same call.
        """
        with disk_failures():
            self._folder.check()
            look = self._ignored(None)
            known = {os.fsencode(path): entry for path, entry in backup.items()}
            changes = look.changes(wanted, known)
            if changes and not dry_run:
                self._apply_ignored(changes, known, blobs)
                self._refuse_wrong(path for path, _, new in changes if look.entry(path) != new)
            return tuple(os.fsdecode(path) for path, _, _ in changes)

    def _apply_ignored(self, changes: Sequence[Change], backup: Mapping[bytes, Entry], blobs: Blobs) -> None:
        for oid in {new[1] for _, _, new in changes if new is not None}:
            blobs.verify(oid)
        unknown = {path for path, now, _ in changes if now is not None and backup.get(path) != now}
        restore = Restore(self._folder, blobs, self._rules, self._state / "aside", unknown, exact=True)
        self._touched = True
        restore.apply(changes)
        failpoint("vcs.ignored.written")

    def remove(self) -> None:
        """Removes the folder, and what the vault knows of it, as if it had never been made; then this is closed.

        What is in it is lost but for what a snapshot of it has.
        """
        try:
            self.settle()
            with disk_failures():
                checkout.remove(self._state, self.path)
        finally:
            self._release()

    def close(self) -> None:
        """Gives the worktree back; its folder stays."""
        try:
            self.settle()
            with disk_failures():
                self._note_root()
        finally:
            self._release()

    def _release(self) -> None:
        self._tracker.close()
        self._rules.forget()
        self._folder.close()
        self._lock.close()

    def __enter__(self) -> Worktree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _at_once(deed: Callable[..., None], *given: object) -> Future[None]:
    """Does it in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    done = pool.submit(deed, *given)
    pool.shutdown(wait=False)
    return done


def locked(place: Path, path: Path, seconds: float) -> IO[bytes]:
    """Gives the lock file of a folder, locked until it is closed; raises `IllegalState` after `seconds`."""
    lock = open(place, "ab")  # noqa: SIM115 lives as long as the worktree is open
    deadline = monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() > deadline:
                lock.close()
                raise IllegalState(
                    f"the folder {path} is in use by another process",
                    hint="wait until its task has ended, or interrupt it",
                    code="worktree_in_use",
                ) from None
            sleep(0.02)
        else:
            return lock
