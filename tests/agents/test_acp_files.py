"""An agent's way to files: inside of the worktree by whatever path, outside by none."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from holdfast.agents.acp.files import Files, Refused

LIMIT = 1000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("one\ntwo\nthree\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "tree-too").mkdir()
    (tmp_path / "tree-too" / "secret").write_text("secret")
    return tree


@pytest.fixture
def files(tree: Path) -> Files:
    return Files(str(tree), "/as/the/agent/sees", LIMIT)


def test_every_path_to_a_file_inside_leads_to_it(tree: Path, files: Files) -> None:
    (tree / "link").symlink_to("a/b/file")
    (tree / "folder").symlink_to(tree / "a")
    (tree / "a" / "up").symlink_to("../a/./b")
    paths = ("a/b/file", f"{tree}/a/b/file", "/as/the/agent/sees/a/b/file", "a//b/./../b/file", "link", "folder/b/file")
    for path in (*paths, "a/up/file", "folder/up/../b/file", f"{tree}/folder/../a/b/file"):
        assert files.read(path) == "one\ntwo\nthree\n", path


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret",
        "a/../../outside/secret",
        "{outside}/secret",
        "{tree}/../outside/secret",
        "{tree}-too/secret",
        "/etc/passwd",
        "out/secret",
        "absolute/secret",
        "a/file_link",
        "chain/secret",
        "a/dots/outside/secret",
        "/proc/self/root/etc/passwd",
        "",
        "a/b/file\0",
        "loop",
        "a/b",
        ".",
        "a/b/file/x",
        "pipe",
        "x" * 300,
    ],
)
def test_no_path_leads_out(tree: Path, files: Files, path: str) -> None:
    outside = tree.parent / "outside"
    (tree / "out").symlink_to("../outside")
    (tree / "absolute").symlink_to(outside)
    (tree / "a" / "file_link").symlink_to(outside / "secret")
    (tree / "chain").symlink_to("absolute")
    (tree / "a" / "dots").symlink_to("../..")
    (tree / "loop").symlink_to("loop")
    os.mkfifo(tree / "pipe")
    path = path.format(tree=tree, outside=outside)
    with pytest.raises(Refused):
        files.read(path)
    with pytest.raises(Refused):
        files.write(path, "changed")
    assert (outside / "secret").read_text() == "secret"
    assert sorted(os.listdir(outside)) == ["secret"]
    assert sorted(os.listdir(tree.parent)) == ["outside", "tree", "tree-too"]


def test_a_new_file_cannot_be_made_through_a_link_that_leads_out(tree: Path, files: Files) -> None:
    outside = tree.parent / "outside"
    (tree / "dangling").symlink_to(outside / "new")
    (tree / "out").symlink_to(outside)
    for path in ("dangling", "out/new", "out/folder/new"):
        with pytest.raises(Refused):
            files.write(path, "x")
    assert os.listdir(outside) == ["secret"]


def test_a_link_that_is_turned_outside_again_and_again_never_leads_out(tree: Path, files: Files) -> None:
    inside, outside = tree / "a" / "b", tree.parent / "outside"
    (inside / "secret").write_text("harmless")
    over = threading.Event()

    def turn() -> None:
        while not over.is_set():
            for target in (outside, inside):
                os.symlink(target, tree / "draft")
                os.replace(tree / "draft", tree / "way")
                time.sleep(0.0002)

    os.symlink(inside, tree / "way")
    turning = threading.Thread(target=turn, daemon=True)
    turning.start()
    passed = refused = 0
    while passed < 50 or refused < 50:
        assert turning.is_alive()
        try:
            assert files.read("way/secret") in ("harmless", "changed")
            files.write("way/secret", "changed")
            passed += 1
        except Refused:
            refused += 1
    over.set()
    turning.join()
    assert (outside / "secret").read_text() == "secret"


def test_a_window_of_lines_is_read(files: Files) -> None:
    assert files.read("a/b/file", 2) == "two\nthree\n"
    assert files.read("a/b/file", 2, 1) == "two\n"
    assert files.read("a/b/file", None, 2) == "one\ntwo\n"
    assert files.read("a/b/file", 9, 1) == ""


def test_files_that_are_too_large_binary_or_missing_are_refused(tree: Path, files: Files) -> None:
    (tree / "large").write_text("x" * (LIMIT + 1))
    (tree / "binary").write_bytes(b"\xff\0")
    for path, words in {"large": "larger than", "binary": "not UTF-8", "none": "does not exist"}.items():
        with pytest.raises(Refused, match=words):
            files.read(path)
    with pytest.raises(Refused, match="more than"):
        files.write("new", "x" * (LIMIT + 1))
    assert not (tree / "new").exists()


def test_writing_makes_folders_keeps_modes_and_leaves_no_rest(tree: Path, files: Files) -> None:
    files.write("x/y/z", "new")
    assert (tree / "x/y/z").read_text() == "new"
    script = tree / "script"
    script.write_text("a long text")
    script.chmod(0o755)
    files.write("script", "short")
    assert script.read_text() == "short"
    assert script.stat().st_mode & 0o777 == 0o755


def test_writing_a_file_of_several_names_changes_only_this_one(tree: Path, files: Files) -> None:
    store = tree.parent / "outside" / "secret"
    store.chmod(0o640)
    os.link(store, tree / "package")
    files.write("package", "changed")
    assert store.read_text() == "secret"
    assert (tree / "package").read_text() == "changed"
    assert (tree / "package").stat().st_mode & 0o777 == 0o640


def test_no_descriptor_is_left_open(tree: Path, files: Files) -> None:
    (tree / "link").symlink_to("a/b")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        files.read("link/file")
        files.write("x/y", "z")
        files.folder("a/b")
        with pytest.raises(Refused):
            files.read("../x")
        with pytest.raises(Refused):
            files.read("a/b")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_is_found_inside_only(tree: Path, files: Files) -> None:
    (tree / "link").symlink_to("a/b")
    assert files.folder(None) == files.folder(str(tree)) == "."
    assert files.folder("link") == "a/b"
    assert files.folder("/as/the/agent/sees/a") == "a"
    for path in ("..", "/tmp", "a/b/file"):
        with pytest.raises(Refused):
            files.folder(path)
