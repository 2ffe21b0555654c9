"""The whole record of one plan, for those who have to answer for it: read in order, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.plan import Approval
from holdfast.domain.step import Step
from holdfast.store import events, plans, projects, tasks
from holdfast.store.iterations import Iteration
from holdfast.store.operations import Operation
from holdfast.store.paging import STREAMED, Query
from holdfast.store.rows import Entity, entity
from holdfast.store.tables import approvals, checkpoints, iterations, operations, steps
from holdfast.store.tables import events as event_rows


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody or something that did a part of it: how much of the history is theirs, and from when to when."""

    name: str
    events: int
    first_at: datetime
    last_at: datetime


def parts(connection: Connection, plan_id: str) -> Iterator[tuple[str, Iterator[object]]]:
    """Gives the parts of the record by name, each to be read before the next; raises `NotFound`.

    Whatever has a number comes in its order, the rest in the order in which it was made.
    """
    plan = plans.get(connection, plan_id)
    yield "project", iter((projects.get(connection, plan.project_id),))
    yield "plan", iter((plan,))
    yield "phases", iter(plans.phases_of(connection, plan_id))
    yield "tasks", iter(tasks.of_plan(connection, plan_id))
    yield "steps", _rows(connection, Step, select(steps).where(steps.c.plan_id == plan_id).order_by(steps.c.number))
    for name, kind, table in (
        ("checkpoints", Checkpoint, checkpoints),
        ("approvals", Approval, approvals),
        ("iterations", Iteration, iterations),
        ("operations", Operation, operations),
    ):
        yield name, _rows(connection, kind, select(table).where(table.c.plan_id == plan_id).order_by(table.c.id))
    yield "actors", _actors(connection, plan_id)
    yield "events", events.of_plan(connection, plan_id)


def _rows(connection: Connection, kind: type[Entity], query: Query) -> Iterator[Entity]:
    return (entity(kind, row) for row in connection.execute(query, execution_options=STREAMED))


def _actors(connection: Connection, plan_id: str) -> Iterator[Actor]:
    columns = event_rows.c
    query = (
        select(columns.actor, func.count(), func.min(columns.at), func.max(columns.at))
        .where(columns.plan_id == plan_id)
        .group_by(columns.actor)
        .order_by(func.min(columns.id))
    )
    return (Actor(*row) for row in connection.execute(query, execution_options=STREAMED))
