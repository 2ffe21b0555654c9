"""What a plan came to, and what a person may do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from holdfast.app import execution, plans, races, tasks
from holdfast.app.plans import PlanView
from holdfast.app.wire import House
from holdfast.cli import board
from holdfast.cli.render import block, count, facts, lasted, safe, say, seconds, show
from holdfast.cli.session import Session, as_json, print_line
from holdfast.domain.budget import reached
from holdfast.domain.task import FailureKind, Task
from holdfast.domain.transitions import TASK_DONE, PauseReason, PlanStatus, TaskStatus

if TYPE_CHECKING:
    from holdfast.vcs import Diff

ERROR_LINES = 6
# How a shell says that there is no such program.
NO_SUCH_PROGRAM = 127
# Which of several exit codes tells the most.
_WEIGHT = (
    execution.EXIT_OK,
    execution.EXIT_RUNNING,
    execution.EXIT_WAITS,
    execution.EXIT_BUDGET,
    execution.EXIT_PLAN_FAILED,
    execution.EXIT_INTERRUPTED,
)


def worst(views: Sequence[PlanView]) -> int:
    """Gives the one exit code of several plans."""
    return max((execution.exit_code(view.plan) for view in views), key=_WEIGHT.index, default=execution.EXIT_OK)


def tell(session: Session, house: House, view: PlanView) -> None:
    """Prints how the plan stands: a board and a summary for people, a last line of JSON for programs."""
    if session.json:
        print_line(as_json({"result": view, "exit_code": execution.exit_code(view.plan)}))
        return
    out = session.out
    if session.live:
        out.print(board.picture(view, width=out.width, height=10_000))
    else:
        for line in board.header(view):
            out.print(line, soft_wrap=True)
    changed = plans.changes(house, view.plan.id) if view.plan.run and not _forked(house, view) else None
    show(out, facts(_figures(view, changed)))
    for task in view.tasks:
        if task.status is TaskStatus.FAILED:
            _failed(session, view, task)
    if view.plan.error and not any(task.status is TaskStatus.FAILED for task in view.tasks):
        say(out, f"  {view.plan.error.strip()}", style="red")
    for line in advice(house, view):
        say(out, line)


def _figures(view: PlanView, changed: Diff | None) -> list[tuple[str, str | Text]]:
    plan = view.plan
    restarts = sum(step.restarts for step in view.steps)
    steps = ", ".join(
        part
        for part in (
            count(len(view.steps), "step"),
            f"{restarts} restarted" if restarts else "",
            f"{seconds(lasted(plan.started_at, plan.ended_at))} in all" if plan.started_at else "",
        )
        if part
    )
    rows: list[tuple[str, str | Text]] = [("  steps", steps)]
    if changed is not None:
        files = count(changed.files_total, "file")
        rows.append(("  changed", f"{files}, +{changed.additions} -{changed.deletions} lines"))
        rows.append(("  branch", plan.branch))
    return rows


def _failed(session: Session, view: PlanView, task: Task) -> None:
    say(session.out, f"  ✗ T{task.number} {safe(task.title)} failed ({task.failure or 'exit'})", style="red")
    lines = block(task.error).strip().splitlines()
    if len(lines) > ERROR_LINES:
        lines = [lines[0], "…", *lines[-ERROR_LINES:]]
    for line in lines:
        say(session.out, f"      {line}")
    newest = max((step for step in view.steps if step.task_id == task.id), key=lambda step: step.number, default=None)
    if newest is not None and task.failure is not FailureKind.MERGE_CONFLICT:
        say(session.out, f"      all of it: holdfast step log {newest.number}", style="dim")
        not_there = newest.exit_code == NO_SUCH_PROGRAM or task.failure is FailureKind.START
        if not_there and newest.agent_config.get("sandbox", "none") != "none":
            shown = "name the folder of yours: HOLDFAST_SANDBOX_READABLE (docs/sandbox.md)"
            say(session.out, f"      its sandbox shows the system's programs only; {shown}", style="yellow")


def advice(house: House, view: PlanView) -> list[str]:
    """Gives the commands that lead on from where the plan stands."""
    plan, name = view.plan, f"P{view.plan.number}"
    match plan.status:
        case PlanStatus.COMPLETED if task := races.raced(house, view):
            return [_pick(task)]
        case PlanStatus.COMPLETED if forked := _forked(house, view):
            return _of_fork(view, forked)
        case PlanStatus.COMPLETED:
            written = (
                f"the branch {plan.branch} into your repository" if view.project.git else "its files into your folder"
            )
            return [f"take the result:  holdfast plan merge {name}   (writes {written})"]
        case PlanStatus.WAITING:
            return [
                *(f"A{gate.number} waits for you: {safe(gate.title)}" for gate in view.gates),
                *(
                    f"decide:  holdfast approve A{gate.number}   or   holdfast reject A{gate.number}"
                    for gate in view.gates
                ),
                f"then:  holdfast resume {name}",
            ]
        case PlanStatus.PAUSED if (task := races.raced(house, view)) and _some_completed(view):
            return [_pick(task), *_after_pause(house, view, name)]
        case PlanStatus.PAUSED:
            return _after_pause(house, view, name)
        case PlanStatus.FAILED:
            return [f"try again:  holdfast resume {name}"]
        case PlanStatus.RUNNING:
            return [f"it goes on:  holdfast watch {name}"]
        case PlanStatus.DRAFT:
            return [f"start it:  holdfast plan execute {name}"]
        case PlanStatus.CANCELLED:
            return []


def _forked(house: House, view: PlanView) -> Task | None:
    return plans.fork_of(house, view.plan, view.project, view.tasks)


def _of_fork(view: PlanView, forked: Task) -> list[str]:
    task, original = f"T{forked.number}", forked.fork_point.partition("@")[0]
    return [
        f"look at what it did:  holdfast task diff {task}",
        *([f"make it a branch of yours:  holdfast task branch {task} --at latest NAME"] if view.project.git else []),
        *([f"compare, and take one as its result:  holdfast task race {original}"] if original[0] == "T" else []),
    ]


def _pick(task: Task) -> str:
    race = f"holdfast task race T{task.number}"
    if task.status not in races.RACED:
        return f"the race is over: T{task.number} is {task.status}"
    return f"compare them:  {race}   then take one:  {race} --pick N"


def _some_completed(view: PlanView) -> bool:
    return any(task.status is TaskStatus.COMPLETED for task in view.tasks)


def _raise_budget(house: House, view: PlanView) -> str:
    """Gives the command that raises the limit that is used up and keeps the others, empty where none is (any more)."""
    name = f"holdfast plan budget P{view.plan.number}"
    begun = (task for task in view.tasks if task.attempt and task.status not in TASK_DONE)
    of_tasks = ((f"{name} --task T{task.number}", task.budget, tasks.used(house, task.id)) for task in begun)
    for command, budget, used in ((name, view.plan.budget, view.usage), *of_tasks):
        if spent := reached(budget, used).partition(":")[0]:
            limits = {**asdict(budget), spent: "…"}
            given = (f"--{name.replace('_', '-')} {value}" for name, value in limits.items() if value is not None)
            return " ".join((command, *given))
    return ""


def _after_pause(house: House, view: PlanView, name: str) -> list[str]:
    resume = f"holdfast resume {name}"
    match view.plan.pause_reason:
        case PauseReason.TASK_FAILED:
            failed = [f"T{task.number}" for task in view.tasks if task.status is TaskStatus.FAILED]
            first = failed[0] if failed else "T…"
            others = f"   (so with {', '.join(failed[1:])})" if failed[1:] else ""
            return [
                f"try again:  holdfast task retry {first}   then   {resume}{others}",
                f"or leave it out:  holdfast task skip {first}",
                f"or put it right by hand in its worktree (task show {first}):  holdfast task complete {first}",
            ]
        case PauseReason.BUDGET:
            if more := _raise_budget(house, view):
                return ["its budget is used up", f"give it more:  {more}   then   {resume}"]
            return [f"go on:  {resume}"]
        case PauseReason.PHASE_COMPLETE:
            return [f"a phase is done and the plan pauses after it; look, then go on:  {resume}"]
        case PauseReason.APPROVAL:
            return [f"it was sent back; change it:  holdfast plan edit {name}   then go on:  {resume}"]
        case PauseReason.DEADLOCK:
            return [f"nothing can run: look at what failed or was cancelled:  holdfast status {name}"]
        case _:
            return [f"go on:  {resume}"]
