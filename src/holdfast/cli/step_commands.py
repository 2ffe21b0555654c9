"""`steps` and `step …`: the runs of a project's tasks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.grammar import noun, page_options, project_option, verb
from holdfast.cli.rewind_commands import agreed, how, preserve_options, told
from holdfast.cli.session import Session, as_json, print_line

if TYPE_CHECKING:
    from holdfast.app.steps import StepDiff, StepView
    from holdfast.app.wire import House
    from holdfast.domain.plan import Project
    from holdfast.store import LogLine
    from holdfast.vcs import Diff

step = noun("step", help="Steps: show, compare, read the log, export, import.", example="holdfast step show 7")
step_argument = click.argument("number", metavar="STEP")
LOG_PAGE = 1000


@verb("steps", example="holdfast steps --plan P3 --active")
@project_option
@click.option("--plan", default="", metavar="PLAN", help="Only steps of this plan.")
@click.option("--task", default="", metavar="TASK", help="Only steps of this task.")
@click.option("--active", is_flag=True, help="Without those that were rolled back.")
@page_options(50)
def steps(session: Session, project: str, plan: str, task: str, active: bool, limit: int, cursor: str) -> int:
    """List the steps of a project, newest first."""
    from holdfast.app import plans, tasks
    from holdfast.app import steps as views
    from holdfast.cli.render import say, show, steps_table

    with session.house() as house:
        plan_id = plans.find(house, plan) if plan else None
        task_id = tasks.find(house, task, plan_id=plan_id) if task else None
        page = views.list_(
            house,
            _project(house, project, plan_id, task_id),
            plan_id=plan_id,
            task_id=task_id,
            active_only=active,
            limit=limit,
            cursor=cursor,
        )
    if session.json:
        session.document(page)
    elif page.items:
        rows = ((each.step, each.state, f"T{each.task.number} {each.task.title}") for each in page.items)
        parents = {each.step.number: each.parent for each in page.items}
        restores = {each.step.number: each.restores for each in page.items}
        show(session.out, steps_table(rows, parents=parents, restores=restores))
        session.more(page.next_cursor)
    else:
        say(session.out, "no steps")
    return 0


def _project(house: House, slug: str, plan_id: str | None = None, task_id: str | None = None) -> Project:
    """Gives the project of the plan or task where one is named, else the one of the option or folder."""
    from holdfast.app import plans, projects, tasks

    if task_id is not None:
        return tasks.show(house, task_id).project
    if plan_id is not None:
        return plans.show(house, plan_id).project
    return projects.find(house, slug, Path.cwd())


@step.verb("show", example="holdfast step show 7")
@step_argument
@project_option
def show(session: Session, number: str, project: str) -> int:
    """Show a step: its task, commits, times, usage, and the end of its output."""
    from holdfast.app import steps as views
    from holdfast.domain.usage import spent

    with session.house() as house:
        found = views.get(house, _project(house, project), views.number_in(number))
        tail = views.tail(house, found.step, 10)
    if session.json:
        shown = {"state": found.state, "step": found.step, "task": found.task, "spent": spent([found.step])}
        shown |= {"parent": found.parent, "restores": found.restores}
        session.document({**shown, "log_tail": tail})
    else:
        _show(session, found, tail)
    return 0


def _show(session: Session, found: StepView, tail: tuple[LogLine, ...]) -> None:
    from holdfast.cli.render import cost, count, facts, safe, say, seconds, show, size, tokens, when, word
    from holdfast.clock import now
    from holdfast.domain.step import worked_seconds
    from holdfast.domain.usage import spent

    step, out = found.step, session.out
    used = spent([step])
    say(out, f"step {step.number}  T{found.task.number} {safe(found.task.title)}", style="bold")
    config = "\n".join(f"{key}: {value}" for key, value in step.agent_config.items() if value not in (None, [], "", 0))
    show(
        out,
        facts(
            [
                ("  state", word(found.state)),
                ("  restores", f"step {found.restores}" if found.restores else ""),
                ("  attempt", str(step.attempt)),
                ("  branch", step.branch),
                ("  commits", f"{step.commit_before} → {step.commit_after or '…'}"),
                ("  started", when(step.started_at)),
                ("  ended", when(step.ended_at)),
                ("  took", seconds(worked_seconds(step, now()))),
                ("  idle", f"{seconds(step.idle_seconds)} more" if step.idle_seconds >= 1 else ""),
                ("  exit code", "" if step.exit_code is None else str(step.exit_code)),
                ("  failure", str(step.failure or "")),
                ("  error", step.error),
                ("  restarts", str(step.restarts or "")),
                ("  cpu", seconds(step.cpu_seconds)),
                ("  memory", size(step.peak_memory_bytes)),
                ("  tokens", tokens(used)),
                ("  cost", cost(used)),
                (
                    "  changed",
                    f"{count(step.files_changed, 'file')}, {size(step.bytes_changed)}" if step.files_changed else "",
                ),
                ("  git", _own_git(step.details.get("git"))),
                ("  run with", config),
            ]
        ),
    )
    if tail:
        say(out)
        for line in tail:
            say(out, f"  {safe(line.text)}", style="red" if line.stream == "stderr" else "")


def _own_git(told: Any) -> str:
    """Gives what the step's agent did with git itself, a line for each ref and commit."""
    from holdfast.cli.render import count, safe

    lines: list[str] = []
    for change in (told or {}).get("changes", ()):
        name, commits = safe(change["name"]), change["commits"]
        new = f": {count(len(commits), 'commit')}" if commits else ""
        match change["kind"]:
            case "made" | "deleted":
                lines.append(f"{change['kind']} {name}{new}")
            case "moved":
                lines.append(f"{name} {change['before'][:9]} → {change['after'][:9]}{new}")
            case "switched":
                lines.append(f"switched from {safe(change['before'])} to {safe(change['after'])}")
            case _:
                lines.append(f"left a {name} open")
        for each in commits:
            lines.append(f"  {each['id'][:9]} {'merge: ' if len(each['parents']) > 1 else ''}{safe(each['subject'])}")
    problem = (told or {}).get("after", {}).get("problem")
    return "\n".join([*lines, *([safe(problem)] if problem else [])])


