"""The events of a plan, replayed, give the state of its rows, whatever happened to it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.engine.conftest import Bench, git
from tests.engine.test_agents import ONE, Agents, house  # noqa: F401 - a fixture

from holdfast.app import approvals, edits, history, plans, tasks
from holdfast.app.plans import PlanView
from holdfast.domain.history import EventType
from holdfast.domain.plan import PauseMode
from holdfast.domain.replay import Replay
from holdfast.domain.step import state
from holdfast.domain.transitions import PlanStatus
from holdfast.store import checkpoints, told

EVENTFUL = """
title: Eventful
gates: [plan, result]
verify: ["test -e by-hand"]
phases:
  - title: one
    tasks:
      - {key: flaky, title: Flaky, run: "test $HOLDFAST_ATTEMPT -ge 2 && echo f > flaky"}
      - {key: broken, title: Broken, run: "echo half > half; false", max_attempts: 1}
      - {key: hopeless, title: Hopeless, run: "false", max_attempts: 1}
      - {key: slow, title: Slow, run: "while ! test -e GO; do sleep 0.05; done"}
      - {key: never, title: Never, run: "true"}
  - title: two
    mode: parallel
    tasks:
      - {key: left, title: Left, run: "while ! test -e BEGUN; do sleep 0.05; done; echo left > same"}
      - {key: right, title: Right, run: "touch BEGUN; test -f same && echo merged >> same || echo right > same"}
  - title: three
    mode: manual
    tasks: [{key: asked, title: Asked, run: "echo a > asked"}, {key: refused, title: Refused, run: "false"}]
  - title: none
    when: variables.NAME == "nobody"
    tasks: [{key: left-out, title: Left out, run: "false"}]
variables: {NAME: somebody}
"""

KINDS = """
plan.created plan.stage plan.paused plan.completed plan.edited phase.edited phase.skipped task.added task.removed
task.retrying task.failed task.skipped task.paused step.failed step.interrupted step.completed
checkpoint.initial checkpoint.step checkpoint.stage approval.open approval.approved approval.rejected
"""


def replayed(bench: Bench, plan_id: str) -> Replay:
    replay = Replay()
    for event in history.everything(bench.house, plan_id=plan_id):
        replay.feed(event)
    return replay


def agrees(bench: Bench, plan_id: str) -> Counter[str]:
    """Asserts that history tells the whole state of the plan; gives how often it tells of what."""
    with bench.house.database.read() as connection:
        assert list(told.untold(connection, plan_id)) == []
    return Counter(f"{each.type}.{each.subtype}" for each in history.everything(bench.house, plan_id=plan_id))


def decide(bench: Bench, view: PlanView, *, approve: bool = True) -> None:
    approvals.decide(bench.house, view.gates[0].id, approve=approve, comment="" if approve else "not that one")


def gate(key: str):
    return lambda view: any(each.title and key in f"{each.kind} {each.title}" for each in view.gates)


def test_a_plan_that_met_everything_is_told_whole(bench: Bench, tmp_path: Path) -> None:
    go = tmp_path / "go"
    plan = bench.start(EVENTFUL.replace("GO", str(go)).replace("BEGUN", str(tmp_path / "begun")))
    agrees(bench, plan.id)
    ids = {task.key: task.id for task in plans.show(bench.house, plan.id).tasks}
    with bench.working() as worker:
        decide(bench, bench.until(worker, plan.id, gate("plan")))
        view = bench.until(worker, plan.id)
    assert view.plan.pause_reason == "task_failed"
    agrees(bench, plan.id)

    (bench.house.places.plan_worktree(view.plan) / "by-hand").write_text("mine\n")
    tasks.complete(bench.house, ids["broken"])
    edits.remove_task(bench.house, ids["never"])
    edits.edit_phase(bench.house, plan.id, "three", {"title": "by hand"})
    edits.add_task(bench.house, plan.id, {"key": "added", "title": "Added", "run": "true"}, phase="one")
    edits.edit_plan(bench.house, plan.id, {"title": "Very eventful"})
    assert bench.again(plan.id).plan.pause_reason == "task_failed"
    tasks.retry(bench.house, ids["hopeless"])
    agrees(bench, plan.id)
    assert bench.again(plan.id).plan.pause_reason == "task_failed"
    tasks.skip(bench.house, ids["hopeless"])

    plans.resume(bench.house, plan.id)
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: any(step.task_id == ids["slow"] for step in view.steps))
        plans.pause(bench.house, plan.id, PauseMode.INTERRUPT)
        bench.until(worker, plan.id)
    agrees(bench, plan.id)
    go.touch()
    view = bench.again(plan.id)
    assert {task.key: task.failure for task in view.tasks if task.failure}["right"] == "merge_conflict"
    agrees(bench, plan.id)
    tasks.retry(bench.house, ids["right"])
    plans.resume(bench.house, plan.id)
    with bench.working() as worker:
        decide(bench, bench.until(worker, plan.id, gate("task")))
        bench.until(worker, plan.id, lambda view: sum(step.task_id == ids["asked"] for step in view.steps) == 1)
        decide(bench, bench.until(worker, plan.id, gate("task")), approve=False)
        decide(bench, bench.until(worker, plan.id, gate("result")))
        assert bench.until(worker, plan.id).plan.status is PlanStatus.COMPLETED
    counted = agrees(bench, plan.id)
    for kind in KINDS.split():
        assert counted[kind], kind


def test_what_is_replayed_is_what_the_verbs_show(bench: Bench) -> None:
    view = bench.run("title: T\nphases: [{title: p, tasks: [{title: a, run: 'echo a > a'}, {title: b, run: 'true'}]}]")
    state_of = replayed(bench, view.plan.id).state
    assert state_of[EventType.PLAN, view.plan.id] == {
        "title": "T",
        "status": "completed",
        "stage": "completed",
        "pause_reason": None,
    }
    for step in view.steps:
        found = state_of[EventType.STEP, step.id]
        assert (found["number"], found["state"], found["commit_after"]) == (
            step.number,
            state(step),
            step.commit_after,
        )
    with bench.house.database.read() as connection:
        kept = checkpoints.list_(connection, plan_id=view.plan.id, limit=1000).items
    assert {each.id for each in kept} == {id for type, id in state_of if type is EventType.CHECKPOINT}


def test_an_agents_questions_and_a_cancelled_plan_are_told(house: Agents) -> None:  # noqa: F811
    house.house.settings.permissions = "ask"
    question = {"title": "Make it", "input": {"command": "make"}, "allow": [{"write": {"path": "x", "text": "x"}}]}
    house.agent([{"ask": question}])
    plan = house.start(ONE)
    with house.working() as worker:
        house.until(worker, plan.id, lambda view: bool(view.gates))
        agrees(house, plan.id)
        plans.cancel(house.house, plan.id)
        assert house.until(worker, plan.id).plan.status is PlanStatus.CANCELLED
    counted = agrees(house, plan.id)
    assert counted["approval.cancelled"] == 1
    assert counted["task.cancelled"] == 1
    assert counted["plan.cancelled"] == 1
    assert git(house.repository, "status", "--porcelain") == ""
