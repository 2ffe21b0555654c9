"""`task fork`, `task resume-from` and `task continue`: work that goes on from somewhere else than where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import Function, dry_run_option, verb, yes_option
from holdfast.cli.session import Session
from holdfast.cli.timeline_commands import Moment

if TYPE_CHECKING:
    from datetime import datetime

    from holdfast.app.forks import Point, Wanted
    from holdfast.app.wire import House
    from holdfast.domain.task import Task

_MODES = ("with_context", "clean_restart", "from_checkpoint")
task_argument = click.argument("task", metavar="TASK")


def fork_options(function: Function) -> Function:
    """Adds what says where a fork starts and what it is to be."""
    options = (
        click.option(
            "--at", default="", metavar="CHECKPOINT", help="Start at this checkpoint: 4, T31@4, a name, latest."
        ),
        click.option(
            "--at-time", type=Moment(), default=None, metavar="TIME", help="Start where it was then, e.g. 2h."
        ),
        click.option("--at-message", default="", metavar="ID", help="Start at this message of its conversation."),
        click.option("--name", default="", metavar="TEXT", help="Title of the new task."),
        click.option("--instructions", default="", metavar="TEXT", help="What it is to do, if not the same."),
        click.option("--agent", default="", metavar="NAME", help="Who does it, if not the same agent."),
        click.option("--branch", default="", metavar="NAME", help="Its branch, in Holdfast's own repository."),
        click.option("--no-conversation", is_flag=True, help="Start with an empty conversation."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _wanted(options: dict[str, object]) -> Wanted:
    from holdfast.app.forks import Wanted

    given = {name: str(options[name]) for name in ("name", "instructions", "agent", "branch")}
    return Wanted(**given, conversation=not options["no_conversation"])


def _point(house: House, task_id: str, at: str, at_time: datetime | None, at_message: str) -> Point:
    from holdfast.app import forks
    from holdfast.errors import UsageError

    if sum(map(bool, (at, at_time, at_message))) > 1:
        raise UsageError("a fork starts at one point", hint="say one of --at, --at-time, --at-message")
    if at_time:
        return forks.point_at_time(house, task_id, at_time)
    if at_message:
        return forks.point_at_message(house, task_id, at_message)
    return forks.point_at(house, task_id, at or "latest")


@verb(
    "fork",
    example="""
    holdfast task fork T4 --at 2 --name 'With a cache' --instructions 'Do it with a cache'
    holdfast task fork T4 --at-time 2h --no-conversation
    """,
)
@task_argument
@fork_options
@dry_run_option
def fork(
    session: Session,
    task: str,
    at: str,
    at_time: datetime | None,
    at_message: str,
    dry_run: bool,
    **options: object,
) -> int:
    """Make a new task that starts where another one was: files, branch and conversation. It is not started.

    The original may run meanwhile and notices nothing. The fork is a task in a plan of its own and works on a branch of
    its own, which is never merged; `task race --pick` takes it as the original's result.
    """
    from holdfast.app import forks, tasks

    with session.house() as house:
        task_id = tasks.find(house, task)
        point = _point(house, task_id, at, at_time, at_message)
        if dry_run:
            from holdfast.cli.consent import consents

            original = forks.ready(house, task_id, point, _wanted(options)).view.task
            consents(session, f"fork T{original.number} at {point.label}", yes=True, dry_run=True)
            return 0
        made = forks.fork(house, task_id, point, _wanted(options))
        _tell(session, house, made)
    return 0


def _tell(session: Session, house: House, made: Task) -> None:
    from holdfast.app import tasks
    from holdfast.cli.render import safe

    view = tasks.show(house, made.id)
    if session.json:
        session.document({"task": view.task, "plan": view.plan, "checkpoint": view.checkpoints[0]})
    else:
        session.out.print(f"T{made.number} {safe(made.title)} starts at {made.fork_point}, in P{view.plan.number}")
        session.note(f"start it: holdfast plan execute P{view.plan.number}")


@verb(
    "resume-from",
    example="holdfast task resume-from T4 --at 2 --instructions 'Try it without the library'",
)
@task_argument
@fork_options
@click.option("--detach", is_flag=True, help="Only start it; a worker carries it out.")
def resume_from(
    session: Session,
    task: str,
    at: str,
    at_time: datetime | None,
    at_message: str,
    detach: bool,
    **options: object,
) -> int:
    """Fork a task and run the fork at once."""
    from holdfast.app import forks, history, plans, tasks
    from holdfast.cli.follow import work_on
    from holdfast.cli.run_commands import started

    with session.house() as house:
        task_id = tasks.find(house, task)
        since = history.last_event(house)
        made = forks.fork(house, task_id, _point(house, task_id, at, at_time, at_message), _wanted(options))
        plan = plans.execute(house, made.plan_id)
        if detach:
            return started(session, house, plan.id)
        return work_on(session, house, [plan.id], wait=False, since=since)


@verb(
    "continue",
    example="""
    holdfast task continue T4 --context 'Use the new endpoint'
    holdfast task continue T4 --mode from_checkpoint --at 2 --yes
    holdfast task continue T4 --mode clean_restart --yes
    """,
)
@task_argument
@click.option(
    "--mode", type=click.Choice(_MODES), default="with_context", show_default=True, help="Where it goes on from."
)
@click.option("--at", default="", metavar="CHECKPOINT", help="The checkpoint, with --mode from_checkpoint.")
@click.option("--context", default="", metavar="TEXT", help="What its agent is told.")
@yes_option
@dry_run_option
def continue_(session: Session, task: str, mode: str, at: str, context: str, **options: bool) -> int:
    """Let a task that does not run go on: where it is, from its beginning, or from a checkpoint.

    Going back leaves nothing lost: what is left behind is kept on a branch and in a checkpoint, as with `task rewind`.
    """
    from holdfast.app import continuations, rewinds, tasks
    from holdfast.app.rewinds import Continued
    from holdfast.cli.consent import consents
    from holdfast.cli.render import safe
    from holdfast.cli.rewind_commands import agreed

    with session.house() as house:
        view = tasks.show(house, tasks.find(house, task))
        chosen = continuations.Mode(mode)
        target = continuations.target_of(house, view.task.id, chosen, at=at, context=context)
        back = f" from T{view.task.number}@{target.number}" if target else ""
        deed = f"let T{view.task.number} {safe(view.task.title)} go on{back} ({mode.replace('_', ' ')})"
        if target is not None:
            going = Continued(mode, context)
            preview = rewinds.preview_rewind(house, view.task.id, target, continued=going)
            if not agreed(session, deed, preview, options):
                return 0
        elif options["dry_run"] and not consents(session, deed, yes=False, dry_run=True):
            return 0
        changed = continuations.continue_task(house, view.task.id, chosen, at=at, context=context)
        if session.json:
            session.document(changed)
        else:
            session.out.print(f"T{changed.number} is {changed.status}")
            session.note(f"go on: holdfast resume P{view.plan.number}")
    return 0
