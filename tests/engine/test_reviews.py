"""A reviewer judges a plan's result: what it finds is put right, and what it cannot say a person decides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import Bench, statuses

from holdfast.app import conversations, plans, tasks
from holdfast.app.plans import PlanView
from holdfast.domain.conversation import MessageRole
from holdfast.domain.task import FailureKind
from holdfast.domain.transitions import PauseReason, PlanStage, PlanStatus

Action = Mapping[str, Any]
Turns = Sequence[Sequence[Action]]

APPROVED = '```json\n{"verdict": "approved", "findings": []}\n```'
CHANGES = '```json\n{"verdict": "changes_needed", "findings": [{"file": "a.txt", "problem": "it must say two"}]}\n```'
WORK: Turns = [[{"write": {"path": "a.txt", "text": "one\n"}}]]

PLAN = """
title: Small
review: {agent: reviewer, rounds: %(rounds)s}
%(more)s
phases:
  - title: P
    tasks:
      - title: Work
        key: work
        agent: worker
        instructions: Write a.txt.
"""


def agents(bench: Bench, **scripts: Turns) -> None:
    """Gives the house agents that play such turns."""
    folder = bench.repository.parent
    lines: list[str] = []
    for name, turns in scripts.items():
        script = folder / f"{name}.json"
        script.write_text(json.dumps({"turns": turns}))
        command = [sys.executable, "-m", "holdfast.agents.scripted", str(script)]
        lines.append(f"[{name}]\ncommand = {json.dumps(command)}\n")
    bench.house.settings.agents = folder / "agents.toml"
    bench.house.settings.agents.write_text("\n".join(lines))


def one_after_another(folder: Path, *actions: Action) -> Turns:
    """Gives turns that do one of the actions each, whatever session they are in, and the last one ever after."""
    places = ((folder / f"done-{actions[0].keys()}-{number}", action) for number, action in enumerate(actions[:-1]))
    return [[*({"once": str(place), **action, "stop": "end_turn"} for place, action in places), actions[-1]]]


def plan(rounds: int = 2, more: str = "") -> str:
    return PLAN % {"rounds": rounds, "more": more}


def told(bench: Bench, view: PlanView, key: str) -> list[str]:
    """Gives what the agent of a task was told."""
    task = next(task for task in view.tasks if task.key == key)
    items = conversations.show(bench.house, task.id).items
    return [each.content for each in items if each.role is MessageRole.USER]


def test_an_approved_result_completes_the_plan(bench: Bench) -> None:
    agents(
        bench,
        worker=WORK,
        reviewer=[[{"read": "a.txt"}, {"usage": {"used": 10, "size": 100, "cost": 0.5}}, {"say": APPROVED}]],
    )
    view = bench.run(plan())
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert statuses(view) == {"work": "completed", "review-1": "completed"}
    assert view.usage.cost_usd == 0.5
    (asked,) = told(bench, view, "review-1")
    assert "+one" in asked
    assert "“Small”" in asked


def test_findings_are_put_right_and_reviewed_again(bench: Bench, tmp_path: Path) -> None:
    writes = [{"write": {"path": "a.txt", "text": f"{word}\n"}} for word in ("one", "two")]
    reviewer = one_after_another(tmp_path, {"say": CHANGES}, {"say": APPROVED})
    agents(bench, worker=one_after_another(tmp_path, *writes), reviewer=reviewer)
    view = bench.run(plan())
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert list(statuses(view)) == ["work", "review-1", "changes-1", "review-2"]
    assert bench.files(view.plan.branch)["a.txt"] == "two\n"
    assert "1. a.txt: it must say two" in told(bench, view, "changes-1")[0]
    assert "1. a.txt: it must say two" in told(bench, view, "review-2")[0]
    assert [phase.title for phase in view.phases] == ["P", "Review round 1", "Review round 2"]


def test_after_the_last_round_a_person_decides(bench: Bench) -> None:
    agents(bench, worker=WORK, reviewer=[[{"say": CHANGES}]])
    view = bench.run(plan(rounds=1))
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.TASK_FAILED)
    reviewer = view.tasks[-1]
    assert (reviewer.key, reviewer.failure) == ("review-1", FailureKind.REVIEW)
    assert "a.txt: it must say two" in reviewer.error
    tasks.skip(bench.house, reviewer.id)
    assert bench.again(view.plan.id).plan.status is PlanStatus.COMPLETED


def test_where_a_gate_follows_the_last_round_goes_on_to_it(bench: Bench) -> None:
    agents(bench, worker=WORK, reviewer=[[{"say": CHANGES}]])
    started = bench.start(plan(rounds=1, more="gates: [result]\ngate_order: review_then_approve"))
    with bench.working() as worker:
        view = bench.until(worker, started.id, lambda seen: seen.plan.status is PlanStatus.WAITING)
    assert view.plan.stage is PlanStage.IMPLEMENTATION_AWAITING_APPROVAL
    assert statuses(view)["review-1"] == "completed"


def test_an_answer_that_cannot_be_read_is_asked_for_again_and_at_last_is_an_error(bench: Bench) -> None:
    agents(bench, worker=WORK, reviewer=[[{"say": "Looks good to me."}]])
    view = bench.run(plan())
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.TASK_FAILED)
    assert "no verdict that can be read" in view.tasks[-1].error
    assert len(told(bench, view, "review-1")) == 3
    agents(bench, worker=WORK, reviewer=[[{"say": "Hm."}], [{"say": APPROVED}]])
    tasks.retry(bench.house, view.tasks[-1].id)
    assert bench.again(view.plan.id).plan.status is PlanStatus.COMPLETED


def test_a_reviewer_cannot_change_anything(bench: Bench) -> None:
    forbidden: list[Action] = [
        {"ask": {"title": "Edit", "kind": "edit", "path": "a.txt", "allow": [{"say": "edit"}], "reject": []}},
        {"ask": {"title": "Run", "kind": "execute", "allow": [{"say": "run"}], "reject": []}},
        {"write": {"path": "a.txt", "text": "mine\n"}},
        {"say": "in mode {mode}\n" + APPROVED},
    ]
    (bench.repository / "b.txt").write_text("b\n")
    agents(bench, worker=WORK, reviewer=[forbidden])
    script, file = bench.repository.parent / "reviewer.json", bench.house.settings.agents
    script.write_text(json.dumps({**json.loads(script.read_text()), "agent": {"modes": ["code", "look"]}}))
    file.write_text(f'{file.read_text()}mode = "code"\nread_only_mode = "look"\n')
    view = bench.run(plan(more="verify: ['grep one a.txt']"))
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert bench.files(view.plan.branch)["a.txt"] == "one\n"
    said = [each.content for each in conversations.show(bench.house, view.tasks[-1].id).items]
    assert "edit" not in said
    assert "run" not in said
    assert f"in mode look\n{APPROVED}" in said


def test_what_fails_in_the_checks_goes_back_to_be_put_right(bench: Bench, tmp_path: Path) -> None:
    writes = [{"write": {"path": "a.txt", "text": f"{word}\n"}} for word in ("one", "two")]
    agents(bench, worker=one_after_another(tmp_path, *writes), reviewer=[[{"say": APPROVED}]])
    view = bench.run(plan(rounds=3, more="verify: ['grep two a.txt || { echo no two; false; }']"))
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert list(statuses(view)) == ["work", "review-1", "changes-2", "review-3"]
    assert "no two" in told(bench, view, "changes-2")[0]


def test_checks_that_fail_to_the_end_fail_the_plan(bench: Bench) -> None:
    agents(bench, worker=WORK, reviewer=[[{"say": APPROVED}]])
    view = bench.run(plan(rounds=2, more="verify: ['false']"))
    assert view.plan.status is PlanStatus.FAILED
    assert list(statuses(view)) == ["work", "review-1", "changes-2", "review-3"]


def test_an_exported_plan_has_no_rounds(bench: Bench) -> None:
    agents(bench, worker=WORK, reviewer=[[{"say": APPROVED}]])
    text = plans.export(bench.house, bench.run(plan()).plan.id)
    assert "Review round" not in text
    assert "reviewer" in text


WORK_ON = """
import sys
from holdfast.app import execution, wire
with wire.open_house() as house, execution.working(house, "run") as worker:
    execution.follow(house, worker, sys.argv[1], lambda view: None, stop_waiting=lambda view: False)
