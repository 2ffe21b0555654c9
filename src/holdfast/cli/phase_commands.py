"""`phase …`: phases of a plan."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli.edits import (
    fields_of,
    phase_options,
    position_option,
    refuse_nothing,
    show_edit,
    task_options,
    unset_option,
)
from holdfast.cli.grammar import dry_run_option, noun, yes_option
from holdfast.cli.session import Session

phase = noun("phase", help="Phases: add, edit, remove.", example="holdfast phase add P3 Release --run 'make release'")
plan_argument = click.argument("plan", metavar="PLAN")
phase_argument = click.argument("phase", metavar="PHASE")


@phase.verb(
    "add",
    example="""
    holdfast phase add P3 Release --run "make release"
    holdfast phase add P3 Check --mode parallel --task "Test it" --run "make test" --position 2
    """,
)
@plan_argument
@click.argument("title", metavar="TITLE")
@phase_options
@click.option("--task", default="", metavar="TITLE", help="Title of its first task; default: that of the phase.")
@task_options
@position_option
@dry_run_option
def add(
    session: Session,
    plan: str,
    title: str,
    mode: str | None,
    pause_after: bool | None,
    when: str | None,
    task: str,
    position: int | None,
    dry_run: bool,
    **given: Any,
) -> int:
    """Add a phase with its first task to a plan, also while it runs."""
    from holdfast.app import edits, plans

    first = {"title": task or title, **fields_of(given)}
    own = fields_of({"mode": mode, "pause_after": pause_after, "when": when})
    with session.house() as house:
        plan_id = plans.find(house, plan)
        fields = {"title": title, **own, "tasks": [first]}
        edited = edits.add_phase(house, plan_id, fields, position=position, dry_run=dry_run)
    return show_edit(session, edited, dry_run=dry_run)


@phase.verb("edit", example="holdfast phase edit P3 2 --title Release --mode manual --unset when")
@plan_argument
@phase_argument
@click.option("--title", default=None, metavar="TITLE", help="Its title.")
@phase_options
@unset_option("mode", "pause_after", "when")
@position_option
@dry_run_option
def edit(
    session: Session,
    plan: str,
    phase: str,
    unset: tuple[str, ...],
    position: int | None,
    dry_run: bool,
    **given: Any,
) -> int:
    """Change a phase that has not started; PHASE is its title or its number in the plan."""
    from holdfast.app import edits, plans

    fields = fields_of(given, unset)
    refuse_nothing(fields, position)
    with session.house() as house:
        plan_id = plans.find(house, plan)
        edited = edits.edit_phase(house, plan_id, phase, fields, position=position, dry_run=dry_run)
    return show_edit(session, edited, dry_run=dry_run)


@phase.verb("rm", example="holdfast phase rm P3 Release --yes")
@plan_argument
@phase_argument
@yes_option
@dry_run_option
def rm(session: Session, plan: str, phase: str, yes: bool, dry_run: bool) -> int:
    """Remove a phase with its tasks, none of which has ever run."""
    from holdfast.app import edits, plans
    from holdfast.cli.consent import consents
    from holdfast.cli.render import count, safe

    with session.house() as house:
        plan_id = plans.find(house, plan)
        edited = edits.remove_phase(house, plan_id, phase, dry_run=True)
        if not dry_run:
            gone = next(each.name for each in edited.changes if each.subject == "phase")
            tasks = count(sum(each.subject == "task" for each in edited.changes), "task")
            if not consents(session, f"remove the phase {safe(gone)} with {tasks}", yes=yes, dry_run=False):
                return 0
            edited = edits.remove_phase(house, plan_id, phase)
    return show_edit(session, edited, dry_run=dry_run)
