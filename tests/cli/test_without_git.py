"""Projects without git: from a plain folder to a plan's result in it, and back."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Program, git

PLAN = """
title: Tidy up
phases:
  - title: Work
    tasks:
      - {title: Write, run: "echo 2 > a.txt; mkdir -p new/deep; echo n > new/deep/n.sh; chmod 755 new/deep/n.sh"}
      - {title: Remove, run: "rm -r old; ln -s a.txt link"}
"""


def files(root: Path) -> dict[str, str]:
    """Gives every file of a folder: its permission bits and content, or where a link points."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path.relative_to(root))] = f"{path.stat().st_mode & 0o777:o} {path.read_text()}"
    return found


@pytest.fixture
def plain(tmp_path: Path) -> Program:
    """The program in a folder that is no repository, registered."""
    folder = tmp_path / "notes"
    (folder / "old").mkdir(parents=True)
    for name, content in {"a.txt": "1\n", "old/b.txt": "b\n", "old/c.txt": "c\n", ".gitignore": "*.log\n"}.items():
        (folder / name).write_text(content)
    (folder / "a.txt").chmod(0o600)
    (folder / "big.log").write_text("ignored\n")
    program = Program(tmp_path, folder)
    done = program("init", "--no-git")
    assert (done.code, done.err) == (0, done.err)
    assert "4 files" in done.err
    return program


def run(program: Program, text: str = PLAN) -> Any:
    done = program("run", program.plan(text), "--json")
    assert done.code == 0, done.err
    return done.lines[-1]


def test_a_plan_runs_on_a_snapshot_and_its_result_is_put_into_the_folder(plain: Program) -> None:
    before = files(plain.repository)
    run(plain)
    assert files(plain.repository) == before
    shown = plain("plan", "merge", "P1", "--dry-run")
    assert shown.code == 0
    assert [line.strip() for line in shown.out.splitlines()[:-1]] == [
        *("M a.txt", "A link", "A new/deep/n.sh", "D old/b.txt", "D old/c.txt"),
    ]
    assert files(plain.repository) == before
    refused = plain("plan", "merge", "P1")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    done = plain("plan", "merge", "P1", "--yes", "--json")
    assert done.code == 0, done.err
    assert len(done.json["files"]) == 5
    after = files(plain.repository)
    assert after == {
        ".gitignore": "644 *.log\n",
        "a.txt": "600 2\n",
        "big.log": "644 ignored\n",
        "link": "-> a.txt",
        "new/deep/n.sh": "755 n\n",
    }
    assert not (plain.repository / "old").exists()
    assert plain("plan", "merge", "P1", "--yes", "--json").json["files"] == []
    assert plain("plan", "merge", "P1", "--back", "--yes").code == 0
    assert files(plain.repository) == before
    again = plain("plan", "merge", "P1", "--back", "--yes")
    assert (again.code, "holdfast plan merge" in again.err) == (3, True)
    assert plain("undo", "--yes").out == "undone: O2, merge back of P1: files 5 (O3)\n"
    assert files(plain.repository) == after
    assert plain("db", "check").code == 0


@pytest.mark.campaign
def test_the_verbs_of_a_project_work_without_git(plain: Program) -> None:
    run(plain)
    assert plain("status", "--json").code == 0
    assert "+2" in plain("step", "diff", "1").out
    assert "old/b.txt" in plain("task", "diff", "T2").out
    assert plain("task", "show", "T1", "--json").code == 0
    assert plain("project", "show", "--json", cwd=plain.repository / "old").json["git"] is False
    assert plain("plan", "merge", "P1", "--branch", "x").code == 2


@pytest.mark.campaign
def test_the_next_plan_starts_from_what_the_folder_is_then(plain: Program) -> None:
    run(plain)
    (plain.repository / "a.txt").write_text("by hand\n")
    (plain.repository / ".gitignore").write_text("*.log\nold\n")
    run(plain, "title: Second\nphases: [{title: a, tasks: [{title: x, run: 'cat a.txt > copy; ls -a > list'}]}]")
    done = plain("plan", "merge", "P2", "--yes", "--json")
    assert done.json["files"] == ["copy", "list"]
    assert (plain.repository / "copy").read_text() == "by hand\n"
    assert "old" not in (plain.repository / "list").read_text().split()
    bases = plain("plan", "list", "--json").json["items"]
    assert len({item["base_commit"] for item in bases}) == 2
    assert {len(item["base_commit"]) for item in bases} == {64}
    third = plain("run", plain.plan(PLAN), "--base", bases[1]["base_commit"], "--json")
    assert third.code == 0, third.err
    assert plain("run", plain.plan(PLAN), "--base", "nothing").code == 4


