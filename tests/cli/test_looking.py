"""A plan that ran, looked at with every command: for people and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Program, Result, git

PLAN = """
title: Build it
variables: {WHO: world}
phases:
  - title: Begin
    tasks:
      - {title: Greet, run: 'echo "hello {{ WHO }}" > hello.txt; printf "\\033]0;evil\\007loud\\n"'}
  - title: Both
    mode: parallel
    tasks:
      - {title: Left, run: echo l > left.txt, verify: [test -f left.txt]}
      - {title: Right, run: echo r > right.txt}
"""


@pytest.fixture(scope="module")
def ran(shared: Program) -> tuple[Program, Result]:
    plan = shared.plan(PLAN)
    return shared, shared("run", plan, "--var", "WHO=moon")


def test_off_a_terminal_a_run_is_a_line_per_event_and_a_summary(ran: tuple[Program, Result]) -> None:
    _, result = ran
    assert result.code == 0, result.err
    assert re.search(r"^\d\d:\d\d:\d\d  T1 greet  step 1 started$", result.out, re.MULTILINE)
    assert "3 files, +3 -0 lines" in result.out
    assert "holdfast plan merge P1" in result.out
    assert "\x1b" not in result.out + result.err


def test_the_checkout_is_not_touched_before_and_after_the_merge(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    assert sorted(path.name for path in program.repository.iterdir()) == [".git", "README.md"]
    merged = program("plan", "merge", "P1", "--branch", "feature/it", "--json")
    assert merged.json["branch"] == "feature/it"
    assert git(program.repository, "show", "feature/it:hello.txt") == "hello moon\n"
    assert git(program.repository, "status", "--porcelain") == ""


def test_status_of_a_plan_is_a_board_and_a_document(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    shown = program("status", "P1")
    assert "✓ T2 Left" in shown.out
    view = program("status", "P1", "--json").json
    assert {"plan", "project", "phases", "tasks", "gates", "steps", "usage"} <= set(view)
    assert view["plan"]["status"] == "completed"
    assert [task["key"] for task in view["tasks"]] == ["greet", "left", "right"]


def test_status_without_a_plan_tells_what_is_unfinished(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    document = program("status", "--json").json
    nothing: dict[str, Any] = {"plans": [], "gates": [], "interrupted": [], "under_way": []}
    assert document == {**nothing, "workers": document["workers"]}
    assert "no plan is unfinished" in program("status").out


def test_steps_are_listed_newest_first_by_pages(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    first = program("steps", "--plan", "P1", "--limit", "2", "--json").json
    assert [item["step"]["number"] for item in first["items"]] == [3, 2]
    rest = program("steps", "--cursor", first["next_cursor"], "--json").json
    assert [item["step"]["number"] for item in rest["items"]] == [1]
    assert rest["next_cursor"] is None
    assert "T1 Greet" in program("steps", "--task", "T1").out


def test_a_step_is_shown_and_compared(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    shown = program("step", "show", "1")
    assert "hello moon" in shown.out
    assert "\x1b" not in shown.out
    assert "+hello moon" in program("step", "diff", "1").out
    view = program("status", "P1", "--json").json
    left = next(each["number"] for each in view["steps"] if each["task_id"] == view["tasks"][1]["id"])
    compared = program("step", "diff", "1", str(left), "--json").json
    assert compared["code"]["files_total"] == 1
    assert "seconds" in compared["fields"]
    assert compared["fields"]["task"] == ["T1 greet", "T2 left"]


def test_the_log_of_a_step_is_what_it_said(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    lines = program("step", "log", "1", "--json").lines
    said = [line["text"].rstrip("\n") for line in lines if line["stream"] == "stdout"]
    assert said[-1].endswith("loud")


def test_a_terminal_never_gets_control_sequences_of_stored_text(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    for words in (("step", "log", "1"), ("plan", "list"), ("status", "P1"), ("timeline", "--limit", "100")):
        terminal = program.on_terminal(*words, NO_COLOR="1")
        assert terminal.end() == 0
        assert "\x1b]" not in terminal.text, words
        assert "\x07" not in terminal.text, words
        assert "\x1b[31m" not in terminal.text, words


def test_colours_are_for_terminals_and_no_color_is_obeyed(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    coloured = program.on_terminal("status", "P1")
    assert coloured.end() == 0
    assert colour.search(coloured.text)
    plain = program.on_terminal("status", "P1", "--no-color")
    assert plain.end() == 0
    assert not colour.search(plain.text)
    assert "\x1b" not in program("status", "P1", FORCE_COLOR="1").out


def test_a_task_is_shown_with_its_checkpoints_and_diff(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    shown = program("task", "show", "left").out
    assert "T2@2" in shown
    assert str(program.data / "projects") in shown, "its worktree, where a person puts it right"
    kinds = [item["kind"] for item in program("task", "checkpoints", "T2", "--json").json["items"]]
    assert sorted(kinds) == ["initial", "step"]
    assert program("task", "diff", "T2", "--json").json["files"][0]["path"] == "left.txt"


def test_a_checkpoint_is_made_by_hand(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    assert program("task", "checkpoint", "T2", "-m", "by hand").code == 0
    assert "by hand" in program("task", "checkpoints", "T2").out


def test_the_timeline_is_filtered_and_paged(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    page = program("timeline", "--plan", "P1", "--type", "step", "--subtype", "completed", "--json").json
    assert sorted(event["data"]["number"] for event in page["items"]) == [1, 2, 3]
    assert page["items"] == sorted(page["items"], key=lambda event: event["id"], reverse=True)
    assert program("timeline", "--plan", "P1", "--phase", "both", "--limit", "1", "--json").json["next_cursor"]
    assert program("timeline", "--to", "1d", "--json").json["items"] == []
    assert program("plan", "history", "P1", "--json").json["items"]
    steps = program("task", "history", "T2", "--type", "step", "--format", "json").json["items"]
    assert [event["subtype"] for event in steps] == ["completed", "started"]
    lines = program("plan", "history", "P1", "--phase", "both", "--format", "jsonl").lines
    assert lines == program("timeline", "--plan", "P1", "--phase", "both", "--json").json["items"]
    for wrong in (
        ("--cursor", "x"),
        ("--from", "soon"),
        ("--type", "odd"),
        ("--from", "1h", "--to", "2h"),
        ("-f", "--to", "1h"),
    ):
        refused = program("timeline", *wrong)
        assert (refused.code, refused.out, refused.err.count("error: ")) == (2, "", 1), wrong


def test_a_follower_that_comes_back_misses_nothing_and_sees_nothing_twice(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    there = program("timeline", "--plan", "P1", "--limit", "1000", "--format", "jsonl").lines[::-1]
    first, rest = there[0], sorted(there[1:], key=lambda event: event["id"])
    with program.start("plan", "history", "P1", "--follow", "--json", "--cursor", str(first["id"])) as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline()) for _ in rest]
        process.kill()
        assert process.stdout.read() == ""
    assert told == rest


def test_the_record_of_a_plan_is_one_document(ran: tuple[Program, Result], tmp_path: Path) -> None:
    program, _ = ran
    record = program("log", "P1").json
    assert (record["plan"]["number"], len(record["tasks"]), len(record["steps"])) == (1, 3, 3)
    assert [event["id"] for event in record["events"]] == sorted(event["id"] for event in record["events"])
    assert sum(actor["events"] for actor in record["actors"]) == len(record["events"])
    target = tmp_path / "P1.json"
    assert program("log", "P1", "-o", str(target)).code == 0
    assert json.loads(target.read_text()) == record
    assert program("log", "P1", "-o", str(target)).code == 2
    assert program("log", "P9").code == 4


def test_a_plan_is_exported_and_is_a_valid_plan_file(ran: tuple[Program, Result], tmp_path: Path) -> None:
    program, _ = ran
    target = tmp_path / "again.yaml"
    assert program("plan", "export", "P1", "-o", str(target)).code == 0
    assert "3 tasks" in program("plan", "check", str(target)).out
    assert program("plan", "export", "P1", "-o", str(target)).code == 2, "an existing file stays"
    assert program("plan", "check", str(target), "--json").json["tasks"] == 3


def test_steps_are_exported_and_imported_again_without_a_change(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    exported = program("step", "export").out
    assert exported.count("\n") == 3
    assert program("step", "import", "-", "--json", stdin=exported).json == {"added": 0, "present": 3}


def test_the_database_is_backed_up_restored_checked_and_counted(ran: tuple[Program, Result], tmp_path: Path) -> None:
    program, _ = ran
    backup = str(tmp_path / "kept.db")
    assert program("db", "backup", backup).code == 0
    refused = program("db", "restore", backup)
    assert refused.code == 2
    assert "--yes" in refused.err
    assert "would replace" in program("db", "restore", backup, "--dry-run").out
    assert program("db", "restore", backup, "--yes").code == 0
    assert program("db", "check").out == "sound: no problem found\n"
    assert program("db", "stats", "--json").json["rows"]["steps"] == 3
    assert program("db", "migrate").code == 0


def test_a_reader_that_goes_away_is_not_an_error(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    process = program.start("timeline", "--limit", "500")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() in (0, 141)


def test_gc_asks_says_what_it_frees_and_refuses_a_time_that_is_none(ran: tuple[Program, Result]) -> None:
    program, _ = ran
    looked = program("gc", "--older-than", "0s", "--dry-run", "--json").json
    assert (looked["dry_run"], looked["skipped"]) == (True, [])
    assert [each["kind"] for each in looked["freed"] if each["count"]] == ["worktrees", "runs"]
    refused = program("gc")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert program("gc", "--older-than", "soon", "--yes").code == 2
    done = program("gc", "--yes", "--json").json
    assert [each for each in done["freed"] if each["count"]] == [], "all of it is younger than 30 days"
