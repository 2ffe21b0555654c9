"""What the files of a commit are, what stands in some of them, and where words occur; the repository is only read."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from holdfast.vcs import git

# Occurrences in one file that are looked at; more of them would not make it a better answer.
_MOST_IN_A_FILE = 20
_OBJECT = re.compile(rb"[0-9a-f]+ (?P<kind>blob|tree|commit|tag) (?P<size>\d+)")


def files_at(root: Path, commit: str) -> dict[str, int]:
    """Gives the paths of a commit's files and their sizes in bytes; links and submodules are left out."""
    listed = git.run(["ls-tree", "-r", "-l", "-z", "--full-tree", commit], cwd=root)
    found: dict[str, int] = {}
    for line in filter(None, listed.split(b"\0")):
        facts, _, path = line.partition(b"\t")
        mode, kind, _, size = facts.split()
        if kind == b"blob" and mode != b"120000":
            found[os.fsdecode(path)] = int(size)
    return found


def contents_at(root: Path, commit: str, paths: Sequence[str]) -> dict[str, bytes]:
    """Gives the whole contents of files of a commit by path, in the order asked for; what is no file is left out."""
    # A path with a line feed cannot be asked for on a line.
    asked = [path for path in paths if "\n" not in path]
    names = b"".join(b"%s:%s\n" % (commit.encode(), os.fsencode(path)) for path in asked)
    answer = git.run(["cat-file", "--batch"], cwd=root, stdin=names)
    found: dict[str, bytes] = {}
    position = 0
    for path in asked:
        end = answer.index(b"\n", position)
        told = _OBJECT.fullmatch(answer[position:end])
        position = end + 1
        if told is None:
            continue
        size = int(told["size"])
        if told["kind"] == b"blob":
            found[path] = answer[position : position + size]
        position += size + 1
    return found


def mentions(root: Path, commit: str, words: Collection[str]) -> Mapping[str, int]:
    """Gives the text files of a commit that have any of the words, in capitals or not, and how many of them each."""
    if not words:
        return {}
    args = ["grep", "-I", "-i", "-F", "-o", "-z", "--full-name", "--no-line-number", "--no-column", "--no-color"]
    args += [f"--max-count={_MOST_IN_A_FILE}", *(part for word in words for part in ("-e", word)), commit]
    said = git.run(args, cwd=root, ok=(0, 1))
    found: defaultdict[str, set[bytes]] = defaultdict(set)
    for line in said.split(b"\n"):
        place, _, word = line.rpartition(b"\0")
        if place:
            found[os.fsdecode(place.partition(b":")[2])].add(word.lower())
    return {path: len(seen) for path, seen in found.items()}
