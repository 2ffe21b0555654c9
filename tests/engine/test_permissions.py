"""An agent asks whether it may: the policy answers, or a person does, however late and whatever died meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import DEADLINE_SECONDS, Bench, opened, settings, statuses

from holdfast.app import approvals, conversations, database, edits, execution, plans
from holdfast.app.plans import PlanView
from holdfast.domain import permissions
from holdfast.domain.plan import Approval, PauseMode
from holdfast.domain.planfile import parse
from holdfast.domain.transitions import ApprovalStatus, PauseReason, PlanStatus
from holdfast.errors import IllegalState, UsageError
from holdfast.settings import Settings

ROOT = Path(__file__).parents[2]
ASK = {"title": "Run make", "input": {"command": "make all"}}
ALLOWED = [{"write": {"path": "made", "text": "{answer}\n"}}]
REFUSED = [{"write": {"path": "refused", "text": "{answer}\n"}}]
QUESTION = {"ask": {**ASK, "allow": ALLOWED, "reject": REFUSED}}


def agents(chosen: Settings, repository: Path) -> Iterator[Bench]:
    yield from opened(replace(chosen, agents=chosen.data.parent / "agents.toml", permissions="ask"), repository)


@pytest.fixture
def house(tmp_path: Path, repository: Path) -> Iterator[Bench]:
    yield from agents(settings(tmp_path), repository)


@pytest.fixture(params=["sqlite", "postgres"])
def either_house(request: pytest.FixtureRequest, tmp_path: Path, repository: Path) -> Iterator[Bench]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    yield from agents(settings(tmp_path, url), repository)


def script(bench: Bench, *turns: Sequence[Mapping[str, Any]], name: str = "worker", more: str = "") -> None:
    """Adds an agent that plays these turns."""
    file = bench.house.settings.agents
    path = file.with_name(f"{name}.json")
    path.write_text(json.dumps({"agent": {"models": ["own-model", "nobody-knows"]}, "turns": turns}))
    command = json.dumps([sys.executable, "-m", "holdfast.agents.scripted", str(path)])
    sessions = json.dumps(str(file.with_name("sessions")))
    told = file.read_text() if file.exists() else ""
    environment = f"environment = {{HOLDFAST_SCRIPTED_SESSIONS = {sessions}}}"
    file.write_text(f"{told}\n[{name}]\ncommand = {command}\n{environment}\n{more}\n")


def plan_of(*tasks: str, head: str = "", mode: str = "sequential") -> str:
    listed = "".join(f"      - {{{task}}}\n" for task in tasks or ["title: one, instructions: Do it"])
    return f"title: T\nagent: worker\n{head}\nphases:\n  - title: a\n    mode: {mode}\n    tasks:\n{listed}"


def waiting(view: PlanView) -> bool:
    return view.plan.status is PlanStatus.WAITING


def asked(view: PlanView) -> bool:
    return bool(view.gates)


def prompts(bench: Bench, view: PlanView) -> list[str]:
    found = conversations.show(bench.house, view.tasks[0].id).items
    return [message.content for message in found if message.role == "user"]


# -- a person answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("approve", [True, False])
def test_a_question_waits_for_a_person_while_its_worker_is_killed_and_another_one_comes(
    house: Bench, tmp_path: Path, approve: bool
) -> None:
    script(house, [QUESTION])
    file = tmp_path / "plan.yaml"
    file.write_text(plan_of())
    chosen = house.house.settings
    given = {
        "HOLDFAST_DATA": str(chosen.data),
        "HOLDFAST_AGENTS": str(chosen.agents),
        "HOLDFAST_PERMISSIONS": "ask",
        "HOLDFAST_SANDBOX": "none",
    }
    command = [sys.executable, "-m", "tests.harness.driver", str(house.repository), str(file)]
    worker = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **given}, stdout=subprocess.DEVNULL)
    try:
        gate = wait_for_gate(house, worker)
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    plan_id = gate.plan_id
    assert plans.show(house.house, plan_id).plan.status is PlanStatus.WAITING
    assert gate.details["command"] == "make all"
    assert gate.details["kind"] == "execute"
    approvals.decide(house.house, gate.id, approve=approve)
    with house.working() as again:
        view = house.until(again, plan_id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert (len(view.steps), view.steps[0].restarts) == (1, 0)
    assert house.files(view.plan.branch).get("made") == ("allow\n" if approve else None)
    assert house.files(view.plan.branch).get("refused") == (None if approve else "reject\n")
    assert len(approvals.list_(house.house, open_only=False)) == 1
    assert list(database.examine(house.house)) == []


def wait_for_gate(bench: Bench, worker: subprocess.Popen[bytes]) -> Approval:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        found = approvals.list_(bench.house)
        if found and plans.show(bench.house, found[0].plan_id).plan.status is PlanStatus.WAITING:
            return found[0]
        assert worker.poll() is None, "the worker has ended"
        time.sleep(0.05)
    raise AssertionError("the agent never asked")


def test_a_plan_whose_agent_asks_waits_and_says_so_with_its_exit_code(either_house: Bench) -> None:
    house = either_house
    script(house, [QUESTION])
    plan = house.start(plan_of())
    with house.working() as worker:
        view = house.until(worker, plan.id, waiting)
        assert execution.exit_code(view.plan) == 7
        (gate,) = view.gates
        approvals.decide(house.house, gate.id, approve=True, always=True)
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert house.files(plan.branch)["made"] == "always\n"
    assert list(database.examine(house.house)) == []


def test_two_agents_ask_at_once_and_each_gets_its_own_answer(house: Bench) -> None:
    script(house, [QUESTION])
    script(house, [{"ask": {**ASK, "allow": [{"write": {"path": "other", "text": "x"}}]}}], name="other")
    text = plan_of("title: one, instructions: a", "title: two, instructions: b, agent: other", mode="parallel")
    plan = house.start(text)
    with house.working() as worker:
        view = house.until(worker, plan.id, lambda view: len(view.gates) == 2 and waiting(view))
        keys = {task.id: task.key for task in view.tasks}
        for gate in view.gates:
            approvals.decide(house.house, gate.id, approve=keys[str(gate.task_id)] == "two")
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert {"refused", "other"} <= set(house.files(plan.branch))
    assert "made" not in house.files(plan.branch)


def test_a_cancelled_plan_takes_its_question_back(house: Bench) -> None:
    script(house, [QUESTION])
    plan = house.start(plan_of())
    with house.working() as worker:
        (gate,) = house.until(worker, plan.id, asked).gates
        plans.cancel(house.house, plan.id)
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.CANCELLED
    assert approvals.show(house.house, gate.id).status is ApprovalStatus.CANCELLED
    with pytest.raises(IllegalState, match="the agent that asked is gone") as told:
        approvals.decide(house.house, gate.id, approve=True)
    assert told.value.code == "gate_cancelled"
    assert list(database.examine(house.house)) == []


def test_an_interrupted_agent_asks_anew_when_its_plan_goes_on(house: Bench) -> None:
    script(house, [QUESTION])
    plan = house.start(plan_of())
    with house.working() as worker:
        (first,) = house.until(worker, plan.id, asked).gates
        plans.pause(house.house, plan.id, PauseMode.INTERRUPT)
        view = house.until(worker, plan.id)
        assert view.plan.pause_reason is PauseReason.USER
        assert view.steps[0].interrupted
        assert not view.gates
    plans.resume(house.house, plan.id)
    with house.working() as worker:
        (second,) = house.until(worker, plan.id, asked).gates
        assert second.id != first.id
        approvals.decide(house.house, second.id, approve=True)
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert house.files(plan.branch)["made"] == "allow\n"


def test_an_agent_that_dies_while_it_asks_leaves_a_question_that_nobody_can_answer(house: Bench) -> None:
    script(house, [{"run": "echo $PPID > agent.pid"}, QUESTION])
    plan = house.start(plan_of())
    with house.working() as worker:
        (first,) = house.until(worker, plan.id, asked).gates
        os.kill(int((house.house.places.plan_worktree(plan) / "agent.pid").read_text()), signal.SIGKILL)
        view = house.until(worker, plan.id, lambda view: bool(view.gates) and view.gates[0].id != first.id)
        with pytest.raises(IllegalState, match="the agent that asked is gone"):
            approvals.decide(house.house, first.id, approve=True)
        approvals.decide(house.house, view.gates[0].id, approve=True)
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert (len(view.steps), view.steps[0].restarts) == (1, 1)


def test_what_a_person_said_to_a_rejection_is_the_agents_next_prompt(house: Bench) -> None:
    script(house, [QUESTION], [{"write": {"path": "heard", "text": "{prompt}"}}])
    plan = house.start(plan_of())
    with house.working() as worker:
        (gate,) = house.until(worker, plan.id, asked).gates
        approvals.decide(house.house, gate.id, approve=False, comment="make is not installed; use ninja")
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    heard = house.files(plan.branch)["heard"]
    assert "make all: make is not installed; use ninja" in heard
    assert [each for each in prompts(house, view) if "ninja" in each] == [heard]
    assert len(prompts(house, view)) == 2


# -- the policy answers ----------------------------------------------------------------------------------------------


def test_a_remembered_permission_is_a_rule_of_the_plan_and_is_not_asked_again(house: Bench) -> None:
    script(house, [QUESTION, {"ask": {**ASK, "input": {"command": "make all; rm x"}, "reject": REFUSED}}])
    plan = house.start(plan_of("title: one, instructions: a", "title: two, instructions: b"))
    with house.working() as worker:
        (gate,) = house.until(worker, plan.id, asked).gates
        approvals.decide(house.house, gate.id, approve=True, remember=True)
        for number in range(2):
            (gate,) = house.until(worker, plan.id, asked).gates
            assert gate.details["command"] == "make all; rm x", number
            approvals.decide(house.house, gate.id, approve=False)
            house.until(worker, plan.id, lambda view, gate=gate: gate not in view.gates)
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    rule = {"allow": "execute", "command": "make all"}
    assert view.plan.permissions == permissions.read([rule])
    exported = parse(plans.export(house.house, plan.id), source="export")
    assert exported.permissions == view.plan.permissions
    first, second = (step.agent_config["permissions"] for step in view.steps)
    assert (first, second) == ("ask", [rule, "ask"])


def test_a_rule_goes_to_the_task_that_has_a_policy_of_its_own(house: Bench) -> None:
    script(house, [QUESTION])
    plan = house.start(plan_of("title: one, instructions: a, permissions: ask", head="permissions: allow-all"))
    with house.working() as worker:
        (gate,) = house.until(worker, plan.id, asked).gates
        approvals.decide(house.house, gate.id, approve=True, remember=True)
        view = house.until(worker, plan.id)
    assert permissions.plain(view.plan.permissions or permissions.Policy()) == "allow-all"
    rule = {"allow": "execute", "command": "make all"}
    assert view.tasks[0].permissions == permissions.read([rule, "ask"])


@pytest.mark.parametrize(
    ("head", "task", "of_agent", "answer"),
    [
        ("", "", 'permissions = "allow-all"', "made"),
        ("permissions: [{reject: execute}]", "", 'permissions = "allow-all"', "refused"),
        ("permissions: allow-all", ", permissions: [{reject: execute, command: 'make *'}]", "", "refused"),
        ("permissions: [{reject: edit}]", "", 'permissions = [{allow = "execute", command = "make *"}]', "made"),
    ],
)
def test_the_nearest_policy_answers_and_nobody_is_asked(
    house: Bench, head: str, task: str, of_agent: str, answer: str
) -> None:
    script(house, [QUESTION], more=of_agent)
    view = house.run(plan_of(f"title: one, instructions: a{task}", head=head))
    assert view.plan.status is PlanStatus.COMPLETED
    assert answer in house.files(view.plan.branch)
    assert approvals.list_(house.house, open_only=False) == ()


def test_a_policy_that_is_changed_while_an_agent_works_counts_from_then_on(house: Bench) -> None:
    script(house, [{"await": "go"}, QUESTION])
    plan = house.start(plan_of())
    with house.working() as worker:
        house.until(worker, plan.id, lambda view: statuses(view)["one"] == "running" and bool(view.steps))
        edits.edit_plan(house.house, plan.id, {"permissions": [{"allow": "execute", "command": "make *"}]})
        (house.house.places.plan_worktree(plan) / "go").touch()
        view = house.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert "made" in house.files(plan.branch)


@pytest.mark.parametrize(
    ("ask", "given"),
    [
        ({"title": "Fetch it", "kind": "fetch"}, {"approve": True, "remember": True}),
        ({"title": "x", "input": {"command": "echo \x1b[2J"}}, {"approve": True, "remember": True}),
        ({"title": "x", "input": {"command": "x" * 20_000}}, {"approve": True, "remember": True}),
        (ASK, {"approve": False, "remember": True}),
        (ASK, {"approve": False, "always": True}),
    ],
)
def test_what_cannot_be_remembered_is_refused_and_stays_open(
    house: Bench, ask: Mapping[str, Any], given: Mapping[str, bool]
) -> None:
    script(house, [{"ask": ask}])
    plan = house.start(plan_of())
    with house.working() as worker:
        (gate,) = house.until(worker, plan.id, asked).gates
        with pytest.raises(UsageError):
            approvals.decide(house.house, gate.id, **given)
        assert approvals.show(house.house, gate.id).status is ApprovalStatus.OPEN
        plans.cancel(house.house, plan.id)
        house.until(worker, plan.id)


def test_a_setting_that_is_no_policy_is_said_before_anything_runs(house: Bench) -> None:
    script(house, [QUESTION])
    house.house.settings.permissions = "yes"
    with pytest.raises(UsageError, match="HOLDFAST_PERMISSIONS"):
        house.start(plan_of())
