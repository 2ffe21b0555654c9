"""Tree objects as dictionaries, and the two walks over them that cost as much as what differs: `apply` and `compare`.

Names are bytes and object ids are raw bytes throughout; only the edges of the folder speak hexadecimal.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from typing import Protocol, TypeAlias

FILE = 0o100644
EXECUTABLE = 0o100755
SYMLINK = 0o120000
FOLDER = 0o040000
GITLINK = 0o160000

Entry: TypeAlias = tuple[int, bytes]
"""Mode and object id. Where there is no git around it, a file's mode has all its permission bits: git reads them as its
own two."""
Tree: TypeAlias = dict[bytes, Entry]
Change: TypeAlias = tuple[bytes, Entry | None, Entry | None]
"""Path, what was there, what is there; never a folder."""


class TreeStore(Protocol):
    """Where trees are read from and put to."""

    def tree(self, oid: bytes) -> Tree:
        """Gives the entries of a tree; the caller does not change them."""
        ...

    def put_tree(self, entries: Tree) -> bytes:
        """Gives the id of a tree that has these entries, which is stored with the next flush."""
        ...


def parse(raw: bytes, hash_size: int) -> Tree:
    """Gives the entries of a tree object's bytes."""
    entries: Tree = {}
    at = 0
    while at < len(raw):
        space = raw.index(b" ", at)
        nul = raw.index(b"\0", space)
        end = nul + 1 + hash_size
        entries[raw[space + 1 : nul]] = (int(raw[at:space], 8), raw[nul + 1 : end])
        at = end
    return entries


def serialise(entries: Tree) -> bytes:
    """Gives the bytes of the tree object with these entries, in git's order (a folder's name sorts with a `/`)."""
    ordered = sorted(entries.items(), key=lambda item: item[0] + b"/" if item[1][0] == FOLDER else item[0])
    return b"".join(b"%o %s\0%s" % (mode, name, oid) for name, (mode, oid) in ordered)


def lookup(store: TreeStore, root: bytes, path: bytes) -> Entry | None:
    """Gives the entry at `path`, None if there is none, and the gitlink itself for a path inside a submodule."""
    entry: Entry = (FOLDER, root)
    for name in path.split(b"/"):
        if entry[0] == GITLINK:
            return entry
        if entry[0] != FOLDER:
            return None
        found = store.tree(entry[1]).get(name)
        if found is None:
            return None
        entry = found
    return entry


def apply(store: TreeStore, root: bytes, changes: Mapping[bytes, Entry | None]) -> bytes:
    """Gives the tree that is `root` with each path of `changes` set, or removed where it is None.

    Only the folders above those paths are read and written.
    A change below another one is dropped: the upper one, a whole folder or its absence, has the last word.
    """
    nest: dict[bytes, object] = {}
    for path in sorted(changes, key=lambda path: path.count(b"/")):
        *folders, name = path.split(b"/")
        level: object = nest
        for folder in folders:
            level = level.setdefault(folder, {}) if isinstance(level, dict) else None
        if isinstance(level, dict) and name not in level:
            level[name] = changes[path]
    return _rebuild(store, root, nest) or store.put_tree({})


def _rebuild(store: TreeStore, oid: bytes | None, nest: Mapping[bytes, object]) -> bytes | None:
    entries = dict(store.tree(oid)) if oid else {}
    for name, change in nest.items():
        old = entries.get(name)
        if isinstance(change, dict):
            below = _rebuild(store, old[1] if old and old[0] == FOLDER else None, change)
            if below is not None:
                entries[name] = (FOLDER, below)
            elif old is not None and old[0] == FOLDER:
                del entries[name]
        elif isinstance(change, tuple):
            entries[name] = change
        else:
            entries.pop(name, None)
    return store.put_tree(entries) if entries else None


def git_mode(mode: int) -> int:
    """Gives what git takes a mode for: of a file's permission bits it knows only the executable one."""
    if not stat.S_ISREG(mode):
        return mode
    return EXECUTABLE if mode & stat.S_IXUSR else FILE


def with_modes(store: TreeStore, merged: bytes, base: bytes | None, ours: bytes, theirs: bytes) -> bytes:
    """Gives the tree that git has merged with all the permission bits that its files had: who changed them has them."""
    changes: dict[bytes, Entry | None] = {}
    for path in {path for side in (ours, theirs) for path, _, _ in compare(store, side, merged)}:
        entry = lookup(store, merged, path)
        was, our, their = (_mode(store, tree, path) for tree in (base, ours, theirs))
        mode = their if our in (was, None) else our
        if entry is not None and mode is not None and git_mode(mode) == entry[0]:
            changes[path] = (mode, entry[1])
    return apply(store, merged, changes) if changes else merged


def _mode(store: TreeStore, root: bytes | None, path: bytes) -> int | None:
    found = lookup(store, root, path) if root else None
    return found[0] if found and stat.S_ISREG(found[0]) else None


def compare(store: TreeStore, old: bytes | None, new: bytes | None, prefix: bytes = b"") -> Iterator[Change]:
    """Gives every path that differs, visiting only folders that differ."""
    if old == new:
        return
    before = store.tree(old) if old else {}
    after = store.tree(new) if new else {}
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        was_folder = was[1] if was and was[0] == FOLDER else None
        now_folder = now[1] if now and now[0] == FOLDER else None
        if was_folder or now_folder:
            yield from compare(store, was_folder, now_folder, prefix + name + b"/")
        was_leaf = None if was_folder else was
        now_leaf = None if now_folder else now
        if was_leaf or now_leaf:
            yield prefix + name, was_leaf, now_leaf
