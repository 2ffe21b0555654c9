"""The driver of one plan: a durable loop that reads the tables, decides, acts, and waits to be woken.

All it knows is in the tables; each action is a compare-and-set there, so a turn that a kill cut short is simply taken
again. The wait is durable: a gate may stay open for weeks and holds no thread.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict, assert_never

from dbos import DBOS

from holdfast import clock
from holdfast.domain import readiness
from holdfast.domain.budget import Budget, Usage
from holdfast.domain.plan import Approval, ApprovalKind, Plan, Project
from holdfast.domain.stages import Enter, Finish, Implement, OpenGate, Verify, next_stage
from holdfast.domain.task import NOT_COUNTED, Executor, Task
from holdfast.domain.transitions import (
    PLAN_EXECUTING,
    TASK_ENDED,
    ApprovalStatus,
    PauseReason,
    PhaseStatus,
    PlanStage,
    PlanStatus,
    TaskStatus,
)
from holdfast.engine import inquiries, merge, plan_review, plan_verify, replanning, task_run
from holdfast.engine.driving import start_driver
from holdfast.engine.ending import cancel_open
from holdfast.engine.plan_stages import enter
from holdfast.engine.queues import RUN_PLAN, WAKE
from holdfast.engine.runtime import Runtime, attempted, current, guarded, in_thread, persistent
from holdfast.failpoints import failpoint
from holdfast.store import Connection, approvals, plans, projects, steps, tasks

# A driver that took this many turns hands over to a fresh one, so that a replay stays short.
TURNS = 100
# Only a backstop: every change that matters wakes the driver in its own transaction.
LONGEST_WAIT_SECONDS = 300.0


class Turn(TypedDict):
    """What a turn of the driver ended with; plain values, since DBOS records it. `start`: runs of tasks (id, run) that
    it queued."""

    ended: bool
    verify: bool
    supervise: bool
    wait_seconds: float
    start: list[tuple[str, int]]


@DBOS.workflow(name=RUN_PLAN, max_recovery_attempts=None)
async def run_plan(plan_id: str, run: int) -> None:
    """Walks a plan through its stages until it is completed, paused, failed or cancelled."""
    for _ in range(TURNS):
        turn = await DBOS.run_step_async({"name": "turn"}, _turn, plan_id, run)
        if turn["ended"]:
            return
        if turn["verify"]:
            await DBOS.run_step_async({"name": "verify"}, _verify, plan_id, run)
            continue
        if turn["supervise"]:
            await DBOS.run_step_async({"name": "supervise"}, _supervise, plan_id, run)
            continue
        await DBOS.recv_async(WAKE, timeout_seconds=turn["wait_seconds"])
    await DBOS.run_step_async({"name": "hand_over"}, _hand_over, plan_id, run)


async def _turn(plan_id: str, run: int) -> Turn:
    """Takes turns for as long as tasks of the plan run in this worker; the wait with none is the workflow's."""
    drivers = current().drivers
    bell = drivers.enter(plan_id)
    try:
        while True:
            drivers.quiet(bell)
            turn = await _take_one(plan_id, run)
            if turn["ended"] or turn["verify"] or turn["supervise"] or drivers.leave(plan_id):
                return turn
            with suppress(TimeoutError):
                await asyncio.wait_for(bell.sound.wait(), turn["wait_seconds"])
    finally:
        drivers.gone(plan_id, bell)


async def _take_one(plan_id: str, run: int) -> Turn:
    taken = await attempted(asyncio.to_thread(persistent, take_turn, current(), plan_id, run))
    turn = taken["value"]
    if turn is None:
        await in_thread(fail, current(), plan_id, run, taken["error"])
        return {"ended": True, "verify": False, "supervise": False, "wait_seconds": 0.0, "start": []}
    for task_id, task_run_number in turn["start"]:
        current().drivers.expect(plan_id, task_id)
        # In a context of its own: what is started here is nobody's child, and finds its place by its id.
        starting = asyncio.create_task(task_run.start(plan_id, task_id, task_run_number), context=Context())
        await guarded(starting)
    return turn


