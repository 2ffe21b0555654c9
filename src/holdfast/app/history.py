"""The timeline: what happened, when, by whom."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TypedDict, Unpack

from holdfast.app.wire import House
from holdfast.domain.history import Event, EventType
from holdfast.store import Page, events


class Filters(TypedDict, total=False):
    """Which events are wanted; None and what is left out: any."""

    project_id: str | None
    plan_id: str | None
    phase_id: str | None
    task_id: str | None
    type: EventType | None
    subtype: str | None
    actor: str | None


def timeline(
    house: House,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    cursor: str = "",
    **filters: Unpack[Filters],
) -> Page[Event]:
    """Gives a page of events, newest first."""
    with house.database.read() as connection:
        return events.list_(connection, since=since, until=until, limit=limit, cursor=cursor or None, **filters)


def after(house: House, event_id: int, *, limit: int = 500, **filters: Unpack[Filters]) -> tuple[Event, ...]:
    """Gives the events that followed `event_id`, oldest first: none twice, none missing."""
    with house.database.read() as connection:
        return events.list_(connection, after=event_id, limit=limit, **filters).items


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
