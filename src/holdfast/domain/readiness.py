"""What may happen next in a plan: one pure decision over its rows, and the actions that carry it out.

The engine loops: read the plan's rows, `decide`, apply all actions of the decision in one transaction, until the
answer is `Wait`, `PausePlan` or `FinishImplementation`. A decision names only legal transitions of the rows it was
given, and it is a function of them alone, so a decision that was lost in a crash is simply made again.

A queued task counts as running: its workflow parks it (queued → paused) if it finds the plan stopping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from holdfast.domain import conditions
from holdfast.domain.budget import Budget, Usage, reached
from holdfast.domain.dependencies import levels, run_order
from holdfast.domain.plan import Phase, PhaseMode, Plan
from holdfast.domain.task import Task
from holdfast.domain.transitions import PLAN_EXECUTING, TASK_DONE, PauseReason, PhaseStatus, TaskStatus

BUSY = frozenset({TaskStatus.QUEUED, TaskStatus.RUNNING})
PHASE_DONE = frozenset({PhaseStatus.COMPLETED, PhaseStatus.SKIPPED})
_BLOCKING = frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED})
_BEGUN = frozenset(
    {TaskStatus.RETRYING, TaskStatus.INTERRUPTED, TaskStatus.PAUSED, TaskStatus.AWAITING_APPROVAL},
)


@dataclass(frozen=True, slots=True)
class StartPhase:
    """pending, paused or failed → running."""

    phase_id: str


@dataclass(frozen=True, slots=True)
class SkipPhase:
    """pending → skipped, because its condition is false; its tasks `task_ids` go pending → skipped with it."""

    phase_id: str
    task_ids: tuple[str, ...]
    condition: str


@dataclass(frozen=True, slots=True)
class QueueTask:
    """pending, awaiting_approval (approved), retrying (due), interrupted or paused → queued, and its workflow."""

    task_id: str


@dataclass(frozen=True, slots=True)
class OpenTaskGate:
    """pending → awaiting_approval, with an open approval; the plan is `waiting` until a person decides."""

    task_id: str


@dataclass(frozen=True, slots=True)
class CompletePhase:
    """running → completed: every task is completed or skipped."""

    phase_id: str


@dataclass(frozen=True, slots=True)
class FailPhase:
    """running → failed: these tasks failed and nothing else of the phase can run."""

    phase_id: str
    task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PausePhase:
    """running → paused, together with its plan."""

    phase_id: str


@dataclass(frozen=True, slots=True)
class PausePlan:
    """running or waiting → paused; clears `stop`. `message` says to people why, `task_ids` name the culprits."""

    reason: PauseReason
    message: str
    task_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FinishImplementation:
    """Every phase is completed or skipped: the plan's stage goes on from `implementing`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before a task ends, an approval is decided (`gates`: the tasks that wait for one), or `until`."""

    until: datetime | None = None
    gates: tuple[str, ...] = ()


Action = (
    StartPhase
    | SkipPhase
    | QueueTask
    | OpenTaskGate
    | CompletePhase
    | FailPhase
    | PausePhase
    | PausePlan
    | FinishImplementation
    | Wait
)


@dataclass(frozen=True, slots=True)
class PlanState:
    """All rows that a decision looks at; `usage` is what the plan has spent so far, `task_usage` its budgeted tasks."""

    plan: Plan
    phases: tuple[Phase, ...]
    tasks: tuple[Task, ...]
    usage: Usage = field(default_factory=Usage)
    task_usage: Mapping[str, Usage] = field(default_factory=dict[str, Usage])


def decide(state: PlanState, *, now: datetime, max_parallel: int) -> tuple[Action, ...]:
    """Gives what happens next, in order; empty if the plan is not executing or is being cancelled.

    Phases run in order, one at a time. `max_parallel` limits the busy tasks of a parallel phase.
    """
    plan = state.plan
    if plan.status not in PLAN_EXECUTING or plan.cancel_requested:
        return ()
    phase = current_phase(state.phases)
    hold = _hold(state, work_left=phase is not None)
    if phase is None:
        return _after_last_phase(state, hold)
    tasks = phase_tasks(phase, state.tasks)
    if phase.status is PhaseStatus.RUNNING and all(task.status in TASK_DONE for task in tasks):
        return (CompletePhase(phase.id), *_pause_after(phase, hold))
    if hold is not None:
        return _when_idle(state, hold, phase)
    if phase.status is PhaseStatus.CANCELLED:
        return _when_idle(state, PausePlan(PauseReason.DEADLOCK, f"phase {phase.title!r} was cancelled"), phase)
    if phase.status is PhaseStatus.PENDING:
        return _open_phase(state, phase, tasks, now, max_parallel)
    return _go_on(state, phase, tasks, now, max_parallel)


