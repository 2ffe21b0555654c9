"""What differs between two commits or trees of the vault: structured, bounded, with a mark where something was cut."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import IO

from holdfast.errors import Corruption
from holdfast.vcs import git
from holdfast.vcs.vault import Vault

_OPTIONS = ("-r", "-M", "-l1000", "--no-ext-diff", "--no-textconv", "--no-color", "--end-of-options")
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@ ?(.*)", re.DOTALL)
_LINE_BYTES = 4096
# How git names an object that it cannot read, wherever else it looked.
_DAMAGED = re.compile("(?:unable to read|loose object|packed object) ([0-9a-f]{40,64})")


class Action(StrEnum):
    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    RENAMED = "renamed"


_ACTIONS = {"A": Action.ADDED, "D": Action.DELETED, "R": Action.RENAMED, "C": Action.ADDED}


@dataclass(frozen=True, slots=True)
class DiffLimits:
    """How much one diff shows; totals always count everything."""

    max_files: int = 2000
    max_lines: int = 20000


@dataclass(frozen=True, slots=True)
class Hunk:
    """Consecutive changed lines with three around them; each line starts with ` `, `+`, `-` or `\\`."""

    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One file. Paths keep bytes that are not UTF-8 as surrogates; modes are octal text, None where there is no file.

    `truncated` means that not all of its hunks are shown. Binary files have no hunks and no counts.
    """

    path: str
    old_path: str | None
    action: Action
    additions: int
    deletions: int
    binary: bool
    old_mode: str | None
    new_mode: str | None
    hunks: tuple[Hunk, ...] = ()
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Diff:
    """All that differs. `files_total`, `additions` and `deletions` also count what is not shown because of a limit."""

    files: tuple[FileDiff, ...]
    files_total: int
    additions: int
    deletions: int
    truncated: bool

    def to_dict(self) -> dict[str, object]:
        """Gives the diff as values that JSON can have; bytes that are not UTF-8 are written as `\\xff`."""
        shown: dict[str, object] = asdict(self)
        shown["files"] = [_readable(asdict(file)) for file in self.files]
        return shown

    def unified(self) -> str:
        """Gives the diff as text in git's format, to be read by people."""
        return "".join(line + "\n" for file in self.files for line in _unified(file)) + self._cut()

    def _cut(self) -> str:
        if not self.truncated:
            return ""
        return (
            f"... cut here: {self.files_total} files, {self.additions} additions, {self.deletions} deletions in all\n"
        )


def diff(vault: Vault, a: str, b: str, limits: DiffLimits | None = None) -> Diff:
    """Gives what changes from `a` to `b`, each a commit or tree of the vault.

    Raises `Corruption` that names the file whose content cannot be read.
    """
    limits = limits or DiffLimits()
    try:
        files = _files(vault, a, b)
        shown = tuple(_with_hunks(vault, a, b, files[: limits.max_files], limits.max_lines))
    except git.GitError as error:
        if damaged := _DAMAGED.search(error.message):
            raise _corruption(vault, (a, b), damaged[1]) from error
        raise
    return Diff(
        files=shown,
        files_total=len(files),
        additions=sum(file.additions for file in files),
        deletions=sum(file.deletions for file in files),
        truncated=len(files) > len(shown) or any(file.truncated for file in shown),
    )


def _corruption(vault: Vault, among: tuple[str, str], oid: str) -> Corruption:
    entries = [each for tree in among for each in vault.git(["ls-tree", "-r", "-z", tree]).split(b"\0")]
    paths = [path for head, _, path in (each.partition(b"\t") for each in entries) if head.endswith(oid.encode())]
    whose = f"{_shown(os.fsdecode(paths[0]))}: " if paths else ""
    return Corruption(f"{whose}object {oid} of the vault is damaged", hint="see what else is: holdfast db check")


def _files(vault: Vault, a: str, b: str) -> list[FileDiff]:
    parts = iter(vault.git(["diff-tree", "-z", "--raw", "--numstat", *_OPTIONS, a, b]).split(b"\0"))
    found: dict[bytes, FileDiff] = {}
    for part in parts:
        if part.startswith(b":"):
            old_mode, new_mode, _, _, status = part[1:].decode().split(" ")
            old = next(parts)
            path = next(parts) if status[0] in "RC" else old
            found[path] = FileDiff(
                path=os.fsdecode(path),
                old_path=os.fsdecode(old) if status[0] in "RC" else None,
                action=_ACTIONS.get(status[0], Action.MODIFIED),
                additions=0,
                deletions=0,
                binary=False,
                old_mode=None if status[0] == "A" else old_mode,
                new_mode=None if status[0] == "D" else new_mode,
            )
        elif part:
            added, deleted, path = part.split(b"\t", 2)
            if not path:
                next(parts)
                path = next(parts)
            binary = added == b"-"
            counts = (0, 0) if binary else (int(added), int(deleted))
            found[path] = replace(found[path], additions=counts[0], deletions=counts[1], binary=binary)
    return list(found.values())


