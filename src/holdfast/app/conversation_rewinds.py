"""Going back in a conversation: its head moves, what came after stays in the tree, and the code may come along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from holdfast import clock
from holdfast.app import rewinds
from holdfast.app.rewinds import How
from holdfast.app.wire import House
from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.conversation import Conversation, Cut, Head, Message, cut
from holdfast.domain.history import EventType
from holdfast.domain.plan import Plan
from holdfast.domain.readiness import BUSY
from holdfast.domain.restore import PlanMove, Restoration, TaskMove, plan_point, task_point
from holdfast.domain.task import Task
from holdfast.domain.transitions import PLAN_EXECUTING
from holdfast.engine import inquiries, restoring
from holdfast.engine.restoring import Intent
from holdfast.errors import IllegalState, NotFound, UsageError
from holdfast.store import Connection, Operation, checkpoints, conversations, events, messages, operations, plans, tasks

CONVERSATION_REWIND = "conversation_rewind"
_SHORTEST_ID = 4
_LOOK = "look: holdfast conversation show TASK --json"

Where = Callable[[Connection, Conversation, Head], Cut]


@dataclass(frozen=True, slots=True)
class Decided:
    """What going back in a conversation does: its head goes from `before` to `after`, and `left` messages stay behind.

    `moved` is the tool call because of which the cut is further back than it was asked for. `checkpoint` is where the
    code goes, None where it stays. Once it is done, `operation` names it.
    """

    conversation: Conversation
    before: Head
    after: Head
    left: int
    moved: Message | None
    checkpoint: Checkpoint | None = None
    operation: str = ""


# -- where to --------------------------------------------------------------------------------------------------------


def by_messages(count: int) -> Where:
    """Goes back by that many messages, thoughts and results among them."""

    def where(connection: Connection, of: Conversation, head: Head) -> Cut:
        if not 1 <= count <= head.message_count:
            raise UsageError(f"the conversation has {head.message_count} messages: it cannot go back by {count}")
        return cut(messages.path(connection, head.message_id), lambda _, left: left >= count) or Cut(None, count)

    return where


def to_time(at: datetime) -> Where:
    """Goes back to what was said by then."""

    def where(connection: Connection, of: Conversation, head: Head) -> Cut:
        return cut(messages.path(connection, head.message_id), lambda message, _: message.at <= at) or Cut(
            None, head.message_count
        )

    return where


def to_message(beginning: str) -> Where:
    """Goes back to a message, which stays the last one; it is named by its id or the beginning of it."""

    def where(connection: Connection, of: Conversation, head: Head) -> Cut:
        wanted = beginning.strip().lower()
        if len(wanted) < _SHORTEST_ID:
            raise UsageError(f"'{beginning}' is too short for a message", hint=_LOOK)
        on_path = list(messages.path(connection, head.message_id))
        found = [each for each in on_path if each.id.startswith(wanted)]
        if not found:
            raise NotFound(f"the conversation has no message {beginning}", hint=_LOOK)
        if len(found) > 1:
            listed = ", ".join(each.id for each in found[:8])
            raise UsageError(f"'{beginning}' is ambiguous: {listed}", hint="type one of these", code="ambiguous")
        made = cut(on_path, lambda message, _: message.id == found[0].id)
        assert made is not None
        return made

    return where


def checkpoint_by(connection: Connection, task_id: str, kept: Message | None) -> Checkpoint | None:
    """Gives the newest checkpoint of a task at a message or the nearest one before it that has one; None if none."""
    known = checkpoints.by_message(connection, task_id)
    path = messages.path(connection, kept.id if kept else None)
    return next((known[each.id] for each in path if each.id in known), known.get(None))


# -- going there -----------------------------------------------------------------------------------------------------


def decide(house: House, of: Conversation, where: Where, *, with_code: bool = False) -> Decided:
    """Gives what `rewind` would do; raises what it would."""
    with house.database.read() as connection:
        return _decide(connection, of, where, with_code=with_code)


def _decide(connection: Connection, of: Conversation, where: Where, *, with_code: bool) -> Decided:
    _refuse_busy(connection, of)
    head = conversations.head(connection, of)
    if head.message_id is None:
        raise IllegalState("nothing has been said: there is nothing to go back to")
    made = where(connection, of, head)
    found = None
    if with_code:
        if of.task_id is None:
            raise UsageError("a plan's code goes back with the plan", hint="holdfast plan rollback")
        found = checkpoint_by(connection, of.task_id, made.kept)
        if found is None:
            raise NotFound("there is no checkpoint at or before that message", hint="go back without --rewind-code")
    after = messages.head_of(made.kept) if made.kept else Head()
    return Decided(of, head, after, made.left, made.moved, found)


def _refuse_busy(connection: Connection, of: Conversation) -> None:
    plan = plans.get(connection, of.plan_id)
    if of.task_id is None:
        if plan.status in PLAN_EXECUTING:
            raise IllegalState(
                f"P{plan.number} is running", hint=f"pause it first: holdfast plan pause P{plan.number}", code="running"
            )
        inquiries.refuse_asked(connection, plan)
        return
    task = tasks.get(connection, of.task_id)
    if task.status in BUSY:
        raise IllegalState(
            f"T{task.number} is {task.status}: its agent would not notice",
            hint=f"stop it first: holdfast plan pause P{plan.number} --interrupt",
            code="running",
        )


def rewind(house: House, of: Conversation, where: Where, *, how: How | None = None, with_code: bool = False) -> Decided:
    """Lets a conversation end at an earlier message; with `with_code` files and branch go back with it, as one.

    The next session of the task's agent goes on from there. Nothing is deleted: undo moves the head forth again.
    Raises `IllegalState` while it runs, `NotFound` where there is no such message, or no checkpoint for the code.
    """
    if with_code:
        decided = decide(house, of, where, with_code=True)
        assert decided.checkpoint is not None
        assert of.task_id is not None
        done = rewinds.rewind_task(
            house, of.task_id, replace(decided.checkpoint, message_id=decided.after.message_id), how or How()
        )
        return replace(decided, operation=f"O{done.number}")
    with house.database.transaction() as connection:
        plan = plans.lock(connection, of.plan_id)
        restoring.refuse_restoring(connection, plan)
        decided = _decide(connection, of, where, with_code=False)
        conversations.put(connection, of, decided.before, decided.after.message_id)
        done = _record(connection, house.actor, plan, decided)
    return replace(decided, operation=f"O{done.number}")


def _record(connection: Connection, actor: str, plan: Plan, decided: Decided) -> Operation:
    """Writes the event, and the operation by which it can be undone: a restoration that moves nothing but a head."""
    of = decided.conversation
    before, after = decided.before.message_id, decided.after.message_id
    task = tasks.get(connection, of.task_id) if of.task_id else None
    told = {"before": before, "after": after, "left": decided.left}
    operation = operations.begin(
        connection,
        id=clock.new_id(),
        kind=CONVERSATION_REWIND,
        actor=actor,
        intent={**Intent(_moved(plan, task, before, after)).row(), "before": before, "after": after},
        plan_id=of.plan_id,
        task_id=of.task_id,
    )
    operations.finish(connection, operation.id, outcome={"messages": decided.left})
    events.add(
        connection,
        EventType.CHAT,
        "rewound",
        actor,
        project_id=plan.project_id,
        plan_id=plan.id,
        phase_id=task.phase_id if task else None,
        task_id=of.task_id,
        data={**told, "operation": operation.id},
    )
    return operation


def _moved(plan: Plan, task: Task | None, before: str | None, after: str | None) -> Restoration:
    if task is not None:
        now = task_point(task, before)
        return Restoration(plan.id, tasks=(TaskMove(task.id, now, replace(now, head_message_id=after)),))
    stands = plan_point(plan, before)
    return Restoration(plan.id, plan=PlanMove(stands, replace(stands, head_message_id=after)))
