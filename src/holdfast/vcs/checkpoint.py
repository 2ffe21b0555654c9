"""Snapshots of a worktree: the tree object that has exactly its files, at a cost that follows what changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holdfast.domain.own_git import OwnGit
from holdfast.failpoints import failpoint
from holdfast.vcs import statcache, trees
from holdfast.vcs.changes import Changes, Watch
from holdfast.vcs.folder import GONE, Folder
from holdfast.vcs.ignore import IgnoreRules
from holdfast.vcs.objects import Objects
from holdfast.vcs.reading import Reader
from holdfast.vcs.scan import Scan, is_tracked
from holdfast.vcs.statcache import Known
from holdfast.vcs.trees import FOLDER, GITLINK, Entry


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A worktree at one moment. `tree` is in the repository once a commit of it is written (or after `Vault.sync`).

    `changed` counts the paths that differ from the snapshot before, `bytes` their new content. `skipped` names files
    that are too large or not readable, and submodules with files in them; `busy` files that were being written to.
    `own` is what the agent's own `.git` in it says.
    """

    tree: str
    changed: int
    bytes: int
    via: Literal["watch", "scan"]
    skipped: tuple[str, ...]
    busy: tuple[str, ...]
    own: OwnGit | None = None


class Tracker:
    """Knows the last snapshot of one worktree and makes the next one from what changed since.

    `root` is the tree of the last snapshot or restore: what it has is tracked, whatever the ignore rules say.
    """

    def __init__(
        self,
        folder: Folder,
        objects: Objects,
        rules: IgnoreRules,
        reader: Reader,
        *,
        root: bytes,
        cache: Path,
        watch: bool,
        scan_every: int,
    ) -> None:
        self._folder, self._objects, self._rules, self._reader = folder, objects, rules, reader
        self._cache = cache
        self._wants_watch = watch
        self._scan_every = scan_every
        self._since_scan = 0
        self._watch: Watch | None = None
        self._doubtful: set[bytes] = set()
        self.root = root

    @property
    def skipped(self) -> set[bytes]:
        """The paths that the last look left out."""
        return self._reader.skipped

    def snapshot(self, *, full: bool) -> Snapshot:
        """Gives the present state; by a full scan if asked for, due, or if the watch does not know what changed."""
        self._folder.check()
        self._reader.begin()
        changes = self._watch.drain() if self._watch else None
        due = full or self._since_scan >= self._scan_every
        before = self.root
        after, via = self._next(None if due else changes)
        self._doubtful = set(self._reader.busy)
        changed = sum(1 for _ in trees.compare(self._objects, before, after))
        self.root = after
        failpoint("vcs.snapshot.hashed")
        return Snapshot(
            tree=after.hex(),
            changed=changed,
            bytes=self._reader.bytes_read,
            via=via,
            skipped=_names(self._reader.skipped),
            busy=_names(self._reader.busy),
        )

    def _next(self, changes: Changes | None) -> tuple[bytes, Literal["watch", "scan"]]:
        if changes is None or _touches_rules(changes):
            return self._scanned(), "scan"
        try:
            after = self._advanced(changes)
        except PermissionError:
            return self._scanned(), "scan"  # a folder that may not be read: a scan keeps what was in it, and says so
        self._since_scan += 1
        return after, "watch"

    # -- everything ---------------------------------------------------------------------------------------------------

    def _scanned(self) -> bytes:
        self._rules.forget()
        self._renew_watch()
        known = statcache.load(self._cache)
        settled = statcache.settled_before(self._cache.parent, os.stat(self._folder.path).st_dev)
        self._reader.skipped.clear()
        scan = self._scan(known, settled)
        after = scan.trees({b"": self.root})[b""] or self._objects.put_tree({})
        if self._watch is not None and not self._watch.prove():
            self._watch.close()
            self._watch = None
        if scan.seen != known:
            # The cache names blobs, and who trusts it does not read the files again: so the blobs come first.
            self._objects.sync()
            statcache.save(self._cache, scan.seen)
        failpoint("vcs.scan.cached")
        self._since_scan = 0
        return after

    def _renew_watch(self) -> None:
        if self._watch is not None and self._watch.lost:
            self._watch.close()
            self._watch = None
        if self._watch is None and self._wants_watch:
            self._watch = Watch(self._folder.path)

    def _scan(self, known: Known | None = None, settled: int = 0) -> Scan:
        return Scan(self._folder, self._objects, self._rules, self._reader, self._watch, known=known, settled=settled)

    # -- only what changed --------------------------------------------------------------------------------------------

    def _advanced(self, changes: Changes) -> bytes:
        """Gives the tree with what the watch reported looked at again. Folders that appeared are walked whole."""
        found = self._look(changes.paths | self._doubtful | changes.folders)
        folders = {path: old for path, (status, old) in found.items() if status and stat.S_ISDIR(status.st_mode)}
        unknown = [path for path, (status, old) in found.items() if status and not is_tracked(old, status)]
        ignored = self._rules.ignored(unknown) if unknown else set()
        updates: dict[bytes, Entry | None] = {}
        walked = {p: o[1] if o and o[0] == FOLDER else None for p, o in folders.items() if p not in ignored}
        walked = {path: oid for path, oid in walked.items() if not _is_gitlink(folders[path])}
        walked = {path: oid for path, oid in walked.items() if not _is_below(path, walked)}
        for path, tree in self._scan().trees(walked).items():
            updates[path] = (FOLDER, tree) if tree else None
        for path, (status, old) in found.items():
            if _is_below(path, walked) or path in walked or (path in folders and _is_gitlink(old)):
                continue
            if status is None or path in ignored:
                self._reader.skipped.discard(path)
                updates[path] = None
            else:
                updates[path] = self._entry(path, status, old)
        changed = {path: entry for path, entry in updates.items() if entry != self._old(found, path)}
        return trees.apply(self._objects, self.root, changed) if changed else self.root

    def _look(self, paths: Iterable[bytes]) -> dict[bytes, tuple[os.stat_result | None, Entry | None]]:
        """Gives what is at each path now (None: nothing) and what the last snapshot has; not inside submodules."""
        by_folder: dict[bytes, list[bytes]] = {}
        for path in paths:
            by_folder.setdefault(path.rpartition(b"/")[0], []).append(path)
        found: dict[bytes, tuple[os.stat_result | None, Entry | None]] = {}
        for folder, members in by_folder.items():
            above = trees.lookup(self._objects, self.root, folder) if folder else None
            if _is_gitlink(above):
                continue
            statuses = self._statuses(folder, members)
            for path in members:
                found[path] = (statuses.get(path), trees.lookup(self._objects, self.root, path))
        return found

    def _statuses(self, folder: bytes, paths: list[bytes]) -> dict[bytes, os.stat_result]:
        found: dict[bytes, os.stat_result] = {}
        try:
            with self._folder.open(folder) as descriptor:
                for path in paths:
                    try:
                        name = path.rpartition(b"/")[2]
                        found[path] = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    except OSError as error:
                        if error.errno not in GONE:
                            raise
        except OSError as error:
            if error.errno not in GONE:
                raise
        return found

    def _entry(self, path: bytes, status: os.stat_result, old: Entry | None) -> Entry | None:
        folder, _, name = path.rpartition(b"/")
        try:
            with self._folder.open(folder) as descriptor:
                return self._reader.entry(descriptor, name, path, status, old)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return None

    @staticmethod
    def _old(found: dict[bytes, tuple[os.stat_result | None, Entry | None]], path: bytes) -> Entry | None:
        return found[path][1]

    # -- after a restore ----------------------------------------------------------------------------------------------

    def adopt(self, tree: bytes, folders: Iterable[bytes]) -> None:
        """Takes `tree` as the last snapshot, and watches those `folders` (which may have been ignored before) too."""
        self.root = tree
        if self._watch is None:
            return
        for path in folders:
            try:
                with self._folder.open(path) as descriptor:
                    self._watch.add(path, descriptor)
            except OSError as error:
                if error.errno not in GONE:
                    raise

    def close(self) -> None:
        """Ends the watch."""
        if self._watch is not None:
            self._watch.close()
        self._watch = None


def _touches_rules(changes: Changes) -> bool:
    return any(path.rpartition(b"/")[2] == b".gitignore" for path in changes.paths)


def _is_gitlink(entry: Entry | None) -> bool:
    return entry is not None and entry[0] == GITLINK


def _is_below(path: bytes, folders: dict[bytes, bytes | None]) -> bool:
    at = path.rfind(b"/")
    while at > 0:
        if path[:at] in folders:
            return True
        at = path.rfind(b"/", 0, at)
    return False


def _names(paths: set[bytes]) -> tuple[str, ...]:
    return tuple(os.fsdecode(path) for path in sorted(paths))
