"""What an agent does with git in its worktree: seen, taken over, put back, whatever it makes of its `.git`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.vcs.places import BRANCH, TIME, Place, sh, walk, write

from holdfast.domain.own_git import ChangeKind, begun, changes, fresh
from holdfast.vcs import Worktree, new_commits, own_git

WHO = ("-c", "user.name=Agent", "-c", "user.email=agent@example.org")


def commit(worktree: Worktree, message: str) -> str:
    sh("git", *WHO, "add", "-A", cwd=worktree.path)
    sh("git", *WHO, "commit", "-q", "--allow-empty", "-m", message, cwd=worktree.path)
    return sh("git", "rev-parse", "HEAD", cwd=worktree.path)


def test_a_worktree_begins_with_its_branch_checked_out_and_clean(place: Place) -> None:
    with place.worktree() as worktree:
        assert worktree.own_git() == fresh(BRANCH, place.base)
        assert sh("git", "status", "--porcelain", "--branch", cwd=worktree.path) == f"## {BRANCH}"


def test_commits_branches_and_merges_are_seen_and_outlive_the_worktree(place: Place) -> None:
    with place.worktree() as worktree:
        before = worktree.own_git()
        sh("git", "checkout", "-q", "-b", "feature/x", cwd=worktree.path)
        write(worktree.path / "x", "1")
        first = commit(worktree, "Add x")
        sh("git", "checkout", "-q", BRANCH, cwd=worktree.path)
        write(worktree.path / "y", "2")
        second = commit(worktree, "Add y")
        sh("git", *WHO, "merge", "-q", "-m", "Join", "feature/x", cwd=worktree.path)
        sh("git", *WHO, "tag", "-a", "-m", "first", "v1", cwd=worktree.path)
        after = worktree.own_git()
        merge = sh("git", "rev-parse", "HEAD", cwd=worktree.path)
        place.vault.keep_own("refs/holdfast/checkpoints/t/1", after.tips)
    shutil.rmtree(worktree.path)
    assert place.vault.fsck() == []
    found = {
        each.name: each for each in changes(before, after, lambda tip, others: new_commits(place.vault, tip, others))
    }
    assert found["feature/x"].kind is ChangeKind.MADE
    assert [each.id for each in found["feature/x"].commits] == [first]
    assert found[BRANCH].kind is ChangeKind.MOVED
    joined = found[BRANCH].commits[0]
    assert (joined.id, joined.parents, joined.subject) == (merge, (second, first), "Join")
    assert found["tags/v1"].kind is ChangeKind.MADE


def test_a_next_task_finds_its_branch_checked_out_and_the_other_branches(place: Place) -> None:
    with place.worktree() as worktree:
        sh("git", "config", "user.name", "Agent", cwd=worktree.path)
        sh("git", "checkout", "-q", "-b", "feature/x", cwd=worktree.path)
        write(worktree.path / "x", "1")
        mine = commit(worktree, "Add x")
        tree = worktree.snapshot().tree
        head = place.vault.write_commit(tree, [place.base], "step 1\n", time=TIME)
        worktree.set_own_git(begun(worktree.own_git(), BRANCH, head))
        assert sh("git", "status", "--porcelain", "--branch", cwd=worktree.path) == f"## {BRANCH}"
        assert sh("git", "rev-parse", "HEAD", "feature/x", cwd=worktree.path).split() == [head, mine]
        assert sh("git", "config", "user.name", cwd=worktree.path) == "Agent"
        assert sh("git", "fsck", "--no-dangling", cwd=worktree.path) == ""


def test_unchanged_files_are_not_read_again_by_the_agents_git(place: Place) -> None:
    with place.worktree() as worktree:
        known = sh("git", "ls-files", "--debug", "README.md", cwd=worktree.path)
        write(worktree.path / "x", "1")
        head = place.vault.write_commit(worktree.snapshot().tree, [place.base], "step 1\n", time=TIME)
        worktree.set_own_git(begun(worktree.own_git(), BRANCH, head))
        assert sh("git", "ls-files", "--debug", "README.md", cwd=worktree.path) == known


def test_a_merge_that_was_left_open_is_told_and_gone_for_the_next(place: Place) -> None:
    with place.worktree() as worktree:
        sh("git", "checkout", "-q", "-b", "other", cwd=worktree.path)
        write(worktree.path / "README.md", "theirs\n")
        commit(worktree, "theirs")
        sh("git", "checkout", "-q", BRANCH, cwd=worktree.path)
        write(worktree.path / "README.md", "ours\n")
        commit(worktree, "ours")
        with pytest.raises(AssertionError):
            sh("git", *WHO, "merge", "other", cwd=worktree.path)
        found = worktree.own_git()
        assert found.under_way == "merge"
        worktree.set_own_git(begun(found, BRANCH, place.base))
        assert worktree.own_git().under_way == ""
        assert "MERGING" not in sh("git", "status", cwd=worktree.path)


def lost(git: Path, outside: Path) -> None:
    shutil.rmtree(git)


def linked(git: Path, outside: Path) -> None:
    git.rename(outside / "git")
    git.symlink_to(outside / "git")


def a_file(git: Path, outside: Path) -> None:
    shutil.rmtree(git)
    git.write_text(f"gitdir: {outside / 'theirs'}\n")


def no_head(git: Path, outside: Path) -> None:
    (git / "HEAD").write_text("ref: ../../../etc/passwd\n")


def head_is_a_link(git: Path, outside: Path) -> None:
    (git / "HEAD").unlink()
    (git / "HEAD").symlink_to(outside / "secret")


def head_is_a_pipe(git: Path, outside: Path) -> None:
    (git / "HEAD").unlink()
    os.mkfifo(git / "HEAD")


def endless(git: Path, outside: Path) -> None:
    (git / "packed-refs").unlink()
    with open(git / "packed-refs", "wb") as file:
        file.truncate(1 << 40)


def too_many(git: Path, outside: Path) -> None:
    head = (git / "packed-refs").read_text().split()[0]
    (git / "packed-refs").write_text("".join(f"{head} refs/heads/b{n}\n" for n in range(2000)))


@pytest.mark.parametrize("ruin", [lost, linked, a_file, no_head, head_is_a_link, head_is_a_pipe, endless, too_many])
def test_a_ruined_git_is_told_and_the_next_task_gets_a_new_one(
    place: Place, tmp_path: Path, ruin: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside"
    write(outside / "secret", "ref: refs/heads/secret\n")
    with place.worktree() as worktree:
        ruin(worktree.path / ".git", outside)
        kept_outside = walk(outside)
        snapshot = worktree.snapshot()
        assert snapshot.own is not None
        assert snapshot.own.problem
        assert snapshot.tree == place.vault.tree_of(place.base)
        worktree.set_own_git(begun(snapshot.own, BRANCH, place.base))
        assert worktree.own_git() == fresh(BRANCH, place.base)
        assert sh("git", "status", "--porcelain", "--branch", cwd=worktree.path) == f"## {BRANCH}"
        assert walk(outside) == kept_outside


def test_objects_that_are_damaged_or_too_many_stay_where_they_are_and_that_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.worktree() as worktree:
        sh("git", "checkout", "-q", "-b", "own", cwd=worktree.path)
        write(worktree.path / "x", os.urandom(4000))
        mine = commit(worktree, "Add x")
        with monkeypatch.context() as patched:
            patched.setattr(own_git, "MAX_BYTES", 1000)
            assert "could not be taken over" in worktree.own_git().problem
        blob = sh("git", "rev-parse", "own:x", cwd=worktree.path)
        file = worktree.path / ".git/objects" / blob[:2] / blob[2:]
        good = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(good[:-20])
        found = worktree.own_git()
        assert "could not be taken over" in found.problem
        place.vault.keep_own("refs/holdfast/checkpoints/t/1", found.tips)
        assert set(place.vault.refs("refs/holdfast/own").values()) == {place.base}, "what is not here is left out"
        worktree.set_own_git(begun(found, BRANCH, place.base))
        (worktree.path / ".git/objects" / blob[:2] / blob[2:]).write_bytes(good)
        assert worktree.own_git().refs["refs/heads/own"] == mine
        assert worktree.own_git().problem == ""
    assert place.vault.fsck() == []


def test_objects_of_elsewhere_are_not_taken_by_a_link_or_a_loan(place: Place, tmp_path: Path) -> None:
    """Who is confined could else read another repository through ours."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    sh("git", "init", "-q", cwd=elsewhere)
    write(elsewhere / "secret", "secret")
    sh("git", *WHO, "add", "-A", cwd=elsewhere)
    sh("git", *WHO, "commit", "-q", "-m", "secret", cwd=elsewhere)
    secret = sh("git", "rev-parse", "HEAD", cwd=elsewhere)
    with place.worktree() as worktree:
        git = worktree.path / ".git"
        with open(git / "objects/info/alternates", "a") as file:
            file.write(f"{elsewhere}/.git/objects\n")
        for folder in (elsewhere / ".git/objects").iterdir():
            if len(folder.name) == 2:
                (git / "objects" / folder.name).symlink_to(folder)
        write(git / "refs/heads/mine", f"{secret}\n")
        assert worktree.own_git().problem
        assert not place.vault.has_commit(secret)


