"""Conversations of tasks and of plans' supervisors: which message each of them ends at."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Table, select, update

from holdfast.domain.conversation import Conversation, Head
from holdfast.errors import IllegalState, NotFound
from holdfast.store.rows import claim_lost, one
from holdfast.store.tables import messages, plans, tasks


def head(connection: Connection, conversation: Conversation) -> Head:
    """Gives what a conversation ends at, at the same cost however long it is; raises `NotFound`."""
    owner, owner_id = _owner(conversation)
    row = connection.execute(
        select(owner.c.head_message_id, messages.c.position, messages.c.tokens_so_far, messages.c.cost_so_far)
        .outerjoin(messages, messages.c.id == owner.c.head_message_id)
        .where(owner.c.id == owner_id)
    ).one_or_none()
    if row is None:
        raise NotFound("no such conversation")
    if row.head_message_id is None:
        return Head()
    return Head(row.head_message_id, row.position + 1, row.tokens_so_far, row.cost_so_far)


def length(connection: Connection, message_id: str | None) -> int:
    """Gives how many messages a conversation has that ends at that message."""
    if message_id is None:
        return 0
    found = connection.execute(select(messages.c.position).where(messages.c.id == message_id)).scalar_one_or_none()
    return 0 if found is None else found + 1


def move_head(
    connection: Connection, conversation: Conversation, before: Head, after: str | None, *, claim: int | None = None
) -> None:
    """Lets a conversation end at another message (None: begin anew); nothing of it is lost.

    Raises `ClaimLost` if `claim` is no longer the task's, and `IllegalState` if the head is not `before` any more. The
    tests are part of the writing statement, which fences all that its transaction writes.
    """
    owner, owner_id = _owner(conversation)
    where = [owner.c.id == owner_id, owner.c.head_message_id.is_not_distinct_from(before.message_id)]
    if claim is not None and conversation.task_id is not None:
        where.append(tasks.c.claim == claim)
    if connection.execute(update(owner).where(*where).values(head_message_id=after)).rowcount == 1:
        return
    now = head(connection, conversation)
    if now.message_id == before.message_id:
        raise claim_lost(connection, owner_id, claim or 0)
    raise IllegalState("the conversation has gone on meanwhile", hint="look at it again", code="changed_meanwhile")


@dataclass(frozen=True, slots=True)
class Start:
    """What a new session of a task's agent goes on from (None: from the task itself), and what a person adds to it."""

    message_id: str | None = None
    context: str = ""


def start_of(connection: Connection, task_id: str) -> Start:
    """Gives where a task's conversation was last put; raises `NotFound`."""
    query = select(tasks.c.start_message_id, tasks.c.context).where(tasks.c.id == task_id)
    row = one(connection, query, "such task")
    return Start(row.start_message_id, row.context)


def put(connection: Connection, conversation: Conversation, before: Head, after: str | None, context: str = "") -> None:
    """Lets a conversation go on from another message; raises `IllegalState` if its head is not `before` any more."""
    move_head(connection, conversation, before, after)
    if conversation.task_id is not None:
        values = {"start_message_id": after, "context": context}
        connection.execute(update(tasks).where(tasks.c.id == conversation.task_id).values(**values))


def _owner(conversation: Conversation) -> tuple[Table, str]:
    return (plans, conversation.plan_id) if conversation.task_id is None else (tasks, conversation.task_id)
