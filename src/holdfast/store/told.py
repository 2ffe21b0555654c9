"""Compares what a plan's events tell, replayed, with what its rows say."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from holdfast.domain.history import EventType
from holdfast.domain.replay import Fields, Replay, Subject
from holdfast.domain.step import Step, state
from holdfast.store import events
from holdfast.store.paging import AnyRow
from holdfast.store.rows import entity
from holdfast.store.tables import approvals, checkpoints, phases, plans, steps, tasks


def untold(connection: Connection, plan_id: str) -> Iterator[tuple[str, str]]:
    """Gives every row of the plan that its events do not tell as it is, and what is wrong with it."""
    replay = Replay()
    for event in events.of_plan(connection, plan_id):
        try:
            replay.feed(event)
        except KeyError as error:
            yield f"event {event.id}", f"{event.type}.{event.subtype} does not tell {error}"
    for contradiction in replay.contradictions:
        yield "history", contradiction
    stored = dict(_stored(connection, plan_id))
    for subject in replay.state.keys() | stored.keys():
        name = " ".join(subject)
        if subject not in stored:
            yield name, "is not there, but history tells of it"
        elif subject not in replay.state:
            yield name, "is there, but history does not tell of it"
        else:
            yield from ((name, wrong) for wrong in _differences(stored[subject], replay.state[subject]))


def _differences(stored: Fields, told: Fields) -> Iterator[str]:
    for field, value in stored.items():
        said = told.get(field)
        if value != said:
            yield f"its {field} is {value}, but history says {said}"


def _stored(connection: Connection, plan_id: str) -> Iterator[tuple[Subject, Fields]]:
    """Gives what `Replay.state` should have, from the rows."""
    for row in connection.execute(select(plans).where(plans.c.id == plan_id)):
        yield _fields(EventType.PLAN, row, "title status stage pause_reason")
    for row in connection.execute(select(phases).where(phases.c.plan_id == plan_id)):
        yield _fields(EventType.PHASE, row, "title status")
    for row in connection.execute(select(tasks).where(tasks.c.plan_id == plan_id)):
        yield _fields(EventType.TASK, row, "key title status attempt")
    for row in connection.execute(select(steps).where(steps.c.plan_id == plan_id)):
        subject, fields = _fields(EventType.STEP, row, "number attempt run exit_code failure commit_after")
        yield subject, fields | {"state": state(entity(Step, row))}
    for row in connection.execute(select(checkpoints).where(checkpoints.c.plan_id == plan_id)):
        yield _fields(EventType.CHECKPOINT, row, "number kind name commit superseded")
    for row in connection.execute(select(approvals).where(approvals.c.plan_id == plan_id)):
        yield _fields(EventType.APPROVAL, row, "number kind status decided_by comment")


def _fields(type: EventType, row: AnyRow, names: str) -> tuple[Subject, Fields]:
    values = row._mapping  # pyright: ignore[reportPrivateUsage]  # SQLAlchemy's documented name
    return (type, str(values["id"])), {name: values[name] for name in names.split()}
