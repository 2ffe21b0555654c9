"""The vault: made once, safely; refs by compare-and-swap; the user's repository read only."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.vcs.places import BRANCH, TIME, Place, commit_all, make_place, make_repository, open_place, sh, walk, write

from holdfast.errors import Corruption, IllegalState, NotFound, UserError
from holdfast.vcs import GitError, RefMoved, Vault, inspect

CHECKPOINT = "refs/holdfast/checkpoints/task/1"


def bytes_below(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Gives content and modification time of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_user_repository_is_untouched_by_everything_but_export(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    for hook in ("post-index-change", "reference-transaction", "pre-commit", "post-checkout", "pre-auto-gc"):
        write(repository / ".git/hooks" / hook, f"#!/bin/sh\ntouch {tmp_path}/ran-{hook}\n")
        (repository / ".git/hooks" / hook).chmod(0o755)
    write(repository / "README.md", "stashed\n")
    sh("git", "stash", cwd=repository)
    write(repository / "README.md", "dirty\n")
    write(repository / "staged", "staged\n")
    sh("git", "add", "staged", cwd=repository)
    for ran in tmp_path.glob("ran-*"):
        ran.unlink()
    before = bytes_below(repository)
    assert inspect(repository).dirty
    place = open_place(tmp_path, repository)
    with place.worktree() as worktree:
        write(worktree.path / "new", "1")
        tree = worktree.snapshot().tree
        commit = place.vault.write_checkpoint(CHECKPOINT, tree, [place.base], "m", TIME)
        worktree.set_tree(place.vault.tree_of(place.base))
    place.vault.move_branch(BRANCH, commit, place.base)
    assert place.vault.fsck() == []
    assert bytes_below(repository) == before
    place.vault.export_branch(repository, BRANCH)
    assert sh("git", "rev-parse", BRANCH, cwd=repository) == commit
    assert sh("git", "stash", "list", cwd=repository) != ""
    assert list(tmp_path.glob("ran-*")) == []
    changed = {path for path, what in bytes_below(repository).items() if before.get(path) != what}
    assert {path.removeprefix(str(repository)) for path in changed if "/objects/" not in path} <= {
        f"/.git/refs/heads/{BRANCH}",
        f"/.git/logs/refs/heads/{BRANCH}",
    }


def test_objects_are_linked_not_copied(place: Place) -> None:
    files = [path for path in (place.vault.path / "objects").rglob("*") if path.is_file()]
    assert files
    assert all(path.stat().st_nlink == 2 for path in files)
    assert place.vault.refs("refs/") == {
        f"refs/heads/{BRANCH}": place.base,
        f"refs/holdfast/base/{place.base}": place.base,
    }


def test_vault_outlives_a_repository_that_was_collected_or_deleted(place: Place) -> None:
    sh("git", "gc", "-q", "--prune=now", cwd=place.repository)
    shutil.rmtree(place.repository)
    with place.worktree() as worktree:
        assert not worktree.dirty(place.base)
    assert place.vault.fsck() == []


def test_objects_borrowed_by_the_user_are_copied(tmp_path: Path) -> None:
    make_repository(tmp_path / "lender")
    sh("git", "clone", "-q", "--shared", "lender", "repository", cwd=tmp_path)
    place = open_place(tmp_path, tmp_path / "repository")
    shutil.rmtree(tmp_path / "lender")
    assert place.vault.fsck() == []


def test_opening_again_changes_nothing_and_fetch_brings_new_commits(place: Place) -> None:
    again = Vault.open_or_create(place.vault.path, place.repository)
    write(place.repository / "later", "later")
    later = commit_all(place.repository, "later")
    assert again.fetch(place.repository, "main") == later
    assert again.fetch(place.repository, later) == later
    assert again.tree_of(later) == sh("git", "rev-parse", "HEAD^{tree}", cwd=place.repository)
    assert again.refs("refs/holdfast/base")[f"refs/holdfast/base/{later}"] == later
    assert again.parents(later) == (place.base,)
    with pytest.raises(NotFound, match="no commit nowhere"):
        again.fetch(place.repository, "nowhere")
    again.close()


def test_linked_worktree_of_the_user_works(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    sh("git", "worktree", "add", "-q", "../linked", cwd=repository)
    write(tmp_path / "linked/more", "1")
    commit = commit_all(tmp_path / "linked", "more")
    place = open_place(tmp_path, tmp_path / "linked")
    assert place.base == commit
    assert inspect(tmp_path / "linked").root == tmp_path / "linked"


def test_sha256_repository_works(tmp_path: Path) -> None:
    place = make_place(tmp_path, object_format="sha256")
    assert len(place.base) == 64
    with place.worktree() as worktree:
        write(worktree.path / "new", "1")
        tree = worktree.snapshot().tree
        commit = place.vault.write_checkpoint(CHECKPOINT, tree, [place.base], "m", TIME)
        worktree.set_tree(place.vault.tree_of(place.base))
        assert not (worktree.path / "new").exists()
        assert sh("git", "status", "--porcelain", cwd=worktree.path) == ""
    assert place.vault.fsck() == []
    assert place.vault.export_branch(place.repository, BRANCH) == place.base
    assert len(commit) == 64


def test_repository_without_commits_gets_a_vault_and_fetches_later(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    sh("git", "init", "-q", "-b", "main", cwd=repository)
    assert inspect(repository).head_commit is None
    vault = Vault.open_or_create(tmp_path / "vault.git", repository)
    sh("git", "-c", "user.name=u", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "x", cwd=repository)
    assert vault.fetch(repository, "HEAD") == inspect(repository).head_commit
    vault.close()


def test_shallow_clone_works(tmp_path: Path) -> None:
    origin = make_repository(tmp_path / "origin")
    write(origin / "two", "2")
    commit_all(origin, "two")
    sh("git", "clone", "-q", "--depth=1", f"file://{origin}", "repository", cwd=tmp_path)
    place = open_place(tmp_path, tmp_path / "repository")
    with place.worktree() as worktree:
        assert not worktree.dirty(place.base)
        assert sh("git", "log", "--format=%s", cwd=worktree.path) == "two"
    assert place.vault.fsck() == []


def test_branch_is_made_once_and_moved_only_from_where_it_was(place: Place) -> None:
    vault = place.vault
    tree = vault.tree_of(place.base)
    one = vault.write_commit(tree, [place.base], "one", time=TIME)
    two = vault.write_commit(tree, [one], "two", time=TIME)
    vault.create_branch(BRANCH, place.base)
    with pytest.raises(IllegalState, match="is at"):
        vault.create_branch(BRANCH, one)
    vault.move_branch(BRANCH, one, place.base)
    vault.move_branch(BRANCH, one, place.base)
    with pytest.raises(RefMoved, match="is at"):
        vault.move_branch(BRANCH, two, place.base)
    assert vault.head(BRANCH) == one
    assert vault.head("holdfast/other") is None
    vault.move_branch(BRANCH, two, one)
    assert vault.is_ancestor(place.base, two)
    assert not vault.is_ancestor(two, place.base)
    vault.delete_ref(f"refs/heads/{BRANCH}")
    assert vault.head(BRANCH) is None


def test_branch_name_that_git_refuses_is_an_error_and_the_vault_goes_on(place: Place) -> None:
    with pytest.raises(GitError):
        place.vault.create_branch("bad..name", place.base)
    place.vault.create_branch("good", place.base)
    assert place.vault.head("good") == place.base


def test_same_arguments_give_the_same_commit(place: Place) -> None:
    tree = place.vault.tree_of(place.base)
    commits = {place.vault.write_commit(tree, [place.base], "title\n\nHoldfast-Step: 7\n", time=TIME) for _ in range(3)}
    assert len(commits) == 1
    commit = commits.pop()
    assert place.vault.trailers(commit) == {"Holdfast-Step": "7"}
    assert place.vault.trailers(place.base) == {}
    shown = place.vault.git(["show", "-s", "--format=%an|%ae|%at|%cn|%P|%s", commit]).decode().strip()
    assert shown == f"Holdfast|holdfast@localhost|{int(TIME.timestamp())}|Holdfast|{place.base}|title"
    with pytest.raises(UserError):
        place.vault.write_commit(tree, [], "x", author="evil\nparent <x>", time=TIME)


def test_checkpoint_replaces_an_orphan_of_the_same_name(place: Place) -> None:
    tree = place.vault.tree_of(place.base)
    place.vault.write_checkpoint(CHECKPOINT, tree, [place.base], "orphan", TIME)
    commit = place.vault.write_checkpoint(CHECKPOINT, tree, [place.base], "kept", TIME)
    assert place.vault.refs("refs/holdfast/checkpoints") == {CHECKPOINT: commit}


def test_merge_joins_what_does_not_conflict_and_names_what_does(place: Place) -> None:
    vault = place.vault
    with place.worktree() as worktree:

        def side(name: str, content: str) -> str:
            worktree.set_tree(vault.tree_of(place.base))
            write(worktree.path / name, content)
            return vault.write_commit(worktree.snapshot().tree, [place.base], name, time=TIME)

        one, two, three = side("one", "1"), side("two", "2"), side("one", "other")
    result = vault.merge(one, two, "merge\n", "A <a@b>", TIME)
    assert result.commit is not None
    assert vault.parents(result.commit) == (one, two)
    assert result.commit == vault.merge(one, two, "merge\n", "A <a@b>", TIME).commit
    conflict = vault.merge(one, three, "merge\n", "A <a@b>", TIME)
    assert (conflict.commit, conflict.conflicts) == (None, ("one",))
    assert vault.merge(result.commit, one, "m", "A <a@b>", TIME).commit == result.commit
    assert vault.merge(place.base, one, "m", "A <a@b>", TIME).commit == one
    forced = vault.merge(place.base, one, "m", "A <a@b>", TIME, fast_forward=False).commit
    assert forced is not None
    assert vault.parents(forced) == (place.base, one)


def test_export_never_overwrites_a_branch(place: Place) -> None:
    sh("git", "branch", BRANCH, cwd=place.repository)
    commit = place.vault.write_commit(place.vault.tree_of(place.base), [place.base], "new", time=TIME)
    assert place.vault.export_branch(place.repository, BRANCH) == place.base
    place.vault.move_branch(BRANCH, commit, place.base)
    with pytest.raises(IllegalState, match="exists"):
        place.vault.export_branch(place.repository, BRANCH)
    assert place.vault.export_branch(place.repository, BRANCH, "review/plan") == commit
    assert place.vault.export_branch(place.repository, BRANCH, "review/plan") == commit
    assert sh("git", "rev-parse", "review/plan", cwd=place.repository) == commit
    with pytest.raises(NotFound):
        place.vault.export_branch(place.repository, "nothing")


def test_fsck_names_a_damaged_object(place: Place) -> None:
    commit = place.vault.write_checkpoint(CHECKPOINT, place.vault.tree_of(place.base), [place.base], "m", TIME)
    assert place.vault.fsck() == []
    (pack,) = (place.vault.path / "objects/pack").glob("*.pack")
    content = bytearray(pack.read_bytes())
    content[-25] ^= 0xFF
    pack.chmod(0o600)
    pack.write_bytes(content)
    assert any("pack" in problem or commit in problem for problem in place.vault.fsck())


def test_missing_object_is_corruption_with_its_name(place: Place) -> None:
    with pytest.raises(Corruption, match="1" * 40):
        place.vault.tree_of("1" * 40)
    assert place.vault.tree_of(place.base)


def test_recover_removes_what_a_kill_left_and_keeps_the_rest(place: Place) -> None:
    vault, path = place.vault, place.vault.path
    commit = vault.write_checkpoint(CHECKPOINT, vault.tree_of(place.base), [place.base], "m", TIME)
    orphan = path / "refs/holdfast/checkpoints/task/2"
    write(orphan, "1" * 40 + "\n")
    write(path / "holdfast/checked", "an earlier boot")
    leftovers = [
        path / "packed-refs.lock",
        path / f"refs/heads/{BRANCH}.lock",
        path / "objects/pack/tmp_pack_holdfast_x",
    ]
    for leftover in leftovers:
        write(leftover, "")
    (pack,) = (path / "objects/pack").glob("*.pack")
    pack.with_suffix(".idx").unlink()
    write(path / "objects/pack/pack-torn.pack", "PACK")
    assert vault.recover()
    assert not any(leftover.exists() for leftover in (*leftovers, orphan, path / "objects/pack/pack-torn.pack"))
    assert vault.refs("refs/holdfast/checkpoints") == {CHECKPOINT: commit}
    assert vault.message(commit) == "m\n"
    assert vault.fsck() == []
    vault.move_branch(BRANCH, commit, place.base)
    write(orphan, "1" * 40 + "\n")
    assert vault.recover()
    assert orphan.exists(), "refs are looked through once a boot: only the machine can lose what a ref names"


def test_recover_leaves_a_vault_alone_that_another_process_uses(place: Place) -> None:
    lock = place.vault.path / "packed-refs.lock"
    write(lock, "")
    other = Vault.open(place.vault.path)
    assert not place.vault.recover(wait_seconds=0.05)
    assert lock.exists()
    other.close()
    assert place.vault.recover()
    assert not lock.exists()


def test_compact_joins_packs_and_keeps_everything(place: Place) -> None:
    tree = place.vault.tree_of(place.base)
    refs = {}
    for number in range(12):
        name = f"refs/holdfast/checkpoints/task/{number}"
        refs[name] = place.vault.write_checkpoint(name, tree, [place.base], f"{number}", TIME)
    loose = place.vault.write_commit(tree, [], "reachable from nowhere", time=TIME)
    assert place.vault.compact(packs=5)
    assert len(list((place.vault.path / "objects/pack").glob("*.pack"))) < 5
    assert not place.vault.compact(packs=5)
    assert place.vault.refs("refs/holdfast/checkpoints") == refs
    assert place.vault.tree_of(loose) == tree
    assert place.vault.write_checkpoint("refs/holdfast/checkpoints/task/12", tree, [], "x", TIME)
    assert place.vault.fsck() == []


def test_opening_a_vault_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no vault"):
        Vault.open(tmp_path / "vault.git")


def test_threads_share_one_vault(place: Place) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(number: int) -> bool:
        with place.worktree(f"w{number}") as worktree:
            for turn in range(5):
                write(worktree.path / "file", f"{number} {turn}")
                tree = worktree.snapshot().tree
                name = f"refs/holdfast/checkpoints/t{number}/{turn}"
                commit = place.vault.write_checkpoint(name, tree, [place.base], "m", TIME)
                assert place.vault.git(["show", f"{commit}:file"]) == f"{number} {turn}".encode()
            worktree.set_tree(place.vault.tree_of(place.base))
        return walk(worktree.path).keys() == {b"README.md", b"src/app.py"}

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert place.vault.fsck() == []


def test_no_process_is_left_when_a_vault_is_closed(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    with place.worktree() as worktree:
        write(worktree.path / "x", "1")
        worktree.snapshot()
        place.vault.write_checkpoint(CHECKPOINT, worktree.snapshot().tree, [], "m", TIME)
    place.vault.close()
    listed = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    assert str(tmp_path) not in listed
