"""`run`, `resume`, `watch`, `worker`: what works on plans in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import dry_run_option, pairs, project_option, verb, yes_option
from holdfast.cli.planning_commands import Wishes, drafted, drafter_options, gate_option, show_draft
from holdfast.cli.session import Session
from holdfast.errors import UsageError

if TYPE_CHECKING:
    from holdfast.app.wire import House

wait_option = click.option("--wait", is_flag=True, help="At a gate keep waiting for the decision (else exit code 7).")
detach_option = click.option("--detach", is_flag=True, help="Only start it; a worker carries it out.")


@verb(
    "run",
    example="""
    holdfast run plan.yaml
    holdfast run plan.yaml --var VERSION=1.2 --base main --wait
    holdfast run "Add rate limiting to the API" --gate result
    """,
)
@click.argument("what", metavar="PLAN.yaml|REQUEST")
@project_option
@click.option("--base", default="", metavar="REF", help="Branch or commit to start from (default: the checkout's).")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable of the plan; repeatable.")
@gate_option
@drafter_options
@yes_option
@detach_option
@wait_option
@dry_run_option
def run(
    session: Session,
    what: str,
    project: str,
    base: str,
    variables: tuple[str, ...],
    gates: tuple[str, ...],
    model: str,
    agent: str,
    yes: bool,
    detach: bool,
    wait: bool,
    dry_run: bool,
) -> int:
    """Run a plan file, or a plan drafted for a request, and show its progress.

    What names no file and has more than one word is a request: a plan is drafted for it (see `holdfast plan generate`),
    shown, and run if you agree.

    The plan works on a branch and in a worktree of its own: your checkout is not touched. Ctrl-C pauses it and lets
    running tasks finish, a second one stops them at once, a third one leaves; `holdfast resume` goes on in each case.
    """
    from holdfast.app import history, plans, projects

    given = pairs(variables)
    if is_request(what):
        if given:
            raise click.UsageError("--var is for plan files")
        return _run_request(session, what, Wishes(project, base, gates, model, agent), yes, detach, wait, dry_run)
    if gates or model or agent:
        raise click.UsageError("--gate, --model and --agent are for a request; a plan file names its gates itself")
    with session.house() as house:
        found = projects.find(house, project, Path.cwd())
        read = plans.read_file(house, Path(what))
        if dry_run:
            from holdfast.cli.plan_commands import show_preview

            show_preview(session, plans.preview(house, found, read, base=base, variables=given))
            return 0
        since = history.last_event(house)
        plan = plans.create(house, found, read, base=base, variables=given, to_run=True)
        for note in projects.notes_of(house, found):
            session.note(note)
        if projects.unconfined(house, found):
            session.note("no sandbox: the plan's commands run as you, unconfined")
        _warn(session, house, plan.id)
        plans.execute(house, plan.id)
        if detach:
            return started(session, house, plan.id)
        from holdfast.cli.follow import work_on

        return work_on(session, house, [plan.id], wait=wait, since=since)


def is_request(words: str) -> bool:
    """Tells a request in plain words from the path of a plan file."""
    return len(words.split()) > 1 and not words.endswith((".yaml", ".yml")) and not Path(words).exists()


def _run_request(
    session: Session, request: str, wishes: Wishes, yes: bool, detach: bool, wait: bool, dry_run: bool
) -> int:
    """Drafts a plan, shows it, asks, and runs it."""
    from holdfast.app import history, plans
    from holdfast.cli.consent import consents

    if not (yes or dry_run or session.interactive):
        deed = "draft a plan and run it"
        raise UsageError(f"this would {deed}", hint="say --yes to do it, --dry-run to look only", code="needs_yes")
    with session.house() as house:
        since = history.last_event(house)
        made = drafted(session, house, request, wishes, dry_run=dry_run)
        if not session.json or dry_run:
            show_draft(session, made)
        if made.plan is None:
            return 0
        plan = made.plan
        if not consents(session, f"run P{plan.number} {plan.title}", yes=yes, dry_run=False):
            return 0
        _warn(session, house, plan.id)
        plans.execute(house, plan.id)
        if detach:
            return started(session, house, plan.id)
        from holdfast.cli.follow import work_on

        return work_on(session, house, [plan.id], wait=wait, since=since)


def _warn(session: Session, house: House, plan_id: str) -> None:
    from holdfast.app import planning

    for each in planning.warnings(house, plan_id):
        session.note(each)


def started(session: Session, house: House, plan_id: str) -> int:
    """Tells of a plan that was started for a worker to carry out."""
    from holdfast.app import execution, plans

    view = plans.show(house, plan_id)
    if session.json:
        session.document(view)
    else:
        session.out.print(f"P{view.plan.number} is started; watch it: holdfast watch P{view.plan.number}")
    if not execution.is_worked_on(house):
        session.note("no worker is alive: start one with `holdfast worker`, or go on here with `holdfast resume`")
    return 0


@verb(
    "resume",
    example="""
    holdfast resume            what a crash interrupted, else the plan that is paused
    holdfast resume P3
    holdfast resume --all
    """,
)
@click.argument("plan", required=False, default="")
@click.option("--all", "everything", is_flag=True, help="Every plan that was interrupted or is paused.")
@wait_option
def resume(session: Session, plan: str, everything: bool, wait: bool) -> int:
    """Go on with what was interrupted or paused.

    Work that a crash or a kill cut off goes on exactly there: commands that still run are adopted, those that ended
    meanwhile are taken in, and those that died start again from the step's beginning.
    """
    return go_on(session, plan, everything=everything, wait=wait)


def go_on(session: Session, plan: str, *, everything: bool, wait: bool) -> int:
    """Resumes what was interrupted or paused and follows it; gives the exit code."""
    from holdfast.app import history, plans
    from holdfast.cli.follow import work_on

    with session.house() as house:
        since = history.last_event(house)
        chosen = _to_resume(session, house, plan, everything)
        if not chosen:
            return 0
        for plan_id in chosen:
            plans.resume(house, plan_id)
        return work_on(session, house, chosen, wait=wait, since=since)


def _to_resume(session: Session, house: House, reference: str, everything: bool) -> list[str]:
    """Chooses the plans to go on with, and tells what was interrupted."""
    from holdfast.app import execution, plans
    from holdfast.cli.render import safe
    from holdfast.domain.transitions import PlanStatus

    cut = execution.interrupted(house)
    for view in cut:
        name = f"P{view.plan.number} {safe(view.plan.title)}"
        if view.plan.status is PlanStatus.WAITING:
            session.note(f"{name} waits for a person" if view.gates else f"{name} waited for a person; going on")
            continue
        under_way = ", ".join(execution.cut_off(view)) or "between two tasks"
        session.note(f"{name} was interrupted: {under_way}; going on")
    if reference:
        return [plans.find(house, reference)]
    waiting = [plan for plan in plans.unfinished(house) if plan.status is PlanStatus.PAUSED]
    if everything:
        return [*(view.plan.id for view in cut), *(plan.id for plan in waiting)]
    if cut:
        return [view.plan.id for view in cut]
    if len(waiting) > 1:
        names = ", ".join(f"P{plan.number}" for plan in waiting)
        raise UsageError(f"several plans are paused: {names}", hint="name one, or say --all")
    if not waiting:
        if session.json:
            session.line({"result": None, "exit_code": 0})
        else:
            session.out.print("nothing is interrupted or paused")
    return [plan.id for plan in waiting]


@verb("watch", example="holdfast watch P3")
@click.argument("plan", required=False, default="")
def watch(session: Session, plan: str) -> int:
    """Watch a plan that another process works on.

    Ctrl-C ends the watching, not the plan.
    """
    from holdfast.app import execution, plans
    from holdfast.cli import follow

    with session.house() as house:
        plan_id = plans.find(house, plan)
        if not execution.is_worked_on(house):
            session.note("no worker is alive, so nothing moves: go on with `holdfast resume`")
        return follow.watch(session, house, plan_id)


@verb("worker", example="holdfast worker")
def worker(session: Session) -> int:
    """Work on everybody's plans until stopped.

    SIGTERM or Ctrl-C ends it at once; commands that run go on, and the next worker takes them up again.
    """
    from holdfast.cli.follow import work_for_all

    with session.house() as house:
        return work_for_all(session, house)