@pytest.mark.parametrize("touched", [False, True])
def test_the_index_is_that_of_the_commit_whatever_differs(place: Place, touched: bool) -> None:
    """Ours is put together from the one before, or the kept one if git wrote it; `read-tree` is what it must equal."""
    trees = [{"README.md": "hello\n"}, {"a": "1", "a.b": "2", "a/b": "3"}, {"a/b": "4", "a-b": "5", "z" * 200: "6"}]
    trees += [{"a": "file", "b/" + "deep/" * 60 + "x": "7"}, {}, {f"{n}/{n}": str(n) for n in range(40)}]
    with place.worktree() as worktree:
        for files in trees:
            for each in worktree.path.iterdir():
                if each.name != ".git":
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
            for name, content in files.items():
                if not (name == "a" and "a/b" in files):
                    write(worktree.path / name, content)
            head = place.vault.write_commit(worktree.snapshot().tree, [place.base], "step\n", time=TIME)
            worktree.set_own_git(begun(worktree.own_git(), BRANCH, head))
            ours = sh("git", "ls-files", "--stage", cwd=worktree.path)
            assert sh("git", "--no-optional-locks", "status", "--porcelain", cwd=worktree.path) == ""
            anew = "GIT_INDEX_FILE=.git/index" if touched else f"GIT_INDEX_FILE={place.folder / 'anew'}"
            sh("env", anew, "git", "read-tree", "HEAD", cwd=worktree.path)
            assert sh("env", anew, "git", "ls-files", "--stage", cwd=worktree.path) == ours
            assert sh("git", "write-tree", cwd=worktree.path) == place.vault.tree_of(head)


