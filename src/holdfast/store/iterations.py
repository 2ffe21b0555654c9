"""Iterations: how a plan came to be as it is, one row per generation, review, edit and so on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import Connection, func, select

from holdfast import clock
from holdfast.store.columns import Json
from holdfast.store.paging import Page, before, page
from holdfast.store.rows import columns_of, entities, entity, one
from holdfast.store.tables import iterations

_DRAFTED = ("generate", "review")


@dataclass(frozen=True, slots=True)
class Iteration:
    """One change of a plan's content; `number` counts per plan from 1, `content` belongs to the `kind`."""

    id: str
    number: int
    plan_id: str
    kind: str
    author: str
    content: Mapping[str, object]
    created_at: datetime


def add(connection: Connection, plan_id: str, kind: str, author: str, content: Mapping[str, object]) -> Iteration:
    """Adds the plan's next iteration; the caller holds the plan's lock, so that no number is taken twice."""
    last = select(func.max(iterations.c.number)).where(iterations.c.plan_id == plan_id)
    number = (connection.execute(last).scalar_one_or_none() or 0) + 1
    made = Iteration(clock.new_id(), number, plan_id, kind, author, content, clock.now())
    connection.execute(iterations.insert().values(**columns_of(made)))
    return made


def get(connection: Connection, plan_id: str, number: int) -> Iteration:
    """Gives one iteration of a plan; raises `NotFound`."""
    query = select(iterations).where(iterations.c.plan_id == plan_id, iterations.c.number == number)
    return entity(Iteration, one(connection, query, f"iteration {number} of this plan"))


def newest(connection: Connection, plan_id: str, kind: str) -> Iteration | None:
    """Gives the newest iteration of that kind, None if the plan has none."""
    query = select(iterations).where(iterations.c.plan_id == plan_id, iterations.c.kind == kind)
    row = connection.execute(query.order_by(iterations.c.number.desc()).limit(1)).one_or_none()
    return None if row is None else entity(Iteration, row)


def used(connection: Connection, plan_id: str, *, but_by: str) -> tuple[Mapping[str, object], ...]:
    """Gives what the drafts and reviews of a plan used, oldest first, without those of the author `but_by`."""
    extract = func.json_extract if connection.dialect.name == "sqlite" else func.jsonb_extract_path
    part = "$.usage" if connection.dialect.name == "sqlite" else "usage"
    mine = (iterations.c.plan_id == plan_id, iterations.c.author != but_by)
    query = select(extract(iterations.c.content, part, type_=Json)).where(*mine, iterations.c.kind.in_(_DRAFTED))
    told = connection.execute(query.order_by(iterations.c.number)).scalars()
    return tuple(cast("Mapping[str, object]", each) for each in told if each)


def recent(connection: Connection, limit: int) -> tuple[Iteration, ...]:
    """Gives the newest iterations of all plans, newest first."""
    query = select(iterations).order_by(iterations.c.id.desc()).limit(limit)
    return entities(Iteration, connection.execute(query))


def list_(connection: Connection, plan_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[Iteration]:
    """Gives a page of a plan's iterations, newest first."""
    query = select(iterations).where(iterations.c.plan_id == plan_id)
    found = [entity(Iteration, row) for row in connection.execute(before(query, iterations.c.number, cursor, limit))]
    return page(found, limit, lambda iteration: iteration.number)