async def _verify(plan_id: str, run: int) -> None:
    verified = await attempted(plan_verify.verify(current(), plan_id, run))
    if verified["error"]:
        await in_thread(fail, current(), plan_id, run, verified["error"])


async def _supervise(plan_id: str, run: int) -> None:
    considered = await attempted(replanning.consider(current(), plan_id, run))
    if considered["error"]:
        await in_thread(fail, current(), plan_id, run, considered["error"])


def fail(runtime: Runtime, plan_id: str, run: int, error: str) -> None:
    """Ends a plan whose driver cannot go on; `resume` tries again where it is."""
    with runtime.database.transaction() as connection:
        locked = plans.lock(connection, plan_id)
        if locked.run == run and locked.status in PLAN_EXECUTING:
            plans.set_status(
                connection,
                locked,
                PlanStatus.FAILED,
                actor=runtime.actor,
                data={"message": error},
                error=error,
                stop=None,
            )


async def _hand_over(plan_id: str, run: int) -> None:
    await in_thread(hand_over, current(), plan_id, run)


def hand_over(runtime: Runtime, plan_id: str, run: int) -> None:
    with runtime.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        if plan.run == run:
            start_driver(connection, runtime.engine, runtime.places.home, plan)


@dataclass(frozen=True, slots=True)
class Look:
    """Where the plan stands as of one moment: `gate` is the newest of its present stage, `apart` is its whole state if
    tasks of it work on branches of their own."""

    project: Project
    plan: Plan
    gate: Approval | None
    apart: readiness.PlanState | None


def take_turn(runtime: Runtime, plan_id: str, run: int) -> Turn:
    """Does all that can be done now, and says how long to wait or that this driver is done."""
    while True:
        with runtime.database.read(snapshot=True) as connection:
            seen = look(connection, plan_id)
        if seen.plan.run != run or seen.plan.status not in PLAN_EXECUTING:
            settle_down(runtime, seen)
            return {"ended": True, "verify": False, "supervise": False, "wait_seconds": 0.0, "start": []}
        runtime.drivers.look(plan_id, seen.plan.wakes)
        prepare_plan(runtime, seen)
        if seen.apart and merge.merge_next(runtime, seen.project, seen.apart):
            continue
        turn = cancel(runtime, seen.plan) if seen.plan.cancel_requested else go_on(runtime, seen)
        if turn is not None:
            return turn


def look(connection: Connection, plan_id: str) -> Look:
    plan = plans.get(connection, plan_id)
    apart = load_state(connection, plan) if tasks.work_apart(connection, plan) else None
    return Look(projects.get(connection, plan.project_id), plan, gate_of(connection, plan), apart)


def settle_down(runtime: Runtime, seen: Look) -> None:
    """Gives back the worktrees of a plan that no longer runs, and joins the vault's packs if there are many."""
    runtime.workspaces.release(seen.plan)
    runtime.workspaces.vault(seen.project).compact()


def prepare_plan(runtime: Runtime, seen: Look) -> None:
    """Brings the plan's base commit into the vault and makes its branch there; does nothing the second time."""
    plan = seen.plan
    vault = runtime.workspaces.vault(seen.project)
    if vault.head(plan.branch) is None:
        runtime.workspaces.bring(seen.project, plan.base_commit)
        failpoint("engine.plan.base_fetched")
        vault.create_branch(plan.branch, plan.base_commit)
        failpoint("engine.plan.branch_made")


def waiting(
    seconds: float = LONGEST_WAIT_SECONDS,
    *,
    verify: bool = False,
    supervise: bool = False,
    start: list[tuple[str, int]] | None = None,
) -> Turn:
    wait_seconds = max(0.0, min(seconds, LONGEST_WAIT_SECONDS))
    return {
        "ended": False,
        "verify": verify,
        "supervise": supervise,
        "wait_seconds": wait_seconds,
        "start": start or [],
    }


