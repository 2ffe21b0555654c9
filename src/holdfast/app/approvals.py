"""Gates: the places where a person decides. All of them are one table."""

from __future__ import annotations

from holdfast.app.wire import House
from holdfast.domain.plan import Approval, ApprovalKind
from holdfast.domain.transitions import ApprovalStatus, TaskStatus
from holdfast.errors import IllegalState, NotFound
from holdfast.store import Connection, approvals, plans, tasks


def list_(house: House, *, open_only: bool = True, limit: int = 100) -> tuple[Approval, ...]:
    status = ApprovalStatus.OPEN if open_only else None
    with house.database.read() as connection:
        return tuple(approvals.list_(connection, status=status, limit=limit).items)


def find(house: House, reference: str) -> str:
    """Gives the id of the open gate that `reference` names: "A3", its id, or the plan or task it belongs to."""
    with house.database.read() as connection:
        try:
            return approvals.find(connection, reference)
        except NotFound:
            return _of_owner(connection, reference)


def _of_owner(connection: Connection, reference: str) -> str:
    for approval in approvals.list_(connection, status=ApprovalStatus.OPEN, limit=1000).items:
        plan = plans.get(connection, approval.plan_id)
        names = {f"P{plan.number}", plan.slug, plan.id}
        if approval.task_id is not None:
            task = tasks.get(connection, approval.task_id)
            names = {f"T{task.number}", task.key, task.id}
        if reference in names or reference.upper() in names:
            return approval.id
    raise NotFound(f"no open gate is named {reference!r}", hint="list them: holdfast approvals")


def decide(house: House, approval_id: str, *, approve: bool, comment: str = "") -> Approval:
    """Records a person's decision and lets the plan's driver act on it; a decided gate cannot be decided again.

    Rejecting a task leaves it out; rejecting a plan or a result sends it back a stage and pauses it.
    """
    engine = house.engine
    with house.database.transaction() as connection:
        approval = approvals.get(connection, approval_id)
        plan = plans.lock(connection, approval.plan_id)
        status = ApprovalStatus.APPROVED if approve else ApprovalStatus.REJECTED
        if approval.status is not ApprovalStatus.OPEN:
            raise IllegalState(f"A{approval.number} was {approval.status} already by {approval.decided_by}")
        decided = approvals.decide(connection, approval, status, actor=house.actor, comment=comment)
        if approval.kind is ApprovalKind.TASK and approval.task_id is not None:
            task = tasks.get(connection, approval.task_id)
            if approve:
                tasks.set_fields(connection, task.id, approved=True)
            else:
                tasks.set_status(connection, task, TaskStatus.SKIPPED, actor=house.actor, data={"comment": comment})
        engine.wake_plan(connection, plan.id, plan.run)
        return decided
