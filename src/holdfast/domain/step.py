"""Steps: one run of one attempt of a task each, numbered per project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from holdfast.domain.task import Executor, FailureKind, Task

# What a step says of the checkpoint of its task that it began at, and of what was asked of the task then.
BEGAN_AT = "began_at"
ASKED = "asked"


class StepState(StrEnum):
    """What a step's fields say of it; no column holds it."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Step:
    """One run. `number` is 1, 2, 3 … in its project and never reused; `active` only ever goes from true to false.

    `commit_after` equals `commit_before` where the task changed nothing. Times are UTC, `cpu_seconds` user + system,
    `peak_memory_bytes` the largest resident set of one of its processes; in `idle_seconds` it could not go on: its
    agent waited for a person, or no worker lived and what it ran was gone.
    """

    id: str
    number: int
    project_id: str
    plan_id: str
    task_id: str
    parent_step_id: str | None
    attempt: int
    run: int
    active: bool
    branch: str
    commit_before: str
    commit_after: str | None
    agent_config: Mapping[str, object]
    started_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    interrupted: bool = False
    failure: FailureKind | None = None
    error: str = ""
    restarts: int = 0
    idle_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    files_changed: int = 0
    bytes_changed: int = 0
    details: Mapping[str, object] = field(default_factory=dict[str, object])


def asked(task: Task, context: str, configuration: Mapping[str, object]) -> dict[str, object]:
    """Gives what was asked of a task, as far as the configuration of its step does not say it."""
    told = {"title": task.title, "instructions": task.instructions, "context": context}
    told |= {"command": task.command, "verify": list(task.verify)}
    return {name: value for name, value in told.items() if value and configuration.get(name) != value}


def as_asked(task: Task, step: Step) -> tuple[Task, str]:
    """Gives the task as it was when a step of it ran, and what a person had added for its agent."""
    then = cast("Mapping[str, Any]", {**step.agent_config, **cast("Mapping[str, Any]", step.details.get(ASKED) or {})})
    was = replace(
        task,
        title=then.get("title", task.title),
        instructions=then.get("instructions", task.instructions),
        command=then.get("command", "") if task.executor is Executor.COMMAND else "",
        verify=tuple(then.get("verify", ())),
        timeout_seconds=then.get("timeout_seconds") or None,
    )
    return was, then.get("context", "")


def state(step: Step) -> StepState:
    """Gives the state that follows from the step's fields (design section 3)."""
    if not step.active:
        return StepState.ROLLED_BACK
    if step.interrupted:
        return StepState.INTERRUPTED
    if step.ended_at is None:
        return StepState.RUNNING
    return StepState.COMPLETED if step.exit_code == 0 else StepState.FAILED


def worked_seconds(step: Step, now: datetime) -> float:
    """Gives the wall seconds of a step up to `now` without those in which nothing of it could go on."""
    return worked_between(step.started_at, step.ended_at or now, step.idle_seconds)


def worked_between(start: datetime, end: datetime, idle_seconds: float) -> float:
    """Gives the seconds between two moments without the idle ones; none where the clock was set back."""
    return max(0.0, (end - start).total_seconds() - idle_seconds)


def parent_of_next(steps: Sequence[Step], branch: str) -> str | None:
    """Gives the id of the newest active step on `branch`, else of the newest active one of the project, else None."""
    active = sorted((step for step in steps if step.active), key=lambda step: step.number, reverse=True)
    on_branch = next((step for step in active if step.branch == branch), None)
    chosen = on_branch or next(iter(active), None)
    return chosen.id if chosen else None
