"""What the commands that edit a plan share: options that are fields of a plan file, and how an edit is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.edits import Edited

Function = TypeVar("Function", bound=Callable[..., Any])

position_option = click.option(
    "--position", type=click.IntRange(min=1), default=None, metavar="N", help="Its place, 1 = the first."
)
permissions_option = click.option(
    "--permissions",
    default=None,
    metavar="POLICY",
    help="What its agent may do unasked: a word (ask, allow-edits, allow-all), or rules as in a plan file.",
)
MODES = ("sequential", "parallel", "manual")


def task_options(function: Function) -> Function:
    """Adds the fields of a task, but for its title."""
    options = [
        click.option("--key", default=None, metavar="KEY", help="Its name in `--depends-on`; default: of its title."),
        click.option("--run", default=None, metavar="COMMAND", help="The shell command that does the work."),
        click.option("--instructions", default=None, metavar="TEXT", help="What an agent shall do."),
        click.option("--agent", default=None, metavar="NAME", help="The agent that does it."),
        click.option("--depends-on", multiple=True, metavar="KEY", help="A task to wait for; repeatable."),
        click.option("--verify", multiple=True, metavar="COMMAND", help="A check of the work; repeatable."),
        click.option("--max-attempts", default=None, metavar="N", help="Tries in all; the first one counts."),
        click.option("--timeout", default=None, metavar="TIME", help="Time limit, e.g. 90s, 15m, 1h30m."),
        click.option("--retryable/--no-retryable", default=None, help="Whether a failure may be tried again."),
        permissions_option,
    ]
    return _with(function, options)


def unset_option(*fields: str) -> Callable[[Function], Function]:
    """Adds `--unset FIELD`, which takes a field away."""
    return click.option("--unset", multiple=True, type=click.Choice(fields), help="Take this field away; repeatable.")


def phase_options(function: Function) -> Function:
    """Adds the fields of a phase, but for its title and tasks."""
    options = [
        click.option("--mode", type=click.Choice(MODES), default=None, help="How its tasks run."),
        click.option("--pause-after/--no-pause-after", default=None, help="Whether the plan pauses after it."),
        click.option("--when", default=None, metavar="CONDITION", help="Skip the phase where this is false."),
    ]
    return _with(function, options)


def _with(function: Function, options: Iterable[Callable[[Any], Any]]) -> Function:
    for option in reversed(list(options)):
        function = option(function)
    return function


def fields_of(given: Mapping[str, Any], unset: Iterable[str] = ()) -> dict[str, Any]:
    """Gives the options that were used as fields of a plan file; one to be taken away is None."""
    used = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if value is not None and value != ()
    }
    clash = sorted(set(used) & set(unset))
    if clash:
        raise click.UsageError(f"--unset {clash[0]} goes without --{clash[0].replace('_', '-')}")
    if "permissions" in used:
        from holdfast.domain import permissions, planfile

        used["permissions"] = permissions.plain(planfile.policy(str(used["permissions"])))
    return used | dict.fromkeys(unset)


def show_edit(session: Session, edited: Edited, *, dry_run: bool) -> int:
    """Prints what an edit changed, or would change."""
    from holdfast.cli.render import count, diff_lines, say

    if session.json:
        document = {"dry_run": dry_run, "plan": edited.plan, "changes": edited.changes, "iteration": edited.iteration}
        session.document({**document, "difference": edited.difference})
        return 0
    if not edited.changes:
        say(session.out, f"P{edited.plan.number} is that already: nothing changed")
        return 0
    session.out.print(diff_lines(edited.difference), soft_wrap=True)
    done = "nothing was changed (--dry-run)" if dry_run else f"P{edited.plan.number} is edited"
    say(session.out, f"{done}: {count(len(edited.changes), 'change')}", style="dim")
    return 0


def refuse_nothing(fields: Mapping[str, Any], *others: object) -> None:
    """Raises a usage error if a command was called without anything to change."""
    if not fields and not any(others):
        raise click.UsageError("nothing to change was named; see --help")
