"""`conversation rewind`: the conversation of a task, or of a plan's supervisor, ends at an earlier message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import dry_run_option, verb, yes_option
from holdfast.cli.session import Session
from holdfast.cli.timeline_commands import Moment

if TYPE_CHECKING:
    from datetime import datetime

    from holdfast.app.conversation_rewinds import Decided, Where
    from holdfast.app.wire import House
    from holdfast.domain.conversation import Conversation


@verb(
    "rewind",
    example="""
    holdfast conversation rewind T4 --by-messages 2
    holdfast conversation rewind T4 --to-time 1h --rewind-code
    """,
)
@click.argument("target", metavar="TASK|PLAN")
@click.option(
    "--by-messages", type=click.IntRange(min=1), default=None, metavar="N", help="Back by that many messages."
)
@click.option("--to-message", default="", metavar="ID", help="Back to this message, which stays the last one.")
@click.option("--to-time", type=Moment(), default=None, metavar="TIME", help="Back to what was said by then, e.g. 2h.")
@click.option("--rewind-code", is_flag=True, help="Take the code back too: to the newest checkpoint at or before it.")
@yes_option
@dry_run_option
def rewind(
    session: Session,
    target: str,
    by_messages: int | None,
    to_message: str,
    to_time: datetime | None,
    rewind_code: bool,
    yes: bool,
    dry_run: bool,
) -> int:
    """Go back in a conversation: the task's next agent session starts from there.

    A tool call is never cut from its result: then the cut is before the call. Nothing is deleted. A plan is named with
    its P: its conversation is that of its supervisor.
    """
    from holdfast.app import conversation_rewinds as rewinds
    from holdfast.cli.consent import consents

    where = _where(by_messages, to_message, to_time)
    with session.house() as house:
        name, of = _conversation(house, target)
        decided = rewinds.decide(house, of, where, with_code=rewind_code)
        if not consents(session, _deed(name, decided), yes=yes, dry_run=dry_run):
            return 0
        done = rewinds.rewind(house, of, where, with_code=rewind_code)
    if session.json:
        session.document(done)
    else:
        _tell(session, name, done)
    return 0


def _where(by_messages: int | None, to_message: str, to_time: datetime | None) -> Where:
    from holdfast.app import conversation_rewinds as rewinds
    from holdfast.errors import UsageError

    if sum(map(bool, (by_messages, to_message, to_time))) != 1:
        raise UsageError("where to is not clear", hint="say one of --by-messages, --to-message, --to-time")
    if by_messages:
        return rewinds.by_messages(by_messages)
    return rewinds.to_time(to_time) if to_time else rewinds.to_message(to_message)


def _conversation(house: House, target: str) -> tuple[str, Conversation]:
    """Gives the conversation that is meant, and the short name of what it is of."""
    from holdfast.app import plans, tasks
    from holdfast.domain.conversation import Conversation

    if target[:1] in "Pp" and target[1:].isdigit():
        plan = plans.show(house, plans.find(house, target)).plan
        return f"P{plan.number}", Conversation(plan.id)
    task = tasks.show(house, tasks.find(house, target)).task
    return f"T{task.number}", Conversation(task.plan_id, task.id)


def _deed(name: str, decided: Decided) -> str:
    from holdfast.cli.render import count

    left = count(decided.left, "message")
    code = f", and take its code back to {name}@{decided.checkpoint.number}" if decided.checkpoint else ""
    moved = " (so that no tool call is cut from its result)" if decided.moved else ""
    return f"take the conversation of {name} back by {left}{moved}, to {decided.after.message_count}{code}"


def _tell(session: Session, name: str, done: Decided) -> None:
    from holdfast.cli.render import count, say

    kept, left = count(done.after.message_count, "message"), count(done.left, "message")
    say(session.out, f"the conversation of {name} has {kept}; {left} left behind ({done.operation})")
    if done.moved is not None:
        session.note("a tool call would have been cut from its result: the cut is before the call")
    if done.checkpoint is not None:
        say(session.out, f"the code is that of {name}@{done.checkpoint.number}")
    session.note("take it back: holdfast undo")
