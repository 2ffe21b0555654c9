from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.builders import NOW, make_phase, make_plan, make_task

from holdfast.domain.budget import Budget, Usage
from holdfast.domain.plan import PauseMode, Phase, PhaseMode, Plan
from holdfast.domain.readiness import (
    Action,
    CompletePhase,
    FailPhase,
    FinishImplementation,
    OpenTaskGate,
    PausePhase,
    PausePlan,
    PlanState,
    QueueTask,
    SkipPhase,
    StartPhase,
    Wait,
    blocked_by,
    decide,
    may_merge,
)
from holdfast.domain.task import Task
from holdfast.domain.transitions import PauseReason, PhaseStatus, PlanStatus, TaskStatus

LATER = NOW + timedelta(minutes=5)
PARALLEL = make_phase(mode=PhaseMode.PARALLEL)
SEQUENTIAL = make_phase()
MANUAL = make_phase(mode=PhaseMode.MANUAL)


def decided(
    *tasks: Task, phases: tuple[Phase, ...] = (SEQUENTIAL,), plan: Plan | None = None, usage: Usage | None = None
) -> tuple[Action, ...]:
    state = PlanState(plan or make_plan(), phases, tasks, usage or Usage())
    return decide(state, now=NOW, max_parallel=2)


def is_(task: Task, status: TaskStatus, **changes: object) -> Task:
    return replace(task, status=status, **changes)  # type: ignore[arg-type]


A, B, C = make_task("a", 0), make_task("b", 1), make_task("c", 2)


def test_a_plan_that_does_not_execute_has_nothing_to_do() -> None:
    for status in set(PlanStatus) - {PlanStatus.RUNNING, PlanStatus.WAITING}:
        assert decided(A, plan=make_plan(status=status)) == ()
    assert decided(A, plan=make_plan(cancel_requested=True)) == ()


def test_a_pending_phase_starts_with_its_first_task() -> None:
    phase = make_phase(status=PhaseStatus.PENDING)
    assert decided(A, B, phases=(phase,)) == (StartPhase("phase-0"), QueueTask("a"))


def test_phases_run_in_order_of_position() -> None:
    later = make_task("z", phase=1)
    phases = (make_phase(1, status=PhaseStatus.PENDING), make_phase(0, status=PhaseStatus.PENDING))
    assert decided(later, A, phases=phases) == (StartPhase("phase-0"), QueueTask("a"))


def test_a_sequential_phase_runs_one_task_at_a_time() -> None:
    assert decided(A, B) == (QueueTask("a"),)
    assert decided(is_(A, TaskStatus.QUEUED), B) == (Wait(),)
    assert decided(is_(A, TaskStatus.COMPLETED), B) == (QueueTask("b"),)


def test_dependencies_come_before_position() -> None:
    assert decided(make_task("a", 0, "c"), B, C) == (QueueTask("b"),)
    assert decided(make_task("a", 0, "c"), is_(B, TaskStatus.COMPLETED), C) == (QueueTask("c"),)


def test_a_parallel_phase_fills_its_places() -> None:
    assert decided(A, B, C, phases=(PARALLEL,)) == (QueueTask("a"), QueueTask("b"))
    assert decided(is_(A, TaskStatus.RUNNING), B, C, phases=(PARALLEL,)) == (QueueTask("b"),)
    running = is_(A, TaskStatus.RUNNING), is_(B, TaskStatus.QUEUED)
    assert decided(*running, C, phases=(PARALLEL,)) == (Wait(),)


def test_a_skipped_dependency_counts_as_done() -> None:
    assert decided(is_(A, TaskStatus.SKIPPED), make_task("b", 1, "a"), phases=(PARALLEL,)) == (QueueTask("b"),)


def test_a_manual_phase_asks_before_each_task() -> None:
    assert decided(A, B, phases=(MANUAL,)) == (OpenTaskGate("a"),)
    asked = is_(A, TaskStatus.AWAITING_APPROVAL)
    assert decided(asked, B, phases=(MANUAL,)) == (Wait(gates=("a",)),)
    assert decided(replace(asked, approved=True), B, phases=(MANUAL,)) == (QueueTask("a"),)
    assert decided(is_(A, TaskStatus.INTERRUPTED, approved=True), B, phases=(MANUAL,)) == (QueueTask("a"),)


def test_a_retry_waits_for_its_time_and_keeps_its_turn() -> None:
    retrying = is_(A, TaskStatus.RETRYING, retry_at=LATER)
    assert decided(retrying, B) == (Wait(until=LATER),)
    assert decided(replace(retrying, retry_at=NOW), B) == (QueueTask("a"),)


