"""Figures from the command line, in this process: of all, of a project, of a plan; for people and for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.cli.conftest import Program
from tests.cli.test_deciding import told as told

from holdfast import clock
from holdfast.app import wire
from holdfast.cli.main import run
from holdfast.domain.conversation import TokenUsage
from holdfast.settings import Settings
from holdfast.store import steps, tasks

PLAN = "title: Measured\nphases:\n  - title: One\n    tasks:\n      - {title: Build, run: 'true'}\n"


def work(reference: str, attempt: int, exit_code: int) -> None:
    """Records a step of an agent, as a worker would."""
    with wire.open_house(Settings.read(), actor="tester") as house, house.database.transaction() as connection:
        step = steps.begin(
            connection,
            id=clock.new_id(),
            task_id=tasks.find(connection, reference),
            run=attempt,
            attempt=attempt,
            branch="holdfast/x",
            commit_before="a" * 40,
            actor="tester",
            agent_config={"agent": "robot", "model": "large"},
        )
        steps.use(connection, step.id, "agent-0", TokenUsage(1000, 50, cost_usd=0.25))
        steps.finish(connection, step.id, actor="tester", exit_code=exit_code)


def test_stats_tell_how_work_went_and_what_it_used(
    told: Callable[..., Any], program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = told("stats")
    assert (nothing["all"]["plans"], nothing["all"]["work"]["success_share"], nothing["agents"]) == ({}, None, [])
    for name in ("first.yaml", "second.yaml"):
        told("plan", "new", program.plan(PLAN, name))
    work("T1", 1, 1)
    work("T1", 2, 0)
    found = told("stats")
    assert (found["all"]["plans"], found["all"]["tasks"]) == ({"draft": 2}, {"pending": 2})
    counts = found["all"]["work"]["steps"]
    assert (counts["steps"], counts["completed"], counts["failed"], counts["retries"]) == (2, 1, 1, 1)
    assert found["all"]["work"]["success_share"] == 0.5
    assert found["all"]["work"]["spent"]["cost_usd"] == 0.5
    assert found["all"]["work"]["durations"].keys() == {"total_seconds", "median_seconds", "p90_seconds"}
    assert [each["project"] for each in found["projects"]] == ["shop"]
    assert [(each["agent"], each["model"]) for each in found["agents"]] == [("robot", "large")]
    assert told("stats", "--plan", "P2")["all"]["work"]["steps"]["steps"] == 0
    assert told("stats", "--project", "shop") == found
    assert "say one of them" in told("stats", "--project", "shop", "--plan", "P1", code=2)["error"]["message"]
    assert run(["stats"]) == 0
    shown = capsys.readouterr().out
    for words in ("2 (1 completed, 1 failed)", "50% of 2", "2,100 (2,000 input, 100 output)", "0.50 USD", "robot"):
        assert words in shown
