"""The timeline: what happened, when, by whom."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from holdfast.app.wire import House
from holdfast.domain.history import Event, EventType
from holdfast.store import Page, events


def timeline(
    house: House,
    *,
    project_id: str | None = None,
    plan_id: str | None = None,
    phase_id: str | None = None,
    task_id: str | None = None,
    type: EventType | None = None,
    subtype: str | None = None,
    actor: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    cursor: str = "",
) -> Page[Event]:
    """Gives a page of events, newest first."""
    with house.database.read() as connection:
        return events.list_(
            connection,
            project_id=project_id,
            plan_id=plan_id,
            phase_id=phase_id,
            task_id=task_id,
            type=type,
            subtype=subtype,
            actor=actor,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor or None,
        )


def after(
    house: House,
    event_id: int,
    *,
    project_id: str | None = None,
    plan_id: str | None = None,
    phase_id: str | None = None,
    task_id: str | None = None,
    type: EventType | None = None,
    subtype: str | None = None,
    actor: str | None = None,
    limit: int = 500,
) -> tuple[Event, ...]:
    """Gives the events that followed `event_id`, oldest first: none twice, none missing."""
    with house.database.read() as connection:
        found = events.list_(
            connection,
            project_id=project_id,
            plan_id=plan_id,
            phase_id=phase_id,
            task_id=task_id,
            type=type,
            subtype=subtype,
            actor=actor,
            after=event_id,
            limit=limit,
        )
        return found.items


def last_event(house: House) -> int:
    """Gives the id to follow from."""
    with house.database.read() as connection:
        return events.last_id(connection)


def everything(house: House, *, plan_id: str) -> Iterator[Event]:
    """Gives all events of a plan, oldest first."""
    newest = 0
    while found := after(house, newest, plan_id=plan_id):
        yield from found
        newest = found[-1].id
