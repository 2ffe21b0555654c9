"""`plan …`: plans as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.grammar import dry_run_option, noun, page_options, pairs, project_option, yes_option
from holdfast.cli.run_commands import detach_option, started, wait_option
from holdfast.cli.session import Session
from holdfast.cli.timeline_commands import Wanted, history_options, phase_option, show_history
from holdfast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.app.plans import PlanView, Preview
    from holdfast.app.wire import House

_PLANNING = "holdfast.cli.planning_commands"
# Loaded when they are called: the editor, and what drafts plans.
LAZY = {
    "edit": ("holdfast.cli.plan_edit_commands", "Change a plan, in your editor or by options."),
    "generate": (_PLANNING, "Draft a plan for a request in plain words."),
    "review": (_PLANNING, "Ask for suggestions how to make a plan better."),
    "apply": (_PLANNING, "Carry out suggestions of a review, all of them or none."),
    "iterations": (_PLANNING, "Show how a plan came to be as it is, newest first."),
    "revert": (_PLANNING, "Take the change of one iteration back."),
    "rollback": ("holdfast.cli.rewind_commands", "Put a plan back to a checkpoint."),
    "estimate": (_PLANNING, "Tell what is left of a plan will probably take: time, tokens, cost."),
}

plan = noun(
    "plan",
    help="Plans: make, edit, list, start, stop, decide, take the result.",
    example="holdfast plan list",
    lazy=LAZY,
)
plan_argument = click.argument("plan", metavar="PLAN")
comment_option = click.option("-m", "--comment", default="", metavar="TEXT", help="Why; kept with the decision.")
LONGEST_PATH = 8
STATUSES = ("draft", "running", "waiting", "paused", "completed", "failed", "cancelled")


@plan.verb("new", example="holdfast plan new plan.yaml --var VERSION=1.2")
@click.argument("file", metavar="PLAN.yaml", type=click.Path(path_type=Path))
@project_option
@click.option("--base", default="", metavar="REF", help="Branch or commit to start from (default: the checkout's).")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable of the plan; repeatable.")
@dry_run_option
def new(session: Session, file: Path, project: str, base: str, variables: tuple[str, ...], dry_run: bool) -> int:
    """Store a plan file as a draft, to be started later."""
    from holdfast.app import plans, projects

    given = pairs(variables)
    with session.house() as house:
        found = projects.find(house, project, Path.cwd())
        read = plans.read_file(house, file)
        if dry_run:
            show_preview(session, plans.preview(house, found, read, base=base, variables=given))
            return 0
        made = plans.create(house, found, read, base=base, variables=given)
        if session.json:
            session.document(plans.show(house, made.id))
        else:
            session.out.print(f"P{made.number} is a draft; start it: holdfast plan execute P{made.number}")
    return 0


@plan.verb("check", example="holdfast plan check plan.yaml")
@click.argument("file", metavar="PLAN.yaml", type=click.Path(path_type=Path))
def check(session: Session, file: Path) -> int:
    """Validate a plan file; every mistake with its line and column."""
    from holdfast.app import plans
    from holdfast.cli.render import count, safe

    read = plans.read_plan_file(file, session.settings().plan_file_max_bytes)
    tasks = sum(len(phase.tasks) for phase in read.phases)
    if session.json:
        session.document({"valid": True, "title": read.title, "phases": len(read.phases), "tasks": tasks})
    else:
        parts = f"{count(len(read.phases), 'phase')}, {count(tasks, 'task')}"
        session.out.print(f"{safe(file)} is valid: {safe(read.title)} ({parts})", soft_wrap=True)
    return 0


def show_preview(session: Session, preview: Preview) -> None:
    """Prints what a plan file would become."""
    from holdfast.cli.render import safe, say

    if session.json:
        session.document({"dry_run": True, "preview": preview})
        return
    out = session.out
    say(out, f"{safe(preview.plan.title)}, from {preview.plan.base_commit[:10]}", style="bold")
    keys = {task.id: task.key for task in preview.tasks}
    for phase in preview.phases:
        condition = f"  when {safe(phase.when)}" if phase.when else ""
        say(out, f" {safe(phase.title)}  {phase.mode}{condition}")
        for task in (task for task in preview.tasks if task.phase_id == phase.id):
            after = ", ".join(keys[each] for each in task.depends_on if each in keys)
            say(out, f"   {safe(task.title)}" + (f"  after {after}" if after else ""))
    names = [keys[each] for each in preview.critical_path]
    path = " → ".join(names if len(names) <= LONGEST_PATH else [*names[:3], "…", *names[-3:]])
    say(out, f"longest chain: {path}; about {preview.speed_up:.1f} times faster than one by one", style="dim")
    say(out, "nothing was stored (--dry-run)", style="dim")


@plan.verb("list", example="holdfast plan list --status paused")
@click.option("--status", type=click.Choice(STATUSES), default=None, help="Only plans of this status.")
@click.option("--project", default="", metavar="SLUG", help="Only plans of this project.")
@page_options(50)
def list_(session: Session, status: str | None, project: str, limit: int, cursor: str) -> int:
    """List plans, newest first."""
    from holdfast.app import plans, projects
    from holdfast.cli.render import plans_table, say, show
    from holdfast.domain.transitions import PlanStatus

    with session.house() as house:
        project_id = projects.find(house, project, Path.cwd()).id if project else None
        chosen = PlanStatus(status) if status else None
        page = plans.list_(house, status=chosen, project_id=project_id, limit=limit, cursor=cursor)
    if session.json:
        session.document(page)
    elif page.items:
        show(session.out, plans_table(page.items))
        session.more(page.next_cursor)
    else:
        say(session.out, "no plans")
    return 0


@plan.verb("show", example="holdfast plan show P3")
@plan_argument
def show(session: Session, plan: str) -> int:
    """Show a plan: phases, tasks, gates, what to do next."""
    from holdfast.app import plans
    from holdfast.cli.status_commands import show_plan

    with session.house() as house:
        return show_plan(session, house, plans.find(house, plan))


@plan.verb("export", example="holdfast plan export P3 -o again.yaml")
@plan_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="File to write; must not exist.")
def export(session: Session, plan: str, output: Path | None) -> int:
    """Print a plan as a plan file, as it is now."""
    from holdfast.app import plans

    with session.house() as house:
        text = plans.export(house, plans.find(house, plan))
    if session.json:
        session.document({"plan_file": text})
    else:
        session.write(text, output)
    return 0


@plan.verb("execute", example="holdfast plan execute P3")
@plan_argument
@click.option(
    "--from",
    "start",
    type=click.Choice(["beginning", "current", "phase", "task"]),
    default=None,
    help="Run a plan again from there: what came later is rolled back, and kept.",
)
@click.option("--phase", default="", metavar="PHASE", help="With --from phase: its title or number.")
@click.option("--task", default="", metavar="TASK", help="With --from task: which one.")
@yes_option
@dry_run_option
@detach_option
@wait_option
def execute(
    session: Session, plan: str, start: str | None, phase: str, task: str, detach: bool, wait: bool, **options: Any
) -> int:
    """Start a draft and show its progress, or run a plan again from somewhere."""
    from holdfast.app import history, plans

    for name, given in (("phase", phase), ("task", task)):
        if given and start != name:
            raise UsageError(f"--{name} says which one with --from {name}", hint=f"say --from {name} --{name} {given}")
    if start is None and options["dry_run"]:
        raise UsageError("--dry-run shows what --from would take back", hint="look at it: holdfast plan show")
    with session.house() as house:
        plan_id = plans.find(house, plan)
        since = history.last_event(house)
        if start is None:
            plans.execute(house, plan_id)
        elif not _run_from(session, house, plan_id, start, phase or task, options):
            return 0
        if detach:
            return started(session, house, plan_id)
        from holdfast.cli.follow import work_on

        return work_on(session, house, [plan_id], wait=wait, since=since)


def _run_from(session: Session, house: House, plan_id: str, start: str, name: str, options: Mapping[str, Any]) -> bool:
    """Shows what would be taken back, asks, and starts the plan from there; tells whether it did."""
    from holdfast.app import plans, restarts
    from holdfast.cli.consent import consents
    from holdfast.cli.render import safe
    from holdfast.cli.rewind_commands import agreed
    from holdfast.domain.plan import Phase

    chosen = restarts.From(start)
    target = restarts.target_of(house, plan_id, chosen, name=name)
    preview = restarts.preview_from(house, plan_id, chosen, name=name)
    place = {"current": "where it is", "beginning": "its beginning", "task": name}.get(start, "")
    if not place and isinstance(target, Phase):
        place = f"the phase '{safe(target.title)}'"
    deed = f"run P{plans.show(house, plan_id).plan.number} again from {safe(place)}"
    if preview is not None:
        if not agreed(session, deed, preview, options):
            return False
    elif options["dry_run"]:
        return consents(session, deed, yes=False, dry_run=True)
    restarts.run_from(house, plan_id, chosen, name=name)
    return True


@plan.verb("clone", example="holdfast plan clone P3 --at after_planning")
@plan_argument
@click.option("--at", default="", metavar="CHECKPOINT", help="Begin at this checkpoint of it, with what was left then.")
@click.option("--title", default="", metavar="TITLE", help="Title of the clone.")
def clone(session: Session, plan: str, at: str, title: str) -> int:
    """Make a draft that does a plan's work anew, from its beginning or from a checkpoint."""
    from holdfast.app import plans, restarts
    from holdfast.app.targets import find_checkpoint

    with session.house() as house:
        view = plans.show(house, plans.find(house, plan))
        checkpoint = None
        if at:
            with house.database.read() as connection:
                checkpoint = find_checkpoint(connection, at, task=None, plan=view.plan)
        made = restarts.clone(house, view.plan.id, title=title, at=checkpoint)
        if session.json:
            session.document(plans.show(house, made.id))
        else:
            session.out.print(f"P{made.number} is a draft; start it: holdfast plan execute P{made.number}")
    return 0


