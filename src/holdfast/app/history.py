"""History: what happened, when, by whom; as pages, as it comes, and as the whole record of one plan."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TypedDict, Unpack

from holdfast.app.wire import House
from holdfast.domain.history import Event, EventType
from holdfast.errors import UsageError
from holdfast.store import Page, audit, events
from holdfast.store.paging import key_number


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
    """Gives a page of events, newest first; raises `UsageError` for a cursor that is none."""
    if since is not None and until is not None and since >= until:
        raise UsageError(f"nothing is from {since:%Y-%m-%d %H:%M:%S} and before {until:%Y-%m-%d %H:%M:%S}")
    with house.database.read() as connection:
        return events.list_(connection, since=since, until=until, limit=limit, cursor=cursor or None, **filters)


def after(house: House, event_id: int, *, limit: int = 500, **filters: Unpack[Filters]) -> tuple[Event, ...]:
    """Gives the events that followed `event_id`, oldest first: none twice, none missing."""
    with house.database.read() as connection:
        return events.list_(connection, after=event_id, limit=limit, **filters).items


def news(house: House, event_id: int, *, limit: int = 500, **filters: Unpack[Filters]) -> tuple[tuple[Event, ...], int]:
    """Gives what `after` gives, and the id to go on from: also what was none of the wanted is not looked at again."""
    with house.database.read() as connection:
        # Before the look, so that whatever comes after this one is looked at the next time.
        last = events.last_id(connection)
        found = events.list_(connection, after=event_id, limit=limit, **filters).items
    return found, found[-1].id if found else last or event_id


def last_event(house: House) -> int:
    """Gives the id to follow from."""
    with house.database.read() as connection:
        return events.last_id(connection)


def start(house: House, cursor: str) -> int:
    """Gives the id to follow from: that of the cursor, else the newest; raises `UsageError` for one that is none."""
    return key_number(cursor) if cursor else last_event(house)


def everything(house: House, *, plan_id: str) -> Iterator[Event]:
    """Gives all events of a plan in the order in which they became true, as of one moment."""
    with house.database.read(snapshot=True) as connection:
        yield from events.of_plan(connection, plan_id)


def record(house: House, plan_id: str) -> Iterator[tuple[str, Iterator[object]]]:
    """Gives the whole record of a plan, as of one moment: its parts by name, each to be read before the next one.

    It is read as it is asked for, a few rows at a time, whatever the length of the history.
    """
    with house.database.read(snapshot=True) as connection:
        yield from audit.parts(connection, plan_id)
