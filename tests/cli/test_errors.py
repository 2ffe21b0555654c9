"""Everything that can be wrong before work begins: one message, a hint, the right exit code, nothing half done."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Program, Result, git, make_repository

GOOD = """
title: Good
phases: [{title: Only, tasks: [{title: Nothing, run: "true"}]}]
"""
BAD = """\
title: Bad
colour: red
phases:
  - title: One
    tasks:
      - {title: A, run: "true", depends_on: [nobody]}
  - title: Two
    tasks: []
"""


def refuses(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result
    assert result.err.startswith("error: "), result.err
    assert "\nhint: " in result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


def test_a_folder_that_is_no_repository(program: Program, tmp_path: Path) -> None:
    refuses(program("init", cwd=tmp_path), 1, "not a git repository")


def test_a_bare_repository(program: Program, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "bare.git")
    refuses(program("init", str(tmp_path / "bare.git")), 1, "bare")


def test_a_repository_that_is_no_project(program: Program) -> None:
    refuses(program("run", program.plan(GOOD)), 4, "not a project yet", "holdfast init")
    assert program("plan", "list", "--json").json["items"] == []


def test_a_repository_that_is_none_while_there_is_another_project(shared: Program, tmp_path: Path) -> None:
    other = make_repository(tmp_path / "other")
    refuses(shared("run", shared.plan(GOOD), "--dry-run", cwd=other), 4, "other is not a project yet", "--project")
    assert shared("run", shared.plan(GOOD), "--dry-run", cwd=tmp_path).code == 0, "outside of any it is the only one"


def test_a_repository_without_a_commit(program: Program, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "empty")
    registered = program("init", str(tmp_path / "empty"))
    assert registered.code == 0
    assert "no commit yet" in registered.err
    refuses(program("run", program.plan(GOOD), cwd=tmp_path / "empty"), 3, "no commit yet", "git commit")


def test_a_repository_in_the_middle_of_a_merge(ready: Program) -> None:
    folder = ready.repository
    git(folder, "checkout", "--quiet", "-b", "other")
    (folder / "README.md").write_text("other\n")
    git(folder, "commit", "--quiet", "-am", "other")
    git(folder, "checkout", "--quiet", "main")
    (folder / "README.md").write_text("main\n")
    git(folder, "commit", "--quiet", "-am", "main")
    (folder / ".git" / "MERGE_HEAD").write_text(git(folder, "rev-parse", "other"))
    refuses(ready("run", ready.plan(GOOD)), 3, "merge", "--base")
    assert ready("run", ready.plan(GOOD), "--base", "main", "--dry-run").code == 0


def test_uncommitted_changes_are_only_noted(ready: Program) -> None:
    (ready.repository / "new.txt").write_text("new\n")
    result = ready("run", ready.plan(GOOD))
    assert result.code == 0
    assert "note: uncommitted changes stay" in result.err
    assert (ready.repository / "new.txt").read_text() == "new\n"


def test_a_bad_plan_file_has_all_its_mistakes_listed_with_their_places(ready: Program) -> None:
    plan = ready.plan(BAD, "bad.yaml")
    result = ready("run", plan)
    refuses(result, 2, f"{plan}:2:1: ", f"{plan}:6:", f"{plan}:8:")
    assert ready("plan", "check", plan).code == 2
    assert ready("plan", "list", "--json").json["items"] == []


def test_a_plan_file_that_is_not_there(ready: Program) -> None:
    refuses(ready("run", "nowhere.yaml"), 2, "nowhere.yaml")


@pytest.mark.parametrize(
    ("agent", "told"), [("", "names no agent"), ("agent: nobody", "nobody"), ("agent: codex", "not installed")]
)
def test_a_plan_that_wants_an_agent_which_is_not_there(ready: Program, agent: str, told: str) -> None:
    plan = ready.plan(f"title: T\n{agent}\nphases: [{{title: P, tasks: [{{title: A, instructions: do it}}]}}]\n")
    git_alone = ready.home / "git"
    git_alone.mkdir()
    (git_alone / "git").symlink_to(shutil.which("git") or "")
    refuses(ready("run", plan, PATH=str(git_alone)), 5, "'a'", told)
    assert ready("plan", "list", "--json").json["items"] == []


def test_an_unknown_variable(ready: Program) -> None:
    refuses(ready("run", ready.plan(GOOD), "--var", "NOPE=1"), 2, "NOPE")


@pytest.mark.parametrize(
    "words",
    [
        ("status", "P99"),
        ("plan", "show", "nobody"),
        ("task", "show", "T99"),
        ("step", "show", "99"),
        ("approve", "A99"),
        ("timeline", "--task", "T99"),
    ],
    ids=" ".join,
)
def test_an_unknown_id(shared: Program, words: tuple[str, ...]) -> None:
    refuses(shared(*words), 4, words[-1].removeprefix("step "))
    assert shared(*words, "--json").err.startswith('{"error": {"code": "not_found"')


def test_a_setting_that_cannot_be(program: Program) -> None:
    refuses(program("status", HOLDFAST_MAX_PARALLEL="many"), 2, "HOLDFAST_MAX_PARALLEL")


def test_a_data_folder_that_cannot_be_made(program: Program) -> None:
    refuses(program("status", "--data", "/proc/nowhere/data"), 1, "/proc/nowhere/data", "HOLDFAST_DATA")


def test_a_data_folder_that_is_read_only(program: Program) -> None:
    """Also for root, who may write into any folder but the system's own."""
    refuses(program("status", "--data", "/proc/sys"), 1, "/proc/sys", "HOLDFAST_DATA")
    refuses(program("status", "--db", "sqlite:////proc/sys/h.db"), 1, "/proc/sys/h.db", "HOLDFAST_DB")