def go_on(runtime: Runtime, seen: Look) -> Turn | None:
    """Takes the plan's next move in its stage; None = look again at once."""
    plan, gate = seen.plan, seen.gate
    if plan.stop is not None and plan.stage not in (PlanStage.IMPLEMENTING, PlanStage.REVIEWING):
        pause(runtime, plan, readiness.PausePlan(PauseReason.USER, f"paused on request ({plan.stop})"))
        return None
    move = next_stage(plan, implemented=False, approved=gate is not None and gate.status is APPROVED)
    match move:
        case Enter():
            enter(runtime, plan, move)
            return None
        case OpenGate(kind):
            return open_gate(runtime, plan, kind, gate)
        case Implement():
            return implement(runtime, plan)
        case Verify():
            return waiting(verify=True)
        case Finish():
            with runtime.database.transaction() as connection:
                complete(connection, runtime, plan)
            return None
        case _:
            assert_never(move)


APPROVED = ApprovalStatus.APPROVED


def load_state(connection: Connection, plan: Plan) -> readiness.PlanState:
    now = clock.now()
    all_tasks = plans.tasks_of(connection, plan.id)
    budgeted = [task.id for task in all_tasks if task.budget != Budget()]
    return readiness.PlanState(
        plan=plan,
        phases=plans.phases_of(connection, plan.id),
        tasks=all_tasks,
        usage=inquiries.usage_of_plan(connection, plan.id) if plan.budget != Budget() else Usage(),
        task_usage={task_id: steps.usage(connection, task_id=task_id, now=now) for task_id in budgeted},
    )


def current_actions(runtime: Runtime, state: readiness.PlanState) -> tuple[readiness.Action, ...]:
    return readiness.decide(state, now=clock.now(), max_parallel=runtime.settings.max_parallel)


def gate_of(connection: Connection, plan: Plan) -> Approval | None:
    """Gives the newest gate that was opened in the plan's present visit to its stage."""
    kinds = {
        PlanStage.PLAN_AWAITING_APPROVAL: ApprovalKind.PLAN,
        PlanStage.IMPLEMENTATION_AWAITING_APPROVAL: ApprovalKind.RESULT,
    }
    kind = kinds.get(plan.stage)
    if kind is None:
        return None
    return approvals.latest(connection, plan_id=plan.id, kind=kind, since=plans.stage_entered_at(connection, plan.id))


def open_gate(runtime: Runtime, plan: Plan, kind: ApprovalKind, gate: Approval | None) -> Turn | None:
    """Opens the stage's gate and waits; a rejected one sends the plan back a stage and pauses it."""
    back = {ApprovalKind.PLAN: PlanStage.PLANNING, ApprovalKind.RESULT: PlanStage.IMPLEMENTING}
    if gate is not None and gate.status is ApprovalStatus.REJECTED:
        with runtime.database.transaction() as connection:
            locked = plans.lock(connection, plan.id)
            if (locked.stage, locked.run) == (plan.stage, plan.run):
                returned = plans.set_stage(connection, locked, back[kind], actor=runtime.actor)
                message = f"the {kind} was rejected by {gate.decided_by}: {gate.comment or 'no reason given'}"
                pause_in(connection, runtime, returned, PauseReason.APPROVAL, message)
        return None
    if gate is None:
        title = f"approve the {kind} of P{plan.number} {plan.title}"
        with runtime.database.transaction() as connection:
            locked = plans.lock(connection, plan.id)
            if (locked.stage, locked.run) != (plan.stage, plan.run):
                return None
            approvals.open(connection, id=clock.new_id(), plan_id=plan.id, kind=kind, title=title, actor=runtime.actor)
            settle_waiting(connection, runtime, locked, waits=True)
    elif plan.status is PlanStatus.RUNNING:
        with runtime.database.transaction() as connection:
            locked = plans.lock(connection, plan.id)
            if (locked.run, locked.status) == (plan.run, plan.status):
                settle_waiting(connection, runtime, locked, waits=True)
    return waiting()


