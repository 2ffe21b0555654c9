"""Views of conversations, and their snapshots; they read while the task runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from holdfast.app import plans, tasks
from holdfast.app.wire import House
from holdfast.domain.conversation import Conversation, Head, Message, MessageRole, Snapshot, SnapshotKind
from holdfast.domain.plan import Plan
from holdfast.domain.task import Task
from holdfast.errors import NotFound
from holdfast.store import Connection, Page, conversations, messages, snapshots
from holdfast.store import plans as plan_rows
from holdfast.store import tasks as task_rows

_READ_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A page of a conversation, oldest message first; `next_cursor` leads to what was said before it.

    `task` is None for the conversation of the plan's supervisor.
    """

    plan: Plan
    task: Task | None
    head: Head
    items: tuple[Message, ...]
    next_cursor: str | None


def find(house: House, reference: str) -> str:
    """Gives the id of the plan ("P3") or task ("T4", a key …) whose conversation is meant."""
    if reference[:1] in "pP" and reference[1:].isdecimal():
        return plans.find(house, reference)
    return tasks.find(house, reference)


def _named(connection: Connection, owner_id: str) -> tuple[Plan, Task | None]:
    """Gives the plan whose supervisor, or the plan and its task that the conversation of that owner is with."""
    try:
        return plan_rows.get(connection, owner_id), None
    except NotFound:
        task = task_rows.get(connection, owner_id)
        return plan_rows.get(connection, task.plan_id), task


def _conversation(connection: Connection, owner_id: str) -> Conversation:
    plan, task = _named(connection, owner_id)
    return Conversation(plan.id, task.id if task else None)


def show(
    house: House,
    owner_id: str,
    *,
    limit: int = 50,
    before: str = "",
    tool_calls: bool = True,
    thoughts: bool = True,
    whole_results: bool = False,
) -> ConversationView:
    """Gives the last messages of a conversation, or those from the cursor `before` backwards.

    `owner_id` is that of a task, or of a plan for what was said with its supervisor. `limit` counts the messages that
    are wanted. Results out of the blob store come whole only if asked for; then `Corruption` is raised for a damaged
    one.
    """

    def wanted(message: Message) -> bool:
        used_tool = bool(message.tool_calls) or message.role is MessageRole.TOOL
        return (tool_calls or not used_tool) and (thoughts or not message.thought)

    with house.database.read() as connection:
        plan, task = _named(connection, owner_id)
        of = Conversation(plan.id, task.id if task else None)
        found = _collect(connection, of, limit, before, wanted)
        head = conversations.head(connection, of)
    items = found.items
    if whole_results:
        items = tuple(_whole(house, message) for message in items)
    return ConversationView(plan, task, head, items, found.next_cursor)


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


def snapshot(house: House, owner_id: str, name: str = "") -> Snapshot:
    """Keeps what a conversation is now, under a name."""
    with house.database.transaction() as connection:
        of = _conversation(connection, owner_id)
        return snapshots.add(connection, of, SnapshotKind.MANUAL, name=name, actor=house.actor)


def list_snapshots(house: House, owner_id: str, *, limit: int = 50, cursor: str = "") -> Page[Snapshot]:
    """Gives a page of the snapshots of a conversation, newest first."""
    with house.database.read() as connection:
        of = _conversation(connection, owner_id)
        return snapshots.list_(connection, of, limit=limit, cursor=cursor or None)
