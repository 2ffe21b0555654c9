"""Whatever is done to a worktree: the watched snapshot is the scanned one, and a restore gives back every byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.vcs.places import TIME, Files, Place, make_place, walk

from holdfast.vcs import Worktree

NAMES = [
    *(b"a", b"b", b"B", b"d0", b"d1", b"c\xff\xfe", "ünï".encode(), b"sp ace ", b"new\nline", b"-dash", b":magic"),
    *(b"g[l]ob*", b"back\\slash", b'"quote', b"build", b"z.log", b"q.txt", b"w.crlf", b"i.id", b"git~1", b"!bang"),
]
FILES = {
    ".gitignore": "*.log\nbuild/\n",
    ".gitattributes": "*.txt text=auto\n*.crlf text eol=crlf\n*.id ident\n*.txt filter=evil\n",
    **{f"d{number % 4}/f{number}.txt": f"hello {number}\n" * 3 for number in range(12)},
    "a.crlf": "x\r\ny\r\n",
    "b.id": "$Id$\n",
}

paths = st.lists(st.sampled_from([*NAMES, b"d0", b"d1", b"nd"]), min_size=1, max_size=3).map(b"/".join)
contents = st.lists(st.sampled_from([b"a", b"\r\n", b"$Id$", b"\0", b"\xff", b"line\n"]), max_size=6).map(b"".join)
modes = st.sampled_from([0o644, 0o755, 0o600, 0o711])
operations = st.one_of(
    st.tuples(st.just("write"), paths, contents),
    st.tuples(st.just("replace"), paths, contents),
    st.tuples(st.just("remove"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("mode"), paths, modes),
    st.tuples(st.just("link"), paths, st.sampled_from([b"a", b"nowhere", b"..", b"d0", b"/etc"])),
    st.tuples(st.just("folder"), paths),
    st.tuples(st.just("repository"), paths),
    st.tuples(
        st.just("rules"),
        st.sampled_from([b".gitignore", b"d0/.gitignore", b"nd/a/.gitignore"]),
        st.sampled_from([b"*.log\nbuild/\n", b"", b"b\n!*.log\n", b"*\n"]),
    ),
)
moves = st.one_of(operations, st.tuples(st.just("snapshot")), st.tuples(st.just("restore"), st.integers(0, 20)))


def is_ignored(path: bytes) -> bool:
    """The rules `*.log` and `build/`, written down a second time."""
    *folders, name = path.split(b"/")
    return name.endswith(b".log") or any(folder.endswith(b".log") or folder == b"build" for folder in folders)


def play(root: bytes, operation: tuple[Any, ...]) -> None:
    """Does one thing to a worktree, as far as the file system lets it."""
    kind, first, *rest = operation
    path = root + b"/" + (first if isinstance(first, bytes) else b"")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        match kind:
            case "write" | "rules":
                _write(path, rest[0])
            case "replace":
                _write(path + b".new", rest[0])
                os.rename(path + b".new", path)
            case "remove" if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            case "remove":
                os.unlink(path)
            case "rename":
                os.rename(path, root + b"/" + rest[0])
            case "mode" if not os.path.islink(path) and os.path.isfile(path):
                os.chmod(path, rest[0])
            case "link":
                os.symlink(rest[0], path)
            case "folder":
                os.makedirs(path)
            case "repository":
                os.makedirs(path + b"/.git/refs")
                _write(path + b"/.git/HEAD", b"ref: refs/heads/main\n")
                _write(path + b"/inner", b"inner")
            case _:
                return
    except OSError:
        return


def _write(path: bytes, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW), "wb") as target:
        target.write(content)


class Trip:
    """A worktree, and what the independent walker saw at each of its snapshots."""

    def __init__(self, place: Place, worktree: Worktree) -> None:
        self.place, self.worktree = place, worktree
        self.root = worktree.path
        self.seen: list[tuple[str, Files]] = []
        self.plain_rules = True
        self.snapshot()

    def snapshot(self) -> None:
        fast = self.worktree.snapshot()
        full = self.worktree.snapshot(full=True)
        assert (fast.tree, fast.busy) == (full.tree, ())
        assert full.changed == 0
        kept = listed(self.place, fast.tree)
        if self.plain_rules:
            assert kept == walk(self.root, is_ignored)
        self.seen.append((fast.tree, kept))

    def restore(self, number: int) -> None:
        tree, files = self.seen[number % len(self.seen)]
        before = self.worktree.snapshot()
        loose = {path: what for path, what in walk(self.root).items() if path not in listed(self.place, before.tree)}
        self.worktree.set_tree(tree)
        now = walk(self.root)
        assert {path: now.get(path) for path in files} == files
        for path, what in loose.items():
            assert now.get(path) == what or what[1] in self.aside(), path
        more = set(now) - set(files) - set(loose)
        assert more == ignored_by_git(self.root, more)

    def aside(self) -> set[bytes]:
        moved = walk(self.place.vault.path / "holdfast" / "worktrees" / self.root.name / "aside")
        return {content for _, content in moved.values()}


def ignored_by_git(root: Path, paths: set[bytes]) -> set[bytes]:
    line = ["git", "check-ignore", "-z", "--stdin", "--no-index"]
    stdin = b"\0".join(b"./" + path for path in paths)
    found = subprocess.run(line, cwd=root, input=stdin, capture_output=True).stdout
    return {path.removeprefix(b"./") for path in found.split(b"\0") if path}


def listed(place: Place, tree: str) -> Files:
    """What git itself says that a tree has."""
    place.vault.objects.flush()
    found: Files = {}
    kinds = {"100644": "f", "100755": "x", "120000": "l"}
    for line in place.vault.git(["ls-tree", "-r", "-z", tree]).split(b"\0"):
        if line:
            head, path = line.split(b"\t", 1)
            mode, _, oid = head.decode().split()
            found[path] = (kinds[mode], place.vault.objects.read(bytes.fromhex(oid))[1])
    return found


EXAMPLES = int(os.environ.get("HOLDFAST_TEST_EXAMPLES", "20"))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    print_blob=True,
)
@given(st.lists(moves, min_size=1, max_size=40))
def test_restored_tree_is_byte_for_byte_what_was_there(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = make_place(Path(folder), FILES)
        with place.vault, place.worktree() as worktree:
            trip = Trip(place, worktree)
            for number, step in enumerate(steps):
                if step[0] == "snapshot":
                    trip.snapshot()
                elif step[0] == "restore":
                    trip.restore(step[1])
                else:
                    trip.plain_rules = trip.plain_rules and step[0] != "rules"
                    play(os.fsencode(worktree.path), step)
                place.vault.write_checkpoint(
                    f"refs/holdfast/checkpoints/t/{number}", worktree.snapshot().tree, [place.base], "m", TIME
                )
            trip.snapshot()
            trip.restore(0)
            assert place.vault.fsck() == []
