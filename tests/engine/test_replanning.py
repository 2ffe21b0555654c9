"""A task has failed for good: the plan's supervisor is asked what to do, suggests it, or does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.engine.conftest import statuses
from tests.engine.test_agents import Action, Agents, either_house, house
from tests.engine.test_reviews import APPROVED, CHANGES, one_after_another
from tests.engine.test_supervisor import said, talk

from holdfast.app import database, edits, history, planning, plans, tasks, undo
from holdfast.domain.conversation import MessageRole
from holdfast.domain.suggestions import Stale
from holdfast.domain.task import Task
from holdfast.domain.transitions import PauseReason, PlanStatus
from holdfast.errors import IllegalState

__all__ = ["either_house", "house"]

PLAN = """
title: Ours
supervisor: %s
phases:
  - title: Work
    tasks:
      - {key: build, title: Build, run: "test -e README && test -e made.txt", max_attempts: 1}
      - {key: test, title: Test, run: "echo tested > tested.txt"}
"""
RETRY = {
    "kind": "retry_task",
    "target": "build",
    "reasoning": "made.txt was never made.",
    "changes": {"run": "echo made > made.txt"},
}
SKIP = {"kind": "skip_task", "target": "build", "reasoning": "It is of no use."}
ADD = {
    "kind": "add_task",
    "target": "Work",
    "reasoning": "Somebody has to know.",
    "task": {"title": "Tell", "run": "echo told > told.txt"},
}


def answer(*suggestions: object) -> Action:
    return {"say": f"So:\n```json\n{json.dumps({'suggestions': suggestions})}\n```"}


def test_it_changes_the_plan_which_goes_on(either_house: Agents) -> None:
    house = either_house
    house.agent([{"read": "README"}, {"usage": {"used": 9, "cost": 0.25, "input": 9}}, answer(RETRY, ADD)])
    view = house.run(PLAN % "replan")
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert statuses(view) == {"build": "completed", "test": "completed", "tell": "completed"}
    assert house.files(view.plan.branch)["made.txt"] == "made\n"
    applied, review = edits.history(house.house, view.plan.id).items
    assert (review.kind, review.author, applied.kind, applied.author) == ("review", "supervisor", "apply", "supervisor")
    (question, *_, reply) = said(house, view.plan)
    assert question == ("user", "T1 build failed for good. What shall be done?")
    assert reply[1].startswith("So:")
    assert view.usage.cost_usd == 0.25
    (told,) = history.timeline(house.house, plan_id=view.plan.id, subtype="replanned").items
    assert told.actor == "supervisor"
    assert list(database.examine(house.house)) == []


def test_it_suggests_and_a_person_applies(house: Agents) -> None:
    house.agent([answer(SKIP, ADD)])
    view = house.run(PLAN % "suggest")
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.TASK_FAILED)
    assert statuses(view) == {"build": "failed", "test": "pending"}
    assert "holdfast plan apply P1 1 2 --review 1" in view.plan.error
    again = house.again(view.plan.id)
    assert again.plan.status is PlanStatus.PAUSED, "it is asked once about one failure"
    assert len([each for each in said(house, view.plan) if each[0] == "user"]) == 1
    shown = planning.apply(house.house, view.plan.id, [1, 2], dry_run=True)
    assert "Tell" in shown.after
    for numbers in ([1], [1, 2]):
        planning.apply(house.house, view.plan.id, numbers)
        with pytest.raises(Stale):
            planning.apply(house.house, view.plan.id, [1], iteration=1)
        undo.undo(house.house)
        assert statuses(plans.show(house.house, view.plan.id)) == {"build": "failed", "test": "pending"}
    undo.redo(house.house)
    view = house.again(view.plan.id)
    assert statuses(view) == {"build": "skipped", "test": "completed", "tell": "completed"}
    with pytest.raises(IllegalState, match="'Work' of T1 is completed by now"):
        undo.undo(house.house)


def test_what_was_applied_is_taken_back_with_the_tasks_that_it_opened_again(house: Agents) -> None:
    house.agent([answer(RETRY, ADD)])
    plan_id = house.run(PLAN % "suggest").plan.id
    failed = _told(plans.show(house.house, plan_id).tasks)
    planning.apply(house.house, plan_id, [1, 2])
    opened = _told(plans.show(house.house, plan_id).tasks)
    assert [each[:2] for each in opened] == [("build", "pending"), ("test", "pending"), ("tell", "pending")]
    assert undo.undo(house.house).undoes == "P1#2"
    assert _told(plans.show(house.house, plan_id).tasks) == failed
    undo.redo(house.house)
    assert _told(plans.show(house.house, plan_id).tasks) == opened
    assert house.again(plan_id).plan.status is PlanStatus.COMPLETED
    with pytest.raises(IllegalState, match="T1 is completed at T1@"):
        undo.undo(house.house)
    assert list(database.examine(house.house)) == []


def _told(listed: Sequence[Task]) -> list[tuple[object, ...]]:
    return [(task.key, task.status, task.command, task.attempt, task.failure, task.error) for task in listed]


def test_it_changes_a_plan_so_often_and_no_more(house: Agents) -> None:
    house.house.settings.supervisor_replans = 1
    house.agent([answer({**RETRY, "changes": {"run": "false"}})])
    view = house.run(PLAN % "replan")
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.TASK_FAILED)
    assert [step.task_id for step in view.steps] == [view.tasks[0].id] * 2
    assert [each.kind for each in edits.history(house.house, view.plan.id).items] == ["apply", "review"]


def test_what_cannot_be_carried_out_is_sent_back_in_the_same_session(house: Agents) -> None:
    wrong = {"kind": "modify_task", "target": "build", "reasoning": "r", "changes": {"title": "Other"}}
    house.agent([answer(wrong)], [answer(SKIP)])
    view = house.run(PLAN % "replan")
    assert statuses(view) == {"build": "skipped", "test": "completed"}
    asked = [text for role, text in said(house, view.plan) if role == "user"]
    assert len(asked) == 2
    assert "T1 build is failed" in asked[1]


@pytest.mark.parametrize("script", [[{"say": "I do not know."}], [{"fail": "auth"}]], ids=["nonsense", "login"])
def test_without_a_usable_answer_the_plan_pauses_and_says_why(house: Agents, script: list[Action]) -> None:
    house.agent(script)
    view = house.run(PLAN % "replan")
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.TASK_FAILED)
    (told,) = history.timeline(house.house, plan_id=view.plan.id, subtype="supervised").items
    assert told.data["error"]
    assert edits.history(house.house, view.plan.id).items == ()
    tasks.skip(house.house, view.tasks[0].id)
    assert house.again(view.plan.id).plan.status is PlanStatus.COMPLETED


REVIEWED = """
title: Ours
supervisor: {agent: boss, after_failure: replan}
review: {agent: reviewer, rounds: 1}
phases:
  - title: Work
    tasks:
      - {key: build, title: Build, run: "echo one > a.txt"}
