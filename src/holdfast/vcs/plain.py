"""A user's folder that is no git repository: the vault keeps snapshots of it, and a plan's result is put into it.

Its own `.gitignore` files say what is left out, whatever was in an earlier snapshot. Only `merge` and `take_back` write
to it, after a snapshot of all of it, and only where it is what the plan started from, or what the plan made.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from holdfast.errors import Corruption, IllegalState, NotFound, UserError
from holdfast.failpoints import failpoint
from holdfast.vcs import trees
from holdfast.vcs.checkpoint import Snapshot, Tracker
from holdfast.vcs.diff import Action
from holdfast.vcs.folder import Folder
from holdfast.vcs.git import disk_failures
from holdfast.vcs.ignore import IgnoreRules
from holdfast.vcs.objects import sync_filesystem
from holdfast.vcs.reading import Reader
from holdfast.vcs.restore import Restore
from holdfast.vcs.trees import FOLDER, Change, Entry
from holdfast.vcs.vault import Vault
from holdfast.vcs.worktree import locked

SNAPSHOTS = "refs/holdfast/folder"
MERGES = "refs/holdfast/merges"
_UNKNOWN: Entry = (0, b"")
"""Stands for what no snapshot can have: a folder with files of its own, or what cannot be read."""
_NAMED = 20


@dataclass(frozen=True, slots=True)
class PlainLimits:
    """The most that a snapshot of a folder takes, and how long to wait for another process that takes one."""

    max_files: int = 200_000
    max_bytes: int = 10 << 30
    max_file_bytes: int = 1 << 30
    lock_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Survey:
    """What a snapshot would take. `nested` are git repositories in the folder: their files, not their history.

    `empty` are folders that it would not have, since nothing is in them.
    """

    files: int
    bytes: int
    nested: tuple[str, ...]
    empty: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A file that a merge into the folder, or its taking back, writes or removes."""

    path: str
    action: Action


@dataclass(frozen=True, slots=True)
class _Record:
    """One time that a plan's result was put into the folder: the folder before, and what of the plan (None: back)."""

    tree: bytes
    head: str | None