"""


@pytest.mark.parametrize("failpoint", ["engine.agent.prompt_made:2", "engine.agent.recorded:4", "engine.review.back"])
def test_a_review_survives_the_death_of_its_worker(bench: Bench, tmp_path: Path, failpoint: str) -> None:
    writes = [{"write": {"path": "a.txt", "text": f"{word}\n"}} for word in ("one", "two")]
    reviewer = one_after_another(tmp_path, {"say": CHANGES}, {"say": APPROVED})
    agents(bench, worker=one_after_another(tmp_path, *writes), reviewer=reviewer)
    started = bench.start(plan())
    chosen = bench.house.settings
    environment = {
        **os.environ,
        "HOLDFAST_DATA": str(chosen.data),
        "HOLDFAST_AGENTS": str(chosen.agents),
        "HOLDFAST_SANDBOX": "none",
        "HOLDFAST_FAILPOINT": failpoint,
    }
    killed = subprocess.run([sys.executable, "-c", WORK_ON, started.id], env=environment, timeout=240)
    assert killed.returncode == -9
    with bench.working() as worker:
        view = bench.until(worker, started.id)
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert list(statuses(view)) == ["work", "review-1", "changes-1", "review-2"]
    assert bench.files(view.plan.branch)["a.txt"] == "two\n"
    assert len(told(bench, view, "review-1")) == 1, "it was asked once"
