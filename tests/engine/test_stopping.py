"""A plan is stopped: by its gates, by people, by budgets, by time limits; and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.conftest import Bench, statuses

from holdfast.app import approvals, database, execution, plans, tasks
from holdfast.app.plans import PlanView
from holdfast.domain.budget import Budget
from holdfast.domain.plan import PauseMode
from holdfast.domain.task import FailureKind
from holdfast.domain.transitions import PauseReason, PlanStage, PlanStatus
from holdfast.errors import IllegalState

SLOW = """
title: Slow
phases:
  - title: a
    tasks:
      - {title: slow, run: "echo begun > begun; sleep 60 & wait"}
      - {title: next, run: "true"}
"""
UNTIL_KILLED = "sleep 60 & wait"


def until(go: Path) -> str:
    return f"while ! test -e {go}; do sleep 0.05; done"


def running(key: str, steps: int = 1):
    def reached(view: PlanView) -> bool:
        return statuses(view)[key] == "running" and len(view.steps) == steps

    return reached


def gate_open(view: PlanView) -> bool:
    return bool(view.gates)


def test_gates_wait_for_a_person_who_may_decide_while_no_worker_lives(either: Bench) -> None:
    plan = either.start(
        """
title: Gated
gates: [plan, result]
phases:
  - {title: m, mode: manual, tasks: [{title: one, run: "echo 1 > one"}, {title: two, run: "echo 2 > two"}]}