def test_a_retry_in_a_parallel_phase_leaves_its_place_to_others() -> None:
    retrying = is_(A, TaskStatus.RETRYING, retry_at=LATER)
    assert decided(retrying, B, C, phases=(PARALLEL,)) == (QueueTask("b"), QueueTask("c"))


@pytest.mark.parametrize("status", [TaskStatus.INTERRUPTED, TaskStatus.PAUSED])
def test_work_that_was_stopped_goes_on_before_other_work(status: TaskStatus) -> None:
    assert decided(A, is_(B, status)) == (QueueTask("b"),)


def test_a_failed_task_stops_a_sequential_phase() -> None:
    failed = is_(A, TaskStatus.FAILED)
    fail, pause = decided(failed, B)
    assert fail == FailPhase("phase-0", ("a",))
    assert isinstance(pause, PausePlan)
    assert (pause.reason, pause.task_ids) == (PauseReason.TASK_FAILED, ("a",))
    assert decided(failed, is_(B, TaskStatus.RUNNING)) == (Wait(),)


def test_a_failed_task_of_a_parallel_phase_stops_only_its_dependants() -> None:
    failed = is_(A, TaskStatus.FAILED)
    dependant = make_task("b", 1, "a")
    assert decided(failed, dependant, C, phases=(PARALLEL,)) == (QueueTask("c"),)
    assert decided(failed, dependant, is_(C, TaskStatus.RUNNING), phases=(PARALLEL,)) == (Wait(),)
    fail, pause = decided(failed, dependant, is_(C, TaskStatus.COMPLETED), phases=(PARALLEL,))
    assert fail == FailPhase("phase-0", ("a",))
    assert isinstance(pause, PausePlan)
    assert pause.reason is PauseReason.TASK_FAILED


def test_a_failed_phase_goes_on_when_its_task_is_tried_again() -> None:
    phase = make_phase(status=PhaseStatus.FAILED, when="false")
    assert decided(A, B, phases=(phase,)) == (StartPhase("phase-0"), QueueTask("a"))
    done = is_(A, TaskStatus.COMPLETED), is_(B, TaskStatus.SKIPPED)
    assert decided(*done, phases=(phase,)) == (StartPhase("phase-0"),)


def test_a_failed_phase_whose_task_is_still_failed_pauses_again() -> None:
    (pause,) = decided(is_(A, TaskStatus.FAILED), B, phases=(make_phase(status=PhaseStatus.FAILED),))
    assert isinstance(pause, PausePlan)
    assert pause.reason is PauseReason.TASK_FAILED


def test_nothing_ready_and_something_unfinished_is_a_deadlock() -> None:
    cancelled = is_(A, TaskStatus.CANCELLED)
    pause_phase, pause = decided(cancelled, make_task("b", 1, "a"))
    assert pause_phase == PausePhase("phase-0")
    assert isinstance(pause, PausePlan)
    assert pause.reason is PauseReason.DEADLOCK
    assert "held up by a (cancelled)" in pause.message


@pytest.mark.parametrize("phase", [SEQUENTIAL, PARALLEL, MANUAL])
def test_a_cycle_is_a_deadlock(phase: Phase) -> None:
    *_, pause = decided(make_task("a", 0, "b"), make_task("b", 1, "a"), phases=(phase,))
    assert isinstance(pause, PausePlan)
    assert pause.reason is PauseReason.DEADLOCK


def test_a_dependency_that_is_gone_is_a_deadlock() -> None:
    *_, pause = decided(make_task("a", 0, "gone"))
    assert isinstance(pause, PausePlan)
    assert "a task that is gone (gone)" in pause.message


def test_a_phase_completes_when_every_task_is_completed_or_skipped() -> None:
    done = is_(A, TaskStatus.COMPLETED), is_(B, TaskStatus.SKIPPED)
    assert decided(*done) == (CompletePhase("phase-0"),)


def test_pause_after_pauses_in_the_same_decision_and_never_again() -> None:
    phase = make_phase(pause_after=True)
    complete, pause = decided(is_(A, TaskStatus.COMPLETED), phases=(phase,))
    assert complete == CompletePhase("phase-0")
    assert isinstance(pause, PausePlan)
    assert pause.reason is PauseReason.PHASE_COMPLETE
    completed = replace(phase, status=PhaseStatus.COMPLETED)
    assert decided(is_(A, TaskStatus.COMPLETED), phases=(completed,)) == (FinishImplementation(),)


def test_a_false_condition_skips_the_phase_and_its_tasks() -> None:
    phase = make_phase(status=PhaseStatus.PENDING, when='variables.RUN == "yes"')
    plan = make_plan(variables={"RUN": "no"})
    assert decided(A, B, phases=(phase,), plan=plan) == (SkipPhase("phase-0", ("a", "b"), phase.when),)
    plan = make_plan(variables={"RUN": "yes"})
    assert decided(A, B, phases=(phase,), plan=plan) == (StartPhase("phase-0"), QueueTask("a"))


