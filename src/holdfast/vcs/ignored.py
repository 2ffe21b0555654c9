"""Ignored files that a project wants kept all the same: looked at, and put back; the caller stores their contents.

An entry is mode and SHA-256 here: the file's own permission bits, not only git's executable one.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

from holdfast.vcs import statcache
from holdfast.vcs.changes import is_ours_or_git
from holdfast.vcs.folder import GONE, Folder, signature
from holdfast.vcs.ignore import IgnoreRules
from holdfast.vcs.reading import Reader
from holdfast.vcs.scan import remove_temporary
from holdfast.vcs.statcache import Known
from holdfast.vcs.trees import SYMLINK, Change, Entry

_CHUNK = 1 << 20


class Blobs(Protocol):
    """Where the caller keeps contents, each under its SHA-256."""

    def put(self, content: BinaryIO) -> bytes:
        """Gives the SHA-256 of a content, which is durable on return."""
        ...

    def has(self, oid: bytes) -> bool:
        """Says whether a content is there."""
        ...

    def verify(self, oid: bytes) -> None:
        """Reads a content to its end; raises `Corruption` that names it if it is missing or damaged."""
        ...

    def copy_blob(self, oid: bytes, target: BinaryIO) -> None:
        """Writes a content to `target`; raises `Corruption` at the end if that was not it."""
        ...


@dataclass(frozen=True, slots=True)
class IgnoredFile:
    """A file or symlink: its path, its mode with the type, the SHA-256 of its content, and the size of that."""

    path: str
    mode: int
    oid: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The ignored files that were found, in the order of their paths.

    `skipped` names files that were too large, and files and folders that could not be read; `busy` files that were
    being written to at every try. `cut` counts the files beyond the limit, none of which is kept.
    """

    files: tuple[IgnoredFile, ...]
    skipped: tuple[str, ...]
    busy: tuple[str, ...]
    cut: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the ignored files are to be: `files`, and nothing else that matches `patterns`, but for `spared` paths."""

    files: Mapping[str, Entry]
    patterns: Sequence[str] = ()
    spared: Collection[str] = ()
    within: Collection[str] = ()
    """Files and folders; where there are any, nothing else is changed."""


class _Contents:
    """Names contents by their SHA-256, for a `Reader`; keeps them only if there is a place for them."""

    def __init__(self, blobs: Blobs | None) -> None:
        self._blobs = blobs

    def oid(self, kind: str, data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    def put(self, kind: str, data: bytes) -> bytes:
        return self._blobs.put(BytesIO(data)) if self._blobs else hashlib.sha256(data).digest()

    def put_large(self, source: BinaryIO, size: int) -> bytes | None:
        if self._blobs is not None:
            return self._blobs.put(source)
        digest = hashlib.sha256()
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
        return digest.digest()


class IgnoredFiles:
    """One look at the ignored files of a worktree. Contents go to `blobs`; without it they are only named.

    What has not changed since `cache` was written is not read again.
    """

    def __init__(
        self,
        folder: Folder,
        rules: IgnoreRules,
        is_tracked: Callable[[bytes], bool],
        blobs: Blobs | None,
        *,
        max_file_bytes: int,
        cache: Path,
    ) -> None:
        self._folder, self._rules, self._is_tracked, self._blobs = folder, rules, is_tracked, blobs
        self._reader = Reader(_Contents(blobs), max_file_bytes, exact=True)
        self._reader.begin()
        self._cache = cache
        self._known = statcache.load(cache)
        self._settled = statcache.settled_before(cache.parent, os.stat(folder.path).st_dev)
        self._seen: Known = {}
        self._sizes: dict[bytes, int] = {}

    def kept(self, patterns: Sequence[str], most: int) -> Kept:
        """Gives the first `most` files, in order of their paths, that are ignored and match one of `patterns`."""
        paths = self.matching(patterns)
        entries = [(path, self.entry(path)) for path in paths[:most]]
        self._remember()
        return Kept(
            tuple(IgnoredFile(os.fsdecode(path), *entry, self._sizes[path]) for path, entry in entries if entry),
            tuple(os.fsdecode(path) for path in sorted(self._reader.skipped)),
            tuple(os.fsdecode(path) for path in sorted(self._reader.busy)),
            cut=max(0, len(paths) - most),
        )

    def changes(self, wanted: Wanted, backup: Mapping[bytes, Entry]) -> list[Change]:
        """Gives what there is to do: path, what is there now, what is to be there.

        Besides what is there now `backup` tells what may have to go: what was ignored then and is not any more.
        """
        matches = matcher(wanted.patterns)
        going = {*self.matching(wanted.patterns), *filter(matches, backup)} - set(filter(self._is_tracked, backup))
        going = {path for path in going if not _is_within(path, wanted.spared)}
        target = {os.fsencode(path): entry for path, entry in wanted.files.items()}
        found: list[Change] = []
        for path in sorted(going | target.keys()):
            if wanted.within and not _is_within(path, wanted.within):
                continue
            now, new = self.entry(path), target.get(path)
            if now != new:
                found.append((path, now, new))
        return found

    def matching(self, patterns: Sequence[str]) -> list[bytes]:
        """Gives the paths of the ignored files and symlinks that one of `patterns` matches, in order."""
        matches = matcher(patterns)
        found = [path for path in self._walk(patterns) if matches(path) and not self._is_tracked(path)]
        return sorted(self._rules.ignored(found))

    def _walk(self, patterns: Sequence[str]) -> Generator[bytes]:
        tops = [_top(pattern) for pattern in patterns]
        folders = [b""]
        while folders:
            at = folders.pop()
            if not any(_leads(at, top) for top in tops):
                continue
            for path, is_folder in self._listed(at):
                if is_folder:
                    folders.append(path)
                else:
                    yield path

    def _listed(self, at: bytes) -> list[tuple[bytes, bool]]:
        try:
            with self._folder.open(at) as descriptor, os.scandir(descriptor) as names:
                return [found for each in names if (found := _found(at, each, descriptor))]
        except PermissionError:
            self._reader.skipped.add(at)
        except OSError as error:
            if error.errno not in GONE:
                raise
        return []

    def entry(self, path: bytes) -> Entry | None:
        """Gives what is at `path` now; None for nothing, a folder, or what cannot be kept (then it is in `skipped`)."""
        above, _, name = path.rpartition(b"/")
        try:
            with self._folder.open(above) as descriptor:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                self._sizes[path] = status.st_size
                return self._entry(descriptor, name, path, status)
        except PermissionError:
            self._reader.skipped.add(path)
        except OSError as error:
            if error.errno not in GONE:
                raise
        return None

    def _entry(self, folder: int, name: bytes, path: bytes, status: os.stat_result) -> Entry | None:
        known = self._known.get(path)
        if known and stat.S_ISREG(status.st_mode) and known[0] == signature(status) and self._has(known[1]):
            self._seen[path] = known
            return self._reader.mode(status), known[1]
        found = self._reader.entry(folder, name, path, status, None)
        if found is None or found[0] == SYMLINK:
            return found
        if path not in self._reader.busy and statcache.is_settled(status, self._settled):
            self._seen[path] = (signature(status), found[1])
        return found

    def _has(self, oid: bytes) -> bool:
        return self._blobs is None or self._blobs.has(oid)

    def _remember(self) -> None:
        if self._seen != self._known:
            statcache.save(self._cache, self._seen)


def _found(above: bytes, item: os.DirEntry[str], descriptor: int) -> tuple[bytes, bool] | None:
    """Gives path and whether it is a folder, for what may be kept; clears away what a killed restore left."""
    name = os.fsencode(item.name)
    if is_ours_or_git(name):
        remove_temporary(name, descriptor)
        return None
    return (above + b"/" + name if above else name), item.is_dir(follow_symlinks=False)


def _is_within(path: bytes, places: Collection[str]) -> bool:
    tops = (os.fsencode(place.strip("/")) for place in places)
    return any(path == top or path.startswith(top + b"/") for top in tops)


def matcher(patterns: Sequence[str]) -> Callable[[bytes], bool]:
    """Gives the test whether a path matches one of `patterns`.

    A pattern without a slash matches a name at any depth, one with a slash the whole path; one that matches a folder
    matches all that is in it. `*` and `?` stay within a name, `**` is any number of folders.
    """
    wanted = [_compiled(pattern) for pattern in patterns]
    return lambda path: any(pattern.fullmatch(path) for pattern in wanted)


def _compiled(pattern: str) -> re.Pattern[bytes]:
    parts = pattern.strip("/").removesuffix("/**").split("/")
    expression = "".join(map(_part, parts)).removesuffix("/")
    return re.compile(os.fsencode(f"{'(?:.*/)?' if _anywhere(pattern) else ''}{expression}(?:/.*)?"), re.DOTALL)


def _anywhere(pattern: str) -> bool:
    return "/" not in pattern.strip("/")


def _part(part: str) -> str:
    if part == "**":
        return "(?:[^/]+/)*"
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(character) or re.escape(character) for character in part) + "/"


def _top(pattern: str) -> bytes:
    """Gives the folder below which all matches of a pattern lie; the root for most."""
    if _anywhere(pattern):
        return b""
    parts = pattern.strip("/").split("/")[:-1]
    plain = next((at for at, part in enumerate(parts) if "*" in part or "?" in part), len(parts))
    return os.fsencode("/".join(parts[:plain]))


def _leads(folder: bytes, top: bytes) -> bool:
    """Says whether a folder is on the way to `top`, or below it."""
    return not top or not folder or (folder + b"/").startswith(top + b"/") or top.startswith(folder + b"/")