def implement(runtime: Runtime, plan: Plan) -> Turn | None:
    """Decides what may happen next in the plan's phases and carries it out, in one transaction.

    The decision is made under the plan's lock, which every verb takes too, so nothing moves between the two.
    """
    with runtime.database.transaction() as connection:
        locked = plans.lock(connection, plan.id)
        if locked.run != plan.run or locked.status not in PLAN_EXECUTING or locked.cancel_requested:
            return None
        state = load_state(connection, locked)
        if plan_review.settle(connection, runtime, locked, state):
            failpoint("engine.review.back")
            return None
        actions = current_actions(runtime, state)
        if replanning.is_due(connection, runtime.settings.supervisor_replans, locked, state.tasks, actions):
            return waiting(supervise=True)
        for action in actions:
            apply(connection, runtime, locked, state, action)
        turn = turn_after(connection, runtime, locked, state, actions)
    failpoint("engine.plan.acted")
    if actions == (readiness.FinishImplementation(),):
        after = next_stage(plan, implemented=True, approved=False)
        assert isinstance(after, Enter)
        enter(runtime, plan, after)
    return turn


def turn_after(
    connection: Connection,
    runtime: Runtime,
    plan: Plan,
    state: readiness.PlanState,
    actions: tuple[readiness.Action, ...],
) -> Turn | None:
    """Says what to start and how long to wait after a decision; None = there is more to decide at once."""
    match actions:
        case [readiness.Wait(until, gates)]:
            settle_waiting(connection, runtime, plan, waits=waits_for_people(connection, state, gates))
            return waiting(seconds_until(until))
        case [*_, readiness.QueueTask()]:
            # A decision that queues is complete: what it left out waits for one of these tasks, or for its time.
            settle_waiting(connection, runtime, plan, waits=False)
            queued = {action.task_id for action in actions if isinstance(action, readiness.QueueTask)}
            start = [(task.id, task.run + 1) for task in state.tasks if task.id in queued]
            retry_at = min((task.retry_at for task in state.tasks if task.retry_at), default=None)
            return waiting(seconds_until(retry_at), start=start)
        case _:
            return None


def seconds_until(moment: datetime | None) -> float:
    return LONGEST_WAIT_SECONDS if moment is None else (moment - clock.now()).total_seconds()


def waits_for_people(connection: Connection, state: readiness.PlanState, gates: tuple[str, ...]) -> bool:
    """Tells whether only a person can let the plan go on: all tasks that run have asked, or none runs and one would."""
    busy = {task.id: task for task in state.tasks if task.status in readiness.BUSY}
    if not busy:
        return bool(gates)
    if any(task.executor is Executor.COMMAND for task in busy.values()):
        return False
    return busy.keys() <= approvals.asking(connection, state.plan.id)


def settle_waiting(connection: Connection, runtime: Runtime, plan: Plan, *, waits: bool) -> None:
    """Makes the plan `waiting` while only a person can let it go on, and `running` otherwise."""
    target = PlanStatus.WAITING if waits else PlanStatus.RUNNING
    if plan.status is not target:
        plans.set_status(connection, plan, target, actor=runtime.actor)


def apply(
    connection: Connection, runtime: Runtime, plan: Plan, state: readiness.PlanState, action: readiness.Action
) -> None:
    """Applies one action of a decision."""
    match action:
        case readiness.StartPhase(phase_id):
            move_phase(connection, runtime, phase_id, PhaseStatus.RUNNING)
        case readiness.CompletePhase(phase_id):
            move_phase(connection, runtime, phase_id, PhaseStatus.COMPLETED)
        case readiness.FailPhase(phase_id):
            move_phase(connection, runtime, phase_id, PhaseStatus.FAILED)
        case readiness.PausePhase(phase_id):
            move_phase(connection, runtime, phase_id, PhaseStatus.PAUSED)
        case readiness.SkipPhase(phase_id, task_ids, condition):
            move_phase(connection, runtime, phase_id, PhaseStatus.SKIPPED, {"when": condition})
            for task_id in task_ids:
                tasks.set_status(connection, tasks.get(connection, task_id), TaskStatus.SKIPPED, actor=runtime.actor)
        case readiness.OpenTaskGate(task_id):
            ask_about(connection, runtime, tasks.get(connection, task_id))
        case readiness.QueueTask(task_id):
            queue_task(connection, runtime, next(task for task in state.tasks if task.id == task_id))
        case readiness.PausePlan(reason, message):
            if reason is PauseReason.TASK_FAILED:
                message += replanning.told(connection, plan, state.tasks, action)
            pause_in(connection, runtime, plan, reason, message)
        case readiness.Wait() | readiness.FinishImplementation():
            pass
        case _:
            assert_never(action)