"""


@pytest.mark.parametrize(
    ("suggested", "reviewed"),
    [
        (
            {**ADD, "target": "Review round 1", "task": {"title": "Fix", "run": "echo two > a.txt"}},
            {"build": "completed", "review-1": "skipped", "fix": "completed", "review-2": "completed"},
        ),
        pytest.param(
            {**RETRY, "target": "review-1", "changes": None},
            {"build": "completed", "review-1": "completed"},
            marks=pytest.mark.campaign,
        ),
    ],
)
def test_after_a_review_that_failed_work_is_added_and_reviewed_again(
    house: Agents, tmp_path: Path, suggested: Action, reviewed: dict[str, str]
) -> None:
    house.agent(*one_after_another(tmp_path, {"say": CHANGES}, {"say": APPROVED}), name="reviewer")
    house.agent([answer(suggested)], name="boss")
    view = house.run(REVIEWED)
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert statuses(view) == reviewed
    (asked, *_) = (each for each in talk(house, view.plan) if each.role is MessageRole.USER)
    assert asked.content == "T2 review-1 failed for good. What shall be done?"
    assert list(database.examine(house.house)) == []


def test_a_plan_says_who_supervises_it(house: Agents) -> None:
    house.agent([answer()])
    house.agent([answer(SKIP)], name="boss")
    view = house.run(PLAN % "{agent: boss, after_failure: replan}")
    assert view.plan.status is PlanStatus.COMPLETED
    edited = edits.edit_plan(
        house.house, plans.create(house.house, house.project, _file()).id, {"supervisor": "replan"}
    )
    assert edited.plan.supervisor == "replan"
    with pytest.raises(IllegalState):
        edits.edit_plan(house.house, view.plan.id, {"supervisor": "off"})


def _file():
    from holdfast.domain.planfile import parse

    return parse(PLAN % "off", source="plan.yaml")
