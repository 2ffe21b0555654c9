"""Each sort of thing that a worktree can have, and what a snapshot makes of it."""

from __future__ import annotations

import mmap
import os
import shutil
import socket
from pathlib import Path

import pytest
from tests.vcs.places import (
    BRANCH,
    TIME,
    Place,
    commit_all,
    make_place,
    make_repository,
    open_place,
    sh,
    walk,
    write,
)
from tests.vcs.test_roundtrip import listed

from holdfast.errors import IllegalState
from holdfast.vcs import Limits


def test_unchanged_worktree_has_the_tree_of_its_commit(place: Place) -> None:
    with place.worktree() as worktree:
        assert worktree.snapshot().tree == place.vault.tree_of(place.base)
        again = worktree.snapshot()
        assert (again.tree, again.changed, again.via) == (place.vault.tree_of(place.base), 0, "watch")
        assert not worktree.dirty(place.base)


def test_watched_snapshot_counts_only_what_changed(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        write(worktree.path / "src/new.py", "x = 1\n")
        (worktree.path / "README.md").unlink()
        snapshot = worktree.snapshot()
        assert (snapshot.changed, snapshot.bytes, snapshot.via) == (2, 6, "watch")
        assert worktree.dirty(place.base)


def test_unwatched_worktree_is_scanned_and_gives_the_same_tree(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / "a/b/c", "deep")
        watched = worktree.snapshot().tree
    with place.worktree(watch=False) as worktree:
        assert (worktree.snapshot().tree, worktree.snapshot().via) == (watched, "scan")


def test_overflow_of_the_watch_leads_to_a_scan(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        one, two = worktree.path / "one", worktree.path / "two"
        write(one, "")
        for _ in range(limit // 2 + 10):
            one.rename(two)
            two.rename(one)
        write(worktree.path / "after", "after the overflow")
        snapshot = worktree.snapshot()
        assert snapshot.via == "scan"
        assert b"after" in listed(place, snapshot.tree)
        write(worktree.path / "later", "")
        assert worktree.snapshot().via == "watch"


def test_every_so_often_a_watched_worktree_is_scanned_all_the_same(place: Place) -> None:
    with place.worktree(limits=Limits(scan_every=2)) as worktree:
        assert [worktree.snapshot().via for _ in range(6)] == ["scan", "watch", "watch", "scan", "watch", "watch"]


def test_ignored_files_are_left_out_until_the_rules_change(tmp_path: Path) -> None:
    place = make_place(tmp_path, {".gitignore": "*.log\nout/\n", "kept": "1"})
    with place.worktree() as worktree:
        write(worktree.path / "a.log", "log")
        write(worktree.path / "out/file", "built")
        assert set(listed(place, worktree.snapshot().tree)) == {b".gitignore", b"kept"}
        write(worktree.path / ".gitignore", "*.log\n!a.log\n")
        assert set(listed(place, worktree.snapshot().tree)) == {b".gitignore", b"kept", b"a.log", b"out/file"}
        write(worktree.path / "out/.gitignore", "file\n")
        shutil.rmtree(worktree.path / "out")
        write(worktree.path / "out/file", "again")
        assert b"out/file" in listed(place, worktree.snapshot().tree)


def test_tracked_file_stays_tracked_though_it_is_ignored(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", {"out/kept": "1"})
    write(repository / ".gitignore", "out/\n")
    commit_all(repository, "ignore")
    place = open_place(tmp_path, repository)
    with place.worktree() as worktree:
        worktree.snapshot()
        write(worktree.path / "out/kept", "2")
        write(worktree.path / "out/new", "3")
        assert listed(place, worktree.snapshot().tree)[b"out/kept"] == ("f", b"2")
        snapshot = worktree.snapshot(full=True)
        assert listed(place, snapshot.tree)[b"out/kept"] == ("f", b"2")
        assert b"out/new" not in listed(place, snapshot.tree)


def test_users_exclude_file_counts_as_ignore_rules(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    write(repository / ".git/info/exclude", "secret\n")
    place = open_place(tmp_path, repository)
    with place.worktree() as worktree:
        write(worktree.path / "secret", "s")
        assert not worktree.dirty(place.base)


def test_odd_names_survive(place: Place) -> None:
    names = [b"\xff\xfe", b"new\nline", b"Case", b"case", b":(top)x", b"-f", b'"q"', b"git~1", b"tab\t", b"*"]
    with place.worktree() as worktree:
        worktree.snapshot()
        for name in names:
            write(Path(os.fsdecode(os.fsencode(worktree.path) + b"/odd/" + name)), name)
        snapshot = worktree.snapshot()
        assert snapshot.via == "watch"
        found = listed(place, snapshot.tree)
        assert {path[4:]: found[path][1] for path in found if path.startswith(b"odd/")} == {n: n for n in names}
        shutil.rmtree(worktree.path / "odd")
        worktree.set_tree(snapshot.tree)
        assert walk(worktree.path) == found


def test_modes_links_and_swaps_of_kinds_are_kept(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        (worktree.path / "README.md").chmod(0o755)
        os.symlink("/etc/passwd", worktree.path / "link")
        shutil.rmtree(worktree.path / "src")
        write(worktree.path / "src", "a file now")
        first = worktree.snapshot()
        (worktree.path / "link").unlink()
        write(worktree.path / "link/inside", "a folder now")
        (worktree.path / "src").unlink()
        os.symlink("link", worktree.path / "src")
        second = worktree.snapshot()
        for snapshot in (first, second, first):
            worktree.set_tree(snapshot.tree)
            assert walk(worktree.path) == listed(place, snapshot.tree)
        assert listed(place, first.tree)[b"link"] == ("l", b"/etc/passwd")
        assert listed(place, first.tree)[b"README.md"][0] == "x"


def test_nothing_is_read_through_a_symlinked_folder(place: Place, tmp_path: Path) -> None:
    write(tmp_path / "outside/app.py", "secret")
    with place.worktree() as worktree:
        worktree.snapshot()
        write(worktree.path / "src/app.py", "changed")
        shutil.rmtree(worktree.path / "src")
        os.symlink(tmp_path / "outside", worktree.path / "src")
        snapshot = worktree.snapshot()
        assert set(listed(place, snapshot.tree)) == {b"README.md", b"src"}
        worktree.set_tree(place.vault.tree_of(place.base))
        assert (tmp_path / "outside/app.py").read_text() == "secret"
        assert not (worktree.path / "src").is_symlink()


def test_nested_repository_is_kept_as_files(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        nested = make_repository(worktree.path / "vendor/lib", {"code.c": "int x;\n"})
        write(nested / "uncommitted", "work")
        snapshot = worktree.snapshot()
        assert {b"vendor/lib/code.c", b"vendor/lib/uncommitted"} <= set(listed(place, snapshot.tree))
        assert worktree.snapshot(full=True).tree == snapshot.tree
        worktree.set_tree(place.vault.tree_of(place.base))
        assert sh("git", "log", "--format=%s", cwd=nested) == "first"  # its .git is in no snapshot, so it stays
        worktree.set_tree(snapshot.tree)
        assert sh("git", "status", "--porcelain", cwd=nested) == "?? uncommitted"


def test_submodule_keeps_its_commit_and_its_files_are_left_alone(tmp_path: Path) -> None:
    library = make_repository(tmp_path / "library", {"lib.c": "1"})
    repository = make_repository(tmp_path / "repository")
    sh("git", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib", cwd=repository)
    commit_all(repository, "submodule")
    place = open_place(tmp_path, repository)
    with place.worktree() as worktree:
        assert not worktree.dirty(place.base)
        assert list((worktree.path / "lib").iterdir()) == []
        write(worktree.path / "lib/file", "in the submodule")
        snapshot = worktree.snapshot(full=True)
        assert snapshot.tree == place.vault.tree_of(place.base)
        assert snapshot.skipped == ("lib",)
        shutil.rmtree(worktree.path / "lib")
        gone = worktree.snapshot()
        assert gone.tree != snapshot.tree
        worktree.set_tree(snapshot.tree)
        assert (worktree.path / "lib").is_dir()


def test_big_file_is_skipped_and_left_alone(place: Place) -> None:
    with place.worktree(limits=Limits(max_file_bytes=1000)) as worktree:
        before = worktree.snapshot()
        write(worktree.path / "big", "x" * 1001)
        write(worktree.path / "small", "x" * 1000)
        snapshot = worktree.snapshot()
        assert snapshot.skipped == ("big",)
        assert b"small" in listed(place, snapshot.tree)
        worktree.set_tree(before.tree)
        assert (worktree.path / "big").stat().st_size == 1001
        assert not (worktree.path / "small").exists()
        (worktree.path / "big").unlink()
        assert worktree.snapshot().skipped == ()


def test_tracked_file_that_outgrew_the_limit_is_moved_aside_not_overwritten(place: Place) -> None:
    with place.worktree(limits=Limits(max_file_bytes=1000)) as worktree:
        old = worktree.snapshot()
        write(worktree.path / "README.md", "second")
        worktree.snapshot()
        write(worktree.path / "README.md", "y" * 5000)
        assert worktree.snapshot().skipped == ("README.md",)
        worktree.set_tree(old.tree)
        assert (worktree.path / "README.md").read_text() == "hello\n"
        aside = place.vault.path / "holdfast/worktrees/w/aside"
        assert [content for _, content in walk(aside).values()] == [b"y" * 5000]


def test_large_blob_is_streamed_and_restored(place: Place) -> None:
    content = os.urandom(1 << 20) * 9
    with place.worktree() as worktree:
        worktree.snapshot()
        write(worktree.path / "large.bin", content)
        snapshot = worktree.snapshot()
        place.vault.write_checkpoint("refs/holdfast/checkpoints/t/1", snapshot.tree, [place.base], "m", TIME)
        (worktree.path / "large.bin").unlink()
        worktree.set_tree(snapshot.tree)
        assert (worktree.path / "large.bin").read_bytes() == content
        assert place.vault.fsck() == []


def test_file_that_is_open_for_writing_is_busy_and_looked_at_again(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        path = worktree.path / "database"
        with open(path, "wb+") as target:
            target.write(b"a" * 4096)
            target.flush()
            with mmap.mmap(target.fileno(), 4096) as memory:
                assert worktree.snapshot().busy == ("database",)
                memory[:4] = b"late"  # inotify says nothing of this
                assert listed(place, worktree.snapshot().tree)[b"database"][1][:4] == b"late"
        assert worktree.snapshot().busy == ()


def test_fifos_and_sockets_are_no_content(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        os.mkfifo(worktree.path / "fifo")
        with socket.socket(socket.AF_UNIX) as server:
            # A socket's path may have 107 bytes only, and temporary folders are long.
            folder = os.open(worktree.path, os.O_PATH | os.O_DIRECTORY)
            server.bind(f"/proc/self/fd/{folder}/socket")
            os.close(folder)
        assert not worktree.dirty(place.base)
        assert worktree.snapshot(full=True).tree == place.vault.tree_of(place.base)


def test_empty_folders_are_not_kept_and_not_left_behind(place: Place) -> None:
    with place.worktree() as worktree:
        (worktree.path / "empty/deeper").mkdir(parents=True)
        assert not worktree.dirty(place.base)
        write(worktree.path / "fresh/one/file", "")
        worktree.snapshot()
        worktree.set_tree(place.vault.tree_of(place.base))
        assert not (worktree.path / "fresh").exists()
        assert (worktree.path / "empty/deeper").is_dir()


def test_files_are_raw_whatever_the_attributes_say(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", {"plain": "1"})
    write(repository / "mixed.txt", b"unix\ndos\r\n$Id$\n")
    commit_all(repository, "raw")
    write(repository / ".gitattributes", "* text=auto eol=crlf ident\n*.txt filter=lfs working-tree-encoding=UTF-16\n")
    sh("git", "add", ".gitattributes", cwd=repository)
    sh("git", "commit", "-qm", "attributes", cwd=repository)
    place = open_place(tmp_path, repository)
    with place.worktree() as worktree:
        assert (worktree.path / "mixed.txt").read_bytes() == b"unix\ndos\r\n$Id$\n"
        write(worktree.path / "more.txt", b"a\r\nb\n")
        assert listed(place, worktree.snapshot().tree)[b"more.txt"][1] == b"a\r\nb\n"


def test_renamed_and_recreated_folders_are_seen_below_their_new_names(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        (worktree.path / "src").rename(worktree.path / "lib")
        worktree.snapshot()
        write(worktree.path / "lib/app.py", "after the move")
        write(worktree.path / "src/app.py", "a new one")
        snapshot = worktree.snapshot()
        assert snapshot.via == "watch"
        assert walk(worktree.path) == listed(place, snapshot.tree)


def test_folder_deleted_under_an_open_worktree_is_not_an_empty_tree(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        shutil.rmtree(worktree.path)
        with pytest.raises(IllegalState, match="is gone") as caught:
            worktree.snapshot()
        assert str(worktree.path) in caught.value.message
        assert BRANCH in place.vault.refs("refs/heads").popitem()[0]


@pytest.mark.parametrize("mounted", ["btrfs"], indirect=True)
def test_a_second_whole_look_finds_what_came_since_on_btrfs(mounted: Path) -> None:
    place = make_place(mounted)
    with place.worktree(watch=False) as worktree:
        worktree.snapshot(full=True)
        write(worktree.path / "made/new", "1")
        assert worktree.snapshot(full=True).changed == 1
