"""`task race`: the same task several times side by side, and the choice of one result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import dry_run_option, verb, yes_option
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.races import Race
    from holdfast.app.wire import House


@verb(
    "race",
    example="""
    holdfast task race T4 --agent claude --agent codex -n 2
    holdfast task race T4
    holdfast task race T4 --pick 3
    """,
)
@click.argument("task", metavar="TASK")
@click.option("--agent", "agents", multiple=True, metavar="NAME", help="An agent that takes part; repeatable.")
@click.option("-n", "each", type=click.IntRange(1, 32), default=None, metavar="N", help="How often each takes part.")
@click.option("--max-parallel", type=click.IntRange(min=1), default=None, metavar="N", help="Most that run at a time.")
@click.option("--pick", type=click.IntRange(min=1), default=None, metavar="N", help="Take this one as the result.")
@click.option("--detach", is_flag=True, help="Only start it; a worker carries it out.")
@yes_option
@dry_run_option
def race(
    session: Session,
    task: str,
    agents: tuple[str, ...],
    each: int | None,
    max_parallel: int | None,
    pick: int | None,
    detach: bool,
    yes: bool,
    dry_run: bool,
) -> int:
    """Run a task several times side by side, compare what came of it, and pick one.

    For a task that has not begun or has failed, while its plan does not run. Every contestant starts from the commit
    that the task starts from, and works on a branch of its own; nothing is merged before one is picked. Without
    options, what raced so far is shown.
    """
    from holdfast.app import tasks
    from holdfast.errors import UsageError

    if pick is not None and (agents or each):
        raise UsageError("a race is started or decided, not both", hint="first --agent and -n, then --pick")
    with session.house() as house:
        task_id = tasks.find(house, task)
        if pick is not None:
            return _pick(session, house, task_id, pick, yes=yes, dry_run=dry_run)
        if agents or each:
            if max_parallel is not None:
                house.settings.max_parallel = max_parallel
            return _start(session, house, task_id, agents, each or 1, detach=detach)
        return _show(session, house, task_id)


def _start(session: Session, house: House, task_id: str, agents: tuple[str, ...], each: int, *, detach: bool) -> int:
    from holdfast.app import history, races
    from holdfast.cli.follow import work_on
    from holdfast.cli.run_commands import started
    from holdfast.domain.transitions import TaskStatus

    since = history.last_event(house)
    plan = races.start(house, task_id, agents=agents, each=each)
    if detach:
        return started(session, house, plan.id)
    code = work_on(session, house, [plan.id], wait=False, since=since)
    found = races.show(house, task_id)
    if session.json:
        session.line({"race": found})
    else:
        _table(session, found)
    some = any(each.plan == plan.number and each.task.status is TaskStatus.COMPLETED for each in found.contestants)
    return 0 if some and code == 6 else code


def _show(session: Session, house: House, task_id: str) -> int:
    from holdfast.app import races

    found = races.show(house, task_id)
    if session.json:
        session.document(found)
    elif found.contestants:
        _table(session, found)
    else:
        session.out.print(f"T{found.task.number} was not raced yet: name agents, or -n")
    return 0


def _table(session: Session, found: Race) -> None:
    from holdfast.cli.render import show, table

    rows = [
        [
            f"{each.number}{' *' if each.picked else ''}",
            f"T{each.task.number}",
            each.task.agent or each.task.key,
            str(each.task.status).replace("_", " "),
            each.verify or "-",
            f"{each.seconds:.1f} s",
            str(each.tokens or "-"),
            f"{each.cost_usd:.4f}" if each.cost_usd else "-",
            str(each.files),
            f"+{each.additions} -{each.deletions}",
            each.task.branch,
        ]
        for each in found.contestants
    ]
    columns = ["#", "task", "who", "status", "checks", "time", "tokens", "USD", "files", "lines", "branch"]
    show(session.out, table(columns, rows))


def _pick(session: Session, house: House, task_id: str, number: int, *, yes: bool, dry_run: bool) -> int:
    from holdfast.app import races, tasks
    from holdfast.cli.consent import consents

    view = tasks.show(house, task_id)
    deed = f"take contestant {number} as the result of T{view.task.number} and end its race"
    if not consents(session, deed, yes=yes, dry_run=dry_run):
        return 0
    step = races.pick(house, task_id, number)
    if session.json:
        session.document({"step": step, "race": races.show(house, task_id)})
    else:
        session.out.print(f"T{view.task.number} is completed by contestant {number}, as step {step.number}")
        session.note(f"go on: holdfast resume P{view.plan.number}")
    return 0
