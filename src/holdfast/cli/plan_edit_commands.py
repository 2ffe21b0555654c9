"""`plan edit`: a plan in the editor, or by options."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.edits import fields_of, permissions_option, show_edit, unset_option
from holdfast.cli.grammar import dry_run_option, pairs, verb
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.edits import Edited
    from holdfast.app.wire import House


@verb(
    "edit",
    example="""
    holdfast plan edit P3
    holdfast plan edit P3 --title "Faster start" --gate result --var VERSION=1.3
    holdfast plan edit P3 --file plan.yaml --dry-run
    """,
)
@click.argument("plan", metavar="PLAN")
@click.option(
    "--file", type=click.Path(path_type=Path), default=None, metavar="PLAN.yaml", help="Make it what this file says."
)
@click.option("--title", default=None, metavar="TITLE", help="Its title.")
@click.option("--description", default=None, metavar="TEXT", help="What it is for.")
@click.option(
    "--gate", "gates", multiple=True, metavar="NAME", help="Where a person decides: plan, result; repeatable."
)
@click.option("--gate-order", default=None, metavar="ORDER", help="approve_then_review or review_then_approve.")
@click.option("--review/--no-review", default=None, help="Whether its result is reviewed.")
@click.option(
    "--supervisor", default=None, metavar="MODE", help="What it does when a task has failed: off, suggest, replan."
)
@click.option("--verify", multiple=True, metavar="COMMAND", help="A check of the result; repeatable.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable; repeatable.")
@click.option("--base", default=None, metavar="REF", help="Where a draft starts from.")
@permissions_option
@unset_option(
    "description", "gates", "gate_order", "review", "supervisor", "verify", "budget", "variables", "permissions"
)
@dry_run_option
def edit(
    session: Session,
    plan: str,
    file: Path | None,
    variables: tuple[str, ...],
    unset: tuple[str, ...],
    dry_run: bool,
    **given: Any,
) -> int:
    """Change a plan, in your editor or by options.

    With no option it opens the plan as a plan file in $VISUAL or $EDITOR: what has not started may change, come or go.
    A task stays the same task as long as its key stays.
    """
    from holdfast.app import edits, plans

    fields = fields_of({**given, "variables": pairs(variables) or None}, unset)
    if file is not None and fields:
        raise click.UsageError("--file says it all: it goes without other fields")
    with session.house() as house:
        plan_id = plans.find(house, plan)
        if file is not None:
            edited = edits.apply_file(house, plan_id, plans.read_file(house, file), dry_run=dry_run)
        elif fields:
            edited = edits.edit_plan(house, plan_id, fields, dry_run=dry_run)
        else:
            edited = _in_editor(house, plan_id, dry_run)
    return show_edit(session, edited, dry_run=dry_run)


def _in_editor(house: House, plan_id: str, dry_run: bool) -> Edited:
    """Lets a person edit the plan's file; their text is kept where it cannot be taken."""
    from holdfast.app import edits, plans
    from holdfast.errors import HoldfastError, UsageError

    if not sys.stdin.isatty() and not (os.environ.get("VISUAL") or os.environ.get("EDITOR")):
        raise UsageError("there is no terminal to edit on", hint="name a file: --file PLAN.yaml", code="no_terminal")
    text = edits.text(house, plan_id)
    folder = house.places.data / "edits"
    folder.mkdir(parents=True, exist_ok=True)
    number = plans.show(house, plan_id).plan.number
    path = folder / f"P{number}-{os.getpid()}.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        _open_editor(path)
        edited = edits.apply_file(house, plan_id, plans.read_file(house, path), since=text, dry_run=dry_run)
    except HoldfastError as error:
        error.hint = f"your text is kept: holdfast plan edit P{number} --file {path}"
        raise
    path.unlink()
    return edited


def _open_editor(path: Path) -> None:
    from holdfast.errors import UserError

    try:
        click.edit(filename=str(path))
    except click.ClickException as error:
        raise UserError(error.format_message(), hint="set EDITOR to a program that is there") from error
