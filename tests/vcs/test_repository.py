"""What is said of repositories that work cannot start from, and of those it can."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.vcs.places import commit_all, make_repository, sh, write

from holdfast.errors import NotFound, Unavailable, UserError
from holdfast.vcs import git, inspect


def test_clean_repository_is_described_from_any_folder_inside(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    state = inspect(repository / "src")
    assert state.root == repository
    assert (state.branch, state.default_branch, state.object_format) == ("main", "main", "sha1")
    assert state.head_commit == sh("git", "rev-parse", "HEAD", cwd=repository)
    assert (state.dirty, state.operation, state.bare, state.partial) == (False, None, False, False)


def test_default_branch_is_the_one_of_origin(tmp_path: Path) -> None:
    make_repository(tmp_path / "origin")
    sh("git", "branch", "-m", "trunk", cwd=tmp_path / "origin")
    sh("git", "clone", "-q", "origin", "repository", cwd=tmp_path)
    sh("git", "switch", "-q", "-c", "topic", cwd=tmp_path / "repository")
    state = inspect(tmp_path / "repository")
    assert (state.branch, state.default_branch) == ("topic", "trunk")


@pytest.mark.parametrize("untracked", [True, False])
def test_dirty_is_seen(tmp_path: Path, untracked: bool) -> None:
    repository = make_repository(tmp_path / "repository")
    write(repository / ("new" if untracked else "README.md"), "changed")
    assert inspect(repository).dirty


def test_detached_head_and_unfinished_operations_are_named(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository", {"f": "base\n"})
    sh("git", "switch", "-q", "-c", "side", cwd=repository)
    write(repository / "f", "side\n")
    commit_all(repository, "side")
    sh("git", "switch", "-q", "main", cwd=repository)
    write(repository / "f", "main\n")
    commit_all(repository, "main")
    with pytest.raises(AssertionError):
        sh("git", "merge", "side", cwd=repository)
    assert inspect(repository).operation == "merge"
    sh("git", "merge", "--abort", cwd=repository)
    with pytest.raises(AssertionError):
        sh("git", "rebase", "side", cwd=repository)
    assert (inspect(repository).operation, inspect(repository).branch) == ("rebase", None)
    sh("git", "rebase", "--abort", cwd=repository)
    assert inspect(repository).operation is None


def test_places_that_are_no_usable_repository_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        inspect(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not in a git repository") as caught:
        inspect(tmp_path)
    assert caught.value.code == "not_a_repository"
    assert "git init" in caught.value.hint
    sh("git", "init", "-q", "--bare", "bare.git", cwd=tmp_path)
    with pytest.raises(UserError, match="bare") as caught:
        inspect(tmp_path / "bare.git")
    assert "clone" in caught.value.hint
    repository = make_repository(tmp_path / "repository")
    with pytest.raises(UserError):
        inspect(repository / ".git")


def test_partial_clone_is_recognised(tmp_path: Path) -> None:
    origin = make_repository(tmp_path / "origin")
    sh("git", "config", "uploadpack.allowFilter", "true", cwd=origin)
    sh("git", "clone", "-q", "--filter=blob:none", f"file://{origin}", "repository", cwd=tmp_path)
    assert inspect(tmp_path / "repository").partial


def test_missing_or_old_git_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git.program.cache_clear()
    try:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(Unavailable, match="not installed") as caught:
            inspect(tmp_path)
        assert caught.value.exit_code == 5
        write(tmp_path / "git", "#!/bin/sh\necho git version 2.20.1\n")
        (tmp_path / "git").chmod(0o755)
        with pytest.raises(Unavailable, match=r"too old: git version 2\.20\.1"):
            inspect(tmp_path)
    finally:
        git.program.cache_clear()
