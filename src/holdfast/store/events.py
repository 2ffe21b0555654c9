"""History: one row per change, written in the change's own transaction; listed newest first, or followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Connection, Text, bindparam, cast, func, select, tuple_, type_coerce

from holdfast import clock
from holdfast.domain.history import ROLES, Event, EventType
from holdfast.errors import UsageError
from holdfast.store.columns import Moment
from holdfast.store.paging import STREAMED, AnyRow, Page, Query, key_number, limited, page
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


# The columns that filter a page, the one that most likely leaves the fewest events first.
_FILTERS = ("task_id", "phase_id", "step_id", "plan_id", "subtype", "actor", "type", "project_id", "owner_id")


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

    A page is in the order of the events' times, those of one time in the order in which they were written; a cursor is
    the `Event.id` it goes on from. What a page costs does not depend on the length of the history. `since` is
    inclusive, `until` exclusive. An `actor` that is one of `domain.history.ROLES` stands for all of that role.

    Following misses nothing and repeats nothing, also where transactions commit out of the order of their ids: an
    event is shown only when no older transaction can still add one before it. Pass the last `Event.id` seen
    (0 = from the start). Raises `UsageError` for a cursor, or an `after`, that is no event.
    """
    given = {
        "owner_id": owner_id,
        "project_id": project_id,
        "plan_id": plan_id,
        "phase_id": phase_id,
        "task_id": task_id,
        "step_id": step_id,
        "type": type,
        "subtype": subtype,
        "role" if actor in ROLES else "actor": f"{actor}:%" if actor in ROLES else actor,
        "since": since,
        "until": until,
    }
    wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if after is not None:
        wanted |= {"seen_tx": _of(connection, after).tx if after else -1, "seen": after}
    elif cursor is not None:
        shown = key_number(cursor)
        wanted |= {"shown_at": _of(connection, shown).at, "shown": shown}
    query = _statement(tuple(wanted), after is not None and connection.dialect.name != "sqlite")
    rows = connection.execute(query, {**wanted, "rows": limited(limit) + 1}).all()
    return page([Event(*row) for row in rows], limit, lambda event: event.id)


def _of(connection: Connection, event_id: int) -> AnyRow:
    row = connection.execute(select(events.c.at, events.c.tx).where(events.c.id == event_id)).one_or_none()
    if row is None:
        raise UsageError(f"there is no event {event_id} to go on from", hint="use next_cursor of the page before")
    return row


_COLUMNS = tuple(events.c[field.name] for field in fields(Event))
_ORDERS = {"shown": (events.c.at, events.c.id), "seen": (events.c.tx, events.c.id)}
_CUTS = {
    "role": events.c.actor.like(bindparam("role")),
    "since": events.c.at >= bindparam("since", type_=Moment),
    "until": events.c.at < bindparam("until", type_=Moment),
    "shown": tuple_(*_ORDERS["shown"]) < tuple_(bindparam("shown_at", type_=Moment), bindparam("shown")),
    "seen": tuple_(*_ORDERS["seen"]) > tuple_(bindparam("seen_tx"), bindparam("seen")),
}


@lru_cache(maxsize=256)
def _statement(names: tuple[str, ...], settled: bool) -> Query:
    """Gives the statement of a page by what narrows it, built once a process: building one costs more than running it.

    The index of one column gives the events of a page, and the others only sift them (those of a follower are few, and
    all sift). Left to choose, a database without statistics may walk through the whole history for the few events of
    one plan, and sort all events of a plan for the few that are new.
    """
    following = "seen" in names
    order = _ORDERS["seen" if following else "shown"]
    query = select(*_COLUMNS).order_by(*(column if following else column.desc() for column in order))
    columns = [name for name in _FILTERS if name in names]
    if not following:
        first = columns.pop(0)
        query = query.where(events.c[first] == bindparam(first, type_=events.c[first].type))
    for name in columns:
        # No index serves a test of a comparison, and PostgreSQL still knows how many rows pass it.
        query = query.where((type_coerce(events.c[name], Text) == bindparam(name, type_=Text)).is_(True))
    query = query.where(*(cut for name, cut in _CUTS.items() if name in names))
    if settled:
        query = query.where(events.c.tx < _SETTLED)
    return query.limit(bindparam("rows"))


def of_plan(connection: Connection, plan_id: str) -> Iterator[Event]:
    """Gives all events of a plan in the order in which they became true, a few at a time.

    A change is made before it is told, so of two changes of one thing the later one has the greater id.
    """
    query = select(*_COLUMNS).where(events.c.plan_id == plan_id).order_by(events.c.id)
    for row in connection.execute(query, execution_options=STREAMED):
        yield Event(*row)


def count(connection: Connection, plan_id: str) -> int:
    """Gives how many events a plan has: while it is the same number, nothing of the plan has changed."""
    return connection.execute(select(func.count()).where(events.c.plan_id == plan_id)).scalar_one()


def last_id(connection: Connection) -> int:
    """Gives the id after which a new follower starts (0 for an empty history)."""
    newest = _LAST if connection.dialect.name == "sqlite" else _LAST_SETTLED
    return connection.execute(newest).scalar_one_or_none() or 0


# The oldest transaction that still runs: every one before it has ended, and no row of theirs can appear later.
_SETTLED = cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger)
_LAST = select(events.c.id).order_by(events.c.tx.desc(), events.c.id.desc()).limit(1)
_LAST_SETTLED = _LAST.where(events.c.tx < _SETTLED)
