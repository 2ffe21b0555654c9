"""Ignored files that a project wants kept all the same: the caller stores their content."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator, Sequence

from holdfast.vcs.changes import is_ours_or_git
from holdfast.vcs.folder import Folder
from holdfast.vcs.ignore import IgnoreRules


def matching(
    folder: Folder, rules: IgnoreRules, patterns: Sequence[str], max_file_bytes: int
) -> Generator[tuple[str, int, bytes]]:
    """Gives path, mode and place of each ignored regular file up to the size that one of `patterns` matches.

    A pattern without a slash matches a name at any depth, one with a slash the whole path. `*` and `?` stay within a
    name, `**` is any number of folders.
    """
    wanted = [_compiled(pattern) for pattern in patterns]
    root = os.fsencode(folder.path)
    found: list[tuple[bytes, os.stat_result]] = []
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_ours_or_git(name))
        below = os.path.relpath(place, root)
        for name in sorted(names):
            path = name if below == b"." else below + b"/" + name
            if not any(pattern.fullmatch(path) for pattern in wanted):
                continue
            status = os.lstat(os.path.join(place, name))
            if stat.S_ISREG(status.st_mode) and status.st_size <= max_file_bytes:
                found.append((path, status))
    ignored = rules.ignored([path for path, _ in found])
    for path, status in found:
        if path in ignored:
            yield os.fsdecode(path), stat.S_IMODE(status.st_mode), root + b"/" + path


def _compiled(pattern: str) -> re.Pattern[bytes]:
    anywhere = "/" not in pattern.strip("/")
    parts = [_part(part) for part in pattern.strip("/").split("/")]
    expression = "".join(parts).removesuffix("/")
    return re.compile(os.fsencode(("(?:.*/)?" if anywhere else "") + expression), re.DOTALL)


def _part(part: str) -> str:
    if part == "**":
        return "(?:[^/]+/)*"
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(character) or re.escape(character) for character in part) + "/"
