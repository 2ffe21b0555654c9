"""Plans, phases and tasks edited from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Program

PLAN = """
title: Edited
phases:
  - title: One
    tasks:
      - {title: Build, run: "echo b > b"}
      - {title: Test, run: "test -e b", depends_on: [build]}
"""


@pytest.fixture
def drafted(ready: Program) -> Program:
    assert ready("plan", "new", ready.plan(PLAN)).code == 0
    return ready


def exported(program: Program) -> str:
    return program("plan", "export", "P1", "--json").json["plan_file"]


def test_a_plan_is_built_up_by_commands_and_runs(drafted: Program) -> None:
    added = drafted("task", "add", "P1", "Lint", "--run", "echo l > l", "--depends-on", "build", "--timeout", "2m")
    assert added.code == 0, added.err
    assert "+      - title: Lint" in added.out
    assert drafted("task", "edit", "T2", "--run", "test -e b -a -e l", "--depends-on", "lint").code == 0
    assert drafted("phase", "add", "P1", "Two", "--mode", "parallel", "--run", "echo t > t").code == 0
    assert drafted("phase", "edit", "P1", "2", "--title", "Last", "--pause-after").code == 0
    assert drafted("plan", "edit", "P1", "--title", "Renamed", "--var", "A=1").code == 0
    assert drafted("phase", "edit", "P1", "Last", "--unset", "pause_after").code == 0
    changed = drafted("plan", "edit", "P1", "--unset", "variables", "--json").json
    assert [dict(each["after"]) for each in changed["changes"]] == [{"variables": {}}]
    assert changed["iteration"] == 7
    assert "title: Renamed" in exported(drafted)


def test_an_edited_plan_runs_and_its_edits_are_in_the_timeline(drafted: Program) -> None:
    assert drafted("task", "edit", "T2", "--run", "echo t > t", "--unset", "depends_on").code == 0
    done = drafted("plan", "execute", "P1")
    assert done.code == 0, done.err
    events = drafted("timeline", "--plan", "P1", "--subtype", "edited").out
    assert "T2 test  edited: run, depends_on" in events
    refused = drafted("task", "edit", "T2", "--run", "true")
    assert (refused.code, "P1 is completed" in refused.err) == (3, True)


def test_a_removal_asks_says_what_it_would_do_and_wants_yes_off_a_terminal(drafted: Program) -> None:
    before = exported(drafted)
    needed = drafted("task", "rm", "T1", "--yes")
    assert (needed.code, "other tasks depend on it: T2 test" in needed.err) == (3, True)
    assert drafted("task", "rm", "T2").code == 2
    tried = drafted("task", "rm", "T2", "--dry-run")
    assert "-      - title: Test" in tried.out
    assert "nothing was changed" in tried.out
    assert exported(drafted) == before
    assert drafted("task", "rm", "T2", "--yes").code == 0
    assert "Test" not in exported(drafted)
    assert drafted("task", "show", "T2").code == 4
    assert drafted("phase", "rm", "P1", "nowhere", "--yes").code == 4
    only = drafted("phase", "rm", "P1", "One", "--dry-run")
    assert (only.code, "only phase" in only.err) == (3, True)


WRONG = [
    (("task", "edit", "T1"), 2, "nothing to change"),
    (("task", "edit", "T1", "--timeout", "soon"), 2, "`timeout` is no duration: 'soon'"),
    (("task", "edit", "T1", "--timeout", "1m", "--unset", "timeout"), 2, "goes without"),
    (("task", "edit", "T9", "--run", "x"), 4, "T9"),
    (("task", "add", "P1", "X"), 2, "neither `instructions` nor `run`"),
    (("task", "add", "P1", "X", "--run", "{{ NOPE }}"), 2, "the variable 'NOPE' is not defined"),
    (("phase", "edit", "P1", "One", "--when", "nonsense("), 2, "the condition is wrong"),
    (("plan", "edit", "P1", "--gate", "door"), 2, "cannot be 'door'"),
    (("plan", "edit", "P1"), 2, "no terminal"),
]


def test_a_wrong_edit_is_one_clear_error_and_changes_nothing(drafted: Program) -> None:
    before = exported(drafted)
    for words, code, said in WRONG:
        result = drafted(*words, EDITOR="", VISUAL="")
        assert (result.code, said in result.err) == (code, True), (words, result)
    assert exported(drafted) == before


def editor(program: Program, script: str) -> dict[str, str]:
    """Gives an environment whose editor runs `sed` with that script on the file."""
    path = program.home / "editor.sh"
    path.write_text(f"#!/bin/sh\nexec sed -i '{script}' \"$1\"\n")
    path.chmod(0o755)
    return {"EDITOR": str(path)}


def test_a_plan_is_edited_in_the_editor_and_a_title_may_change_without_losing_the_task(drafted: Program) -> None:
    result = drafted("plan", "edit", "P1", **editor(drafted, "s/title: Build/title: Build it all/"))
    assert result.code == 0, result.err
    assert "+      - title: Build it all" in result.out
    shown = drafted("task", "show", "T1", "--json").json["task"]
    assert (shown["title"], shown["key"]) == ("Build it all", "build")
    assert "nothing changed" in drafted("plan", "edit", "P1", **editor(drafted, "s/a/a/")).out
    assert list((drafted.data / "edits").iterdir()) == []


def test_a_text_that_cannot_be_taken_is_kept_and_can_be_given_again(drafted: Program) -> None:
    before = exported(drafted)
    result = drafted("plan", "edit", "P1", **editor(drafted, "s/depends_on: .build./depends_on: [nobody]/"))
    assert result.code == 2
    assert "no task has the key 'nobody'" in result.err
    assert exported(drafted) == before
    (kept,) = (drafted.data / "edits").iterdir()
    assert f"--file {kept}" in result.err
    kept.write_text(kept.read_text().replace("nobody", "build").replace("title: Edited", "title: Mended"))
    assert drafted("plan", "edit", "P1", "--file", str(kept), "--dry-run").code == 0
    assert exported(drafted) == before
    assert drafted("plan", "edit", "P1", "--file", str(kept)).code == 0
    assert exported(drafted) == before.replace("title: Edited", "title: Mended")


def test_an_editor_that_fails_or_is_not_there_leaves_the_plan(drafted: Program, tmp_path: Path) -> None:
    before = exported(drafted)
    for program in ("false", str(tmp_path / "no-such-editor")):
        result = drafted("plan", "edit", "P1", EDITOR=program)
        assert (result.code, "your text is kept" in result.err) == (1, True), result
    assert exported(drafted) == before