@dataclass(slots=True)
class _Patch:
    """The hunks of one file while they are being read."""

    headers: list[tuple[int, int, int, int, str]] = field(default_factory=list[tuple[int, int, int, int, str]])
    lines: list[list[str]] = field(default_factory=list[list[str]])
    whole: bool = True

    def hunks(self) -> tuple[Hunk, ...]:
        return tuple(Hunk(*header, tuple(lines)) for header, lines in zip(self.headers, self.lines, strict=True))


def _with_hunks(vault: Vault, a: str, b: str, files: list[FileDiff], max_lines: int) -> Iterator[FileDiff]:
    """Pairs files with the patches that git prints in the same order; a file that changes its type has two."""
    patches = iter(_patches(vault, a, b, len(files), max_lines) if files else ())
    for file in files:
        parts = [next(patches, None) for _ in range(2 if _changes_type(file) else 1)]
        read = [part for part in parts if part]
        whole = len(read) == len(parts) and all(part.whole for part in read)
        hunks = tuple(hunk for part in read for hunk in part.hunks())
        yield replace(file, hunks=hunks, truncated=not whole and bool(file.additions or file.deletions))


def _changes_type(file: FileDiff) -> bool:
    return bool(file.old_mode and file.new_mode and file.old_mode[:2] != file.new_mode[:2])


def _patches(vault: Vault, a: str, b: str, max_files: int, max_lines: int) -> list[_Patch]:
    """Reads git's patch until enough lines or files were seen, then stops it."""
    line = git.command(["diff-tree", "-p", "-U3", *_OPTIONS, a, b], git_dir=vault.path)
    patches: list[_Patch] = []
    rest = max_lines
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=said, env=git.environment(), process_group=0) as process,
    ):
        assert process.stdout is not None
        for text in _lines(process.stdout):
            if text.startswith(b"diff --git "):
                if len(patches) > 2 * max_files:
                    break
                patches.append(_Patch())
            elif header := _HUNK.fullmatch(text):
                start = [int(number) if number else 1 for number in header.groups()[:4]]
                patches[-1].headers.append((start[0], start[1], start[2], start[3], _text(header[5])))
                patches[-1].lines.append([])
            elif patches and patches[-1].lines and text[:1] in (b" ", b"+", b"-", b"\\"):
                if rest == 0:
                    patches[-1].whole = False
                    break
                rest -= 1
                patches[-1].lines[-1].append(_text(text))
        else:
            if code := process.wait():
                said.seek(0)
                raise git.failure(["diff-tree", a, b], code, said.read())
        process.kill()
    return patches


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Gives the lines of a stream without their ends; of a very long one its start, with a mark."""
    while line := stream.readline(_LINE_BYTES):
        if line.endswith(b"\n"):
            yield line[:-1]
            continue
        cut = False
        while (rest := stream.readline(_LINE_BYTES)) and not rest.endswith(b"\n"):
            cut = True
        yield line + (b" ... cut here" if cut or rest else b"")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _readable(file: dict[str, object]) -> dict[str, object]:
    """Replaces the surrogates in a file's paths, which no JSON text may have."""
    return {name: _shown(value) if name in ("path", "old_path") and value else value for name, value in file.items()}  # type: ignore[arg-type]


def _unified(file: FileDiff) -> Iterator[str]:
    old, new = _shown(file.old_path or file.path), _shown(file.path)
    yield f"diff --git a/{old} b/{new}"
    if file.old_mode is None:
        yield f"new file mode {file.new_mode}"
    elif file.new_mode is None:
        yield f"deleted file mode {file.old_mode}"
    elif file.old_mode != file.new_mode:
        yield f"old mode {file.old_mode}"
        yield f"new mode {file.new_mode}"
    if file.old_path:
        yield f"rename from {old}"
        yield f"rename to {new}"
    if file.binary:
        yield "binary files differ"
    if file.hunks:
        yield f"--- {'/dev/null' if file.action is Action.ADDED else 'a/' + old}"
        yield f"+++ {'/dev/null' if file.action is Action.DELETED else 'b/' + new}"
    for hunk in file.hunks:
        yield f"@@ -{hunk.old_start},{hunk.old_lines} +{hunk.new_start},{hunk.new_lines} @@ {hunk.heading}".rstrip()
        yield from hunk.lines
    if file.truncated:
        yield f"... cut here: {file.additions} additions, {file.deletions} deletions in this file"
