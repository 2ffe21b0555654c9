"""`task add`, `task edit`, `task rm`."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli.edits import fields_of, position_option, refuse_nothing, show_edit, task_options, unset_option
from holdfast.cli.grammar import dry_run_option, verb, yes_option
from holdfast.cli.session import Session

task_argument = click.argument("task", metavar="TASK")


@verb(
    "add",
    example="""
    holdfast task add P3 "Lint the code" --run "make lint" --depends-on build
    holdfast task add P3 "Write the notes" --instructions "Write CHANGES.md" --phase Release --position 1
    """,
)
@click.argument("plan", metavar="PLAN")
@click.argument("title", metavar="TITLE")
@task_options
@click.option("--phase", default="", metavar="PHASE", help="Title or number of its phase; default: the last one.")
@position_option
@dry_run_option
def add(session: Session, plan: str, title: str, phase: str, position: int | None, dry_run: bool, **given: Any) -> int:
    """Add a task to a plan, also while it runs."""
    from holdfast.app import edits, plans

    fields = {"title": title, **fields_of(given)}
    with session.house() as house:
        plan_id = plans.find(house, plan)
        edited = edits.add_task(house, plan_id, fields, phase=phase, position=position, dry_run=dry_run)
    return show_edit(session, edited, dry_run=dry_run)


@verb(
    "edit",
    example="""
    holdfast task edit T4 --run 'make test' --timeout 20m --unset verify
    holdfast task edit T4 --permissions '[{allow: execute, command: "npm test*"}, ask]'
    """,
)
@task_argument
@click.option("--title", default=None, metavar="TITLE", help="Its title.")
@task_options
@unset_option("agent", "depends_on", "verify", "max_attempts", "timeout", "retryable", "permissions")
@click.option("--phase", default="", metavar="PHASE", help="Move it to the phase of this title or number.")
@position_option
@dry_run_option
def edit(
    session: Session,
    task: str,
    unset: tuple[str, ...],
    phase: str,
    position: int | None,
    dry_run: bool,
    **given: Any,
) -> int:
    """Change a task that has not started."""
    from holdfast.app import edits, tasks

    fields = fields_of(given, unset)
    refuse_nothing(fields, phase, position)
    with session.house() as house:
        task_id = tasks.find(house, task)
        edited = edits.edit_task(house, task_id, fields, phase=phase, position=position, dry_run=dry_run)
    return show_edit(session, edited, dry_run=dry_run)


@verb("rm", example="holdfast task rm T4 --yes")
@task_argument
@yes_option
@dry_run_option
def rm(session: Session, task: str, yes: bool, dry_run: bool) -> int:
    """Remove a task that has never run."""
    from holdfast.app import edits, tasks
    from holdfast.cli.consent import consents
    from holdfast.cli.render import safe

    with session.house() as house:
        found = tasks.show(house, tasks.find(house, task)).task
        edited = edits.remove_task(house, found.id, dry_run=True)
        if not dry_run:
            if not consents(session, f"remove T{found.number} {safe(found.title)}", yes=yes, dry_run=False):
                return 0
            edited = edits.remove_task(house, found.id)
    return show_edit(session, edited, dry_run=dry_run)
