"""Checkpoints: numbered per task (per plan for its stages), written once, never given another content."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import BindParameter, Connection, Integer, and_, bindparam, func, or_, select, update

from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.history import EventType
from holdfast.domain.references import Reference
from holdfast.errors import IllegalState, NotFound
from holdfast.store import events
from holdfast.store.paging import Page, Query, before, page
from holdfast.store.rows import by_id, claim_lost, columns_of, entities, entity, insert_fenced, prefix_range, project_of
from holdfast.store.tables import checkpoints, tasks


def add(connection: Connection, checkpoint: Checkpoint, *, actor: str, claim: int | None = None) -> Checkpoint:
    """Stores a checkpoint with its event; the same number with the same commit again gives the stored one.

    Raises `IllegalState` if that number has another commit, and `ClaimLost` if `claim` is no longer the task's.
    """
    stored = _numbered(connection, checkpoint.number, checkpoint.task_id, checkpoint.plan_id)
    if stored is not None:
        if stored.commit != checkpoint.commit:
            raise IllegalState(
                f"checkpoint {checkpoint.number} is already commit {stored.commit[:12]}",
                hint="take the next number",
                code="exists",
            )
        return stored
    insert_fenced(connection, checkpoints, columns_of(checkpoint), checkpoint.task_id, claim)
    project_id = project_of(connection, checkpoint.plan_id)
    events.add(
        connection,
        EventType.CHECKPOINT,
        str(checkpoint.kind),
        actor,
        project_id=project_id,
        plan_id=checkpoint.plan_id,
        task_id=checkpoint.task_id,
        step_id=checkpoint.step_id,
        data={
            "id": checkpoint.id,
            "number": checkpoint.number,
            "name": checkpoint.name,
            "commit": checkpoint.commit,
        },
    )
    return checkpoint


def _of(task_id: str | BindParameter[str] | None, plan_id: str | BindParameter[str] | None) -> Query:
    if task_id is not None:
        return select(checkpoints).where(checkpoints.c.task_id == task_id)
    return select(checkpoints).where(checkpoints.c.plan_id == plan_id, checkpoints.c.task_id.is_(None))


# The statements that every task runs are built once a process: those of a task, then those of a plan's own.
_OWNER: BindParameter[str] = bindparam("owner")
_WANTED: BindParameter[int] = bindparam("wanted", type_=Integer)
_HELD: BindParameter[int] = bindparam("held", type_=Integer)
_OWNED = (_of(_OWNER, None), _of(None, _OWNER))
_LAST = tuple(query.with_only_columns(func.max(checkpoints.c.number)) for query in _OWNED)
_NUMBERED = tuple(query.where(checkpoints.c.number == _WANTED) for query in _OWNED)
_HEAD = (
    update(tasks)
    .where(tasks.c.id == _OWNER)
    .where(or_(_WANTED == 0, _NUMBERED[0].exists()), or_(_HELD.is_(None), tasks.c.claim == _HELD))
    .values(head_checkpoint=_WANTED)
)


def next_number(connection: Connection, *, task_id: str | None = None, plan_id: str | None = None) -> int:
    """Gives the number after the last of a task (or of a plan's own); the unique index settles a race for it."""
    last = connection.execute(_LAST[task_id is None], {"owner": plan_id if task_id is None else task_id})
    return (last.scalar_one() or 0) + 1


def get(connection: Connection, number: int, *, task_id: str | None = None, plan_id: str | None = None) -> Checkpoint:
    """Gives checkpoint `number` of a task (or of a plan's own); raises `NotFound`."""
    found = _numbered(connection, number, task_id, plan_id)
    if found is None:
        raise NotFound(f"no checkpoint {number}", hint="holdfast task show lists them")
    return found


def _numbered(connection: Connection, number: int, task_id: str | None, plan_id: str | None) -> Checkpoint | None:
    wanted = {"owner": plan_id if task_id is None else task_id, "wanted": number}
    row = connection.execute(_NUMBERED[task_id is None], wanted).one_or_none()
    return None if row is None else entity(Checkpoint, row)


def get_by_id(connection: Connection, checkpoint_id: str) -> Checkpoint:
    """Gives one checkpoint; raises `NotFound`."""
    return entity(Checkpoint, by_id(connection, checkpoints, checkpoint_id, "such checkpoint"))


def latest(connection: Connection, *, task_id: str | None = None, plan_id: str | None = None) -> Checkpoint | None:
    """Gives the newest checkpoint of a task (or of a plan's own), or None."""
    row = connection.execute(_of(task_id, plan_id).order_by(checkpoints.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else entity(Checkpoint, row)


def before_it(connection: Connection, checkpoint: Checkpoint) -> Checkpoint | None:
    """Gives the checkpoint that led to one: the newest before it, without what was left behind before it was made."""
    query = _of(checkpoint.task_id, checkpoint.plan_id).where(checkpoints.c.number < checkpoint.number)
    if not checkpoint.superseded:
        query = query.where(~checkpoints.c.superseded)
    row = connection.execute(query.order_by(checkpoints.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else entity(Checkpoint, row)


def newest_at(connection: Connection, task_id: str, at: datetime) -> Checkpoint | None:
    """Gives the newest checkpoint that a task had at a time, whatever was left behind since; None if it had none."""
    query = _of(task_id, None).where(checkpoints.c.created_at <= at).order_by(checkpoints.c.number.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else entity(Checkpoint, row)


def by_message(connection: Connection, task_id: str) -> Mapping[str | None, Checkpoint]:
    """Gives the newest checkpoint of a task at each message that it has one at (None: before the first message).

    Those that were left behind, or made only because something was, are not among them.
    """
    query = _of(task_id, None).where(~checkpoints.c.superseded, checkpoints.c.kind != CheckpointKind.PRE_REWIND)
    found = [entity(Checkpoint, row) for row in connection.execute(query.order_by(checkpoints.c.number))]
    return {each.message_id: each for each in found}


def matching(
    connection: Connection, wanted: Reference, *, plan_id: str, task_id: str | None, whole_plan: bool = False
) -> tuple[Checkpoint, ...]:
    """Gives the checkpoints of a task (None: the plan's own; `whole_plan`: all of the plan) that `wanted` may mean.

    Its number counts before its other meanings; `latest` is the newest that work led to and nothing left behind.
    """
    query = select(checkpoints).where(checkpoints.c.plan_id == plan_id) if whole_plan else _of(task_id, plan_id)
    query = query.order_by(*((checkpoints.c.created_at.desc(),) if whole_plan else ()), checkpoints.c.number.desc())
    if wanted.latest:
        led_to = query.where(~checkpoints.c.superseded, checkpoints.c.kind != CheckpointKind.PRE_REWIND).limit(1)
        return entities(Checkpoint, connection.execute(led_to))
    if wanted.number is not None and not whole_plan:
        row = connection.execute(query.where(checkpoints.c.number == wanted.number)).one_or_none()
        if row is not None:
            return (entity(Checkpoint, row),)
    if wanted.owner:
        return ()
    meanings = [checkpoints.c.name == wanted.text]
    for beginning, column in ((wanted.id, checkpoints.c.id), (wanted.commit, checkpoints.c.commit)):
        if beginning:
            low, high = prefix_range(beginning)
            meanings.append(and_(column >= low, column < high))
    return entities(Checkpoint, connection.execute(query.where(or_(*meanings)).limit(100)))


def list_(
    connection: Connection,
    *,
    task_id: str | None = None,
    plan_id: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[Checkpoint]:
    """Gives a page of a task's checkpoints, or of all of a plan's (its tasks' too), newest first."""
    numbered = task_id is not None
    query = _of(task_id, None) if numbered else select(checkpoints).where(checkpoints.c.plan_id == plan_id)
    key = checkpoints.c.number if numbered else checkpoints.c.id
    rows = connection.execute(before(query, key, cursor, limit, numeric=numbered))
    found = [entity(Checkpoint, row) for row in rows]
    return page(found, limit, lambda each: each.number if numbered else each.id)


def of_plan(connection: Connection, plan_id: str) -> tuple[Checkpoint, ...]:
    """Gives all checkpoints of a plan and of its tasks, oldest first."""
    query = select(checkpoints).where(checkpoints.c.plan_id == plan_id).order_by(checkpoints.c.id)
    return entities(Checkpoint, connection.execute(query))


def set_head(connection: Connection, task_id: str, number: int, *, claim: int | None = None) -> None:
    """Moves the task's head to checkpoint `number`, which must exist; 0 = none. Fenced by `claim`."""
    if connection.execute(_HEAD, {"owner": task_id, "wanted": number, "held": claim}).rowcount != 1:
        if number:
            get(connection, number, task_id=task_id)
        raise claim_lost(connection, task_id, claim or 0)


def has_own(connection: Connection, task_id: str) -> bool:
    """Tells whether a task has a checkpoint of its own; one that keeps what was in its way is none."""
    query = _of(task_id, None).where(checkpoints.c.kind != CheckpointKind.PRE_REWIND).limit(1)
    return connection.execute(query).first() is not None


def has_tree(connection: Connection, plan_id: str, tree: str) -> bool:
    """Tells whether a checkpoint of the plan or of its tasks holds exactly that tree."""
    query = select(checkpoints.c.id).where(checkpoints.c.plan_id == plan_id, checkpoints.c.tree == tree).limit(1)
    return connection.execute(query).first() is not None
