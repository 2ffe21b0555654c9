"""A worktree is made once, is exclusively ours while open, keeps the work, and goes back to any tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.vcs.places import BRANCH, Place, make_place, sh, walk, write

from holdfast.errors import Corruption, IllegalState
from holdfast.vcs import Limits, Worktree, checkout


def test_agent_finds_an_ordinary_clean_repository_on_its_branch(place: Place) -> None:
    with place.worktree() as worktree:
        assert sh("git", "status", "--porcelain", "--branch", cwd=worktree.path) == f"## {BRANCH}"
        assert sh("git", "log", "--format=%H", cwd=worktree.path) == place.base
        write(worktree.path / "agents", "own")
        sh("git", "add", "-A", cwd=worktree.path)
        sh("git", "-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "the agent's own", cwd=worktree.path)
        assert worktree.dirty(place.base)
        assert place.vault.head(BRANCH) == place.base


def test_existing_worktree_is_not_reset(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / "README.md", "half done")
        write(worktree.path / "untracked", "1")
    with place.worktree() as worktree:
        assert (worktree.path / "README.md").read_text() == "half done"
        assert worktree.snapshot().changed == 2


def test_agent_may_ruin_or_remove_its_git_folder(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        shutil.rmtree(worktree.path / ".git")
        write(worktree.path / ".git", "not a repository any more")
        write(worktree.path / "new", "1")
        assert worktree.snapshot().changed == 1
    with place.worktree() as worktree:
        assert worktree.dirty(place.base)


def test_worktree_deleted_by_hand_is_named_and_comes_back_from_a_checkpoint(place: Place) -> None:
    with place.worktree() as worktree:
        path = worktree.path
        write(path / "work", "saved")
        tree = worktree.snapshot().tree
        place.vault.sync()
    shutil.rmtree(path)
    with pytest.raises(IllegalState, match=str(path)) as caught:
        place.worktree()
    assert caught.value.hint
    assert not path.exists()
    with Worktree.ensure(place.vault, path, BRANCH, place.base, recreate_at=tree) as worktree:
        assert (path / "work").read_text() == "saved"
        assert worktree.snapshot().tree == tree


def test_foreign_folder_at_the_place_is_not_touched(place: Place) -> None:
    path = place.folder / "worktrees" / "w"
    write(path / "precious", "1")
    with pytest.raises(IllegalState, match="in the way"):
        place.worktree()
    assert walk(path) == {b"precious": ("f", b"1")}


def test_empty_folder_at_the_place_is_used(place: Place) -> None:
    (place.folder / "worktrees" / "w").mkdir(parents=True)
    with place.worktree() as worktree:
        assert not worktree.dirty(place.base)


def test_open_worktree_is_refused_to_others_until_its_process_dies(place: Place) -> None:
    code = (
        "import sys, pathlib; from holdfast.vcs import Vault, Worktree\n"
        "vault = Vault.open(pathlib.Path(sys.argv[1]))\n"
        "worktree = Worktree.ensure(vault, pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4])\n"
        "worktree.snapshot()\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    path = place.folder / "worktrees" / "w"
    line = [sys.executable, "-c", code, str(place.vault.path), str(path), BRANCH, place.base]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(IllegalState, match="in use"):
            place.worktree(limits=Limits(lock_seconds=0.05))
        other.kill()
        with place.worktree() as worktree:
            assert not worktree.dirty(place.base)
        assert other.stdin is not None


def test_restore_touches_only_what_differs(place: Place) -> None:
    with place.worktree() as worktree:
        worktree.snapshot()
        old = place.vault.tree_of(place.base)
        untouched = worktree.path / "README.md"
        untouched.chmod(0o640)
        os.utime(untouched, ns=(1, 1))
        write(worktree.path / "src/app.py", "changed")
        worktree.set_tree(old)
        status = untouched.stat()
        assert (status.st_mtime_ns, status.st_mode & 0o777) == (1, 0o640)
        assert worktree.snapshot().tree == old


def test_mode_change_is_restored_without_rewriting(place: Place) -> None:
    with place.worktree() as worktree:
        tree = worktree.snapshot().tree
        path = worktree.path / "README.md"
        path.chmod(0o755)
        inode = path.stat().st_ino
        worktree.set_tree(tree)
        assert (path.stat().st_mode & 0o111, path.stat().st_ino) == (0, inode)


def test_ignored_files_survive_a_restore_across_a_change_of_the_rules(tmp_path: Path) -> None:
    place = make_place(tmp_path, {"a": "1"})
    with place.worktree() as worktree:
        before = worktree.snapshot().tree
        write(worktree.path / ".gitignore", "*.db\n")
        write(worktree.path / "data.db", "precious")
        after = worktree.snapshot().tree
        worktree.set_tree(before)
        assert (worktree.path / "data.db").read_text() == "precious"
        assert not (worktree.path / ".gitignore").exists()
        worktree.set_tree(after)
        assert (worktree.path / "data.db").read_text() == "precious"


def test_what_is_in_the_way_is_moved_aside(tmp_path: Path) -> None:
    place = make_place(tmp_path, {".gitignore": "out\ncache\n", "src/a": "1"})
    with place.worktree() as worktree:
        worktree.snapshot()
        write(worktree.path / ".gitignore", "")
        write(worktree.path / "out", "a file that is tracked")
        write(worktree.path / "cache/b", "tracked too")
        target = worktree.snapshot().tree
        worktree.set_tree(place.vault.tree_of(place.base))
        assert (worktree.path / "out").read_text() == "a file that is tracked"  # ignored by the rules that came back
        (worktree.path / "out").unlink()
        shutil.rmtree(worktree.path / "cache")
        write(worktree.path / "out/precious", "ignored now")
        write(worktree.path / "cache", "a file where a folder must go")
        worktree.set_tree(target)
        assert walk(worktree.path)[b"out"] == ("f", b"a file that is tracked")
        assert walk(worktree.path)[b"cache/b"] == ("f", b"tracked too")
        aside = {content for _, content in walk(place.vault.path / "holdfast/worktrees/w/aside").values()}
        assert aside == {b"ignored now", b"a file where a folder must go"}
        write(worktree.path / "cache/b", "changed in a folder that was not watched")
        assert worktree.snapshot().changed == 1


def test_folder_that_a_tool_made_read_only_is_restored_all_the_same(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / "cache/module/code", "1")
        tree = worktree.snapshot().tree
        write(worktree.path / "cache/module/more", "2")
        (worktree.path / "cache/module").chmod(0o555)
        worktree.set_tree(tree)
        assert worktree.snapshot(full=True).tree == tree
        assert (worktree.path / "cache/module").stat().st_mode & 0o300 == 0o300


def test_leftovers_of_a_killed_restore_are_cleaned_and_never_captured(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / "src/.holdfast-tmp-0", "half")
        assert not worktree.dirty(place.base)
        assert not (worktree.path / "src/.holdfast-tmp-0").exists()


def test_restore_to_a_tree_that_is_not_there_changes_nothing(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / "work", "1")
        before = walk(worktree.path)
        with pytest.raises(Corruption):
            worktree.set_tree("1" * 40)
        assert walk(worktree.path) == before


def test_file_cache_spares_reading_after_a_restart_and_is_no_proof(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / "a", "old")
        tree = worktree.snapshot().tree
        place.vault.sync()
    cache = place.vault.path / "holdfast/worktrees/w/files"
    for damage in (b"", b"nonsense", cache.read_bytes()[:-1]):
        cache.write_bytes(damage)
        with place.worktree() as worktree:
            assert worktree.snapshot().tree == tree
    with place.worktree() as worktree:
        status = (worktree.path / "a").stat()
        write(worktree.path / "a", "new")
        os.utime(worktree.path / "a", ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same modification time
        assert worktree.snapshot().tree != tree


def test_worktree_that_was_not_on_the_disk_when_the_machine_went_down_is_made_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "settle", lambda *_: None)
    with place.worktree() as worktree:
        write(worktree.path / "README.md", "")  # as a power cut leaves it
    with place.worktree() as worktree:
        assert worktree.dirty(place.base)  # in the same boot it is whole, and this is work
    monkeypatch.undo()
    monkeypatch.setattr(checkout, "boot_id", lambda: "after a restart")
    with place.worktree() as worktree:
        assert not worktree.dirty(place.base)
        write(worktree.path / "README.md", "work")
    monkeypatch.setattr(checkout, "boot_id", lambda: "after another one")
    with place.worktree() as worktree:
        assert (worktree.path / "README.md").read_text() == "work"


def test_worktree_of_an_earlier_version_is_known(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / "README.md", "work")
    note = place.vault.path / "holdfast/worktrees/w/worktree.json"
    said = json.loads(note.read_text())
    note.write_text(json.dumps({name: said[name] for name in ("branch", "commit", "inode")} | {"ready": True}))
    with place.worktree() as worktree:
        assert worktree.dirty(place.base)