@step.verb("diff", example="holdfast step diff 2 5")
@click.argument("first", metavar="STEP")
@click.argument("second", metavar="[STEP]", required=False, default="")
@project_option
def diff(session: Session, first: str, second: str, project: str) -> int:
    """Show what a step changed, or how the result of a second one differs from it."""
    from holdfast.app import steps as views

    with session.house() as house:
        found = _project(house, project)
        number = views.number_in(first)
        if not second:
            show_diff(session, views.changes(house, found, number))
            return 0
        compared = views.compare(house, found, number, views.number_in(second))
    if session.json:
        session.document({"fields": compared.fields, "code": compared.code.to_dict()})
    else:
        _show_comparison(session, compared, first, second)
    return 0


def _show_comparison(session: Session, compared: StepDiff, first: str, second: str) -> None:
    from holdfast.cli.render import say, show, table

    rows = [[name, *("-" if value is None else str(value) for value in pair)] for name, pair in compared.fields.items()]
    show(session.out, table(["differs in", f"step {first}", f"step {second}"], rows))
    say(session.out)
    show_diff(session, compared.code)


def show_diff(session: Session, compared: Diff) -> None:
    """Prints a diff: unified text and its totals, or its structure as JSON."""
    from holdfast.cli.render import count, diff_text, say

    if session.json:
        session.document(compared.to_dict())
        return
    if compared.files:
        session.out.print(diff_text(compared), soft_wrap=True)
    files = count(compared.files_total, "file")
    say(session.out, f"{files} changed, +{compared.additions} -{compared.deletions}", style="dim")


