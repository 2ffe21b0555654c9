"""An agent owns its worktree and may put anything there; none of it may run, and nothing outside may be touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.vcs.places import BRANCH, TIME, Place, commit_all, make_repository, open_place, walk, write

from holdfast.engine.kept import BlobFolder
from holdfast.vcs import Worktree, diff, inspect

HOOKS = ["post-index-change", "reference-transaction", "pre-commit", "post-checkout", "post-commit", "pre-auto-gc"]


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a mark when somebody runs it."""
    path = tmp_path / "trap"
    write(path, f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/sprung\ncat\n')
    path.chmod(0o755)
    return path


def arm(git_dir: Path, trap: Path, outside: Path) -> None:
    """Sets every switch of a git configuration that runs a program, or that leads git elsewhere."""
    write(
        git_dir / "config",
        f"""[core]
	repositoryformatversion = 0
	worktree = {outside}
	fsmonitor = {trap}
	hooksPath = {git_dir}/hooks
	sshCommand = {trap}
	pager = {trap}
	editor = {trap}
	askPass = {trap}
	alternateRefsCommand = {trap}
	gitProxy = {trap}
	attributesFile = {git_dir}/attributes
[diff]
	external = {trap}
[diff "evil"]
	textconv = {trap}
	command = {trap}
[filter "evil"]
	clean = {trap}
	smudge = {trap}
	process = {trap}
	required = true
[merge "evil"]
	driver = {trap}
[gpg]
	program = {trap}
[commit]
	gpgSign = true
[uploadpack]
	packObjectsHook = {trap}
[credential]
	helper = !{trap}
[protocol]
	allow = always
[alias]
	status = !{trap}
	add = !{trap}
""",
    )
    for hook in HOOKS:
        write(git_dir / "hooks" / hook, f"#!/bin/sh\n{trap}\n")
        (git_dir / "hooks" / hook).chmod(0o755)
    write(git_dir / "attributes", "* filter=evil diff=evil merge=evil\n")
    write(git_dir / "info/attributes", "* filter=evil diff=evil merge=evil\n")


def use_everything(place: Place, worktree: Worktree) -> None:
    base = place.vault.tree_of(place.base)
    write(worktree.path / "src/app.py", "hostile\n")
    for full in (False, True):
        tree = worktree.snapshot(full=full).tree
    commit = place.vault.write_checkpoint("refs/holdfast/checkpoints/t/1", tree, [place.base], "m", TIME)
    diff(place.vault, place.base, commit).unified()
    worktree.set_tree(base)
    assert (worktree.path / "src/app.py").read_text() == "print(1)\n"
    worktree.set_tree(tree)
    other = place.vault.write_commit(base, [place.base], "other", time=TIME)
    assert place.vault.merge(commit, other, "m", "A <a@b>", TIME).commit
    assert place.vault.fsck() == []
    assert worktree.keep_ignored(["*"], BlobFolder(place.folder / "blobs")).cut == 0
    place.vault.compact(packs=0)


def test_nothing_of_an_armed_worktree_runs(place: Place, trap: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside / "src/app.py", "outside\n")
    with place.worktree() as worktree:
        arm(worktree.path / ".git", trap, outside)
        write(worktree.path / ".gitattributes", "* filter=evil diff=evil merge=evil text eol=crlf ident\n")
        write(worktree.path / ".gitmodules", f'[submodule "x"]\n\tpath = x\n\turl = x\n\tupdate = !{trap}\n')
        nested = make_repository(worktree.path / "nested")
        arm(nested / ".git", trap, outside)
        use_everything(place, worktree)
    with place.worktree() as worktree:  # opened again: nothing is read from its .git
        use_everything(place, worktree)
    assert walk(outside) == {b"src/app.py": ("f", b"outside\n")}
    assert not (tmp_path / "sprung").exists()


def test_the_trap_springs_for_those_who_run_git_carelessly(place: Place, trap: Path, tmp_path: Path) -> None:
    """The other tests here prove nothing if the trap does not work."""
    with place.worktree() as worktree:
        arm(worktree.path / ".git", trap, worktree.path)
        subprocess.run(["git", "update-index", "--refresh", "-q"], cwd=worktree.path, capture_output=True)
    assert (tmp_path / "sprung").exists()


def test_nothing_of_an_armed_user_repository_runs(trap: Path, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    write(repository / ".gitattributes", "* filter=evil diff=evil\n")
    commit_all(repository, "attributes")
    arm(repository / ".git", trap, repository)
    (repository / ".git/config").write_text((repository / ".git/config").read_text().replace("\tworktree", "\tx"))
    (repository / "README.md").touch()
    assert inspect(repository).branch == "main"
    place = open_place(tmp_path, repository)
    with place.worktree() as worktree:
        use_everything(place, worktree)
    place.vault.export_branch(repository, BRANCH)
    place.vault.close()
    assert not (tmp_path / "sprung").exists()


def test_symlinks_in_place_of_gits_own_files_lead_nowhere(place: Place, tmp_path: Path) -> None:
    write(tmp_path / "rules", "*\n")
    with place.worktree() as worktree:
        worktree.snapshot()
        shutil.rmtree(worktree.path / ".git")
        os.symlink(place.repository / ".git", worktree.path / ".git")
        os.symlink(tmp_path / "rules", worktree.path / ".gitignore")
        before = walk(place.repository)
        write(worktree.path / "new", "1")
        snapshot = worktree.snapshot()
        assert snapshot.changed == 2
        worktree.set_tree(place.vault.tree_of(place.base))
        assert walk(place.repository) == before
        assert (tmp_path / "rules").read_text() == "*\n"


def test_environment_of_the_worker_does_not_reach_git(
    place: Place, trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = make_repository(tmp_path / "elsewhere")
    for name, value in {
        "GIT_DIR": str(elsewhere / ".git"),
        "GIT_WORK_TREE": str(elsewhere),
        "GIT_INDEX_FILE": str(elsewhere / "index"),
        "GIT_OBJECT_DIRECTORY": str(elsewhere / "objects"),
        "GIT_EXTERNAL_DIFF": str(trap),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(trap),
        "HOME": str(tmp_path / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    write(tmp_path / "home/.gitconfig", f"[core]\n\tfsmonitor = {trap}\n\thooksPath = {tmp_path}\n")
    assert inspect(place.repository).root == place.repository
    with place.worktree() as worktree:
        use_everything(place, worktree)
    assert not (tmp_path / "sprung").exists()
    assert not (elsewhere / "index").exists()


def test_replaced_objects_are_not_believed(place: Place) -> None:
    fake = place.vault.write_commit(place.vault.tree_of(place.base), [], "fake", time=TIME)
    place.vault.git(["update-ref", f"refs/replace/{place.base}", fake])
    assert place.vault.message(place.base) == "first\n"
