"""`task …`: single tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.approval_commands import comment_option
from holdfast.cli.conversation_commands import show as show_conversation
from holdfast.cli.conversation_commands import view_options
from holdfast.cli.grammar import dry_run_option, noun, yes_option
from holdfast.cli.session import Session
from holdfast.cli.timeline_commands import Wanted, history_options, show_history

if TYPE_CHECKING:
    from holdfast.app.tasks import TaskView
    from holdfast.domain.task import Task

_EDITS = "holdfast.cli.task_edit_commands"
_CHECKPOINTS = "holdfast.cli.checkpoint_commands"
_FORKS = "holdfast.cli.fork_commands"

task = noun(
    "task",
    help="Tasks: add, edit, look, retry, skip, complete, decide, checkpoint, fork.",
    example="holdfast task show T4",
    lazy={
        "add": (_EDITS, "Add a task to a plan, also while it runs."),
        "edit": (_EDITS, "Change a task that has not started."),
        "rm": (_EDITS, "Remove a task that has never run."),
        "rewind": ("holdfast.cli.rewind_commands", "Put a task back to one of its checkpoints."),
        "checkpoints": (_CHECKPOINTS, "List a task's checkpoints."),
        "diff": (_CHECKPOINTS, "Show what a task's newest step changed, or a checkpoint."),
        "branch": (_CHECKPOINTS, "Make a git branch of a checkpoint, in your repository."),
        "fork": (_FORKS, "Make a new task that starts where another one was."),
        "resume-from": (_FORKS, "Fork a task and run the fork at once."),
        "continue": (_FORKS, "Let a task that does not run go on: where it is, or from further back."),
        "race": ("holdfast.cli.race_commands", "Run a task several times side by side, and pick one."),
    },
)
task_argument = click.argument("task", metavar="TASK")


@task.verb("show", example="holdfast task show T4")
@task_argument
def show(session: Session, task: str) -> int:
    """Show a task with its steps and checkpoints."""
    from holdfast.app import tasks

    with session.house() as house:
        view = tasks.show(house, tasks.find(house, task))
        folder = tasks.worktree(house, view)
    if session.json:
        session.document(view)
    else:
        _show(session, view, folder)
    return 0


def _show(session: Session, view: TaskView, folder: str) -> None:
    from holdfast.cli.chat import head_line
    from holdfast.cli.checkpoint_commands import checkpoints_table
    from holdfast.cli.render import cost, facts, safe, say, show, steps_table, tokens, word
    from holdfast.domain.step import state
    from holdfast.domain.usage import spent

    found, out = view.task, session.out
    used = spent(view.steps)
    say(out, f"T{found.number} {safe(found.title)}", style="bold")
    timeout = f"{found.timeout_seconds:g} s" if found.timeout_seconds else ""
    show(
        out,
        facts(
            [
                ("  status", word(found.status)),
                ("  key", found.key),
                ("  plan", f"P{view.plan.number} {view.plan.title}"),
                ("  phase", f"{view.phase.title} ({view.phase.mode})"),
                ("  command", found.command),
                ("  instructions", found.instructions),
                ("  checks", "\n".join(found.verify)),
                ("  attempt", f"{found.attempt} of {found.max_attempts}" if found.attempt else ""),
                ("  timeout", timeout),
                ("  branch", found.branch),
                ("  worktree", folder if view.steps else ""),
                ("  head", f"T{found.number}@{found.head_checkpoint}" if found.head_checkpoint else ""),
                ("  messages", head_line(view.conversation)),
                ("  tokens", tokens(used)),
                ("  cost", cost(used)),
                ("  failure", f"{found.failure}" if found.failure else ""),
                ("  error", found.error),
            ]
        ),
    )
    if view.steps:
        say(out)
        show(out, steps_table((step, state(step), f"T{found.number} {found.key}") for step in view.steps))
    if view.checkpoints:
        say(out)
        show(out, checkpoints_table(found, view.checkpoints))


@task.verb("retry", example="holdfast task retry T4")
@task_argument
def retry(session: Session, task: str) -> int:
    """Let a failed task be tried again, with all its attempts."""
    from holdfast.app import tasks

    with session.house() as house:
        changed = tasks.retry(house, tasks.find(house, task))
        return _changed(session, changed, tasks.show(house, changed.id))


@task.verb("skip", example="holdfast task skip T4 --yes")
@task_argument
@yes_option
@dry_run_option
def skip(session: Session, task: str, yes: bool, dry_run: bool) -> int:
    """Leave a task out; what depends on it may run."""
    from holdfast.app import tasks
    from holdfast.cli.consent import consents
    from holdfast.cli.render import safe

    with session.house() as house:
        view = tasks.show(house, tasks.find(house, task))
        tasks.may_skip(house, view.task.id)
        deed = f"skip T{view.task.number} {safe(view.task.title)}"
        if not consents(session, deed, yes=yes, dry_run=dry_run):
            return 0
        changed = tasks.skip(house, view.task.id)
        return _changed(session, changed, view)


@task.verb("complete", example="holdfast task complete T4")
@task_argument
def complete(session: Session, task: str) -> int:
    """Take what is in a failed task's worktree now as its result.

    For a task that you have put right by hand: it is committed as a step of its own.
    """
    from holdfast.app import tasks
    from holdfast.cli.render import count

    with session.house() as house:
        step = tasks.complete(house, tasks.find(house, task))
        view = tasks.show(house, step.task_id)
    if session.json:
        session.document({"step": step, "task": view.task})
    else:
        files = count(step.files_changed, "file")
        session.out.print(f"T{view.task.number} is completed by hand as step {step.number} ({files} changed)")
        session.note(f"go on: holdfast resume P{view.plan.number}")
    return 0


def _changed(session: Session, changed: Task, view: TaskView) -> int:
    if session.json:
        session.document(changed)
    else:
        session.out.print(f"T{changed.number} is {changed.status}")
        session.note(f"go on: holdfast resume P{view.plan.number}")
    return 0


@task.verb("approve", example="holdfast task approve T4")
@task_argument
@comment_option
def approve(session: Session, task: str, comment: str) -> int:
    """Let a task of a manual phase run."""
    from holdfast.cli.approval_commands import decide_gate

    return decide_gate(session, task, approve=True, comment=comment)


@task.verb("reject", example="holdfast task reject T4 -m 'not needed'")
@task_argument
@comment_option
def reject(session: Session, task: str, comment: str) -> int:
    """Leave a task of a manual phase out."""
    from holdfast.cli.approval_commands import decide_gate

    return decide_gate(session, task, approve=False, comment=comment)


@task.verb("checkpoint", example="holdfast task checkpoint T4 -m 'before the risky part'")
@task_argument
@click.option("-m", "--message", required=True, metavar="TEXT", help="Name of the checkpoint.")
def checkpoint(session: Session, task: str, message: str) -> int:
    """Make a checkpoint of a task's worktree now, also while it runs."""
    from holdfast.app import tasks
    from holdfast.cli.render import short

    with session.house() as house:
        task_id = tasks.find(house, task)
        made = tasks.checkpoint(house, task_id, message)
        number = tasks.show(house, task_id).task.number
    if session.json:
        session.document(made)
    else:
        session.out.print(f"checkpoint T{number}@{made.number} ({short(made.commit)})")
    return 0


@task.verb("history", example="holdfast task history T4 --type step")
@task_argument
@history_options
def history(session: Session, **typed: Any) -> int:
    """Show what happened to a task, newest first (`holdfast timeline --task TASK`)."""
    return show_history(session, Wanted(**typed))


@task.verb("conversation", example="holdfast task conversation T4")
@view_options
@click.pass_context
def conversation(context: click.Context, session: Session, **options: object) -> int:
    """Show the end of a task's conversation, like `conversation show`."""
    return context.invoke(show_conversation, **options)
