"""Ends a plan for good."""

from __future__ import annotations

from holdfast.domain.plan import Plan
from holdfast.domain.transitions import TASK_ENDED, PhaseStatus, PlanStatus, TaskStatus
from holdfast.store import Connection, approvals, plans, tasks

_OPEN_PHASES = (PhaseStatus.PENDING, PhaseStatus.RUNNING, PhaseStatus.PAUSED, PhaseStatus.FAILED)


def cancel_open(connection: Connection, plan: Plan, *, actor: str) -> Plan:
    """Cancels all that is still open in a plan of which nothing runs, and the plan itself."""
    for task in plans.tasks_of(connection, plan.id):
        if task.status not in TASK_ENDED:
            tasks.set_status(connection, task, TaskStatus.CANCELLED, actor=actor)
    for phase in plans.phases_of(connection, plan.id):
        if phase.status in _OPEN_PHASES:
            plans.set_phase_status(connection, phase, PhaseStatus.CANCELLED, actor=actor)
    approvals.cancel_open(connection, plan_id=plan.id, actor=actor)
    return plans.set_status(connection, plan, PlanStatus.CANCELLED, actor=actor, stop=None)
