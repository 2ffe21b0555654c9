"""Gates: the places where a person decides, and the questions of agents. All of them are one table."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast import clock
from holdfast.app.wire import House
from holdfast.domain.plan import Approval, ApprovalKind
from holdfast.domain.transitions import PLAN_EXECUTING, ApprovalStatus, TaskStatus
from holdfast.errors import IllegalState, NotFound, UsageError
from holdfast.store import Connection, approvals, plans, tasks

QUESTION_CHARACTERS = 4000
TITLE_CHARACTERS = 200


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

    Rejecting a task leaves it out; rejecting a plan or a result sends it back a stage and pauses it. The comment on a
    question is its answer; rejecting one refuses to answer.
    """
    engine = house.engine
    with house.database.transaction() as connection:
        approval = approvals.get(connection, approval_id)
        plan = plans.lock(connection, approval.plan_id)
        status = ApprovalStatus.APPROVED if approve else ApprovalStatus.REJECTED
        if approval.status is not ApprovalStatus.OPEN:
            raise IllegalState(f"A{approval.number} was {approval.status} already by {approval.decided_by}")
        if approve and approval.kind is ApprovalKind.QUESTION and not comment.strip():
            raise UsageError(
                f"A{approval.number} is a question: it needs an answer",
                hint=f'holdfast answer A{approval.number} "…"',
            )
        decided = approvals.decide(connection, approval, status, actor=house.actor, comment=comment)
        if approval.kind is ApprovalKind.TASK and approval.task_id is not None:
            task = tasks.get(connection, approval.task_id)
            if approve:
                tasks.set_fields(connection, task.id, approved=True)
            else:
                tasks.set_status(connection, task, TaskStatus.SKIPPED, actor=house.actor, data={"comment": comment})
        engine.wake_plan(connection, plan.id, plan.run)
        return decided


def ask(
    house: House, plan_id: str, task_id: str | None, question: str, *, key: str = "", options: Sequence[str] = ()
) -> Approval:
    """Gives the gate of an agent's question, opened now unless it was asked before under the same `key`.

    It is durable on return, and the same for whoever asks again, however late: open, or with its answer. One that was
    closed because its task had ended is opened anew. Without a key the question is its own.
    """
    _refuse_long(question)
    subject = key or question
    with house.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        known = approvals.question(connection, plan_id=plan_id, task_id=task_id, key=subject)
        if known is not None and known.details.get("question") != question:
            raise UsageError(f"the key {key!r} is that of another question", hint="take another key", code="key_taken")
        if known is not None and known.status is not ApprovalStatus.CANCELLED:
            return known
        who = f"T{tasks.get(connection, task_id).number}" if task_id is not None else f"P{plan.number}"
        gate = approvals.open(
            connection,
            id=clock.new_id(),
            plan_id=plan_id,
            kind=ApprovalKind.QUESTION,
            title=f"{who} asks: {question}"[:TITLE_CHARACTERS],
            task_id=task_id,
            subject=subject,
            details={"question": question, "options": list(options)},
            actor=house.actor,
        )
        if plan.status in PLAN_EXECUTING:
            house.engine.wake_plan(connection, plan.id, plan.run)
        return gate


def _refuse_long(question: str) -> None:
    if not question.strip():
        raise UsageError("there is no question", hint="say what a person shall answer")
    if len(question) > QUESTION_CHARACTERS:
        raise UsageError(f"a question has at most {QUESTION_CHARACTERS} characters", hint="put the rest into a file")


def get(house: House, approval_id: str) -> Approval:
    with house.database.read() as connection:
        return approvals.get(connection, approval_id)
