"""Looks at every file below some folders and gives their trees; the watch is set on the way."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from holdfast.vcs.changes import TEMPORARY_PREFIX, Watch, is_ours_or_git
from holdfast.vcs.folder import GONE, Folder, signature
from holdfast.vcs.ignore import IgnoreRules
from holdfast.vcs.objects import Objects
from holdfast.vcs.reading import Reader
from holdfast.vcs.statcache import Known, is_settled
from holdfast.vcs.trees import FOLDER, GITLINK, Tree


@dataclass(slots=True)
class _Listing:
    """One folder: what the last snapshot had there, what is there now, and the tree that comes of it."""

    path: bytes
    old: Tree
    old_oid: bytes | None
    present: dict[bytes, os.stat_result] = field(default_factory=dict[bytes, os.stat_result])
    entries: Tree = field(default_factory=dict[bytes, "tuple[int, bytes]"])

    def below(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


class Scan:
    """One look at a worktree, level by level, so that ignore rules are asked for and old trees read in batches.

    `known` spares the reading of files that have not changed since; `seen` becomes the next `known`.
    """

    def __init__(
        self,
        folder: Folder,
        objects: Objects,
        rules: IgnoreRules,
        reader: Reader,
        watch: Watch | None,
        *,
        known: Known | None = None,
        settled: int = 0,
    ) -> None:
        self._folder, self._objects, self._rules, self._reader, self._watch = folder, objects, rules, reader, watch
        self._known = known or {}
        self._settled = settled
        self.seen: Known = {}

    def trees(self, starts: Mapping[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        """Gives the tree of each folder of `starts` (path to its last known tree); None if it has no files."""
        listings: list[_Listing] = []
        level = dict(starts)
        while level:
            self._objects.load_trees(oid for oid in level.values() if oid)
            found = [self._list(path, oid) for path, oid in level.items()]
            ignored = self._ignored(found)
            level = {}
            for listing in found:
                level.update(self._read(listing, ignored))
            listings += found
        return self._fold(listings, starts.keys())

    def _list(self, path: bytes, old_oid: bytes | None) -> _Listing:
        listing = _Listing(path, self._objects.tree(old_oid) if old_oid else {}, old_oid)
        try:
            with self._folder.open(path) as descriptor:
                if self._watch is not None:
                    self._watch.add(path, descriptor)
                with os.scandir(descriptor) as names:
                    for item in names:
                        self._note(listing, item, descriptor)
        except PermissionError:
            # what is in it cannot be known: it stays as it was, and the caller is told
            listing.entries.update(listing.old)
            self._reader.skipped.add(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
        return listing

    def _note(self, listing: _Listing, item: os.DirEntry[str], descriptor: int) -> None:
        name = os.fsencode(item.name)
        if is_ours_or_git(name):
            remove_temporary(name, descriptor)
            return
        try:
            listing.present[name] = item.stat(follow_symlinks=False)
        except FileNotFoundError:
            return

    def _ignored(self, listings: Iterable[_Listing]) -> set[bytes]:
        """Asks only for paths that the last snapshot does not have: tracked wins over ignored."""
        unknown = [
            listing.below(name)
            for listing in listings
            for name, status in listing.present.items()
            if not is_tracked(listing.old.get(name), status)
        ]
        return self._rules.ignored(unknown)

    def _read(self, listing: _Listing, ignored: set[bytes]) -> dict[bytes, bytes | None]:
        folders: dict[bytes, bytes | None] = {}
        with ExitStack() as stack:
            descriptor = -1
            for name, status in listing.present.items():
                path, old = listing.below(name), listing.old.get(name)
                if ignored and path in ignored:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    if old and old[0] == GITLINK:
                        listing.entries[name] = old
                        self._mark_submodule(path)
                    else:
                        folders[path] = old[1] if old and old[0] == FOLDER else None
                    continue
                if self._unchanged(listing, name, path, status):
                    continue
                try:
                    if descriptor < 0:
                        descriptor = stack.enter_context(self._folder.open(listing.path))
                    entry = self._reader.entry(descriptor, name, path, status, old)
                except OSError as error:
                    if error.errno not in GONE:
                        raise
                    continue
                if entry is not None:
                    listing.entries[name] = entry
                    self._remember(path, status, entry[1])
        return folders

    def _mark_submodule(self, path: bytes) -> None:
        """A submodule keeps its commit; files in it are not kept, which the caller is told."""
        with suppress(OSError), self._folder.open(path) as descriptor:
            if os.listdir(descriptor):
                self._reader.skipped.add(path)

    def _unchanged(self, listing: _Listing, name: bytes, path: bytes, status: os.stat_result) -> bool:
        known = self._known.get(path)
        if known is None or not stat.S_ISREG(status.st_mode) or known[0] != signature(status):
            return False
        self._reader.skipped.discard(path)
        listing.entries[name] = (self._reader.mode(status), known[1])
        self.seen[path] = known
        return True

    def _remember(self, path: bytes, status: os.stat_result, oid: bytes) -> None:
        trusted = path not in self._reader.busy and path not in self._reader.skipped
        if trusted and stat.S_ISREG(status.st_mode) and is_settled(status, self._settled):
            self.seen[path] = (signature(status), oid)

    def _fold(self, listings: list[_Listing], starts: Iterable[bytes]) -> dict[bytes, bytes | None]:
        trees: dict[bytes, bytes | None] = {}
        by_path = {listing.path: listing for listing in listings}
        tops = set(starts)
        for listing in reversed(listings):
            if not listing.entries:
                tree = None
            elif listing.entries == listing.old and listing.old_oid:
                tree = listing.old_oid
            else:
                tree = self._objects.put_tree(listing.entries)
            if listing.path in tops:
                trees[listing.path] = tree
            elif tree is not None:
                above, _, name = listing.path.rpartition(b"/")
                by_path[above].entries[name] = (FOLDER, tree)
        return trees


def is_tracked(old: tuple[int, bytes] | None, status: os.stat_result) -> bool:
    """Says whether the last snapshot has the path, as the same sort of thing: a folder (or submodule), or a file."""
    if old is None:
        return False
    return (old[0] in (FOLDER, GITLINK)) == stat.S_ISDIR(status.st_mode)


def remove_temporary(name: bytes, descriptor: int) -> None:
    """Removes a file of ours that a killed restore left; a folder of such a name is not ours, nor any other file."""
    if not name.startswith(TEMPORARY_PREFIX):
        return
    try:
        os.unlink(name, dir_fd=descriptor)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        return