@plan.verb("pause", example="holdfast plan pause P3")
@plan_argument
@click.option("--interrupt", is_flag=True, help="Stop running tasks at once, rather than let them finish.")
def pause(session: Session, plan: str, interrupt: bool) -> int:
    """Pause a plan: running tasks finish, no more are started."""
    from holdfast.app import plans
    from holdfast.domain.plan import PauseMode

    with session.house() as house:
        plan_id = plans.find(house, plan)
        plans.pause(house, plan_id, PauseMode.INTERRUPT if interrupt else PauseMode.DRAIN)
        told = "stops what runs, and pauses" if interrupt else "pauses as soon as what runs has ended"
        return _requested(session, house, plan_id, told)


@plan.verb("resume", example="holdfast plan resume P3")
@plan_argument
@wait_option
def resume(session: Session, plan: str, wait: bool) -> int:
    """Go on with a paused or interrupted plan (the same as `holdfast resume PLAN`)."""
    from holdfast.cli.run_commands import go_on

    return go_on(session, plan, everything=False, wait=wait)


@plan.verb("budget", example="holdfast plan budget P3 --max-seconds 7200")
@plan_argument
@click.option("--task", default="", metavar="TASK", help="The budget of this task of it, not of the whole plan.")
@click.option(
    "--max-seconds", type=click.FloatRange(min=0, min_open=True), help="Limit of its steps' time together, in seconds."
)
@click.option("--max-tokens", type=click.IntRange(min=1), help="Limit of the tokens that its agents use.")
@click.option(
    "--max-cost-usd", type=click.FloatRange(min=0, min_open=True), help="Limit of what its agents cost, in US dollars."
)
def budget(
    session: Session,
    plan: str,
    task: str,
    max_seconds: float | None,
    max_tokens: int | None,
    max_cost_usd: float | None,
) -> int:
    """Set the budget of a plan or task anew.

    The limits that are not named are lifted. A plan that is paused since its budget was used up then goes on with
    `holdfast resume`. `holdfast undo` takes it back.
    """
    from holdfast.app import plans, tasks
    from holdfast.domain.budget import Budget

    with session.house() as house:
        plan_id = plans.find(house, plan)
        task_id = tasks.find(house, task, plan_id=plan_id) if task else None
        changed = plans.set_budget(house, plan_id, Budget(max_seconds, max_tokens, max_cost_usd), task_id=task_id)
    if session.json:
        session.document(changed)
        return 0
    shown = {"seconds": max_seconds, "tokens": max_tokens, "US dollars": max_cost_usd}
    limits = ", ".join(f"{value:g} {unit}" for unit, value in shown.items() if value is not None) or "no limit"
    session.out.print(f"the budget of {task or f'P{changed.number}'} is now: {limits}")
    return 0


