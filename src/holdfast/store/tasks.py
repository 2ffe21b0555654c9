"""Tasks: their states, their claims and the edits that are allowed before they start."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, String, bindparam, cast, delete, func, select, type_coerce, update

from holdfast import clock
from holdfast.domain import transitions
from holdfast.domain.history import EventType
from holdfast.domain.plan import Plan, refuse_deleted
from holdfast.domain.task import Task
from holdfast.domain.transitions import TaskStatus
from holdfast.errors import IllegalState, NotFound
from holdfast.store import events, references
from holdfast.store.columns import Placed
from holdfast.store.rows import (
    by_id,
    change,
    changeable,
    claim_lost,
    columns_of,
    entities,
    entity,
    next_numbers,
    one,
    project_of,
)
from holdfast.store.tables import approvals, checkpoints, messages, phases, plans, steps, task_dependencies, tasks

_GUARDED = frozenset(
    {"id", "number", "plan_id", "status", "claim", "claimed_by", "head_message_id", "start_message_id", "context"}
)
_EDITABLE = frozenset({TaskStatus.PENDING, TaskStatus.AWAITING_APPROVAL})
_EDITS = frozenset(
    "phase_id position key title instructions executor command agent max_attempts timeout_seconds verify "  # noqa: SIM905
    "retryable max_seconds max_tokens max_cost_usd permissions".split()
)
LIMITS = frozenset({"max_seconds", "max_tokens", "max_cost_usd"})


def insert_all(connection: Connection, new: Sequence[Task]) -> tuple[Task, ...]:
    """Stores new tasks and what they depend on (ids of tasks), numbered in the order given."""
    if not new:
        return ()
    numbers = next_numbers(connection, "tasks", len(new))
    numbered = tuple(replace(task, number=number) for task, number in zip(new, numbers, strict=True))
    connection.execute(tasks.insert(), [columns_of(task, without=("depends_on",)) for task in numbered])
    for task in numbered:
        _store_dependencies(connection, task.id, task.depends_on)
    return numbered


def _store_dependencies(connection: Connection, task_id: str, depends_on: Sequence[str]) -> None:
    rows = [
        {"task_id": task_id, "depends_on_id": other, "position": position} for position, other in enumerate(depends_on)
    ]
    if rows:
        connection.execute(task_dependencies.insert(), rows)


# What a task depends on comes with its row: one statement instead of two, wherever tasks are read. An aggregate has no
# order of its own, so the places are in it.
_DEPENDS_ON = type_coerce(
    select(
        func.aggregate_strings(
            cast(task_dependencies.c.position, String) + ":" + task_dependencies.c.depends_on_id, ","
        )
    )
    .where(task_dependencies.c.task_id == tasks.c.id)
    .scalar_subquery(),
    Placed(),
).label("depends_on")
_TASKS = select(tasks, _DEPENDS_ON)
_BY_ID = _TASKS.where(tasks.c.id == bindparam("wanted"))
_LOCKED = _BY_ID.with_for_update(key_share=True, of=tasks)
_OF_PLAN = (
    _TASKS.join(phases, phases.c.id == tasks.c.phase_id)
    .where(tasks.c.plan_id == bindparam("plan"))
    .order_by(phases.c.position, tasks.c.position, tasks.c.number)
)
_KEYS = (
    select(tasks.c.key)
    .where(tasks.c.plan_id == bindparam("plan"), tasks.c.status == bindparam("status"))
    .order_by(tasks.c.number)
)
_APART = (
    select(tasks.c.id)
    .where(tasks.c.plan_id == bindparam("plan"), tasks.c.status == TaskStatus.RUNNING)
    .where(tasks.c.branch != "", tasks.c.branch != bindparam("branch"))
    .limit(1)
)
_TAKEN = (
    update(tasks)
    .where(tasks.c.id == bindparam("wanted"))
    .values(claim=tasks.c.claim + 1, claimed_by=bindparam("by"))
    .returning(tasks.c.claim)
)


def get(connection: Connection, task_id: str) -> Task:
    """Gives one task; raises `NotFound`."""
    return entity(Task, one(connection, _BY_ID, "such task", {"wanted": task_id}))


def numbers(connection: Connection, ids: Collection[str]) -> dict[str, int]:
    """Gives the numbers of tasks by their ids."""
    query = select(tasks.c.id, tasks.c.number).where(tasks.c.id.in_(ids))
    return {row.id: row.number for row in connection.execute(query)}


def lock(connection: Connection, task_id: str) -> Task:
    """Gives the task and keeps others from changing it until the transaction ends."""
    return entity(Task, one(connection, _LOCKED, "such task", {"wanted": task_id}))


def of_plan(connection: Connection, plan_id: str) -> tuple[Task, ...]:
    """Gives a plan's tasks in the order of their phases and of their places in them."""
    return entities(Task, connection.execute(_OF_PLAN, {"plan": plan_id}))


