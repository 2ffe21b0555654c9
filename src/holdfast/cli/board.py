"""A plan as a picture of so many lines: header, phases, tasks with what they say just now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.text import Text

from holdfast import clock
from holdfast.cli.render import cost, count, glyph, lasted, safe, seconds, style_of
from holdfast.domain.plan import Phase, Plan
from holdfast.domain.task import Task
from holdfast.domain.transitions import PLAN_EXECUTING, TASK_DONE, PhaseStatus, TaskStatus

if TYPE_CHECKING:
    from holdfast.app.plans import PlanView

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_OVER = frozenset({PhaseStatus.COMPLETED, PhaseStatus.SKIPPED, PhaseStatus.CANCELLED})


def picture(view: PlanView, *, width: int, height: int, tick: int = 0, said: Mapping[str, str] | None = None) -> Text:
    """Draws the plan in at most `height` lines of `width` columns.

    `said` holds the last line of output by task id; `tick` turns the marks of what runs. Where it does not fit, ended
    phases shrink to a line first, then those to come, then the output goes, then tasks that do nothing now.
    """
    head = header(view, tick)
    lines: list[Text] = []
    for level in range(5):
        lines = [*head, *_phases(view, tick, said or {}, level)]
        if len(lines) <= height:
            break
    if len(lines) > height:
        hidden = len(lines) - max(1, height - 1)
        lines = [*lines[: max(1, height - 1)], Text(f"  … {hidden} more", style="dim")]
    for line in lines:
        line.truncate(max(10, width - 1), overflow="ellipsis")
    return Text("\n").join(lines)


def header(view: PlanView, tick: int = 0) -> list[Text]:
    """Gives the two lines that tell which plan this is and how it stands."""
    plan = view.plan
    title = Text(f"P{plan.number} ", style="bold")
    title.append(safe(plan.title), style="bold")
    state = _mark(str(plan.status), tick, moving=plan.status in PLAN_EXECUTING)
    state.append(f" {str(plan.status).replace('_', ' ')}", style=style_of(plan.status))
    if plan.pause_reason is not None:
        state.append(f" ({str(plan.pause_reason).replace('_', ' ')})", style=style_of(plan.status))
    if plan.stop is not None:
        state.append(f" · pausing ({plan.stop})", style="yellow")
    if plan.cancel_requested and plan.status in PLAN_EXECUTING:
        state.append(" · cancelling", style="yellow")
    done = sum(task.status in TASK_DONE for task in view.tasks)
    parts = [
        str(plan.stage).replace("_", " "),
        seconds(lasted(plan.started_at, plan.ended_at)),
        f"{done}/{count(len(view.tasks), 'task')}",
        _usage(view),
    ]
    state.append("".join(f" · {part}" for part in parts if part), style="dim")
    return [title, state]


def _usage(view: PlanView) -> str:
    usage, limit = view.usage, view.plan.budget
    shown = [f"work {seconds(usage.seconds)}" + (f" of {seconds(limit.max_seconds)}" if limit.max_seconds else "")]
    if usage.tokens:
        shown.append(f"{usage.tokens:,} tokens" + (f" of {limit.max_tokens:,}" if limit.max_tokens else ""))
    if paid := cost(view.spent):
        of = f" of {limit.max_cost_usd:.2f}" if limit.max_cost_usd else ""
        shown.append(f"{'cost ' if view.spent.cost_usd is None else ''}{paid}{of}")
    return " · ".join(shown) if usage.seconds else ""


def _phases(view: PlanView, tick: int, said: Mapping[str, str], level: int) -> list[Text]:
    lines: list[Text] = []
    for phase in view.phases:
        tasks = [task for task in view.tasks if task.phase_id == phase.id]
        lines.append(_phase(phase, tasks, tick))
        shut = (level >= 1 and phase.status in _OVER) or (level >= 2 and phase.status is PhaseStatus.PENDING)
        if shut:
            continue
        for task in tasks:
            if level >= 4 and task.status in (TaskStatus.PENDING, TaskStatus.COMPLETED, TaskStatus.SKIPPED):
                continue
            lines.append(_task(view.plan, task, tick))
            if level < 3:
                lines += _said(task, said)
    return lines


def _phase(phase: Phase, tasks: list[Task], tick: int) -> Text:
    line = Text(" ")
    line.append_text(_mark(str(phase.status), tick, moving=phase.status is PhaseStatus.RUNNING))
    line.append(f" {safe(phase.title)}", style="bold")
    line.append(f"  {phase.mode}", style="dim")
    if phase.status is not PhaseStatus.RUNNING:
        counts = Counter(str(task.status) for task in tasks)
        line.append(f"  {', '.join(f'{n} {state}' for state, n in counts.items())}", style="dim")
    return line


def _task(plan: Plan, task: Task, tick: int) -> Text:
    moving = task.status is TaskStatus.RUNNING and plan.status in PLAN_EXECUTING
    line = Text("   ")
    line.append_text(_mark(str(task.status), tick, moving=moving))
    line.append(f" T{task.number} ", style="dim")
    line.append(safe(task.title), style=style_of(task.status) if task.status is TaskStatus.FAILED else "")
    if task.status not in (TaskStatus.PENDING, TaskStatus.COMPLETED):
        line.append(f"  {str(task.status).replace('_', ' ')}", style=style_of(task.status))
    if task.attempt > 1:
        line.append(f"  attempt {task.attempt}/{task.max_attempts}", style="yellow")
    if task.status is TaskStatus.RETRYING and task.retry_at is not None:
        wait = (task.retry_at - clock.now()).total_seconds()
        line.append(f"  again in {seconds(max(0.0, wait))}", style="yellow")
    elif task.started_at is not None and task.status is not TaskStatus.PENDING:
        line.append(f"  {seconds(lasted(task.started_at, task.ended_at))}", style="dim")
    return line


def _said(task: Task, said: Mapping[str, str]) -> list[Text]:
    if task.status is TaskStatus.FAILED and task.error:
        return [Text(f"       {safe(task.error.strip().splitlines()[0])}", style="red")]
    last = said.get(task.id, "")
    if task.status is TaskStatus.RUNNING and last:
        return [Text(f"       {safe(last)[:500]}", style="dim italic")]
    return []


def _mark(state: str, tick: int, *, moving: bool) -> Text:
    if not moving or state == "waiting":
        return glyph(state)
    return Text(SPINNER[tick % len(SPINNER)], style=style_of(state))
