"""The same task runs several times side by side; nothing is merged before one result is picked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.engine.conftest import Bench, statuses

from holdfast.app import plans, races, tasks
from holdfast.app.plans import PlanView
from holdfast.cli.ending import advice
from holdfast.domain.plan import Plan
from holdfast.domain.planfile import parse
from holdfast.domain.transitions import PlanStatus, TaskStatus
from holdfast.errors import IllegalState, Unavailable, UserError

PLAN = """
title: Small
phases:
  - title: P
    tasks:
      - title: Before
        key: before
        run: echo before > before.txt
      - title: Work
        key: work
        depends_on: [before]
        max_attempts: 1
        run: |
          case $HOLDFAST_TASK_KEY in work) exit 1;; contestant-3) exit 7;; esac
          echo $HOLDFAST_TASK_KEY > who.txt
        verify: ['grep -v nobody who.txt']
      - title: After
        key: after
        depends_on: [work]
        run: cat before.txt who.txt > after.txt
"""


def failed(bench: Bench) -> PlanView:
    """Runs the plan to where its task has failed."""
    view = bench.run(PLAN)
    assert statuses(view) == {"before": "completed", "work": "failed", "after": "pending"}
    return view


def work_of(view: PlanView) -> str:
    return next(task.id for task in view.tasks if task.key == "work")


def raced(bench: Bench, task_id: str, each: int = 3) -> PlanView:
    race = races.start(bench.house, task_id, each=each)
    with bench.working() as worker:
        return bench.until(worker, race.id)


def draft(bench: Bench, text: str) -> Plan:
    return plans.create(bench.house, bench.project, parse(text, source="plan.yaml"))


def test_a_failed_task_is_raced_and_the_picked_result_is_its_own(bench: Bench) -> None:
    view = failed(bench)
    race = raced(bench, work_of(view))
    assert statuses(race) == {"contestant-1": "completed", "contestant-2": "completed", "contestant-3": "failed"}
    pick, retry, *_ = advice(bench.house, race)
    assert pick == "compare them:  holdfast task race T2   then take one:  holdfast task race T2 --pick N"
    assert retry.startswith("try again:")
    before = bench.vault().head(view.plan.branch)
    shown = races.show(bench.house, work_of(view)).contestants
    assert [(each.verify, each.files, each.additions, each.picked) for each in shown] == [
        ("passed", 1, 1, False),
        ("passed", 1, 1, False),
        ("", 0, 0, False),
    ]
    step = races.pick(bench.house, work_of(view), 2)
    assert step.commit_before == before
    done = bench.again(view.plan.id)
    assert done.plan.status is PlanStatus.COMPLETED
    assert bench.files(view.plan.branch)["after.txt"] == "before\ncontestant-2\n"
    ended = plans.show(bench.house, race.plan.id)
    assert statuses(ended) == {"contestant-1": "completed", "contestant-2": "completed", "contestant-3": "skipped"}
    assert ended.plan.status is PlanStatus.CANCELLED
    assert [each.picked for each in races.show(bench.house, work_of(view)).contestants] == [False, True, False]
    for task in ended.tasks:
        assert bench.vault().head(task.branch) is not None, "every branch stays"


def test_a_task_of_a_draft_is_raced(bench: Bench) -> None:
    plan = draft(
        bench, "title: T\nphases:\n- title: P\n  tasks:\n  - {title: W, key: w, run: echo $HOLDFAST_TASK_KEY > w}\n"
    )
    task_id = plans.show(bench.house, plan.id).tasks[0].id
    race = raced(bench, task_id, 2)
    assert race.plan.status is PlanStatus.COMPLETED
    assert advice(bench.house, race)[0].startswith("compare them:")
    races.pick(bench.house, task_id, 1)
    assert advice(bench.house, race) == ["the race is over: T1 is completed"]
    plans.execute(bench.house, plan.id)
    with bench.working() as worker:
        view = bench.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert bench.files(view.plan.branch)["w"] == "contestant-1\n"
    assert len(view.steps) == 1, "the task was not run again"


def test_what_cannot_be_raced_or_picked_is_refused(bench: Bench) -> None:
    plan = draft(bench, PLAN)
    work = work_of(plans.show(bench.house, plan.id))
    with pytest.raises(IllegalState, match="depends on T1 before"):
        races.start(bench.house, work)
    with pytest.raises(UserError, match="no contestant 1"):
        races.pick(bench.house, work, 1)
    before = plans.show(bench.house, plan.id).tasks[0].id
    with pytest.raises(UserError, match="it has no agent to choose"):
        races.start(bench.house, before, agents=["codex"])
    asks = draft(bench, "title: A\nphases:\n- title: P\n  tasks:\n  - {title: W, agent: nobody, instructions: x}\n")
    with pytest.raises(Unavailable, match="nobody"):
        races.start(bench.house, plans.show(bench.house, asks.id).tasks[0].id, agents=["nobody"])
    view = failed(bench)
    race = raced(bench, work_of(view))
    with pytest.raises(IllegalState, match="is failed: only a completed one"):
        races.pick(bench.house, work_of(view), 3)
    with pytest.raises(IllegalState, match="is a contestant itself"):
        races.start(bench.house, race.tasks[0].id)
    races.pick(bench.house, work_of(view), 1)
    with pytest.raises(IllegalState, match="is completed"):
        races.pick(bench.house, work_of(view), 2)


PICK = "import sys\nfrom holdfast.app import races, wire\nwith wire.open_house() as house:\n"
PICK += "    races.pick(house, sys.argv[1], int(sys.argv[2]))\n"


@pytest.mark.parametrize("failpoint", [pytest.param("app.race.begun", marks=pytest.mark.campaign), "app.race.merged"])
def test_a_pick_that_was_killed_is_carried_through_by_picking_again_also_another(bench: Bench, failpoint: str) -> None:
    view = failed(bench)
    (bench.house.places.plan_worktree(view.plan) / "stray").write_text("left by the failed try\n")
    raced(bench, work_of(view))
    environment = {**os.environ, "HOLDFAST_DATA": str(bench.house.places.data), "HOLDFAST_FAILPOINT": failpoint}
    killed = subprocess.run([sys.executable, "-c", PICK, work_of(view), "1"], env=environment, timeout=240)
    assert killed.returncode == -9
    assert tasks.show(bench.house, work_of(view)).task.status is TaskStatus.FAILED
    races.pick(bench.house, work_of(view), 2)
    done = bench.again(view.plan.id)
    assert done.plan.status is PlanStatus.COMPLETED
    assert bench.files(view.plan.branch) == {
        ".gitignore": "*.secret\n",
        "README": "hello\n",
        "before.txt": "before\n",
        "who.txt": "contestant-2\n",
        "after.txt": "before\ncontestant-2\n",
    }
    assert "Work" in bench.subjects(view.plan.branch)
