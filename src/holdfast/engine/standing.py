"""How a task and what is around it stand: a verb that changes it keeps both sides, so that `undo` can turn it round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from holdfast import clock
from holdfast.domain.conversation import Conversation
from holdfast.domain.plan import Phase
from holdfast.domain.restore import (
    PhaseMove,
    PlanMove,
    PlanPoint,
    Restoration,
    TaskMove,
    TaskPoint,
    plan_point,
    task_point,
)
from holdfast.engine.restoring import Intent
from holdfast.store import Connection, Operation, conversations, operations, plans, tasks


@dataclass(frozen=True, slots=True)
class Standing:
    """A task, its phase and its plan at one moment."""

    task_id: str
    plan_id: str
    task: TaskPoint
    phase: Phase
    plan: PlanPoint


def standing(connection: Connection, task_id: str) -> Standing:
    """Gives how a task stands; the caller holds its plan's lock."""
    task = tasks.get(connection, task_id)
    plan = plans.get(connection, task.plan_id)
    head = conversations.head(connection, Conversation(plan.id, task_id)).message_id
    point = replace(task_point(task, head), context=conversations.start_of(connection, task_id).context)
    whole = plan_point(plan, conversations.head(connection, Conversation(plan.id, None)).message_id)
    return Standing(task_id, plan.id, point, plans.phase(connection, task.phase_id), whole)


def moved(connection: Connection, before: Sequence[Standing]) -> Restoration:
    """Gives what brought tasks of a plan (one at least) from `before` to how they stand now."""
    now = [standing(connection, each.task_id) for each in before]
    phases = {
        then.phase.id: PhaseMove(then.phase.id, then.phase.status, each.phase.status)
        for then, each in zip(before, now, strict=True)
        if each.phase.status is not then.phase.status
    }
    first, last = before[0].plan, now[0].plan
    return Restoration(
        before[0].plan_id,
        tasks=tuple(TaskMove(then.task_id, then.task, each.task) for then, each in zip(before, now, strict=True)),
        phases=tuple(phases.values()),
        plan=PlanMove(first, last) if last != first else None,
    )


def record(connection: Connection, before: Standing, *, kind: str, actor: str, told: Mapping[str, object]) -> Operation:
    """Writes the operation that brought a task from `before` to how it stands now."""
    begun = operations.begin(
        connection,
        id=clock.new_id(),
        kind=kind,
        actor=actor,
        intent=Intent(moved(connection, (before,))).row(),
        plan_id=before.plan_id,
        task_id=before.task_id,
    )
    return operations.finish(connection, begun.id, outcome=told)