def list_(
    connection: Connection, *, status: TaskStatus, claimed_by: str | None = None, limit: int = 1000
) -> tuple[Task, ...]:
    """Gives the tasks in one status, oldest first, optionally only those that one worker claimed."""
    query = _TASKS.where(tasks.c.status == status).order_by(tasks.c.number).limit(limit)
    if claimed_by is not None:
        query = query.where(tasks.c.claimed_by == claimed_by)
    return entities(Task, connection.execute(query))


def contestants(connection: Connection, task_id: str) -> tuple[Task, ...]:
    """Gives the tasks that raced for a task, in the order in which they were entered; not those in the trash."""
    query = _TASKS.join(plans, plans.c.id == tasks.c.plan_id).where(plans.c.deleted_at.is_(None))
    query = query.where(tasks.c.contestant_of == task_id).order_by(tasks.c.number)
    return entities(Task, connection.execute(query))


def keys(connection: Connection, plan_id: str, *, status: TaskStatus) -> tuple[str, ...]:
    """Gives the keys of a plan's tasks in one status, in the order of their numbers."""
    return tuple(connection.execute(_KEYS, {"plan": plan_id, "status": status}).scalars())


def find(connection: Connection, reference: str, *, plan_id: str | None = None) -> str:
    """Gives the id of the task "T4", "4", an id or a beginning of one, or within `plan_id` its key.

    Raises `NotFound`, `UsageError` that lists the candidates if several fit, and `IllegalState` if its plan is in the
    trash.
    """
    query = select(tasks.c.id, tasks.c.number, tasks.c.plan_id).order_by(tasks.c.number)
    if plan_id is not None:
        query = query.where(tasks.c.plan_id == plan_id)
    rows: Sequence[Any] = ()
    if plan_id is not None:
        rows = connection.execute(query.where(tasks.c.key == reference)).all()
    number = references.number_in(reference, "T")
    if not rows and number is not None:
        rows = connection.execute(query.where(tasks.c.number == number)).all()
    if not rows:
        rows = references.by_prefix(connection, query, tasks.c.id, reference)
    found = references.only(rows, "task", "T", reference, "holdfast plan show lists a plan's tasks")
    refuse_deleted(entity(Plan, by_id(connection, plans, found.plan_id, "such plan")))
    return found.id


def work_apart(connection: Connection, plan: Plan) -> bool:
    """Tells whether a task of the plan runs on a branch of its own, or has ended there and waits to be merged."""
    return connection.execute(_APART, {"plan": plan.id, "branch": plan.branch}).first() is not None


def claimed_by(connection: Connection, task_id: str) -> str | None:
    """Gives the id of the worker that took the task up last."""
    return one(connection, select(tasks.c.claimed_by).where(tasks.c.id == task_id), "such task").claimed_by


def take_claim(connection: Connection, task_id: str, worker_id: str) -> int:
    """Gives the task's next claim to a worker; from then on each write with an older claim is refused."""
    claim = connection.execute(_TAKEN, {"wanted": task_id, "by": worker_id}).scalar_one_or_none()
    if claim is None:
        raise NotFound("no such task")
    return claim


def set_status(
    connection: Connection,
    task: Task,
    status: TaskStatus,
    *,
    actor: str,
    claim: int | None = None,
    data: Mapping[str, object] | None = None,
    **columns: object,
) -> Task:
    """Moves `task` from the status it was read with to `status`, with its event; gives the new task.

    Sets `started_at` and `ended_at` as they follow unless `columns` do. Raises `IllegalTransition`, `ClaimLost` if
    `claim` is given and another worker has a later one, and `IllegalState` if the task is no longer what `task` says.
    """
    transitions.check(transitions.TASK, "task", task.status, status)
    values = _times(task, status) | changeable(tasks, columns, _GUARDED) | {"status": status}
    was = {"id": task.id, "status": task.status} | ({} if claim is None else {"claim": claim})
    changed = change(connection, tasks, values, was)
    if changed is None:
        found = get(connection, task.id)
        if claim is not None and found.claim != claim:
            raise claim_lost(connection, task.id, claim)
        raise IllegalState(
            f"task T{found.number} is {found.status} by now, not {task.status}", code="changed_meanwhile"
        )
    told = {"from": task.status, "to": status, "attempt": changed.attempt, **(data or {})}
    _tell(connection, task, str(status), actor, told)
    return entity(Task, changed, depends_on=task.depends_on)


