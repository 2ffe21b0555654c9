"""A person lets a plan go on through its supervisor: with what there is, a phase again, or from a checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.engine.conftest import statuses
from tests.engine.test_agents import Agents, either_house, house
from tests.engine.test_supervisor import drafted, said

from holdfast.app import database, plans, supervisor, undo
from holdfast.app import supervisor_resumes as resumes
from holdfast.app.plans import PlanView
from holdfast.app.supervisor_resumes import Mode
from holdfast.domain.conversation import MessageRole
from holdfast.domain.transitions import PauseReason, PlanStatus
from holdfast.engine import restoring
from holdfast.errors import HoldfastError, IllegalState, UsageError

__all__ = ["either_house", "house"]

EITHER = ["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)]

TWO = """
title: Ours
phases:
  - title: First
    tasks:
      - {key: one, title: One, run: "echo one >> one.txt"}
  - title: Last
    tasks:
      - {key: two, title: Two, instructions: Do it}
      - {key: three, title: Three, run: "echo three >> three.txt"}
"""
USE_TABS = "Use tabs from here on."


def talked_about(house: Agents) -> PlanView:
    """Gives a plan that has run, with a question to its supervisor before, and one after."""
    house.agent([{"say": "yes"}])
    plan = drafted(house, TWO)
    supervisor.ask(house.house, plan.id, "Before?")
    plans.execute(house.house, plan.id)
    with house.working() as worker:
        view = house.until(worker, plan.id)
    supervisor.ask(house.house, plan.id, "After?")
    return view


BEFORE = [("user", "Before?"), ("assistant", "yes")]
AFTER = [*BEFORE, ("user", "After?"), ("assistant", "yes")]


@pytest.mark.parametrize(
    "either_house", ["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)], indirect=True
)
def test_from_a_checkpoint_work_and_talk_go_back_as_one_and_the_agents_are_told_more(either_house: Agents) -> None:
    house = either_house
    view = talked_about(house)
    plan = view.plan
    preview = resumes.preview_with(house.house, plan.id, Mode.FROM_CHECKPOINT, at="T1@2", context=USE_TABS)
    assert preview is not None
    assert ([step.number for step in preview.rolled_back], preview.messages) == ([2, 3], 4)
    done = resumes.resume_with(house.house, plan.id, Mode.FROM_CHECKPOINT, at="T1@2", context=USE_TABS)
    assert done.outcome["context"] == USE_TABS
    back = plans.show(house.house, plan.id)
    assert (back.plan.status, back.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.ROLLBACK)
    assert statuses(back) == {"one": "completed", "two": "pending", "three": "pending"}
    assert said(house, plan) == [*BEFORE, ("user", USE_TABS)]
    undo.undo(house.house, plan_id=plan.id)
    taken_back = plans.show(house.house, plan.id)
    assert (taken_back.plan.status, taken_back.plan.context) == (PlanStatus.COMPLETED, "")
    assert said(house, plan) == AFTER
    undo.redo(house.house, plan_id=plan.id)
    assert said(house, plan) == [*BEFORE, ("user", USE_TABS)]
    house.agent([{"say": "done"}])
    view = house.again(plan.id)
    assert view.plan.status is PlanStatus.COMPLETED, view.tasks[1].error
    assert house.files(plan.branch)["three.txt"] == "three\n"
    (prompt,) = house.said(view.tasks[1].id, MessageRole.USER)
    assert prompt.endswith(f"## What a person adds\n{USE_TABS}\n")
    assert list(database.examine(house.house)) == []


def test_a_phase_is_begun_again_and_its_supervisor_knows_why(house: Agents) -> None:
    house.agent([{"say": "tried"}])
    house.agent([{"say": "{prompt}"}], name="boss")
    check = "{key: three, title: Three, max_attempts: 1, run: 'test -e made.txt'}"
    view = house.run(TWO.replace('{key: three, title: Three, run: "echo three >> three.txt"}', check))
    assert statuses(view) == {"one": "completed", "two": "completed", "three": "failed"}
    done = resumes.resume_with(house.house, view.plan.id, Mode.RESTART_PHASE, context="Make it first.")
    assert done.outcome["before the phase"] == "Last"
    house.agent([{"write": {"path": "made.txt", "text": "{prompt}"}}])
    assert "Make it first." in supervisor.ask(house.house, view.plan.id, "Why?", agent="boss").answer
    with pytest.raises(IllegalState, match="nothing of the phase has run"):
        resumes.resume_with(house.house, view.plan.id, Mode.RESTART_PHASE)
    view = house.again(view.plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert "Make it first." in house.files(view.plan.branch)["made.txt"]
    assert [step.number for step in view.steps if not step.active] == [2, 3]
    with pytest.raises(HoldfastError):
        undo.undo(house.house, f"O{done.number}", plan_id=view.plan.id)


def test_what_is_added_as_it_stands_can_be_taken_back(house: Agents) -> None:
    plan = drafted(house)
    resumes.resume_with(house.house, plan.id, Mode.CONTINUE, context=f" {USE_TABS}\n")
    shown = plans.show(house.house, plan.id).plan
    assert (shown.context, said(house, plan)) == (USE_TABS, [("user", USE_TABS)])
    undo.undo(house.house, plan_id=plan.id)
    shown = plans.show(house.house, plan.id).plan
    assert (shown.status, shown.context, said(house, plan)) == (PlanStatus.DRAFT, "", [])


def test_what_cannot_go_back_is_refused_and_nothing_is_moved(house: Agents) -> None:
    plan = drafted(house)
    for mode, at, error in [
        (Mode.FROM_CHECKPOINT, "", UsageError),
        (Mode.CONTINUE, "1", UsageError),
        (Mode.RESTART_PHASE, "", IllegalState),
        (Mode.FROM_CHECKPOINT, "1", IllegalState),
    ]:
        with pytest.raises(error):
            resumes.resume_with(house.house, plan.id, mode, at=at, context="more")
    plans.execute(house.house, plan.id)
    with pytest.raises(IllegalState, match="is running"):
        resumes.resume_with(house.house, plan.id, Mode.RESTART_PHASE, context="more")
    other = drafted(house)
    plans.cancel(house.house, other.id)
    with pytest.raises(IllegalState, match="was cancelled"):
        resumes.resume_with(house.house, other.id, Mode.CONTINUE, context="more")
    assert said(house, plan) == said(house, other) == []


@pytest.mark.parametrize(
    "point",
    ["engine.restore.branches_moved", pytest.param("engine.restore.before_commit", marks=pytest.mark.campaign)],
)
def test_killed_on_the_way_back_it_is_carried_through_and_said_once(house: Agents, point: str) -> None:
    view = talked_about(house)
    env = {**os.environ, "HOLDFAST_DATA": str(house.house.settings.data), "HOLDFAST_FAILPOINT": point}
    words = f"supervisor resume P1 --mode from_checkpoint --at T1@2 --context {USE_TABS.replace(' ', '_')} --yes"
    line = [sys.executable, "-m", "holdfast", *words.split()]
    assert subprocess.run(line, env=env, cwd=house.repository, capture_output=True).returncode == -9
    with pytest.raises(IllegalState, match="under way"):
        supervisor.ask(house.house, view.plan.id, "Now?")
    restoring.finish_open(house.house, view.plan.id)
    assert said(house, view.plan) == [*BEFORE, ("user", USE_TABS.replace(" ", "_"))]
    assert list(database.examine(house.house)) == []
