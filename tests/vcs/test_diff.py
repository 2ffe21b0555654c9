"""The structured diff: what is in it, what is cut, and that every path and line can be shown."""

from __future__ import annotations

import json
import os

import pytest
from tests.vcs.places import Place, write

from holdfast.errors import Corruption
from holdfast.vcs import DiffLimits, diff
from holdfast.vcs.diff import Action


def test_each_sort_of_change_is_told(place: Place) -> None:
    with place.worktree() as worktree:
        root = worktree.path
        write(root / "old_name.txt", "".join(f"line {number}\n" for number in range(20)))
        write(root / "binary", b"\0\1\2")
        os.symlink("x", root / "kind")
        first = worktree.snapshot().tree
        (root / "old_name.txt").rename(root / "new_name.txt")
        write(root / "new_name.txt", (root / "new_name.txt").read_text().replace("line 7\n", "line seven\n"))
        write(root / "binary", b"\0\1\3")
        write(root / "README.md", "bye\n")
        write(root / "added", "1\n2\n")
        (root / "src/app.py").chmod(0o755)
        (root / "kind").unlink()
        write(root / "kind", "a file\n")
        second = worktree.snapshot().tree
        found = diff(place.vault, first, second)
    files = {file.path: file for file in found.files}
    assert {path: (file.action, file.additions, file.deletions) for path, file in files.items()} == {
        "README.md": (Action.MODIFIED, 1, 1),
        "added": (Action.ADDED, 2, 0),
        "binary": (Action.MODIFIED, 0, 0),
        "kind": (Action.MODIFIED, 1, 1),
        "new_name.txt": (Action.RENAMED, 1, 1),
        "src/app.py": (Action.MODIFIED, 0, 0),
    }
    assert files["binary"].binary
    assert files["new_name.txt"].old_path == "old_name.txt"
    assert (files["src/app.py"].old_mode, files["src/app.py"].new_mode) == ("100644", "100755")
    assert (files["added"].old_mode, files["added"].new_mode) == (None, "100644")
    (hunk,) = files["new_name.txt"].hunks
    assert (hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines) == (5, 7, 5, 7)
    assert [line for line in hunk.lines if line[0] != " "] == ["-line 7", "+line seven"]
    assert [line for hunk in files["kind"].hunks for line in hunk.lines][:1] == ["-x"]
    assert (found.files_total, found.additions, found.deletions, found.truncated) == (6, 5, 3, False)


def test_nothing_differs_from_itself(place: Place) -> None:
    found = diff(place.vault, place.base, place.base)
    assert (found.files, found.files_total, found.truncated, found.unified()) == ((), 0, False, "")


def test_limits_cut_with_a_mark_and_totals_still_count_everything(place: Place) -> None:
    with place.worktree() as worktree:
        for number in range(10):
            write(worktree.path / f"f{number}", "x\n" * 10)
        tree = worktree.snapshot().tree
    cut = diff(place.vault, place.base, tree, DiffLimits(max_files=4, max_lines=25))
    assert (len(cut.files), cut.files_total, cut.additions, cut.truncated) == (4, 10, 100, True)
    assert [sum(len(hunk.lines) for hunk in file.hunks) for file in cut.files] == [10, 10, 5, 0]
    assert [file.truncated for file in cut.files] == [False, False, True, True]
    assert "cut here: 10 files, 100 additions" in cut.unified()
    whole = diff(place.vault, place.base, tree, DiffLimits(max_files=10, max_lines=100))
    assert not whole.truncated


def test_names_and_lines_that_are_not_utf8_survive(place: Place) -> None:
    name = b"caf\xe9 \n \xff"
    with place.worktree() as worktree:
        write(worktree.path / os.fsdecode(name), b"caf\xe9\r\nno end")
        write(worktree.path / "endless", b"x" * 100_000)
        found = diff(place.vault, place.base, worktree.snapshot().tree)
    odd, endless = (next(file for file in found.files if os.fsencode(file.path) == path) for path in (name, b"endless"))
    assert odd.hunks[0].lines == ("+caf\\xe9\r", "+no end", "\\ No newline at end of file")
    shown = json.loads(json.dumps(found.to_dict()))
    assert "caf\\xe9 \n \\xff" in [file["path"] for file in shown["files"]]
    found.unified().encode()
    (line, *_) = endless.hunks[0].lines
    assert len(line) < 5000
    assert line.endswith("cut here")


def test_attributes_of_the_tree_run_nothing_and_hide_nothing(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / ".gitattributes", "* -diff diff=evil\n")
        write(worktree.path / "README.md", "shown\n")
        found = diff(place.vault, place.base, worktree.snapshot().tree)
    assert {file.path: file.binary for file in found.files} == {".gitattributes": False, "README.md": False}


def test_a_damaged_object_is_named_with_its_file(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / "README.md", os.urandom(8000).hex())
        tree = worktree.snapshot().tree
    place.vault.objects.flush()
    packs = [path for path in (place.vault.path / "objects/pack").glob("*.pack") if path.stat().st_size > 5000]
    for pack in packs:
        content = bytearray(pack.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 8] = bytes(each ^ 0x55 for each in content[middle : middle + 8])
        pack.chmod(0o600)
        pack.write_bytes(content)
    assert packs
    with pytest.raises(Corruption, match=r"README\.md: object [0-9a-f]{40} of the vault is damaged"):
        diff(place.vault, place.base, tree)