def test_what_was_changed_by_hand_is_not_overwritten_and_a_kill_is_made_good(plain: Program) -> None:
    run(plain)
    (plain.repository / "a.txt").write_text("mine\n")
    before = files(plain.repository)
    refused = plain("plan", "merge", "P1", "--yes")
    assert (refused.code, "a.txt" in refused.err) == (3, True)
    assert files(plain.repository) == before
    (plain.repository / "a.txt").write_text("1\n")
    killed = plain("plan", "merge", "P1", "--yes", HOLDFAST_FAILPOINT="vcs.restore.file_written:2")
    assert killed.code == -signal.SIGKILL
    assert plain("plan", "merge", "P1", "--yes").code == 0
    assert (plain.repository / "link").is_symlink()
    killed = plain("plan", "merge", "P1", "--back", "--yes", HOLDFAST_FAILPOINT="engine.handover.written")
    assert killed.code == -signal.SIGKILL
    assert plain("undo", "--yes").out.startswith("undone: O2, merge back of P1: files 5")
    assert (plain.repository / "link").is_symlink()
    assert plain("undo", "--yes").out.startswith("undone: O1, merge of P1: files 5")
    assert (plain.repository / "a.txt").read_text() == "1\n"
    assert (plain.repository / "old/c.txt").exists()


@pytest.mark.campaign
def test_a_killed_run_goes_on(plain: Program) -> None:
    plan = plain.plan(
        "title: Long\nphases: [{title: a, tasks: [{title: one, run: 'echo 1 > one'}, "
        "{title: two, run: 'while test ! -f ../../../../go; do sleep 0.1; done; cat one > two'}]}]"
    )
    killed = plain("run", plan, HOLDFAST_FAILPOINT="engine.checkpoint.written:5")
    assert killed.code == -signal.SIGKILL
    (plain.data / "go").touch()
    done = plain("resume", "--json")
    assert done.code == 0, done.err
    assert plain("plan", "merge", "P1", "--yes", "--json").json["files"] == ["one", "two"]


def test_what_cannot_be_a_project_without_git_says_why(tmp_path: Path, program: Program) -> None:
    refused = program("init", "--no-git")
    assert (refused.code, "is in a git repository" in refused.err) == (1, True)
    inner = program.repository / "inner"
    inner.mkdir()
    assert "is in a git repository" in program("init", "--no-git", str(inner)).err
    assert program("init", "--no-git", str(tmp_path / "nowhere")).code == 4
    assert "too much" in program("init", "--no-git", "/").err
    assert "too much" in program("init", "--no-git", str(tmp_path)).err
    (tmp_path / "many").mkdir()
    for name in "abc":
        (tmp_path / "many" / name).write_text(name)
    many = program("init", "--no-git", str(tmp_path / "many"), HOLDFAST_FOLDER_MAX_FILES="2")
    assert (many.code, "3 files" in many.err, ".gitignore" in many.err) == (1, True, True)
    unknown = program("project", "show", cwd=tmp_path / "many")
    assert (unknown.code, "holdfast init --no-git" in unknown.err) == (1, True)


@pytest.mark.campaign
def test_a_nested_repository_and_a_file_too_large_are_told(tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    (root / "lib").mkdir(parents=True)
    git(root / "lib", "init", "--quiet")
    (root / "lib/code").write_text("1\n")
    (root / "huge").write_text("x" * 70_000)
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe/fifo")
    program = Program(tmp_path, root, {"HOLDFAST_MAX_FILE_BYTES": "65536"})
    told = program("init", "--no-git")
    assert (told.code, "git repository lib" in told.err) == (0, True)
    done = program("run", program.plan("title: T\nphases: [{title: a, tasks: [{title: x, run: 'echo 2 > lib/code'}]}]"))
    assert done.code == 0, done.err
    assert "not readable: huge" in done.err
    assert program("plan", "merge", "P1", "--yes").code == 0
    assert (root / "lib/code").read_text() == "2\n"
    assert (root / "lib/.git/HEAD").exists()
    assert (root / "huge").stat().st_size == 70_000


def test_the_folder_gone_is_told(plain: Program) -> None:
    run(plain)
    plain.repository.rename(plain.repository.with_name("elsewhere"))
    done = plain("plan", "merge", "P1", "--yes", cwd=plain.home)
    assert (done.code, "is not there" in done.err) == (4, True)