def test_an_index_that_nobody_touched_comes_back_as_the_file_that_it_was(place: Place) -> None:
    with place.worktree() as worktree:
        index = worktree.path / ".git/index"
        first = index.stat().st_ino
        write(worktree.path / "x", "1")
        head = place.vault.write_commit(worktree.snapshot().tree, [place.base], "step 1\n", time=TIME)
        worktree.set_own_git(begun(worktree.own_git(), BRANCH, head))
        second = index.stat().st_ino
        for commit, inode in ((place.base, first), (head, second), (head, second), (place.base, first)):
            worktree.set_own_git(fresh(BRANCH, commit))
            assert index.stat().st_ino == inode
            assert sh("git", "--no-optional-locks", "diff", "--cached", "--name-only", cwd=worktree.path) == ""


def test_what_was_staged_is_not_in_the_way_of_the_next(place: Place) -> None:
    with place.worktree() as worktree:
        write(worktree.path / "x", "1")
        sh("git", "add", "x", cwd=worktree.path)
        (worktree.path / "x").unlink()
        worktree.set_own_git(fresh(BRANCH, place.base))
        assert sh("git", "status", "--porcelain", cwd=worktree.path) == ""


def test_a_damaged_index_of_ours_is_made_anew(place: Place) -> None:
    with place.worktree() as worktree:
        index = place.vault.path / "holdfast/worktrees" / worktree.path.name / "index"
        index.write_bytes(index.read_bytes()[:-30])
        write(worktree.path / "x", "1")
        sh("git", "add", "x", cwd=worktree.path)
        head = place.vault.write_commit(worktree.snapshot().tree, [place.base], "step 1\n", time=TIME)
        worktree.set_own_git(begun(worktree.own_git(), BRANCH, head))
        assert sh("git", "status", "--porcelain", cwd=worktree.path) == ""
