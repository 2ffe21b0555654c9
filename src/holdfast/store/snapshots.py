"""Conversation snapshots: heads that are kept, each one row whatever the length of the conversation."""

from __future__ import annotations

from sqlalchemy import Connection, select

from holdfast import clock
from holdfast.domain.conversation import Conversation, Head, Snapshot, SnapshotKind
from holdfast.domain.history import EventType
from holdfast.store import conversations, events
from holdfast.store.paging import Page, before, page
from holdfast.store.rows import columns_of, entity, project_of
from holdfast.store.tables import conversation_snapshots


def add(
    connection: Connection,
    conversation: Conversation,
    kind: SnapshotKind,
    *,
    actor: str,
    name: str = "",
    of: Head | None = None,
) -> Snapshot:
    """Keeps what the conversation ends at now, or the head `of`; the caller's transaction makes it one moment."""
    kept = of or conversations.head(connection, conversation)
    snapshot = Snapshot(
        id=clock.new_id(),
        plan_id=conversation.plan_id,
        task_id=conversation.task_id,
        message_id=kept.message_id,
        kind=kind,
        name=name,
        message_count=kept.message_count,
        token_count=kept.token_count,
        cost_usd=kept.cost_usd,
        created_at=clock.now(),
    )
    connection.execute(conversation_snapshots.insert().values(**columns_of(snapshot)))
    if kind is SnapshotKind.MANUAL:
        events.add(
            connection,
            EventType.CHAT,
            "snapshot",
            actor,
            project_id=project_of(connection, conversation.plan_id),
            plan_id=conversation.plan_id,
            task_id=conversation.task_id,
            data={"name": name, "message_count": kept.message_count},
        )
    return snapshot


def bind(connection: Connection, conversation: Conversation, *, name: str, actor: str) -> str | None:
    """Keeps the head for a checkpoint that is recorded in the same transaction; gives its `message_id`."""
    return add(connection, conversation, SnapshotKind.CHECKPOINT, name=name, actor=actor).message_id


def list_(
    connection: Connection, conversation: Conversation, *, limit: int = 100, cursor: str | None = None
) -> Page[Snapshot]:
    """Gives a page of a conversation's snapshots, newest first."""
    columns = conversation_snapshots.c
    query = select(conversation_snapshots).where(
        columns.plan_id == conversation.plan_id, columns.task_id.is_not_distinct_from(conversation.task_id)
    )
    found = [
        entity(Snapshot, row) for row in connection.execute(before(query, columns.id, cursor, limit, numeric=False))
    ]
    return page(found, limit, lambda snapshot: snapshot.id)