def current_phase(phases: Sequence[Phase]) -> Phase | None:
    """Gives the first phase that is neither completed nor skipped."""
    return next((p for p in sorted(phases, key=lambda p: p.position) if p.status not in PHASE_DONE), None)


def phase_tasks(phase: Phase, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Gives the tasks of `phase` in the order in which they run: dependencies first, then by position."""
    return run_order([task for task in tasks if task.phase_id == phase.id])


def may_merge(task: Task, tasks: Sequence[Task]) -> bool:
    """Tells whether it is `task`'s turn to be merged into the plan's branch; `tasks` are those of its phase.

    It is when every task before it by position, in the same level of dependencies, has ended (a completed task is a
    merged one) or is not under way. One that waits for its next attempt, for recovery, or that was never started
    loses its turn: whoever waits here holds a place in the queue, and those might need it to go on.
    """
    level = levels({each.id: each.depends_on for each in tasks})
    return not any(
        _holds_turn(other)
        for other in tasks
        if other.position < task.position and level.get(other.id) == level.get(task.id)
    )


def _holds_turn(task: Task) -> bool:
    if task.status is TaskStatus.QUEUED:
        return task.started_at is None
    return task.status is TaskStatus.RUNNING


def blocked_by(task: Task, tasks: Sequence[Task]) -> tuple[str, ...]:
    """Gives the ids of the failed, cancelled or vanished tasks because of which `task` cannot start (transitively)."""
    by_id = {each.id: each for each in tasks}
    found: dict[str, None] = {}
    seen: set[str] = set()
    open_ids = list(task.depends_on)
    while open_ids:
        task_id = open_ids.pop()
        if task_id in seen:
            continue
        seen.add(task_id)
        dependency = by_id.get(task_id)
        if dependency is None or dependency.status in _BLOCKING:
            found[task_id] = None
        elif dependency.status not in TASK_DONE:
            open_ids.extend(dependency.depends_on)
    return tuple(found)


def _hold(state: PlanState, *, work_left: bool) -> PausePlan | None:
    """Gives the pause that keeps new work from starting: a person's stop, or a budget that is used up."""
    if state.plan.stop is not None:
        return PausePlan(PauseReason.USER, f"paused on request ({state.plan.stop})")
    limit = reached(state.plan.budget, state.usage) if work_left and state.plan.budget != Budget() else ""
    if limit:
        return PausePlan(PauseReason.BUDGET, f"the plan's budget is used up ({limit})")
    return _spent_task(state)


def _spent_task(state: PlanState) -> PausePlan | None:
    """Gives the pause for a task that was begun, is not finished, and may spend nothing more."""
    for task in state.tasks:
        limit = reached(task.budget, state.task_usage.get(task.id, Usage())) if task.status in _BEGUN else ""
        if limit and task.budget != Budget():
            message = f"the budget of {_label(task, task.id)} is used up ({limit})"
            return PausePlan(PauseReason.BUDGET, message, (task.id,))
    return None


def _after_last_phase(state: PlanState, hold: PausePlan | None) -> tuple[Action, ...]:
    unfinished = [task for task in state.tasks if task.status not in TASK_DONE]
    if hold is not None:
        return _when_idle(state, hold, None)
    if unfinished:
        message = f"every phase is done, but {_names(unfinished)} is not; rewind the phase or skip the task"
        ids = tuple(task.id for task in unfinished)
        return _when_idle(state, PausePlan(PauseReason.DEADLOCK, message, ids), None)
    return (FinishImplementation(),)


def _pause_after(phase: Phase, hold: PausePlan | None) -> tuple[Action, ...]:
    """Gives the pause that belongs to the completion of `phase`; in the same decision, so it happens once."""
    if not phase.pause_after:
        return ()
    return (hold or PausePlan(PauseReason.PHASE_COMPLETE, f"phase {phase.title!r} is complete"),)


def _when_idle(state: PlanState, pause: PausePlan, phase: Phase | None) -> tuple[Action, ...]:
    """Gives `pause` once nothing runs any more, until then a wait."""
    if any(task.status in BUSY for task in state.tasks):
        return (Wait(),)
    if phase is not None and phase.status is PhaseStatus.RUNNING:
        return (PausePhase(phase.id), pause)
    return (pause,)


def _open_phase(
    state: PlanState, phase: Phase, tasks: tuple[Task, ...], now: datetime, max_parallel: int
) -> tuple[Action, ...]:
    """Starts or skips a pending phase, as its condition says."""
    try:
        wanted = not phase.when or conditions.holds(phase.when, state.plan, state.phases, state.tasks)
    except conditions.ConditionError as error:
        message = f"the condition of phase {phase.title!r} has no answer: {error.message}"
        return _when_idle(state, PausePlan(PauseReason.DEADLOCK, message), phase)
    if wanted:
        return (StartPhase(phase.id), *_moves(state, phase, tasks, now, max_parallel))
    pending = tuple(task.id for task in tasks if task.status is TaskStatus.PENDING)
    return (SkipPhase(phase.id, pending, phase.when),)


def _go_on(
    state: PlanState, phase: Phase, tasks: tuple[Task, ...], now: datetime, max_parallel: int
) -> tuple[Action, ...]:
    """Decides inside a phase that was started: more tasks, a wait, or a pause that tells why nothing can run."""
    moves = _moves(state, phase, tasks, now, max_parallel)
    stuck = not moves and _is_stuck(state, phase, tasks)
    if stuck and any(task.status not in TASK_DONE for task in tasks):
        return _why_stuck(phase, tasks, state.tasks)
    if phase.status is not PhaseStatus.RUNNING:
        return (StartPhase(phase.id), *moves)
    return moves or (_wait(tasks),)


def _moves(
    state: PlanState, phase: Phase, tasks: tuple[Task, ...], now: datetime, max_parallel: int
) -> tuple[Action, ...]:
    """Gives the tasks of the phase that may be queued, or asked about, now."""
    done = {task.id for task in state.tasks if task.status in TASK_DONE}
    ready = [task for task in tasks if _is_ready(task, done, now)]
    busy = sum(task.status in BUSY for task in tasks)
    if phase.mode is PhaseMode.PARALLEL:
        return tuple(QueueTask(task.id) for task in ready[: max(0, max_parallel - busy)])
    if busy or any(task.status is TaskStatus.FAILED for task in tasks):
        return ()
    # What has been begun goes before what has not, even while it waits for its next attempt or its gate.
    begun = next((task for task in tasks if task.status in _BEGUN), None)
    chosen = begun or next(iter(ready), None)
    if chosen is None or chosen not in ready:
        return ()
    if phase.mode is PhaseMode.MANUAL and chosen.status is TaskStatus.PENDING and not chosen.approved:
        return (OpenTaskGate(chosen.id),)
    return (QueueTask(chosen.id),)


def _is_ready(task: Task, done: set[str], now: datetime) -> bool:
    """Tells whether nothing but a free place keeps `task` from being queued."""
    match task.status:
        case TaskStatus.PENDING:
            return all(dependency in done for dependency in task.depends_on)
        case TaskStatus.INTERRUPTED | TaskStatus.PAUSED:
            return True
        case TaskStatus.RETRYING:
            return task.retry_at is None or task.retry_at <= now
        case TaskStatus.AWAITING_APPROVAL:
            return task.approved
        case _:
            return False


def _is_stuck(state: PlanState, phase: Phase, tasks: tuple[Task, ...]) -> bool:
    """Tells whether nothing runs and nothing is waited for that could let the phase go on."""
    if any(task.status in BUSY for task in state.tasks):
        return False
    if phase.mode is not PhaseMode.PARALLEL and any(task.status is TaskStatus.FAILED for task in tasks):
        return True
    return not any(task.status in _BEGUN for task in tasks)


def _why_stuck(phase: Phase, tasks: tuple[Task, ...], all_tasks: Sequence[Task]) -> tuple[Action, ...]:
    failed = [task for task in tasks if task.status is TaskStatus.FAILED]
    if failed:
        ids = tuple(task.id for task in failed)
        names = ", ".join(f"T{task.number} {task.key}" if task.number else task.key for task in failed)
        pause = PausePlan(PauseReason.TASK_FAILED, f"{names} failed in phase {phase.title!r}", ids)
        return (FailPhase(phase.id, ids), pause) if phase.status is PhaseStatus.RUNNING else (pause,)
    stuck = [task for task in tasks if task.status not in TASK_DONE]
    by_id = {task.id: task for task in all_tasks}
    causes = {cause for task in stuck for cause in blocked_by(task, all_tasks)}
    causes |= {task.id for task in stuck if task.status in _BLOCKING}
    message = f"nothing can run in phase {phase.title!r}: {_names(stuck)} unfinished"
    if causes:
        message += f", held up by {', '.join(sorted(_label(by_id.get(cause), cause) for cause in causes))}"
    pause = PausePlan(PauseReason.DEADLOCK, message, tuple(task.id for task in stuck))
    return (PausePhase(phase.id), pause) if phase.status is PhaseStatus.RUNNING else (pause,)


def _wait(tasks: tuple[Task, ...]) -> Wait:
    times = [task.retry_at for task in tasks if task.status is TaskStatus.RETRYING and task.retry_at is not None]
    gates = tuple(task.id for task in tasks if task.status is TaskStatus.AWAITING_APPROVAL and not task.approved)
    return Wait(min(times, default=None), gates)


def _names(tasks: Sequence[Task]) -> str:
    return ", ".join(_label(task, task.id) for task in tasks)


def _label(task: Task | None, task_id: str) -> str:
    if task is None:
        return f"a task that is gone ({task_id})"
    return f"T{task.number} ({task.key}: {task.status})" if task.number else f"{task.key} ({task.status})"
