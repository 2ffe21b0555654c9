"""What a plan's supervisor is told: the plan as it stands, what was said before, and what it is asked now.

The supervisor knows a plan and answers for it, and never edits the code. What agents, commands and people said is
quoted line by line, so that it reads as a report.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from holdfast.domain.conversation import Message, ToolUsed
from holdfast.domain.plan import Phase, Plan
from holdfast.domain.prompt import REPORT_CHARACTERS, quoted, record, shortened
from holdfast.domain.task import Task
from holdfast.domain.token import Tool

SERVER = "holdfast"
TOLD_TASKS = 200
TOLD_ERROR_CHARACTERS = 300
GO_ON = "You were interrupted before you had finished your answer. Go on with it from where you were."

# What is asked of it in words may change the plan; nothing else may.
_MAY_CHANGE = frozenset({"edit", "delete", "move", "execute"})

_ROLE = """\
You are the supervisor of a plan of coding-agent work in Holdfast, which runs plans durably. Each task of it is done by
another agent, or by a command, in a worktree of its own; you know the plan as a whole, answer for it and keep it good.
You never change the code."""
_BY_TOOLS = """\
The current folder is a copy of the files on the plan's branch, for you to read; nothing that you would write there is
kept. You reach the plan through the tools of the MCP server `holdfast`: plan_get and history show it as it is now,
task_add and task_update change it, report_progress and ask_person speak to people. Change the plan only where you are
asked to."""
_BY_WORDS = "You have no tools: answer from what you are told here, and say so where that is not enough."

_REVIEW = """\
It is a review of the plan's result. retry_task has the result as it is reviewed again, skip_task takes it as it is. \
Work that you add, to the review's phase or in a phase after it, is done first; then the result is reviewed again."""


class Means(StrEnum):
    """What a supervisor works with: an agent has tools, a model has words alone."""

    TOOLS = "tools"
    WORDS = "words"


def first_prompt(
    plan: Plan, phases: Sequence[Phase], tasks: Sequence[Task], said: Sequence[Message], asked: str, means: Means
) -> str:
    """Gives the prompt of a session that knows nothing yet; `said` is the conversation before, oldest first."""
    parts = [_ROLE, _BY_TOOLS if means is Means.TOOLS else _BY_WORDS, standing(plan, phases, tasks)]
    if said:
        parts.append("This is the record of what you were asked and what you said before.\n\n" + record(said))
    return "\n\n".join([*parts, f"You are asked now:\n\n{asked.strip()}"]) + "\n"


def next_prompt(plan: Plan, phases: Sequence[Phase], tasks: Sequence[Task], asked: str) -> str:
    """Gives the prompt of a session that knows the conversation: what may have changed meanwhile, and the question."""
    return f"{standing(plan, phases, tasks)}\n\nYou are asked now:\n\n{asked.strip()}\n"


def standing(plan: Plan, phases: Sequence[Phase], tasks: Sequence[Task]) -> str:
    """Gives the plan as it stands, in a line per phase and task."""
    lines = [f"The plan P{plan.number} “{plan.title}” is {plan.status}, at the stage {_words(plan.stage)}."]
    if plan.description.strip():
        lines.append(f"Its aim:\n{quoted(plan.description.strip())}")
    if plan.error:
        lines.append(f"Why it stands:\n{quoted(shortened(plan.error, TOLD_ERROR_CHARACTERS))}")
    shown = 0
    for phase in sorted(phases, key=lambda each: each.position):
        lines.append(f"Phase “{phase.title}” ({phase.mode}): {phase.status}")
        for task in sorted((each for each in tasks if each.phase_id == phase.id), key=lambda each: each.position):
            shown += 1
            if shown <= TOLD_TASKS:
                lines.append(_task(task))
    if shown > TOLD_TASKS:
        lines.append(f"[{shown - TOLD_TASKS} more tasks are left out]")
    return "\n".join(lines)


def _task(task: Task) -> str:
    line = f"- T{task.number} `{task.key}` {task.title}: {_words(task.status)}"
    if not task.error.strip():
        return line
    return f"{line}\n{quoted(shortened(task.error.strip(), TOLD_ERROR_CHARACTERS))}"


def _words(state: StrEnum) -> str:
    return str(state).replace("_", " ")


def is_own_tool(call: ToolUsed) -> bool:
    """Tells whether a call that an agent asks about is one of Holdfast's own tools: agents name them differently."""
    if (call.kind or "other") in _MAY_CHANGE:
        return False
    title = (call.title or "").lower()
    server = str((call.input or {}).get("server", "")).lower()
    return SERVER in (title if SERVER in title else server) and any(tool in title for tool in Tool)


def what_now(failed: Sequence[Task]) -> str:
    """Gives the question about tasks that failed for good, as the conversation shows it."""
    named = ", ".join(f"T{task.number} {task.key}" for task in failed)
    return f"{named} failed for good. What shall be done?"


def failure(task: Task, said: str) -> str:
    """Gives what is known of a task that failed for good; `said` is what its agent said last."""
    lines = [f"The task `{task.key}` (T{task.number}, {task.title}) failed in attempt {task.attempt}: {task.failure}."]
    if task.error.strip():
        lines.append(quoted(shortened(task.error.strip(), REPORT_CHARACTERS)))
    if task.read_only:
        lines.append(_REVIEW)
    if said:
        lines += ["Its agent said at the end:", quoted(shortened(said, REPORT_CHARACTERS))]
    return "\n".join(lines)
