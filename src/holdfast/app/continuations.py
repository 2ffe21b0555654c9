"""Going on with a task that does not run: as it stands, from its beginning, or from one of its checkpoints."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from holdfast.app import rewinds
from holdfast.app import tasks as task_verbs
from holdfast.app.checkpoints import beginning_of, label_of, owner_of
from holdfast.app.rewinds import CONTINUE, How
from holdfast.app.targets import find_checkpoint
from holdfast.app.wire import House
from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.conversation import Conversation
from holdfast.domain.plan import Plan
from holdfast.domain.readiness import BUSY
from holdfast.domain.task import Executor, Task
from holdfast.domain.transitions import (
    PLAN_EXECUTING,
    TASK_DONE,
    PauseReason,
    PhaseStatus,
    PlanStage,
    PlanStatus,
    TaskStatus,
)
from holdfast.engine import restoring
from holdfast.engine.restoring import Continued
from holdfast.engine.standing import record, standing
from holdfast.errors import IllegalState, UsageError
from holdfast.store import Connection, checkpoints, conversations, plans, tasks

_IMPLEMENTED = frozenset(
    {PlanStage.IMPLEMENTATION_AWAITING_APPROVAL, PlanStage.REVIEWING, PlanStage.VERIFYING, PlanStage.COMPLETED}
)
_ENDED = TASK_DONE | {TaskStatus.FAILED}


class Mode(StrEnum):
    """`with_context` goes on where the conversation is, `clean_restart` from before the first step with an empty one,
    `from_checkpoint` from where a checkpoint was, code and conversation."""

    WITH_CONTEXT = "with_context"
    CLEAN_RESTART = "clean_restart"
    FROM_CHECKPOINT = "from_checkpoint"


def continue_task(
    house: House, task_id: str, mode: Mode, *, at: str = "", context: str = "", how: How | None = None
) -> Task:
    """Makes a task ready to run again, with `context` told to its agent; its plan goes on at `resume`.

    Raises `IllegalState` while it runs, and for what is to go back, or was completed, while its plan does. It is one
    deed, which `undo` takes back: what goes back with it, and that it is ready, are written in one transaction.
    """
    target = target_of(house, task_id, mode, at=at, context=context)
    if target is not None:
        rewinds.rewind_task(house, task_id, target, how, continued=Continued(mode, context))
        with house.database.read() as connection:
            return tasks.get(connection, task_id)
    with house.database.transaction() as connection:
        plan = plans.lock(connection, tasks.get(connection, task_id).plan_id)
        restoring.refuse_restoring(connection, plan)
        task = tasks.get(connection, task_id)
        refuse_continuing(plan, task)
        before = standing(connection, task_id)
        if task.status in _ENDED:
            open_plan(connection, house.actor, plan, task)
            task = task_verbs.reopen(house, connection, plan, task_id, TaskStatus.PENDING)
        of = Conversation(plan.id, task_id)
        head = conversations.head(connection, of)
        conversations.put(connection, of, head, head.message_id, context)
        record(connection, before, kind=CONTINUE, actor=house.actor, told={"task": task.key, "mode": mode})
        restoring.tell_continued(connection, plan, task, Continued(mode, context), head.message_id, actor=house.actor)
    return task


def target_of(house: House, task_id: str, mode: Mode, *, at: str = "", context: str = "") -> Checkpoint | None:
    """Gives the checkpoint that the task goes back to, None where it goes on as it stands; raises what is wrong."""
    if at and mode is not Mode.FROM_CHECKPOINT:
        raise UsageError(f"{mode} has no checkpoint to go on from", hint="say --mode from_checkpoint")
    if mode is Mode.FROM_CHECKPOINT and not at:
        raise UsageError("the checkpoint to go on from is missing", hint="name it: --at 3")
    with house.database.read() as connection:
        owner = owner_of(connection, task_id)
        refuse_continuing(owner.plan, owner.task)
        if context and owner.task.executor is Executor.COMMAND:
            raise UsageError(f"T{owner.task.number} runs a command: there is no agent to tell anything")
        if mode is Mode.FROM_CHECKPOINT:
            found = find_checkpoint(connection, at, task=owner.task, plan=owner.plan)
            if found.task_id is None:
                hint = f"go back with the plan: holdfast plan rollback P{owner.plan.number} --to {at}"
                raise UsageError(f"{label_of(owner, found)} is a checkpoint of the plan", hint=hint)
            return found
        if mode is Mode.WITH_CONTEXT or owner.task.head_checkpoint == 0:
            return None
        began = beginning_of(connection, owner.task) or checkpoints.get(connection, 1, task_id=task_id)
        return replace(began, message_id=None)


def refuse_continuing(plan: Plan, task: Task) -> None:
    pause = f"pause it first: holdfast plan pause P{plan.number}"
    if task.status in BUSY:
        raise IllegalState(f"T{task.number} is {task.status}", hint=f"{pause} --interrupt", code="running")
    if TaskStatus.CANCELLED is task.status or plan.status is PlanStatus.CANCELLED:
        raise IllegalState(f"T{task.number} was cancelled", hint=f"fork it: holdfast task fork T{task.number}")
    if task.status in TASK_DONE and plan.status in PLAN_EXECUTING:
        raise IllegalState(f"P{plan.number} is running", hint=pause, code="running")


def open_plan(connection: Connection, actor: str, plan: Plan, task: Task) -> None:
    """Opens again what is over around a task: its phase, and the plan, which then is paused and being implemented."""
    phase = plans.phase(connection, task.phase_id)
    if phase.status in (PhaseStatus.COMPLETED, PhaseStatus.SKIPPED):
        plans.set_phase_status(connection, phase, PhaseStatus.PENDING, actor=actor)
    if plan.status is PlanStatus.COMPLETED:
        plan = plans.set_status(connection, plan, PlanStatus.PAUSED, actor=actor, reason=PauseReason.USER)
    if plan.stage in _IMPLEMENTED and plan.status not in PLAN_EXECUTING:
        plans.set_stage(connection, plan, PlanStage.IMPLEMENTING, actor=actor)
