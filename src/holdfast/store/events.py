"""History: one row per change, written in the change's own transaction; listed newest first, or followed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Text, and_, cast, func, or_, select

from holdfast import clock
from holdfast.domain.history import Event, EventType
from holdfast.store.paging import Page, Query, before, limited, page
from holdfast.store.rows import entity
from holdfast.store.tables import LOCAL_OWNER, events

_INSERT = events.insert().returning(events.c.id)


def add(
    connection: Connection,
    type: EventType,
    subtype: str,
    actor: str,
    *,
    project_id: str | None = None,
    plan_id: str | None = None,
    phase_id: str | None = None,
    task_id: str | None = None,
    step_id: str | None = None,
    data: Mapping[str, object] | None = None,
    owner_id: str = LOCAL_OWNER,
) -> int:
    """Writes one event and gives its id; it becomes true together with the rest of the transaction."""
    values = {
        "at": clock.now(),
        "owner_id": owner_id,
        "project_id": project_id,
        "plan_id": plan_id,
        "phase_id": phase_id,
        "task_id": task_id,
        "step_id": step_id,
        "type": type,
        "subtype": subtype,
        "actor": actor,
        "data": data or {},
    }
    return connection.execute(_INSERT, values).scalar_one()


def list_(
    connection: Connection,
    *,
    owner_id: str = LOCAL_OWNER,
    project_id: str | None = None,
    plan_id: str | None = None,
    phase_id: str | None = None,
    task_id: str | None = None,
    step_id: str | None = None,
    type: EventType | None = None,
    subtype: str | None = None,
    actor: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: int | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> Page[Event]:
    """Gives a page of history, newest first; or, with `after`, what followed that event, oldest first.

    Following misses nothing and repeats nothing, also where transactions commit out of the order of their ids: an
    event is shown only when no older transaction can still add one before it. Pass the last `Event.id` seen
    (0 = from the start). `since` is inclusive, `until` exclusive.
    """
    query = select(events).where(events.c.owner_id == owner_id)
    equal = {
        "project_id": project_id,
        "plan_id": plan_id,
        "phase_id": phase_id,
        "task_id": task_id,
        "step_id": step_id,
        "type": type,
        "subtype": subtype,
        "actor": actor,
    }
    for name, value in equal.items():
        if value is not None:
            query = query.where(events.c[name] == value)
    if since is not None:
        query = query.where(events.c.at >= since)
    if until is not None:
        query = query.where(events.c.at < until)
    if after is None:
        query = before(query, events.c.id, cursor, limit)
    else:
        query = _following(connection, query, after).limit(limited(limit) + 1)
    found = [entity(Event, row) for row in connection.execute(query)]
    return page(found, limit, lambda event: event.id)


def last_id(connection: Connection) -> int:
    """Gives the id after which a new follower starts (0 for an empty history)."""
    query = select(events.c.id).order_by(events.c.tx.desc(), events.c.id.desc()).limit(1)
    if connection.dialect.name != "sqlite":
        query = query.where(events.c.tx < _settled())
    return connection.execute(query).scalar_one_or_none() or 0


def _following(connection: Connection, query: Query, after: int) -> Query:
    if connection.dialect.name == "sqlite":
        return query.where(events.c.id > after).order_by(events.c.id)
    position = connection.execute(select(events.c.tx).where(events.c.id == after)).scalar_one_or_none()
    later = events.c.id > after
    if position is not None:
        later = or_(events.c.tx > position, and_(events.c.tx == position, events.c.id > after))
    return query.where(later, events.c.tx < _settled()).order_by(events.c.tx, events.c.id)


def _settled() -> Any:
    """The oldest transaction that still runs: every one before it has ended, and no row of theirs can appear later."""
    return cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger)