def test_a_condition_without_an_answer_pauses_the_plan_and_says_why() -> None:
    phase = make_phase(status=PhaseStatus.PENDING, when='variables.RUN == "yes"')
    (pause,) = decided(A, phases=(phase,))
    assert isinstance(pause, PausePlan)
    assert pause.reason is PauseReason.DEADLOCK
    assert "'RUN'" in pause.message


def test_a_stop_starts_nothing_and_pauses_once_nothing_runs() -> None:
    stopping = make_plan(stop=PauseMode.DRAIN)
    assert decided(is_(A, TaskStatus.RUNNING), B, phases=(PARALLEL,), plan=stopping) == (Wait(),)
    retrying = is_(A, TaskStatus.RETRYING, retry_at=LATER)
    pause_phase, pause = decided(retrying, B, phases=(PARALLEL,), plan=stopping)
    assert pause_phase == PausePhase("phase-0")
    assert isinstance(pause, PausePlan)
    assert pause.reason is PauseReason.USER


def test_a_stop_does_not_skip_the_completion_of_a_phase() -> None:
    stopping = make_plan(stop=PauseMode.DRAIN)
    assert decided(is_(A, TaskStatus.COMPLETED), plan=stopping) == (CompletePhase("phase-0"),)


def test_a_paused_phase_starts_again_with_its_plan() -> None:
    assert decided(A, phases=(make_phase(status=PhaseStatus.PAUSED),)) == (StartPhase("phase-0"), QueueTask("a"))


def test_a_used_up_budget_starts_nothing_and_pauses_once_nothing_runs() -> None:
    plan = make_plan(budget=Budget(max_seconds=10))
    assert decided(is_(A, TaskStatus.RUNNING), B, plan=plan, usage=Usage(seconds=10)) == (Wait(),)
    _, pause = decided(is_(A, TaskStatus.COMPLETED), B, plan=plan, usage=Usage(seconds=10))
    assert isinstance(pause, PausePlan)
    assert pause.reason is PauseReason.BUDGET
    assert decided(A, plan=plan, usage=Usage(seconds=9)) == (QueueTask("a"),)


def test_a_budget_that_is_used_up_by_the_last_task_does_not_hold_the_plan() -> None:
    plan = make_plan(budget=Budget(max_seconds=10))
    completed = make_phase(status=PhaseStatus.COMPLETED)
    done = is_(A, TaskStatus.COMPLETED)
    assert decided(done, phases=(completed,), plan=plan, usage=Usage(seconds=99)) == (FinishImplementation(),)


def test_a_plan_with_an_unfinished_task_is_never_finished() -> None:
    (pause,) = decided(A, phases=(make_phase(status=PhaseStatus.COMPLETED),))
    assert isinstance(pause, PausePlan)
    assert pause.reason is PauseReason.DEADLOCK


def test_finished_tasks_are_merged_in_order_of_position() -> None:
    first, second = is_(A, TaskStatus.RUNNING), is_(B, TaskStatus.RUNNING)
    assert may_merge(first, [first, second])
    assert not may_merge(second, [first, second])
    for status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED):
        assert may_merge(second, [is_(A, status), second])


def test_a_merge_waits_for_a_task_of_its_level_that_was_queued_before_it() -> None:
    assert not may_merge(is_(B, TaskStatus.RUNNING), [is_(A, TaskStatus.QUEUED), B])


@pytest.mark.parametrize("status", [TaskStatus.PENDING, TaskStatus.RETRYING, TaskStatus.INTERRUPTED, TaskStatus.PAUSED])
def test_a_merge_does_not_wait_for_what_is_not_under_way(status: TaskStatus) -> None:
    assert may_merge(is_(B, TaskStatus.RUNNING), [is_(A, status), is_(B, TaskStatus.RUNNING)])
    again = is_(A, TaskStatus.QUEUED, started_at=NOW)
    assert may_merge(is_(B, TaskStatus.RUNNING), [again, is_(B, TaskStatus.RUNNING)])


def test_a_merge_does_not_wait_for_another_level() -> None:
    first = make_task("a", 0, "c", status=TaskStatus.RUNNING)
    second = is_(B, TaskStatus.RUNNING)
    assert may_merge(second, [first, second, is_(C, TaskStatus.COMPLETED)])


def test_blocked_by_finds_the_cause_behind_other_tasks() -> None:
    tasks = [is_(A, TaskStatus.FAILED), make_task("b", 1, "a"), make_task("c", 2, "b")]
    assert blocked_by(tasks[2], tasks) == ("a",)
    assert blocked_by(tasks[0], tasks) == ()
