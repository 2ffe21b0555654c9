"""Writes an edit of a plan: the rows that differ, each with its event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from holdfast.domain.edits import Change, Outline
from holdfast.domain.plan import Phase, Plan
from holdfast.domain.task import Task
from holdfast.store import approvals, plans, tasks
from holdfast.store.rows import columns_of

_UNCHANGED = frozenset({"position", "depends_on"})


def outline(connection: Connection, plan: Plan) -> Outline:
    """Gives the plan with its phases and tasks."""
    return Outline(plan, plans.phases_of(connection, plan.id), plans.tasks_of(connection, plan.id))


def apply(connection: Connection, now: Outline, then: Outline, changes: Sequence[Change], *, actor: str) -> Plan:
    """Makes the rows `now`, which the caller holds locked, those of `then`; `changes` is what differs."""
    told = {change.id: {"before": change.before, "after": change.after} for change in changes}
    plan = now.plan
    if plan.id in told:
        plan = plans.edit(connection, plan, told[plan.id], actor=actor, **_differing(plan, then.plan))
    kept = {phase.id: phase for phase in now.phases}
    for phase in then.phases:
        if phase.id not in kept:
            plans.add_phase(connection, phase, told[phase.id], actor=actor)
        elif phase.id in told:
            columns = _differing(kept[phase.id], phase)
            plans.edit_phase(connection, phase, told[phase.id], actor=actor, **columns)
    _apply_tasks(connection, now, then, told, actor)
    stay = {phase.id for phase in then.phases}
    for phase in now.phases:
        if phase.id not in stay:
            plans.remove_phase(connection, phase, told[phase.id], actor=actor)
    if _order(now.phases) != _order(then.phases):
        plans.arrange_phases(connection, plan.id, _order(then.phases))
    places = {task.id: task.position for task in now.tasks}
    moved = {task.id: task.position for task in then.tasks if places.get(task.id, task.position) != task.position}
    tasks.arrange(connection, moved)
    return plan


def _apply_tasks(
    connection: Connection, now: Outline, then: Outline, told: Mapping[str, Mapping[str, object]], actor: str
) -> None:
    stay, kept = {task.id for task in then.tasks}, {task.id: task for task in now.tasks}
    gone = [task for task in now.tasks if task.id not in stay]
    # What depends on a removed task is written first, while both are there.
    added = [task for task in then.tasks if task.id not in kept]
    tasks.add(connection, added, [told[task.id] for task in added], actor=actor)
    for task in then.tasks:
        if task.id not in kept or task.id not in told:
            continue
        old = kept[task.id]
        columns, needs = _differing(old, task), task.depends_on if task.depends_on != old.depends_on else None
        if columns and columns.keys() <= tasks.LIMITS and needs is None:
            tasks.limit(connection, old, told[task.id], actor=actor, **columns)
            continue
        approvals.cancel_open(connection, plan_id=now.plan.id, task_id=task.id, actor=actor)
        tasks.edit(connection, old, told[task.id], actor=actor, depends_on=needs, **columns)
    for task in gone:
        tasks.remove(connection, task, told[task.id], actor=actor)


def _differing(old: Plan | Phase | Task, new: Plan | Phase | Task) -> dict[str, object]:
    before, after = columns_of(old), columns_of(new)
    return {name: after[name] for name in after if name not in _UNCHANGED and before[name] != after[name]}


def _order(phases: Sequence[Phase]) -> list[str]:
    return [phase.id for phase in phases]
