"""Forks on the command line, of a task that runs a command."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Program

PLAN = """
title: Two
variables: {WORD: one}
phases:
  - title: Only
    tasks:
      - {title: First, key: first, run: 'echo {{ WORD }} >> words'}
      - {title: Second, key: second, run: 'cat words > copy'}
"""


@pytest.fixture(scope="module")
def ran(shared: Program) -> Program:
    assert shared("run", shared.plan(PLAN)).code == 0
    return shared


def test_a_fork_is_made_at_a_checkpoint_and_waits_to_be_started(ran: Program) -> None:
    assert ran("task", "fork", "T1", "--at", "1", "--dry-run").out == "would fork T1 at T1@1\n"
    assert len(ran("plan", "list", "--json").json["items"]) == 1
    made = ran("task", "fork", "T1", "--at", "2", "--name", "Once more", "--json").json
    assert (made["task"]["fork_point"], made["task"]["status"], made["task"]["number"]) == ("T1@2", "pending", 3)
    assert made["plan"]["title"] == "Fork of T1@2: Once more"
    assert ran("plan", "execute", "P2").code == 0
    assert ran("resume", "P2").code in (0, 3)
    shown = ran("task", "show", "T3", "--json").json
    assert (shown["task"]["status"], shown["task"]["branch"].endswith("--once-more")) == ("completed", True)
    assert ran("task", "diff", "T3", "latest", "--against", "1", "--json").json["additions"] == 1
    assert "T3" in ran("task", "race", "T1").out
    assert ran("timeline", "--task", "T1", "--subtype", "forked", "--json").json["items"][0]["data"]["fork"] == "T3"


def test_looking_only_checks_what_doing_would_check(ran: Program) -> None:
    again = ran("plan", "execute", "P1", "--from", "phase", "--dry-run")
    assert (again.code, again.out.splitlines()[-1]) == (0, "would run P1 again from the phase 'Only'")
    for words, code in (
        (("plan", "execute", "P1", "--from", "task", "--phase", "1"), 2),
        (("plan", "execute", "P1", "--from", "current", "--dry-run"), 3),
        (("plan", "merge", "P1", "--branch", "a..b", "--dry-run"), 2),
        (("task", "fork", "T1", "--branch", "holdfast/two", "--dry-run"), 3),
    ):
        assert ran(*words).code == code, words
    assert ran("plan", "merge", "P1", "--branch", "mine", "--dry-run").out.startswith("would write the branch mine")


def test_a_fork_is_run_at_once_from_where_the_task_stands(ran: Program) -> None:
    assert ran("task", "resume-from", "T2", "--at", "1", "--name", "Copy again", "--branch", "mine/copy").code == 0
    shown = [item for item in ran("plan", "list", "--json").json["items"] if "Copy again" in item["title"]]
    assert shown[0]["status"] == "completed"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("fork", "T1", "--at", "9"), 4, "it has T1@2, T1@1"),
        (("fork", "T1", "--at", "1", "--at-time", "1h"), 2, "starts at one point"),
        (("fork", "T1", "--agent", "codex"), 2, "runs a command"),
        (("fork", "T1", "--branch", "mine/../x"), 2, "is not a name for a branch"),
        (("continue", "T1", "--context", "x"), 2, "no agent to tell"),
        (("continue", "T1", "--mode", "from_checkpoint"), 2, "is missing"),
        (("continue", "T1", "--mode", "clean_restart"), 2, "--yes"),
    ],
)
def test_what_cannot_be_done_is_said(ran: Program, words: tuple[str, ...], code: int, told: str) -> None:
    refused = ran("task", *words)
    assert (refused.code, told in refused.err) == (code, True), refused.err


def test_a_completed_task_is_run_again_where_it_stands(ran: Program) -> None:
    assert ran("task", "continue", "T2").out == "T2 is pending\n"
    assert ran("resume", "P1").code == 0
    assert ran("status", "P1", "--json").json["plan"]["status"] == "completed"
    assert len(ran("task", "show", "T2", "--json").json["steps"]) == 2