"""
    )
    with either.working() as worker:
        view = either.until(worker, plan.id, gate_open)
        assert view.plan.stage is PlanStage.PLAN_AWAITING_APPROVAL
        assert execution.exit_code(either.until(worker, plan.id, lambda v: v.plan.status == "waiting").plan) == 7
    approvals.decide(either.house, view.gates[0].id, approve=False, comment="not yet")
    with either.working() as worker:
        view = either.until(worker, plan.id)
    assert (view.plan.stage, view.plan.pause_reason) == (PlanStage.PLANNING, PauseReason.APPROVAL)
    assert "not yet" in view.plan.error

    plans.resume(either.house, plan.id)
    with either.working() as worker:
        for expected in ("plan", "task"):
            view = either.until(worker, plan.id, gate_open)
            assert view.gates[0].kind == expected
            approvals.decide(either.house, view.gates[0].id, approve=True)
        view = either.until(worker, plan.id, lambda v: bool(v.gates) and statuses(v)["one"] == "completed")
        assert view.steps[0].ended_at is not None
        with pytest.raises(IllegalState):
            approvals.decide(either.house, approvals.list_(either.house, open_only=False)[-1].id, approve=True)
        approvals.decide(either.house, view.gates[0].id, approve=False, comment="leave it out")
        view = either.until(worker, plan.id, lambda v: any(gate.kind == "result" for gate in v.gates))
        assert statuses(view) == {"one": "completed", "two": "skipped"}
        approvals.decide(either.house, view.gates[0].id, approve=True)
        view = either.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert set(either.files(plan.branch)) == {".gitignore", "README", "one"}
    assert list(database.examine(either.house)) == []


def test_an_interrupted_plan_stops_at_once_keeps_its_files_and_resumes_the_same_attempt(either: Bench) -> None:
    plan = either.start(SLOW)
    with either.working() as worker:
        begun = either.house.places.plan_worktree(plan) / "begun"
        either.until(worker, plan.id, lambda view: running("slow")(view) and begun.exists())
        plans.pause(either.house, plan.id, PauseMode.INTERRUPT)
        view = either.until(worker, plan.id)
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.USER)
    assert execution.exit_code(view.plan) == 130
    assert view.steps[0].interrupted
    assert statuses(view) == {"slow": "paused", "next": "pending"}
    newest = tasks.show(either.house, view.tasks[0].id).checkpoints[0]
    assert "begun" in either.files(newest.commit)

    plans.resume(either.house, plan.id)
    with either.working() as worker:
        view = either.until(worker, plan.id, running("slow", steps=2))
        assert (view.tasks[0].attempt, view.steps[1].attempt) == (1, 1)
        plans.cancel(either.house, plan.id)
        view = either.until(worker, plan.id)
    assert view.plan.status is PlanStatus.CANCELLED
    assert set(statuses(view).values()) == {"cancelled"}
    assert {str(phase.status) for phase in view.phases} == {"cancelled"}
    with pytest.raises(IllegalState):
        plans.resume(either.house, plan.id)
    assert list(database.examine(either.house)) == []


def test_a_task_that_was_stopped_is_left_out_and_one_that_was_left_out_is_done_after_all(bench: Bench) -> None:
    house = bench.house
    plan = bench.start(SLOW)
    with bench.working() as worker:
        bench.until(worker, plan.id, running("slow"))
        with pytest.raises(IllegalState, match="T1 is running: only a task that has failed, was stopped") as refused:
            tasks.skip(house, plans.show(house, plan.id).tasks[0].id)
        assert "--interrupt" in refused.value.hint
        plans.pause(house, plan.id, PauseMode.INTERRUPT)
        slow, after = bench.until(worker, plan.id).tasks
    tasks.skip(house, slow.id)
    tasks.skip(house, after.id)
    tasks.retry(house, after.id)
    view = bench.again(plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert statuses(view) == {"slow": "skipped", "next": "completed"}
    for wrong in (tasks.retry, tasks.skip):
        with pytest.raises(IllegalState, match="P1 is completed: none of its tasks"):
            wrong(house, slow.id)
    assert list(database.examine(house)) == []


def test_a_completed_task_is_not_tried_again_where_it_stands(bench: Bench) -> None:
    view = bench.run(
        "title: T\nphases: [{title: a, pause_after: true, tasks: [{title: t, run: 'true'}]}, "
        "{title: b, tasks: [{title: u, run: 'true'}]}]"
    )
    with pytest.raises(IllegalState, match="T1 is completed: only a task that has failed") as refused:
        tasks.retry(bench.house, view.tasks[0].id)
    assert refused.value.hint == "go back to before it: holdfast task rewind T1 --to 1"


def test_a_drained_plan_lets_what_runs_finish_and_starts_nothing_more(bench: Bench) -> None:
    go = bench.repository.parent / "go"
    plan = bench.start(SLOW.replace(UNTIL_KILLED, until(go)))
    with bench.working() as worker:
        bench.until(worker, plan.id, running("slow"))
        plans.pause(bench.house, plan.id, PauseMode.DRAIN)
        go.touch()
        view = bench.until(worker, plan.id)
    assert view.plan.pause_reason is PauseReason.USER
    assert statuses(view) == {"slow": "completed", "next": "pending"}
    assert bench.again(plan.id).plan.status is PlanStatus.COMPLETED


def test_a_stop_that_is_taken_back_in_time_changes_nothing(bench: Bench) -> None:
    go = bench.repository.parent / "go"
    plan = bench.start(SLOW.replace(UNTIL_KILLED, until(go)))
    with bench.working() as worker:
        bench.until(worker, plan.id, running("slow"))
        plans.pause(bench.house, plan.id, PauseMode.DRAIN)
        plans.resume(bench.house, plan.id)
        go.touch()
        view = bench.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED


def test_a_time_limit_kills_the_whole_command_and_counts_as_a_failed_attempt(bench: Bench) -> None:
    view = bench.run(
        "title: T\nphases: [{title: a, tasks: [{title: t, run: 'sleep 60 & sleep 60', timeout: 0.3, max_attempts: 2}]}]"
    )
    assert [step.failure for step in view.steps] == [FailureKind.TIMEOUT, FailureKind.TIMEOUT]
    assert "time limit" in view.tasks[0].error


@pytest.mark.parametrize("place", ["plan", "task"])
def test_a_used_up_budget_stops_what_runs_and_pauses_the_plan(bench: Bench, place: str) -> None:
    budget = "budget: {max_seconds: 0.5}"
    plan_line, task_part = (budget, "") if place == "plan" else ("", f", {budget}")
    view = bench.run(
        f"title: T\n{plan_line}\nphases:\n"
        f"  - {{title: a, tasks: [{{title: t, run: 'sleep 60'{task_part}}}, {{title: u, run: 'true'}}]}}"
    )
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.BUDGET)
    assert execution.exit_code(view.plan) == 9
    assert statuses(view) == {"t": "paused", "u": "pending"}
    assert view.steps[0].interrupted
    again = bench.again(view.plan.id)
    assert again.plan.pause_reason is PauseReason.BUDGET, "nothing more may be spent"
    plans.set_budget(bench.house, view.plan.id, Budget(), task_id=view.tasks[0].id if place == "task" else None)
    plans.resume(bench.house, view.plan.id)
    with bench.working() as worker:
        bench.until(worker, view.plan.id, lambda view: statuses(view)["t"] == "running")
        plans.cancel(bench.house, view.plan.id)
        assert bench.until(worker, view.plan.id).plan.status is PlanStatus.CANCELLED


def test_a_task_that_needs_an_agent_is_refused_before_anything_starts(bench: Bench) -> None:
    from holdfast.errors import Unavailable

    with pytest.raises(Unavailable, match="needs claude-code"):
        bench.start("title: T\nagent: claude-code\nphases: [{title: a, tasks: [{title: t, instructions: 'do it'}]}]")
    assert plans.list_(bench.house).items[0].status is PlanStatus.DRAFT


def test_a_cancelled_parallel_phase_ends_though_a_finished_task_waited_for_its_turn(bench: Bench) -> None:
    plan = bench.start(
        """