@step.verb("rollback", example="holdfast step rollback 7")
@step_argument
@project_option
@click.option("--keep", is_flag=True, help="To after the step, not to before it.")
@preserve_options
def rollback(session: Session, number: str, project: str, keep: bool, **options: Any) -> int:
    """Put the branch of a step back to before it; the step and the later ones on it are rolled back."""
    from holdfast.app import rewinds
    from holdfast.app import steps as views

    with session.house() as house:
        found, chosen = _project(house, project), views.number_in(number)
        how_kept = how(options["preserve"], options["branch_name"])
        preview = rewinds.preview_step(house, found, chosen, how_kept, keep=keep)
        deed = f"go back to {'after' if keep else 'before'} step {chosen}"
        if not agreed(session, deed, preview, options):
            return 0
        return told(session, rewinds.rollback_step(house, found, chosen, how_kept, keep=keep), deed)


@step.verb("replay", example="holdfast step replay 7")
@step_argument
@project_option
@click.option("--detach", is_flag=True, help="Only start it; a worker carries it out.")
def replay(session: Session, number: str, project: str, detach: bool) -> int:
    """Run a step again on a fork, from where it began and with the same agent; nothing else changes."""
    from holdfast.app import forks, history, plans
    from holdfast.app import steps as views
    from holdfast.cli.follow import work_on
    from holdfast.cli.run_commands import started

    with session.house() as house:
        since = history.last_event(house)
        made = forks.replay(house, _project(house, project), views.number_in(number))
        plan = plans.execute(house, made.plan_id)
        if detach:
            return started(session, house, plan.id)
        return work_on(session, house, [plan.id], wait=False, since=since)


@step.verb("log", example="holdfast step log 7 -f")
@step_argument
@project_option
@click.option("-f", "--follow", is_flag=True, help="Go on until the step ends.")
def log(session: Session, number: str, project: str, follow: bool) -> int:
    """Print a step's output."""
    from holdfast.app import steps as views

    with session.house() as house:
        found_project = _project(house, project)
        chosen = views.number_in(number)
        after = 0
        while True:
            found = views.get(house, found_project, chosen)
            for line in _lines(house, found, after):
                after = line.id
                _print_line(session, line)
            if not follow or found.step.ended_at is not None or not found.step.active:
                if found.restores:
                    session.note(f"step {chosen} restores what another did: holdfast step log {found.restores}")
                return 0
            time.sleep(0.1)


def _lines(house: House, found: StepView, after: int) -> Iterator[LogLine]:
    from holdfast.app import steps as views

    while lines := views.log(house, found.step, after=after, limit=LOG_PAGE):
        yield from lines
        after = lines[-1].id
        if len(lines) < LOG_PAGE:
            return


def _print_line(session: Session, line: LogLine) -> None:
    """Prints one line of output as it was; a terminal never gets its control sequences."""
    from holdfast.agents.text import strip_control

    if session.json:
        print_line(as_json(line))
        return
    text = line.text.rstrip("\n")
    print_line(strip_control(text) if sys.stdout.isatty() else text)


@step.verb("export", example="holdfast step export -o steps.jsonl")
@project_option
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="File to write; must not exist.")
def export(session: Session, project: str, output: Path | None) -> int:
    """Print all steps of a project as JSON lines, oldest first."""
    from holdfast.app import steps as views

    with session.house() as house:
        lines = views.export(house, _project(house, project))
        session.write("".join(f"{line}\n" for line in lines), output)
    return 0


@step.verb("import", example="holdfast step import steps.jsonl")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
def import_(session: Session, file: Path) -> int:
    """Add steps from JSON lines, all or none; those that are there already stay as they are."""
    from holdfast.app import steps as views
    from holdfast.cli.render import count

    with session.house() as house:
        imported = views.import_(house, session.read(file).splitlines())
    if session.json:
        session.document(imported)
    else:
        session.out.print(f"{count(imported.added, 'step')} added, {imported.present} there already")
    return 0