def test_a_database_that_is_none(program: Program) -> None:
    program.data.mkdir()
    (program.data / "holdfast.db").write_bytes(b"this is no database, just a file of some length\n" * 50)
    refuses(program("status"), 1, "is not a Holdfast database", "db restore")


def test_a_database_of_a_newer_version(ready: Program) -> None:
    with sqlite3.connect(ready.data / "holdfast.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    refuses(ready("status"), 3, "newer")


def test_a_database_url_that_is_none(program: Program) -> None:
    refuses(program("status", "--db", "mongo://nowhere"), 2)


def test_a_cursor_that_is_none(shared: Program) -> None:
    refuses(shared("steps", "--cursor", "x;y"), 2, "cursor")


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path, make_repository(tmp_path / "shop"))
    assert program("init").code == 0
    connection = sqlite3.connect(program.data / "holdfast.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield program
    finally:
        connection.close()


def test_a_database_that_another_process_keeps_locked(locked: Program, tmp_path: Path) -> None:
    other = make_repository(tmp_path / "other")
    refuses(locked("init", str(other), HOLDFAST_BUSY_TIMEOUT_SECONDS="1"), 1, "locked", "try again")


@pytest.mark.parametrize("words", [("--version",), ("completion", "bash")], ids=" ".join)
def test_output_that_a_full_disk_does_not_take(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    refuses(Result(done.returncode, "", done.stderr), 1, "No space left", "free some disk space")


@pytest.mark.parametrize("columns", ["0", "wide"])
def test_a_width_that_is_none_is_passed_over(program: Program, columns: str) -> None:
    assert program("status", COLUMNS=columns).out == "no plan is unfinished\n"


def test_a_bug_of_ours_is_one_line_and_its_traceback_is_kept(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from holdfast.cli import main, session

    def broken(_: object) -> None:
        raise ZeroDivisionError("oh no")

    monkeypatch.setattr(session.Session, "house", broken)
    assert main.run(["status", "--data", str(program.data)]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    kept = next((program.data / "logs").iterdir())
    assert str(kept) in said
    assert "ZeroDivisionError: oh no" in kept.read_text()