@plan.verb("cancel", example="holdfast plan cancel P3 --yes")
@plan_argument
@yes_option
@dry_run_option
def cancel(session: Session, plan: str, yes: bool, dry_run: bool) -> int:
    """End a plan for good; what it made stays in its branch and checkpoints."""
    from holdfast.app import plans
    from holdfast.cli.consent import consents
    from holdfast.cli.render import count, safe
    from holdfast.domain.transitions import TASK_ENDED

    with session.house() as house:
        view = plans.show(house, plans.find(house, plan))
        plans.may_cancel(house, view.plan.id)
        left = sum(task.status not in TASK_ENDED for task in view.tasks)
        deed = f"cancel P{view.plan.number} {safe(view.plan.title)} with {count(left, 'unfinished task')}, for good"
        if not consents(session, deed, yes=yes, dry_run=dry_run):
            return 0
        plans.cancel(house, view.plan.id)
        return _requested(session, house, view.plan.id, "is cancelled as soon as what runs has been stopped")


@plan.verb("delete", example="holdfast plan delete P3 --dry-run")
@plan_argument
@yes_option
@dry_run_option
def delete(session: Session, plan: str, yes: bool, dry_run: bool) -> int:
    """Put a plan that is a draft or is over into the trash; `holdfast undo` brings it back."""
    from holdfast.app import plans, trash
    from holdfast.cli.consent import consents
    from holdfast.cli.render import safe

    with session.house() as house:
        plan_id = plans.find(house, plan, deleted=True)
        trash.may_delete(house, plan_id)
        view = plans.show(house, plan_id)
        deed = f"put P{view.plan.number} {safe(view.plan.title)} into the trash"
        if not consents(session, deed, yes=yes, dry_run=dry_run):
            return 0
        done = trash.delete(house, plan_id)
    if session.json:
        session.document({"operation": f"O{done.number}", **done.outcome})
    else:
        session.out.print(f"P{view.plan.number} is in the trash (O{done.number})")
        session.note(f"bring it back: holdfast undo O{done.number}")
    return 0