def ask_about(connection: Connection, runtime: Runtime, task: Task) -> None:
    """Opens the gate of a task in a manual phase."""
    tasks.set_status(connection, task, TaskStatus.AWAITING_APPROVAL, actor=runtime.actor)
    approvals.open(
        connection,
        id=clock.new_id(),
        plan_id=task.plan_id,
        kind=ApprovalKind.TASK,
        title=f"let T{task.number} {task.title} run",
        task_id=task.id,
        actor=runtime.actor,
    )


def move_phase(
    connection: Connection,
    runtime: Runtime,
    phase_id: str,
    target: PhaseStatus,
    data: dict[str, object] | None = None,
) -> None:
    phase = plans.phase(connection, phase_id)
    if phase.status is not target:
        plans.set_phase_status(connection, phase, target, actor=runtime.actor, data=data or {})


def queue_task(connection: Connection, runtime: Runtime, task: Task) -> None:
    """Queues the next run of a task, which starts after the commit; work that was only stopped keeps its attempt.

    A kill between the two leaves it queued without a workflow; `recovery.reconcile` starts it.
    """
    stopped = task.status in (TaskStatus.PAUSED, TaskStatus.INTERRUPTED) or task.failure in NOT_COUNTED
    attempt = max(1, task.attempt if stopped else task.attempt + 1)
    tasks.set_status(
        connection,
        task,
        TaskStatus.QUEUED,
        actor=runtime.actor,
        data={"attempt": attempt},
        attempt=attempt,
        run=task.run + 1,
        retry_at=None,
    )


def pause(runtime: Runtime, plan: Plan, action: readiness.PausePlan) -> None:
    with runtime.database.transaction() as connection:
        locked = plans.lock(connection, plan.id)
        if locked.run == plan.run and locked.status in PLAN_EXECUTING and not locked.cancel_requested:
            pause_in(connection, runtime, locked, action.reason, action.message)


def pause_in(connection: Connection, runtime: Runtime, plan: Plan, reason: PauseReason, message: str) -> None:
    error = message if reason in (PauseReason.TASK_FAILED, PauseReason.DEADLOCK, PauseReason.APPROVAL) else ""
    plans.set_status(
        connection,
        plan,
        PlanStatus.PAUSED,
        reason=reason,
        actor=runtime.actor,
        data={"message": message},
        stop=None,
        error=error,
    )


def complete(connection: Connection, runtime: Runtime, plan: Plan) -> None:
    locked = plans.lock(connection, plan.id)
    if locked.run != plan.run or locked.status not in PLAN_EXECUTING:
        return
    if locked.status is PlanStatus.WAITING:
        locked = plans.set_status(connection, locked, PlanStatus.RUNNING, actor=runtime.actor)
    plans.set_status(connection, locked, PlanStatus.COMPLETED, actor=runtime.actor, stop=None, error="")


def cancel(runtime: Runtime, plan: Plan) -> Turn | None:
    """Ends a plan that a person cancelled, once nothing of it runs any more (`control` stops what runs)."""
    with runtime.database.transaction() as connection:
        locked = plans.lock(connection, plan.id)
        open_tasks = [task for task in plans.tasks_of(connection, plan.id) if task.status not in TASK_ENDED]
        if any(task.status in readiness.BUSY for task in open_tasks):
            return waiting()
        cancel_open(connection, locked, actor=runtime.actor)
    return None
