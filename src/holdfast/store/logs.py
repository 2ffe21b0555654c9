"""Output of steps, taken in from their journals, each record once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from holdfast.store import steps as step_rows
from holdfast.store.paging import Page, limited, page
from holdfast.store.rows import claim_lost, entity, fence, insert_fenced
from holdfast.store.tables import LogStream, journals, logs


@dataclass(frozen=True, slots=True)
class NewLine:
    """A line of output that is not stored yet."""

    stream: LogStream
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A stored line of a step's output; `id` grows along the log."""

    id: int
    step_id: str
    stream: LogStream
    at: datetime
    text: str


def append(
    connection: Connection,
    step_id: str,
    lines: Sequence[NewLine],
    *,
    launch: str,
    after: int,
    last_record: int,
    claim: int | None = None,
) -> bool:
    """Stores lines and the journal position they end at, together; False if they were taken in before.

    The lines are those of the records after number `after` up to `last_record` in the journal of `launch`. Nothing is
    written unless `after` is exactly where the database stands. Raises `ClaimLost` if the claim is outdated.
    """
    if not _move(connection, step_id, launch, after, last_record, claim):
        return False
    if lines:
        rows = [{"step_id": step_id, "stream": line.stream, "at": line.at, "text": line.text} for line in lines]
        connection.execute(logs.insert(), rows)
    return True


def _move(connection: Connection, step_id: str, launch: str, after: int, last_record: int, claim: int | None) -> bool:
    """Moves the position from `after` on; the fence and the comparison are in the statement that does it."""
    task_id = step_rows.get_by_id(connection, step_id).task_id
    here = (journals.c.step_id == step_id, journals.c.launch == launch)
    if after == 0 and connection.execute(select(journals.c.step_id).where(*here)).one_or_none() is None:
        values = {"step_id": step_id, "launch": launch, "last_record": last_record}
        insert_fenced(connection, journals, values, task_id, claim)
        return True
    where = [*here, journals.c.last_record == after]
    if claim is not None:
        where.append(select(fence(task_id, claim).subquery()).exists())
    if connection.execute(update(journals).where(*where).values(last_record=last_record)).rowcount == 1:
        return True
    if claim is not None and connection.execute(fence(task_id, claim)).one_or_none() is None:
        raise claim_lost(connection, task_id, claim)
    return False


def position(connection: Connection, step_id: str, launch: str) -> int:
    """Gives the number of the last journal record of `launch` that was taken in (0 = none)."""
    query = select(journals.c.last_record).where(journals.c.step_id == step_id, journals.c.launch == launch)
    return connection.execute(query).scalar_one_or_none() or 0


def list_(connection: Connection, step_id: str, *, after: int = 0, limit: int = 1000) -> Page[LogLine]:
    """Gives a step's output in its order, from the line after id `after`; `next_cursor` is the next `after`."""
    query = select(logs).where(logs.c.step_id == step_id, logs.c.id > after).order_by(logs.c.id)
    found = [entity(LogLine, row) for row in connection.execute(query.limit(limited(limit) + 1))]
    return page(found, limit, lambda line: line.id)


def tail(connection: Connection, step_id: str, lines: int) -> tuple[LogLine, ...]:
    """Gives the last lines of a step's output, in their order."""
    query = select(logs).where(logs.c.step_id == step_id).order_by(logs.c.id.desc()).limit(limited(lines))
    return tuple(reversed([entity(LogLine, row) for row in connection.execute(query)]))


def stored_characters(connection: Connection, step_id: str) -> int:
    """Gives how much of a step's output is stored."""
    query = select(func.coalesce(func.sum(func.length(logs.c.text)), 0)).where(logs.c.step_id == step_id)
    return connection.execute(query).scalar_one()