def _requested(session: Session, house: House, plan_id: str, later: str) -> int:
    """Carries a request out at once where no worker would, and tells how the plan stands then."""
    from holdfast.app import execution, plans
    from holdfast.cli.follow import settle
    from holdfast.cli.render import state_of
    from holdfast.domain.transitions import PLAN_EXECUTING

    view = plans.show(house, plan_id)
    if view.plan.status in PLAN_EXECUTING and not execution.is_worked_on(house):
        view = settle(session, house, plan_id)
    if session.json:
        session.document(view)
    elif view.plan.status in PLAN_EXECUTING:
        session.out.print(f"P{view.plan.number} {later}")
    else:
        session.out.print(state_of(view.plan))
    return 0


@plan.verb("approve", example="holdfast plan approve P3 -m 'looks right'")
@plan_argument
@comment_option
def approve(session: Session, plan: str, comment: str) -> int:
    """Approve the open gate of a plan."""
    from holdfast.cli.approval_commands import decide_gate

    return decide_gate(session, plan, approve=True, comment=comment)


@plan.verb("reject", example="holdfast plan reject P3 -m 'tests are missing'")
@plan_argument
@comment_option
def reject(session: Session, plan: str, comment: str) -> int:
    """Reject the open gate of a plan; it goes back a stage and pauses."""
    from holdfast.cli.approval_commands import decide_gate

    return decide_gate(session, plan, approve=False, comment=comment)


@plan.verb("history", example="holdfast plan history P3")
@plan_argument
@phase_option
@history_options
def history(session: Session, **typed: Any) -> int:
    """Show what happened to a plan, newest first (`holdfast timeline --plan PLAN`)."""
    return show_history(session, Wanted(**typed))


