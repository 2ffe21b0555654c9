"""Operations: the intent of a rewind and its like, written before its effects, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from holdfast import clock
from holdfast.errors import IllegalState
from holdfast.store import references
from holdfast.store.paging import Page, before, page
from holdfast.store.rows import entities, entity, next_numbers, one
from holdfast.store.tables import OperationStatus, operations

# The kind of operation by which a command asks a worker for a checkpoint of the task that it runs.
CHECKPOINT = "checkpoint"
# The key of an intent under which a restoration stands: such an operation holds its plan until it has ended.
RESTORATION = "restoration"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; while it is `open` its effects may be half done, and its intent says how to complete them."""

    id: str
    number: int
    plan_id: str | None
    task_id: str | None
    kind: str
    actor: str
    status: OperationStatus
    intent: Mapping[str, object]
    outcome: Mapping[str, object]
    started_at: datetime
    ended_at: datetime | None


def begin(
    connection: Connection,
    *,
    id: str,
    kind: str,
    actor: str,
    intent: Mapping[str, object],
    plan_id: str | None = None,
    task_id: str | None = None,
) -> Operation:
    """Gives the operation of that id, made now if it does not exist yet."""
    row = connection.execute(select(operations).where(operations.c.id == id)).one_or_none()
    if row is not None:
        return entity(Operation, row)
    number = next_numbers(connection, "operations")[0]
    values: dict[str, object] = {"id": id, "number": number, "kind": kind, "actor": actor, "intent": intent}
    values |= {"plan_id": plan_id, "task_id": task_id}
    values |= {"status": OperationStatus.OPEN, "outcome": {}, "started_at": clock.now()}
    return entity(Operation, connection.execute(operations.insert().values(**values).returning(operations)).one())


def finish(
    connection: Connection,
    operation_id: str,
    *,
    outcome: Mapping[str, object],
    status: OperationStatus = OperationStatus.DONE,
) -> Operation:
    """Ends an operation, once: an ended one is given back as it is stored."""
    if status is OperationStatus.OPEN:
        raise IllegalState("an operation ends as done or failed")
    where = (operations.c.id == operation_id, operations.c.status == OperationStatus.OPEN)
    connection.execute(update(operations).where(*where).values(status=status, outcome=outcome, ended_at=clock.now()))
    return get(connection, operation_id)


def note(connection: Connection, operation_id: str, intent: Mapping[str, object]) -> Operation:
    """Writes down how far an open operation has come; raises `IllegalState` for one that has ended."""
    where = (operations.c.id == operation_id, operations.c.status == OperationStatus.OPEN)
    connection.execute(update(operations).where(*where).values(intent=intent))
    noted = get(connection, operation_id)
    if noted.status is not OperationStatus.OPEN:
        raise IllegalState("the operation has ended", code="changed_meanwhile")
    return noted


def advance(connection: Connection, operation_id: str, outcome: Mapping[str, object]) -> Operation:
    """Keeps in its outcome how far an open operation has come; an ended one stays as it is."""
    where = (operations.c.id == operation_id, operations.c.status == OperationStatus.OPEN)
    connection.execute(update(operations).where(*where).values(outcome=outcome))
    return get(connection, operation_id)


def of_kind(connection: Connection, plan_id: str, kind: str) -> tuple[Operation, ...]:
    """Gives a plan's operations of one kind, oldest first."""
    where = (operations.c.plan_id == plan_id, operations.c.kind == kind)
    query = select(operations).where(*where).order_by(operations.c.started_at, operations.c.id)
    return entities(Operation, connection.execute(query))


def get(connection: Connection, operation_id: str) -> Operation:
    """Gives one operation; raises `NotFound`."""
    query = select(operations).where(operations.c.id == operation_id)
    return entity(Operation, one(connection, query, "such operation"))


def find(connection: Connection, reference: str) -> Operation:
    """Gives the operation "O4", "4", or of an id or a beginning of one; raises `NotFound`, `UsageError` for several."""
    query = select(operations.c.id, operations.c.number)
    number = references.number_in(reference, "O")
    rows = connection.execute(query.where(operations.c.number == number)).all() if number is not None else ()
    rows = rows or references.by_prefix(connection, query, operations.c.id, reference)
    return get(connection, references.only(rows, "operation", "O", reference, "look: holdfast operations").id)


def open_ones(connection: Connection, *, plan_id: str | None = None) -> tuple[Operation, ...]:
    """Gives the operations that have not ended, oldest first: what recovery completes."""
    query = select(operations).where(operations.c.status == OperationStatus.OPEN).order_by(operations.c.id)
    if plan_id is not None:
        query = query.where(operations.c.plan_id == plan_id)
    return entities(Operation, connection.execute(query))


def restoring(connection: Connection, plan_id: str) -> Operation | None:
    """Gives the operation that is going back with a plan now, or was cut off at it."""
    return next((each for each in open_ones(connection, plan_id=plan_id) if RESTORATION in each.intent), None)


def newest_restoration(connection: Connection, plan_id: str) -> Operation | None:
    """Gives the last operation that went back with a plan or is doing so, None if none did."""
    found = list_(connection, plan_id=plan_id).items
    return next(
        (each for each in found if RESTORATION in each.intent and each.status is not OperationStatus.FAILED), None
    )


def list_(
    connection: Connection, *, plan_id: str | None = None, limit: int = 100, cursor: str | None = None
) -> Page[Operation]:
    """Gives a page of operations, newest first."""
    query = select(operations)
    if plan_id is not None:
        query = query.where(operations.c.plan_id == plan_id)
    rows = connection.execute(before(query, operations.c.id, cursor, limit, numeric=False))
    return page([entity(Operation, row) for row in rows], limit, lambda operation: operation.id)