title: Cancelled
phases:
  - title: p
    mode: parallel
    tasks: [{title: slow, run: "sleep 60"}, {title: quick, run: "echo q > q"}]
"""
    )
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: any(step.ended_at for step in view.steps))
        plans.cancel(bench.house, plan.id)
        view = bench.until(worker, plan.id)
    assert view.plan.status is PlanStatus.CANCELLED
    assert statuses(view) == {"slow": "cancelled", "quick": "completed"}


def test_a_plan_that_was_paused_at_its_gate_waits_there_again(bench: Bench) -> None:
    plan = bench.start("title: T\ngates: [plan]\nphases: [{title: a, tasks: [{title: t, run: 'true'}]}]")
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: view.plan.status == "waiting")
        plans.pause(bench.house, plan.id, PauseMode.DRAIN)
        assert bench.until(worker, plan.id).plan.status is PlanStatus.PAUSED
        plans.resume(bench.house, plan.id)
        view = bench.until(worker, plan.id, lambda view: view.plan.status == "waiting")
    assert len(view.gates) == 1


def test_checks_of_a_plan_are_not_stopped_by_its_budget_and_run_again_after_a_stop(bench: Bench) -> None:
    plan = bench.start(
        "title: T\nbudget: {max_seconds: 30}\nverify: ['test -f GO || sleep 60']\n".replace(
            "GO", str(bench.repository.parent / "go")
        )
        + "phases: [{title: a, tasks: [{title: t, run: 'true'}]}]"
    )
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: view.plan.stage is PlanStage.VERIFYING)
        plans.pause(bench.house, plan.id, PauseMode.INTERRUPT)
        assert bench.until(worker, plan.id).plan.status is PlanStatus.PAUSED
        plans.set_budget(bench.house, plan.id, Budget(max_seconds=0.001))
        (bench.repository.parent / "go").touch()
        plans.resume(bench.house, plan.id)
        assert bench.until(worker, plan.id).plan.status is PlanStatus.COMPLETED


def test_a_plan_that_failed_while_a_task_ran_is_cancelled_with_that_task(bench: Bench) -> None:
    from holdfast.engine import plan_run

    plan = bench.start(SLOW)
    with bench.working() as worker:
        assert worker is not None
        view = bench.until(worker, plan.id, running("slow"))
        plan_run.fail(worker.runtime, plan.id, view.plan.run, "its driver could not go on")
        assert plans.show(bench.house, plan.id).plan.status is PlanStatus.FAILED
        plans.cancel(bench.house, plan.id)
        view = bench.until(worker, plan.id)
    assert view.plan.status is PlanStatus.CANCELLED
    assert statuses(view)["slow"] == "cancelled"