class PlainFolder:
    """A folder of the user's, ours alone among the processes of Holdfast while this object is open."""

    def __init__(self, vault: Vault, path: Path, limits: PlainLimits | None = None) -> None:
        self._limits = limits or PlainLimits()
        self._vault, self.path = vault, path
        self._state = vault.path / "holdfast" / "folder"
        with disk_failures():
            self._state.mkdir(parents=True, exist_ok=True)
            self._lock = locked(self._state / "lock", path, self._limits.lock_seconds)
            try:
                self._folder = Folder(path)
            except OSError as error:
                self._lock.close()
                hint = "bring it back, or look at its snapshots: holdfast plan list"
                raise NotFound(f"the folder {path} is not there: {error.strerror}", hint=hint) from error
        self._rules = IgnoreRules(vault.path, path)

    def close(self) -> None:
        """Gives the folder back."""
        self._rules.forget()
        self._folder.close()
        self._lock.close()

    def __enter__(self) -> PlainFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def survey(self) -> Survey:
        """Counts what a snapshot would take, without reading any file; raises `UserError` if that is too much."""
        listed = self._vault.git(["ls-files", "-z", "--others", "--exclude-standard"], work_tree=self.path)
        names = listed.split(b"\0")[:-1]
        nested = [name.rstrip(b"/") for name in names if name.endswith(b"/")]
        root = os.fsencode(self.path) + b"/"
        found = [name for name in names if not name.endswith(b"/")]
        found += [path for top in nested for path in _files_below(root, top)]
        sizes = [size for name in found if (size := _size(root + name)) <= self._limits.max_file_bytes]
        survey = Survey(len(sizes), sum(sizes), tuple(map(os.fsdecode, nested)))
        self._refuse_large(survey)
        return survey

    def _refuse_large(self, survey: Survey) -> None:
        limits = self._limits
        if survey.files > limits.max_files or survey.bytes > limits.max_bytes:
            raise UserError(
                f"{self.path} has {survey.files:,} files of {survey.bytes >> 20:,} MiB; a snapshot takes at most "
                f"{limits.max_files:,} of {limits.max_bytes >> 20:,} MiB",
                hint="name what is not to be kept in a .gitignore there, or raise HOLDFAST_FOLDER_MAX_FILES or "
                "HOLDFAST_FOLDER_MAX_BYTES",
                code="folder_too_large",
            )

    def commit(self, time: datetime) -> str:
        """Gives the commit of the folder's present files, durable on return; the last one if nothing has changed.

        Its message names what it does not have: files that were too large or could not be read.
        """
        self.survey()
        snapshot = self._snapshot()
        message = _message(self.path, snapshot)
        last = self._vault.head(SNAPSHOTS)
        if last and (self._vault.tree_of(last), self._vault.message(last)) == (snapshot.tree, message):
            return last
        return self._vault.write_checkpoint(SNAPSHOTS, snapshot.tree, [last] if last else [], message, time)

    def _snapshot(self) -> Snapshot:
        objects = self._vault.objects
        with disk_failures():
            tracker = Tracker(
                self._folder,
                objects,
                self._rules,
                Reader(objects, self._limits.max_file_bytes, exact=self._vault.exact),
                root=objects.put_tree({}),  # nothing is tracked: a new rule leaves out what was in before
                cache=self._state / "files",
                watch=False,
                scan_every=1,
            )
            return tracker.snapshot(full=True)

    # -- a plan's result -----------------------------------------------------------------------------------------------

    def merge(self, owner: str, base: str, head: str, time: datetime, *, dry_run: bool = False) -> tuple[Written, ...]:
        """Puts what changed from commit `base` to `head` into the folder; gives the files, also for `dry_run`.

        Raises `IllegalState`, and writes nothing, if one of them is neither what `base` or an earlier merge of this
        `owner` has, nor what `head` has. A snapshot of the whole folder is kept first. Done again it finishes.
        """
        made = self._series(owner)
        changes = self._changes(base, [head, *(each.head for each in made if each.head)], self._tree(head))
        if changes and not dry_run:
            if not made or made[-1].head != head:
                self._record(owner, [base, head], f"before the merge of {head}\n", time)
            failpoint("vcs.folder.recorded")
            self._apply(changes)
        return _written(changes)

    def take_back(self, owner: str, base: str, time: datetime, *, dry_run: bool = False) -> tuple[Written, ...]:
        """Gives the files that merges of `owner` changed their former content; errors and safety as `merge`."""
        made = self._series(owner)
        if not made:
            raise IllegalState(f"nothing of it was put into {self.path}", hint="holdfast plan merge", code="not_merged")
        changes = self._changes(base, [each.head for each in made if each.head], made[0].tree)
        if not dry_run:
            now = f"{MERGES}/{owner}/now"
            before = self._vault.head(now)  # of a call that was cut off
            if before is None:
                tree = self._snapshot().tree
                before = self._vault.write_checkpoint(now, tree, [base], "before it was taken back\n", time)
            failpoint("vcs.folder.recorded")
            self._apply(changes)
            self._vault.keep(f"{MERGES}/{owner}/{self._next(owner):04}", before)
            self._vault.delete_ref(now)
        return _written(changes)

    def _records(self, owner: str) -> dict[str, str]:
        refs = self._vault.refs(f"{MERGES}/{owner}")
        return {ref: commit for ref, commit in sorted(refs.items()) if not ref.endswith("/now")}

    def _next(self, owner: str) -> int:
        return len(self._records(owner)) + 1

    def _record(self, owner: str, parents: Sequence[str], message: str, time: datetime) -> None:
        ref = f"{MERGES}/{owner}/{self._next(owner):04}"
        self._vault.write_checkpoint(ref, self._snapshot().tree, parents, message, time)

    def _series(self, owner: str) -> list[_Record]:
        """Gives the merges of `owner` since they were last taken back, the oldest first."""
        found: list[_Record] = []
        for commit in self._records(owner).values():
            _, *head = self._vault.parents(commit)
            found = [*found, _Record(self._tree(commit), head[0])] if head else []
        return found

    def _tree(self, commit: str) -> bytes:
        return bytes.fromhex(self._vault.tree_of(commit))

    def _changes(self, base: str, heads: Sequence[str], wanted: bytes) -> list[Change]:
        """Gives what to write so that every path that `heads` changed is as in `wanted`."""
        objects, start = self._vault.objects, self._tree(base)
        ends = [self._tree(head) for head in heads]
        paths = {path for end in ends for path, _, _ in trees.compare(objects, start, end)}
        aims = {path: self._leaf(wanted, path) for path in sorted(paths)}
        present = {path: self._present(path, aims.keys()) for path in aims}
        self._refuse(
            [
                path
                for path, there in present.items()
                if there not in {self._leaf(tree, path) for tree in (start, *ends, wanted)}
            ]
        )
        return [(path, there, aims[path]) for path, there in present.items() if there != aims[path]]

    def _leaf(self, tree: bytes, path: bytes) -> Entry | None:
        entry = trees.lookup(self._vault.objects, tree, path)
        return None if entry is None or entry[0] == FOLDER else entry

    def _refuse(self, paths: Sequence[bytes]) -> None:
        if not paths:
            return
        names = ", ".join(os.fsdecode(path) for path in paths[:_NAMED]) + (" …" if len(paths) > _NAMED else "")
        told = f"{len(paths)} files of {self.path} were" if len(paths) > 1 else f"one file of {self.path} was"
        raise IllegalState(
            f"{told} changed by hand since: {names}; nothing was written",
            hint="move them away, or make them as they were, then write again",
            code="folder_changed",
        )

    def _present(self, path: bytes, judged: Collection[bytes]) -> Entry | None:
        """Gives what is at `path` now; folders of nothing but `judged` paths, each looked at by itself, are nothing."""
        above, _, name = path.rpartition(b"/")
        try:
            with self._folder.open(above) as descriptor:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    inner = _files_below(os.fsencode(self.path) + b"/", path)
                    return None if all(each in judged for each in inner) else _UNKNOWN
                reader = Reader(self._vault.objects, self._limits.max_file_bytes, exact=self._vault.exact)
                reader.begin()
                found = reader.entry(descriptor, name, path, status, None)
                return found if found and not reader.busy else _UNKNOWN
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return None if any(each in judged for each in _above(path)) else _UNKNOWN
            if isinstance(error, PermissionError):
                return _UNKNOWN
            raise

    def _apply(self, changes: Sequence[Change]) -> None:
        with disk_failures(f"the folder {self.path}"):
            self._vault.objects.flush()
            raced = _Raced(self, {path: there for path, there, _ in changes})
            objects, aside = self._vault.objects, self._state / "aside"
            restore = Restore(self._folder, objects, self._rules, aside, raced, exact=self._vault.exact)
            restore.apply(changes, spare_ignored=False)
            failpoint("vcs.folder.written")
            paths = {path for path, _, _ in changes}
            wrong = [os.fsdecode(path) for path, _, new in changes if self._present(path, paths) != new]
            if wrong:
                raise Corruption(
                    f"{len(wrong)} files of {self.path} are not what they should be now, the first is {wrong[0]}",
                    hint="something else writes to the folder; stop it and run the command again",
                )
            sync_filesystem(self.path)


