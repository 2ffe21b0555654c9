"""`task checkpoints`, `task diff` and `task branch`: what there is to go back to, and a branch made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import dry_run_option, page_options, verb, yes_option
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from holdfast.app.checkpoints import Listed
    from holdfast.domain.checkpoint import Checkpoint
    from holdfast.domain.task import Task
    from holdfast.vcs import Diff

task_argument = click.argument("task", metavar="TASK")


@verb(
    "checkpoints",
    example="""
    holdfast task checkpoints T4
    holdfast task checkpoints T4 --with-diff
    """,
)
@task_argument
@click.option("--with-diff", is_flag=True, help="With what each one changed.")
@page_options(50)
def checkpoints(session: Session, task: str, with_diff: bool, limit: int, cursor: str) -> int:
    """List a task's checkpoints, newest first."""
    from holdfast.app import checkpoints, tasks
    from holdfast.cli.render import say, show

    with session.house() as house:
        task_id = tasks.find(house, task)
        found, page = checkpoints.list_(house, task_id, limit=limit, cursor=cursor, with_diff=with_diff)
    if session.json:
        session.document({"items": [document(each) for each in page.items], "next_cursor": page.next_cursor})
    elif page.items:
        changes = [each.change for each in page.items if each.change is not None]
        show(session.out, checkpoints_table(found, [each.checkpoint for each in page.items], changes))
        session.more(page.next_cursor)
    else:
        say(session.out, f"T{found.number} has no checkpoint yet")
    return 0


def document(listed: Listed) -> object:
    from holdfast.app.document import plain

    shown = plain(listed.checkpoint)
    assert isinstance(shown, dict)
    about = {"label": listed.label, "head": listed.head}
    return {**shown, **about, **({"diff": listed.change.to_dict()} if listed.change else {})}


def checkpoints_table(found: Task, checkpoints: Sequence[Checkpoint], changes: Sequence[Diff] = ()) -> Table:
    """Gives a task's checkpoints, with what each one changed where that is known of all."""
    from holdfast.app.checkpoints import Listed

    number, head = found.number, found.head_checkpoint
    listed = [Listed(each, f"T{number}@{each.number}", each.number == head) for each in checkpoints]
    return labelled_table(listed, changes)


def labelled_table(listed: Sequence[Listed], changes: Sequence[Diff] = ()) -> Table:
    """Gives checkpoints by their labels, with what each one changed where that is known of all."""
    from holdfast.cli.render import short, table, when

    rows = [
        [
            each.label,
            str(each.checkpoint.kind).replace("_", " "),
            each.checkpoint.name,
            short(each.checkpoint.commit),
            short(each.checkpoint.tree),
            "head" if each.head else "left behind" if each.checkpoint.superseded else "",
            when(each.checkpoint.created_at),
        ]
        for each in listed
    ]
    columns = ["checkpoint", "kind", "name", "commit", "tree", "", "made"]
    if changes:
        columns += ["files", "lines"]
        for row, change in zip(rows, changes, strict=True):
            row += [str(change.files_total), f"+{change.additions} -{change.deletions}"]
    return table(columns, rows)


@verb(
    "diff",
    example="""
    holdfast task diff T4
    holdfast task diff T4 3
    holdfast task diff T4 latest --against 1
    """,
)
@task_argument
@click.argument("checkpoint", metavar="[CHECKPOINT]", default="")
@click.option("--against", default="", metavar="CHECKPOINT", help="Compare with this one, not with the one before it.")
def diff(session: Session, task: str, checkpoint: str, against: str) -> int:
    """Show what a task's newest step changed, or what a checkpoint changed since another."""
    from holdfast.app import checkpoints, tasks
    from holdfast.cli.step_commands import show_diff
    from holdfast.errors import UsageError

    if against and not checkpoint:
        raise UsageError("there is nothing to compare it with", hint="name the checkpoint: task diff T4 3 --against 1")
    with session.house() as house:
        task_id = tasks.find(house, task)
        if not checkpoint:
            show_diff(session, tasks.changes(house, task_id))
            return 0
        found = checkpoints.compared(house, task_id, checkpoint, against)
    if session.json:
        session.document({"before": found.before, "after": found.after, **found.code.to_dict()})
    else:
        show_diff(session, found.code)
        session.note(f"from {found.before or 'where it began'} to {found.after}")
    return 0


@verb("branch", example="holdfast task branch T4 --at 3 try-another-way")
@task_argument
@click.argument("name", metavar="NAME")
@click.option("--at", required=True, metavar="CHECKPOINT", help="The checkpoint that the branch is to be at.")
@click.option("--own", default="", metavar="BRANCH", help="At the commit that the agent's own branch had then.")
@yes_option
@dry_run_option
def branch(session: Session, task: str, name: str, at: str, own: str, yes: bool, dry_run: bool) -> int:
    """Make a git branch of a checkpoint in your repository. Nothing is checked out and nothing is started."""
    from holdfast.app import checkpoints, tasks
    from holdfast.cli.consent import consents
    from holdfast.cli.render import safe, say, short

    with session.house() as house:
        task_id = tasks.find(house, task)
        chosen = checkpoints.find(house, task_id, at)
        commit = checkpoints.may_branch(house, task_id, chosen.checkpoint, name, own)
        of = f"{safe(own)} of {chosen.label}" if own else chosen.label
        deed = f"make the branch {safe(name)} at {of} ({short(commit)})"
        if not consents(session, deed, yes=yes, dry_run=dry_run):
            return 0
        commit = checkpoints.branch(house, task_id, chosen.checkpoint.id, name, own)
    if session.json:
        session.document({"branch": name, "commit": commit, "checkpoint": chosen.label})
    else:
        say(session.out, f"the branch {safe(name)} is at {of} ({short(commit)})")
    return 0
