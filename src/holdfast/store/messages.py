"""Messages of conversations: immutable, each with its parent, so that every conversation is a tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from holdfast.errors import IllegalState
from holdfast.store.paging import Page, limited, page
from holdfast.store.rows import columns_of, entity, insert_fenced, one
from holdfast.store.tables import MessageRole, messages


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a task's conversation, or of the plan's supervisor (`task_id` None); `position` is its depth."""

    id: str
    plan_id: str
    task_id: str | None
    step_id: str | None
    parent_id: str | None
    position: int
    role: MessageRole
    content: str
    at: datetime
    tool_calls: tuple[Mapping[str, object], ...] = ()
    tool_name: str | None = None
    tool_input: Mapping[str, object] | None = None
    tool_result: str | None = None
    is_error: bool = False
    token_count: int = 0
    cost_usd: float = 0.0


def append(connection: Connection, message: Message, *, claim: int | None = None) -> Message:
    """Stores a message below its parent; the same id again gives the stored one. Fenced by `claim`."""
    row = connection.execute(select(messages).where(messages.c.id == message.id)).one_or_none()
    if row is not None:
        return entity(Message, row, tool_calls=tuple(row.tool_calls))
    if message.parent_id is not None:
        parent = get(connection, message.parent_id)
        if message.position != parent.position + 1:
            raise IllegalState(f"the message belongs at {parent.position + 1}, after its parent")
    insert_fenced(connection, messages, columns_of(message), message.task_id, claim)
    return message


def get(connection: Connection, message_id: str) -> Message:
    """Gives one message; raises `NotFound`."""
    row = one(connection, select(messages).where(messages.c.id == message_id), "such message")
    return entity(Message, row, tool_calls=tuple(row.tool_calls))


def thread(connection: Connection, head_id: str) -> tuple[Message, ...]:
    """Gives the conversation that ends at a message, from its first one on."""
    upward = select(messages.c.id, messages.c.parent_id).where(messages.c.id == head_id).cte(recursive=True)
    upward = upward.union_all(
        select(messages.c.id, messages.c.parent_id).join(upward, messages.c.id == upward.c.parent_id)
    )
    query = select(messages).join(upward, messages.c.id == upward.c.id).order_by(messages.c.position)
    return tuple(entity(Message, row, tool_calls=tuple(row.tool_calls)) for row in connection.execute(query))


def list_(connection: Connection, task_id: str, *, after: str = "", limit: int = 100) -> Page[Message]:
    """Gives all messages of a task in the order of their ids, from the one after id `after`."""
    query = select(messages).where(messages.c.task_id == task_id, messages.c.id > after).order_by(messages.c.id)
    rows = connection.execute(query.limit(limited(limit) + 1))
    found = [entity(Message, row, tool_calls=tuple(row.tool_calls)) for row in rows]
    return page(found, limit, lambda message: message.id)