def _written(changes: Sequence[Change]) -> tuple[Written, ...]:
    def action(there: Entry | None, aim: Entry | None) -> Action:
        return Action.ADDED if there is None else Action.DELETED if aim is None else Action.MODIFIED

    return tuple(Written(os.fsdecode(path), action(there, aim)) for path, there, aim in changes)


def survey(path: Path, limits: PlainLimits) -> Survey:
    """Gives what a snapshot of a folder would take; errors as `PlainFolder.survey`. Nothing is kept."""
    with (
        TemporaryDirectory(prefix="holdfast-") as place,
        Vault.open_or_create(Path(place) / "vault.git", None) as vault,
        PlainFolder(vault, path, limits) as folder,
    ):
        return replace(folder.survey(), empty=_empty_folders(path))


class _Raced:
    """The paths that somebody changed since it was decided to write them, asked for at the last moment."""

    def __init__(self, folder: PlainFolder, decided: Mapping[bytes, Entry | None]) -> None:
        self._folder, self._decided = folder, decided

    def __contains__(self, path: object) -> bool:
        assert isinstance(path, bytes)
        return self._folder._present(path, self._decided.keys()) != self._decided[path]  # pyright: ignore[reportPrivateUsage]

    def __iter__(self) -> Iterator[bytes]:
        return (path for path in self._decided if path in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def not_in_snapshot(vault: Vault) -> tuple[str, ...]:
    """Gives the files that the newest snapshot of the folder does not have: too large, or not readable."""
    newest = vault.head(SNAPSHOTS)
    lines = vault.message(newest).splitlines() if newest else []
    return tuple(line.removeprefix(_LACKS) for line in lines if line.startswith(_LACKS))


_LACKS = "without: "


def _message(path: Path, snapshot: Snapshot) -> str:
    names = [name.replace("\n", "?") for name in snapshot.skipped]
    lacks = [f"{_LACKS}{name}" for name in names[:_NAMED]]
    lacks += [f"{_LACKS}{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return "\n".join([f"Snapshot of {path}", *(["", *lacks] if lacks else [])]) + "\n"


def _files_below(root: bytes, top: bytes) -> Iterator[bytes]:
    for place, folders, names in os.walk(root + top):
        folders[:] = [name for name in folders if name.lower() != b".git"]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*names, *links):
            yield os.path.join(place, name)[len(root) :]


def _empty_folders(root: Path) -> tuple[str, ...]:
    found = (place for place, folders, names in os.walk(root) if not folders and not names)
    return tuple(sorted(str(Path(place).relative_to(root)) for place in found if ".git" not in Path(place).parts))


def _size(path: bytes) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _above(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(1, len(parts))]
