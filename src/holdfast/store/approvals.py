"""Gates: the places where a person decides, each decided once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, exists, func, select, update

from holdfast import clock
from holdfast.domain import transitions
from holdfast.domain.history import EventType
from holdfast.domain.plan import Approval, ApprovalKind
from holdfast.domain.transitions import ApprovalStatus
from holdfast.errors import IllegalState
from holdfast.store import events, references
from holdfast.store.paging import Page, before, page
from holdfast.store.rows import entities, entity, next_numbers, one, project_of
from holdfast.store.tables import LOCAL_OWNER, approvals, plans, steps

_OF_AGENTS = (ApprovalKind.PERMISSION, ApprovalKind.QUESTION)


def open(
    connection: Connection,
    *,
    id: str,
    plan_id: str,
    kind: ApprovalKind,
    title: str,
    actor: str,
    phase_id: str | None = None,
    task_id: str | None = None,
    subject: str = "",
    details: Mapping[str, object] | None = None,
) -> Approval:
    """Gives the gate of that id, or the open one of that kind and subject for the plan, phase or task; else a new one.

    A gate with a subject that was decided is given back as it was decided: the same question has one answer.
    """
    known = connection.execute(select(approvals).where(approvals.c.id == id)).one_or_none()
    if known is not None:
        return entity(Approval, known)
    same = select(approvals).where(
        approvals.c.plan_id == plan_id,
        approvals.c.kind == kind,
        approvals.c.status == ApprovalStatus.OPEN,
        approvals.c.subject == subject,
        approvals.c.phase_id.is_(None) if phase_id is None else approvals.c.phase_id == phase_id,
        approvals.c.task_id.is_(None) if task_id is None else approvals.c.task_id == task_id,
    )
    if (row := connection.execute(same).one_or_none()) is not None:
        return entity(Approval, row)
    # Taking the number makes others wait; who asked for the same gate meanwhile has it now.
    number = next_numbers(connection, "approvals")[0]
    if (row := connection.execute(same).one_or_none()) is not None:
        return entity(Approval, row)
    values = {
        "id": id,
        "number": number,
        "plan_id": plan_id,
        "kind": kind,
        "status": ApprovalStatus.OPEN,
        "title": title,
        "phase_id": phase_id,
        "task_id": task_id,
        "subject": subject,
        "opened_at": clock.now(),
        "details": details or {},
    }
    stored = entity(Approval, connection.execute(approvals.insert().values(**values).returning(approvals)).one())
    _tell(connection, stored, "open", actor, {"number": number, "kind": kind, "to": ApprovalStatus.OPEN})
    return stored


def decide(
    connection: Connection,
    approval: Approval,
    status: ApprovalStatus,
    *,
    actor: str,
    comment: str = "",
    always: bool = False,
) -> Approval:
    """Decides an open gate; raises `IllegalTransition` or `IllegalState` if somebody has decided it already.

    `always`: what is approved is approved for all that the agent calls the same.
    """
    transitions.check(transitions.APPROVAL, "gate", approval.status, status)
    where = (approvals.c.id == approval.id, approvals.c.status == approval.status)
    values: dict[str, Any] = {
        "status": status,
        "decided_at": clock.now(),
        "decided_by": actor,
        "comment": comment,
        "details": {**approval.details, "always": True} if always else approval.details,
    }
    asker = (approval.task_id,) if approval.task_id and approval.kind in _OF_AGENTS else ()
    waited = waiting_since(connection, asker)
    row = connection.execute(update(approvals).where(*where).values(**values).returning(approvals)).one_or_none()
    if row is None:
        found = get(connection, approval.id)
        raise IllegalState(
            f"gate A{found.number} is {found.status} by {found.decided_by} already", code="changed_meanwhile"
        )
    for task_id, since in waited.items():
        idle = steps.c.idle_seconds + (values["decided_at"] - since).total_seconds()
        running = (steps.c.task_id == task_id, steps.c.ended_at.is_(None))
        connection.execute(update(steps).where(*running).values(idle_seconds=idle))
    told = {"number": approval.number, "kind": approval.kind, "from": approval.status, "to": status}
    _tell(connection, approval, str(status), actor, {**told, "comment": comment} | ({"always": True} if always else {}))
    return entity(Approval, row)


def waiting_since(connection: Connection, task_ids: Collection[str]) -> dict[str, datetime]:
    """Gives since when the agents of those tasks that wait for a person wait for those who have not decided yet."""
    if not task_ids:
        return {}
    opened = func.min(case((approvals.c.status == ApprovalStatus.OPEN, approvals.c.opened_at)))
    query = (
        select(approvals.c.task_id, opened, func.max(approvals.c.decided_at))
        .where(approvals.c.task_id.in_(task_ids), approvals.c.kind.in_(_OF_AGENTS))
        .group_by(approvals.c.task_id)
    )
    return {task_id: max(first, decided or first) for task_id, first, decided in connection.execute(query) if first}


def get(connection: Connection, approval_id: str) -> Approval:
    """Gives one gate; raises `NotFound`."""
    return entity(Approval, one(connection, select(approvals).where(approvals.c.id == approval_id), "such gate"))


def find(connection: Connection, reference: str) -> str:
    """Gives the id of the gate "A3", "3", an id or a beginning of one; errors as `plans.find`."""
    query = select(approvals.c.id, approvals.c.number).order_by(approvals.c.number)
    number = references.number_in(reference, "A")
    rows = connection.execute(query.where(approvals.c.number == number)).all() if number is not None else ()
    found = rows or references.by_prefix(connection, query, approvals.c.id, reference)
    return references.only(found, "gate", "A", reference, "holdfast approvals lists them").id


def list_(
    connection: Connection,
    *,
    status: ApprovalStatus | None = None,
    plan_id: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
    owner_id: str = LOCAL_OWNER,
) -> Page[Approval]:
    """Gives a page of gates, newest first."""
    # Asked of each gate, so that gates are read in their own order; a join begins with all plans.
    theirs = exists().where(plans.c.id == approvals.c.plan_id, plans.c.owner_id == owner_id)
    query = select(approvals).where(theirs)
    if status is not None:
        query = query.where(approvals.c.status == status)
    if plan_id is not None:
        query = query.where(approvals.c.plan_id == plan_id)
    found = [entity(Approval, row) for row in connection.execute(before(query, approvals.c.number, cursor, limit))]
    return page(found, limit, lambda approval: approval.number)


def _tell(connection: Connection, approval: Approval, subtype: str, actor: str, data: Mapping[str, object]) -> None:
    project_id = project_of(connection, approval.plan_id)
    ids: dict[str, Any] = {
        "project_id": project_id,
        "plan_id": approval.plan_id,
        "phase_id": approval.phase_id,
        "task_id": approval.task_id,
    }
    events.add(connection, EventType.APPROVAL, subtype, actor, data={"id": approval.id, **data}, **ids)


def question(connection: Connection, *, plan_id: str, task_id: str | None, key: str) -> Approval | None:
    """Gives the newest question that an agent of the task, or the plan's own, asked under that key."""
    query = select(approvals).where(
        approvals.c.plan_id == plan_id,
        approvals.c.task_id.is_(None) if task_id is None else approvals.c.task_id == task_id,
        approvals.c.kind == ApprovalKind.QUESTION,
        approvals.c.subject == key,
    )
    row = connection.execute(query.order_by(approvals.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else entity(Approval, row)


def latest(
    connection: Connection, *, plan_id: str, kind: ApprovalKind, since: datetime | None = None
) -> Approval | None:
    """Gives the newest gate of that kind of a plan that was opened at `since` or later."""
    query = select(approvals).where(approvals.c.plan_id == plan_id, approvals.c.kind == kind)
    if since is not None:
        query = query.where(approvals.c.opened_at >= since)
    row = connection.execute(query.order_by(approvals.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else entity(Approval, row)


def asking(connection: Connection, plan_id: str) -> set[str]:
    """Gives the ids of a plan's tasks whose agents wait for a permission or an answer."""
    query = select(approvals.c.task_id).where(
        approvals.c.plan_id == plan_id,
        approvals.c.status == ApprovalStatus.OPEN,
        approvals.c.kind.in_(_OF_AGENTS),
    )
    return set(connection.execute(query).scalars())


def objections(connection: Connection, task_id: str) -> tuple[Approval, ...]:
    """Gives what the agents of a task asked for and a person rejected with a comment, oldest first."""
    query = select(approvals).where(
        approvals.c.task_id == task_id,
        approvals.c.kind == ApprovalKind.PERMISSION,
        approvals.c.status == ApprovalStatus.REJECTED,
        approvals.c.comment != "",
    )
    return entities(Approval, connection.execute(query.order_by(approvals.c.number)))


def cancel_open(
    connection: Connection, *, plan_id: str, actor: str, task_id: str | None = None, kind: ApprovalKind | None = None
) -> None:
    """Closes the gates of a plan (or of one task, or of one kind) that nobody needs to decide any more."""
    query = select(approvals).where(approvals.c.plan_id == plan_id, approvals.c.status == ApprovalStatus.OPEN)
    if task_id is not None:
        query = query.where(approvals.c.task_id == task_id)
    if kind is not None:
        query = query.where(approvals.c.kind == kind)
    for row in connection.execute(query).all():
        decide(connection, entity(Approval, row), ApprovalStatus.CANCELLED, actor=actor)
