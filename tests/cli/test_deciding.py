"""Gates and permissions from the command line, in this process: what is decided, remembered, set, and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.cli.conftest import Program

from holdfast.app import wire
from holdfast.cli.main import run
from holdfast.clock import new_id
from holdfast.domain.plan import ApprovalKind
from holdfast.settings import Settings
from holdfast.store import approvals, plans, tasks

PLAN = """
title: Asked
agent: scripted
phases:
  - title: One
    tasks:
      - {title: Build, instructions: Do it}
      - {title: Test, instructions: Try it, permissions: allow-all}
"""
OFFERED = [{"id": "a", "name": "Yes", "kind": "allow_once"}, {"id": "b", "name": "Always", "kind": "allow_always"}]


@pytest.fixture
def told(program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command that has to succeed and gives the document that it prints."""
    monkeypatch.chdir(program.repository)
    for name, value in program.variables.items():
        monkeypatch.setenv(name, value)

    def command(*words: str, code: int = 0) -> Any:
        assert run([*words, "--json"]) == code, capsys.readouterr().err
        said = capsys.readouterr()
        return json.loads(said.err if code else said.out)

    command("init")
    return command


@pytest.fixture
def drafted(told: Callable[..., Any], program: Program) -> Callable[..., Any]:
    told("plan", "new", program.plan(PLAN))
    return told


def ask(task: str, **details: Any) -> str:
    """Opens the gate that the question of a task's agent would be."""
    asked = {"step": 1, "tool": "", "kind": "execute", "command": "", "paths": [], "diff": "", "cut": False}
    with wire.open_house(Settings.read(), actor="agent") as house, house.database.transaction() as connection:
        found = tasks.get(connection, tasks.find(connection, task))
        gate = approvals.open(
            connection,
            id=new_id(),
            plan_id=found.plan_id,
            kind=ApprovalKind.PERMISSION,
            subject=f"{found.key}{details}",
            title=f"{task} wants to: {details.get('command')}",
            task_id=found.id,
            details=asked | {"options": OFFERED} | details,
            actor="agent",
        )
    return f"A{gate.number}"


def policy(task: str = "T1") -> tuple[Any, Any]:
    """Gives the permissions of the plan and of a task as they are stored."""
    with wire.open_house(Settings.read(), actor="tester") as house, house.database.read() as connection:
        found = tasks.get(connection, tasks.find(connection, task))
        return plans.get(connection, found.plan_id).permissions, found.permissions


def test_permissions_are_edited_and_taken_away(drafted: Callable[..., Any]) -> None:
    rules = '[{allow: execute, command: "npm test*"}, ask]'
    drafted("plan", "edit", "P1", "--permissions", "allow-edits")
    changed = drafted("task", "edit", "T1", "--permissions", rules)["changes"]
    assert changed[0]["after"] == {"permissions": [{"allow": "execute", "command": "npm test*"}, "ask"]}
    assert [None if each is None else str(each.otherwise) for each in policy()] == ["allow-edits", "ask"]
    drafted("task", "edit", "T1", "--unset", "permissions")
    drafted("plan", "edit", "P1", "--unset", "permissions")
    assert policy() == (None, None)
    wrong = drafted("task", "edit", "T1", "--permissions", "allow-everything", code=2)["error"]
    assert "allow-everything" in wrong["message"]


def test_an_approval_is_remembered_where_the_policy_is(drafted: Callable[..., Any]) -> None:
    first = ask("T1", command="make all")
    (listed,) = drafted("approvals")["items"]
    assert (listed["number"], listed["status"], listed["details"]["command"]) == (1, "open", "make all")
    assert drafted("approve", first, "--remember", "-m", "fine")["status"] == "approved"
    assert drafted("approvals")["items"] == []
    assert drafted("approvals", first)["comment"] == "fine"
    second = ask("T2", kind="edit", paths=["a.py"])
    decided = drafted("approve", second, "--always", "--remember")
    assert decided["details"]["always"] is True
    of_plan, _ = policy()
    _, of_task = policy("T2")
    assert [(rule.kind, rule.command, rule.path) for rule in of_plan.rules] == [("execute", "make all", "")]
    assert [(rule.kind, rule.command, rule.path) for rule in of_task.rules] == [("edit", "", "a.py")]
    assert [each["number"] for each in drafted("approvals", "--all")["items"]] == [2, 1]


def test_what_cannot_be_remembered_is_refused_and_stays_open(drafted: Callable[..., Any]) -> None:
    gate = ask("T1", command="rm -rf build", options=OFFERED[:1], cut=True)
    no_always = drafted("approve", gate, "--always", code=2)["error"]
    assert ("offers no `always`" in no_always["message"], no_always["hint"]) == (
        True,
        "let Holdfast remember it: --remember",
    )
    assert "cannot be written as a rule" in drafted("approve", gate, "--remember", code=2)["error"]["message"]
    assert drafted("approvals", gate)["status"] == "open"
    assert policy() == (None, None)
    drafted("reject", gate, "-m", "not that")
    assert "was rejected already" in drafted("approve", gate, code=3)["error"]["message"]


def test_settings_of_a_project_are_set_shown_and_taken_away(told: Callable[..., Any]) -> None:
    told("project", "set", "agent", "opencode")
    told("project", "set", "permissions", "[{reject: execute, command: 'rm *'}, allow-edits]")
    told("project", "set", "include_ignored", ".env*", "*.key")
    told("project", "set", "sandbox", "none")
    assert told("project", "show")["settings"] == {
        "sandbox": "none",
        "agent": "opencode",
        "permissions": [{"reject": "execute", "command": "rm *"}, "allow-edits"],
        "include_ignored": [".env*", "*.key"],
    }
    for words, code in (
        (("agent", "nobody"), 4),
        (("permissions", "yes!"), 2),
        (("agnet", "x"), 2),
        (("agent", "a", "b"), 2),
    ):
        assert told("project", "set", *words, code=code)["error"]["message"]
    assert "agent" not in told("project", "unset", "agent")["settings"]
