"""`conversation …`: what was said while a task was worked on, and with a plan's supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import Function, noun, page_options
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.conversations import ConversationView

conversation = noun(
    "conversation",
    help="Conversations: show them, keep snapshots of them, go back in them.",
    example="holdfast conversation show T4",
    lazy={"rewind": ("holdfast.cli.conversation_rewind_commands", "Go back in a conversation.")},
)
task_argument = click.argument("task", metavar="TASK|PLAN")


def view_options(function: Function) -> Function:
    """Adds the argument and the options of a view of a conversation."""
    options = (
        task_argument,
        click.option(
            "--format",
            "form",
            type=click.Choice(["chat", "json", "table"]),
            default="chat",
            show_default=True,
            help="How to show it.",
        ),
        click.option("--no-tool-calls", is_flag=True, help="Without tool calls and their results."),
        click.option("--thoughts", is_flag=True, help="With what the agent thought aloud."),
        click.option("--full", is_flag=True, help="With results in full length."),
        click.option(
            "--limit", default=50, show_default=True, type=click.IntRange(1, 1000), help="Most messages to show."
        ),
        click.option(
            "--before", default="", metavar="CURSOR", help="Show what was said before the page that named it."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@conversation.verb("show", example="holdfast conversation show T4 --limit 20")
@view_options
def show(
    session: Session, task: str, form: str, no_tool_calls: bool, thoughts: bool, full: bool, limit: int, before: str
) -> int:
    """Show the end of a task's conversation, or of that with a plan's supervisor (P1), also while it goes on."""
    from holdfast.app import conversations

    document = session.json or form == "json"
    with session.house() as house:
        view = conversations.show(
            house,
            conversations.find(house, task),
            limit=limit,
            before=before,
            tool_calls=not no_tool_calls,
            thoughts=thoughts,
            whole_results=full,
        )
    if document:
        session.document(view)
        return 0
    _show(session, view, form, full=full)
    return 0


def _show(session: Session, view: ConversationView, form: str, *, full: bool) -> None:
    from holdfast.cli.chat import chat, messages_table
    from holdfast.cli.render import say, show

    if not view.items:
        say(session.out, f"{_name(view)} has no messages")
    elif form == "table":
        show(session.out, messages_table(view.items))
    else:
        session.out.print(chat(view.items, full=full), soft_wrap=not session.out.is_terminal)
    if view.next_cursor is not None:
        session.note(f"{view.head.message_count} messages in all; what was said before: --before {view.next_cursor}")


def _name(view: ConversationView) -> str:
    return f"P{view.plan.number}" if view.task is None else f"T{view.task.number}"


@conversation.verb("snapshot", example="holdfast conversation snapshot T4 -m 'before the rewrite'")
@task_argument
@click.option("-m", "--message", default="", metavar="TEXT", help="Name of the snapshot.")
def snapshot(session: Session, task: str, message: str) -> int:
    """Keep what a conversation is now."""
    from holdfast.app import conversations
    from holdfast.cli.render import count, say

    with session.house() as house:
        made = conversations.snapshot(house, conversations.find(house, task), message)
    if session.json:
        session.document(made)
    else:
        say(session.out, f"snapshot of {count(made.message_count, 'message')}")
    return 0


@conversation.verb("snapshots", example="holdfast conversation snapshots T4")
@task_argument
@page_options(50)
def snapshots(session: Session, task: str, limit: int, cursor: str) -> int:
    """List the snapshots of a conversation, newest first."""
    from holdfast.app import conversations
    from holdfast.cli.chat import snapshots_table
    from holdfast.cli.render import say, show

    with session.house() as house:
        page = conversations.list_snapshots(house, conversations.find(house, task), limit=limit, cursor=cursor)
    if session.json:
        session.document(page)
    elif page.items:
        show(session.out, snapshots_table(page.items))
        session.more(page.next_cursor)
    else:
        say(session.out, "no snapshots")
    return 0
