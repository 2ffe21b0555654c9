"""Views of conversations, and their snapshots; they read while the task runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from holdfast.app.wire import House
from holdfast.domain.conversation import Conversation, Head, Message, MessageRole, Snapshot, SnapshotKind
from holdfast.domain.task import Task
from holdfast.store import Connection, Page, conversations, messages, snapshots, tasks

_READ_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A page of a task's conversation, oldest message first; `next_cursor` leads to what was said before it."""

    task: Task
    head: Head
    items: tuple[Message, ...]
    next_cursor: str | None


def show(
    house: House,
    task_id: str,
    *,
    limit: int = 50,
    before: str = "",
    tool_calls: bool = True,
    thoughts: bool = True,
    whole_results: bool = False,
) -> ConversationView:
    """Gives the last messages of a task's conversation, or those from the cursor `before` backwards.

    `limit` counts the messages that are wanted. Results out of the blob store come whole only if asked for; then
    `Corruption` is raised for a damaged one.
    """

    def wanted(message: Message) -> bool:
        used_tool = bool(message.tool_calls) or message.role is MessageRole.TOOL
        return (tool_calls or not used_tool) and (thoughts or not message.thought)

    with house.database.read() as connection:
        task = tasks.get(connection, task_id)
        of = Conversation(task.plan_id, task.id)
        found = _collect(connection, of, limit, before, wanted)
        head = conversations.head(connection, of)
    items = found.items
    if whole_results:
        items = tuple(_whole(house, message) for message in items)
    return ConversationView(task, head, items, found.next_cursor)


def _collect(
    connection: Connection, of: Conversation, limit: int, before: str, wanted: Callable[[Message], bool]
) -> Page[Message]:
    """Walks back, page by page, until enough wanted messages are found; gives them oldest first."""
    found: list[Message] = []
    cursor: str | None = before or None
    while True:
        page = messages.list_(connection, of, limit=_READ_AT_ONCE, cursor=cursor)
        for message in page.items:
            if not wanted(message):
                continue
            if len(found) == limit:
                return Page(tuple(reversed(found)), message.id)
            found.append(message)
        if (cursor := page.next_cursor) is None:
            return Page(tuple(reversed(found)), None)


def _whole(house: House, message: Message) -> Message:
    if message.result_blob is None:
        return message
    return replace(message, tool_result=messages.result_of(house.places.blobs, message))


def snapshot(house: House, task_id: str, name: str = "") -> Snapshot:
    """Keeps what a task's conversation is now, under a name."""
    with house.database.transaction() as connection:
        task = tasks.get(connection, task_id)
        of = Conversation(task.plan_id, task.id)
        return snapshots.add(connection, of, SnapshotKind.MANUAL, name=name, actor=house.actor)


def list_snapshots(house: House, task_id: str, *, limit: int = 50, cursor: str = "") -> Page[Snapshot]:
    """Gives a page of the snapshots of a task's conversation, newest first."""
    with house.database.read() as connection:
        task = tasks.get(connection, task_id)
        return snapshots.list_(connection, Conversation(task.plan_id, task.id), limit=limit, cursor=cursor or None)