@plan.verb("checkpoints", example="holdfast plan checkpoints P3")
@plan_argument
@page_options(50)
def checkpoints(session: Session, plan: str, limit: int, cursor: str) -> int:
    """List the checkpoints of a plan and of its tasks, newest first."""
    from holdfast.app import checkpoints, plans
    from holdfast.cli.checkpoint_commands import document, labelled_table
    from holdfast.cli.render import say, show

    with session.house() as house:
        found, page = checkpoints.of_plan(house, plans.find(house, plan), limit=limit, cursor=cursor)
    if session.json:
        session.document({"items": [document(each) for each in page.items], "next_cursor": page.next_cursor})
    elif page.items:
        show(session.out, labelled_table(page.items))
        session.more(page.next_cursor)
    else:
        say(session.out, f"P{found.number} has no checkpoint yet: they are made as it runs")
    return 0


@plan.verb(
    "merge",
    example="""
    holdfast plan merge P3 --branch feature/login
    holdfast plan merge P3 --dry-run      of a project without git: the files that would be written
    """,
)
@plan_argument
@click.option("--branch", default="", metavar="NAME", help="Branch to write (default: the plan's own name).")
@click.option("--back", is_flag=True, help="Without git: take back what was written into the folder.")
@yes_option
@dry_run_option
def merge(session: Session, plan: str, branch: str, back: bool, yes: bool, dry_run: bool) -> int:
    """Write a plan's result into your repository as a branch; your checkout stays as it is.

    In a project without git it writes the files that the plan changed into your folder, after a snapshot of it, and
    refuses if you changed one of them meanwhile.
    """
    from holdfast.app import plans
    from holdfast.cli.consent import consents
    from holdfast.cli.render import safe

    with session.house() as house:
        plan_id = plans.find(house, plan)
        view = plans.show(house, plan_id)
        if not view.project.git:
            if branch:
                raise UsageError(f"{view.project.slug} is a project without git: it has no branches")
            return _merge_files(session, house, view, back=back, yes=yes, dry_run=dry_run)
        if back:
            raise UsageError("--back is for projects without git", hint="delete the branch: git branch -D NAME")
        name = plans.merge(house, plan_id, branch=branch, dry_run=dry_run)
        if dry_run:
            consents(session, f"write the branch {safe(name)} into {safe(view.project.path)}", yes=yes, dry_run=True)
            return 0
    if session.json:
        session.document({"branch": name, "repository": view.project.path})
    else:
        session.out.print(f"the branch {safe(name)} is in {safe(view.project.path)}", soft_wrap=True)
        session.note(f"take it over: git merge {safe(name)}")
    return 0


def _merge_files(session: Session, house: House, view: PlanView, *, back: bool, yes: bool, dry_run: bool) -> int:
    """Writes a plan's files into a folder without git, or takes them back; tells them first."""
    from holdfast.app import plans
    from holdfast.cli.consent import consents
    from holdfast.cli.render import count, safe

    folder, number = safe(view.project.path), view.plan.number
    wanted = plans.merge_files(house, view.plan.id, back=back, dry_run=True)
    files = count(len(wanted), "file")
    deed = f"take {files} of {folder} back" if back else f"write {files} into {folder}"
    if not session.json:
        for each in wanted:
            session.out.print(f"  {str(each.action)[0].upper()} {safe(each.path)}", soft_wrap=True)
    if dry_run and session.json:
        session.document({"dry_run": True, "would": deed, "files": [each.path for each in wanted]})
        return 0
    if not consents(session, deed, yes=yes, dry_run=dry_run):
        return 0
    written = plans.merge_files(house, view.plan.id, back=back)
    if session.json:
        session.document({"folder": view.project.path, "files": [each.path for each in written]})
        return 0
    told = f"{count(len(written), 'file')} of {folder}"
    session.out.print(f"{told}: {'as before' if back else 'written'}", soft_wrap=True)
    if written and not back:
        session.note(f"to take that back: holdfast plan merge P{number} --back")
    return 0