def _times(task: Task, status: TaskStatus) -> dict[str, Any]:
    now = clock.now()
    match status:
        case TaskStatus.RUNNING:
            return {"started_at": task.started_at or now, "ended_at": None}
        case TaskStatus.PENDING:
            return {"started_at": None, "ended_at": None}
        case _ if status in transitions.TASK_ENDED:
            return {"ended_at": now}
        case _:
            return {}


def set_fields(connection: Connection, task_id: str, *, claim: int | None = None, **columns: object) -> Task:
    """Writes columns that have no rules of their own; with a claim only while it holds (else `ClaimLost`)."""
    values = changeable(tasks, columns, _GUARDED)
    was = {"id": task_id} | ({} if claim is None else {"claim": claim})
    if change(connection, tasks, values, was) is None:
        get(connection, task_id)
        raise claim_lost(connection, task_id, claim or 0)
    return get(connection, task_id)


def add(connection: Connection, new: Sequence[Task], told: Sequence[Mapping[str, object]], *, actor: str) -> None:
    """Adds tasks to a plan that exists, which may depend on each other; `told` goes into the event of each."""
    for task, data in zip(insert_all(connection, new), told, strict=True):
        _tell(connection, task, "added", actor, {"number": task.number, "key": task.key, "title": task.title, **data})


def edit(
    connection: Connection,
    task: Task,
    told: Mapping[str, object],
    *,
    actor: str,
    depends_on: Sequence[str] | None = None,
    **columns: object,
) -> Task:
    """Changes a task that has not started; raises `IllegalState` for any other. One that a gate holds is asked about
    anew: who decides has to know what is decided.
    """
    values = changeable(tasks, columns, frozenset(tasks.c.keys()) - _EDITS)
    found = _refuse_started(connection, task)
    if values.get("phase_id", found.phase_id) != found.phase_id:
        values["branch"] = ""
    connection.execute(update(tasks).where(tasks.c.id == task.id).values(**values, approved=False))
    if depends_on is not None:
        connection.execute(delete(task_dependencies).where(task_dependencies.c.task_id == task.id))
        _store_dependencies(connection, task.id, depends_on)
    edited = get(connection, task.id)
    _tell(connection, edited, "edited", actor, {"key": edited.key, **told})
    if edited.status is TaskStatus.AWAITING_APPROVAL:
        edited = set_status(connection, edited, TaskStatus.PENDING, actor=actor)
    return edited


def limit(connection: Connection, task: Task, told: Mapping[str, object], *, actor: str, **columns: object) -> Task:
    """Gives a task other `LIMITS`, whether it has started or not, and whatever was decided about it."""
    limited = set_fields(connection, task.id, claim=None, **columns)
    _tell(connection, limited, "edited", actor, {"key": limited.key, **told})
    return limited


def remove(connection: Connection, task: Task, told: Mapping[str, object], *, actor: str) -> None:
    """Removes a task that has never run; what depended on it no longer does. Raises `IllegalState` for any other."""
    _refuse_started(connection, task)
    for table in (steps, checkpoints, messages, approvals):
        if connection.execute(select(func.count()).select_from(table).where(table.c.task_id == task.id)).scalar_one():
            raise IllegalState(
                f"task T{task.number} has a history ({table.name})", hint="skip it: holdfast task skip", code="started"
            )
    for end in (task_dependencies.c.task_id, task_dependencies.c.depends_on_id):
        connection.execute(delete(task_dependencies).where(end == task.id))
    _tell(connection, task, "removed", actor, {"number": task.number, "key": task.key, "title": task.title, **told})
    connection.execute(delete(tasks).where(tasks.c.id == task.id))


def arrange(connection: Connection, positions: Mapping[str, int]) -> None:
    """Gives tasks, by id, their places in their phases."""
    for task_id, position in positions.items():
        connection.execute(update(tasks).where(tasks.c.id == task_id).values(position=position))


def _refuse_started(connection: Connection, task: Task) -> Task:
    found = lock(connection, task.id)
    if found.status not in _EDITABLE:
        raise IllegalState(
            f"task T{found.number} is {found.status}: only what has not started can be edited", code="started"
        )
    return found


def _tell(connection: Connection, task: Task, subtype: str, actor: str, data: Mapping[str, object]) -> None:
    project_id = project_of(connection, task.plan_id)
    events.add(
        connection,
        EventType.TASK,
        subtype,
        actor,
        project_id=project_id,
        plan_id=task.plan_id,
        phase_id=task.phase_id,
        task_id=task.id,
        data=data,
    )
