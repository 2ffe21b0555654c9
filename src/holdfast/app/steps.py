"""Views of steps, and their export and import as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from holdfast.app import tasks
from holdfast.app.wire import House
from holdfast.domain.plan import Project
from holdfast.domain.restore import origin
from holdfast.domain.step import Step, state, worked_seconds
from holdfast.domain.task import Task
from holdfast.errors import IllegalState, NotFound
from holdfast.store import Connection, Imported, LogLine, Page, logs, step_lines, steps
from holdfast.store import tasks as task_rows
from holdfast.vcs import Diff


@dataclass(frozen=True, slots=True)
class StepView:
    """A step with its task, the state that follows from its fields, and the number of the step that it came after.

    `restores` is the number of the step whose work it brought back.
    """

    step: Step
    state: str
    task: Task
    parent: int | None = None
    restores: int | None = None


@dataclass(frozen=True, slots=True)
class StepDiff:
    """Two steps side by side: the code after each, and the fields in which they differ as (first, second)."""

    code: Diff
    fields: Mapping[str, tuple[object, object]]


def list_(
    house: House,
    project: Project,
    *,
    plan_id: str | None = None,
    task_id: str | None = None,
    active_only: bool = False,
    limit: int = 50,
    cursor: str = "",
) -> Page[StepView]:
    """Gives a page of a project's steps, newest first."""
    with house.database.read() as connection:
        found = steps.list_(
            connection,
            project_id=project.id,
            plan_id=plan_id,
            task_id=task_id,
            active=True if active_only else None,
            limit=limit,
            cursor=cursor or None,
        )
        return Page(_views(connection, found.items), found.next_cursor)


def _views(connection: Connection, found: Sequence[Step]) -> tuple[StepView, ...]:
    named = {step.parent_step_id or "" for step in found} | {origin(step) for step in found}
    numbers = steps.numbers(connection, list(named))
    return tuple(
        StepView(
            step,
            state(step),
            task_rows.get(connection, step.task_id),
            numbers.get(step.parent_step_id or ""),
            numbers.get(origin(step)) if origin(step) != step.id else None,
        )
        for step in found
    )


def get(house: House, project: Project, number: int) -> StepView:
    with house.database.read() as connection:
        return _views(connection, [steps.get(connection, project.id, number)])[0]


def changes(house: House, project: Project, number: int) -> Diff:
    """Gives what one step changed in the code."""
    step = get(house, project, number).step
    return tasks.compare(house, project, step.commit_before, step.commit_after or step.commit_before)


def compare(house: House, project: Project, first: int, second: int) -> StepDiff:
    """Gives how the code after step `second` differs from that after step `first`, and how the steps themselves do."""
    seen = get(house, project, first), get(house, project, second)
    one, two = (each.step for each in seen)
    for step in (one, two):
        if step.commit_after is None:
            raise IllegalState(f"step {step.number} has not ended yet", hint="wait for it: holdfast watch")
    code = tasks.compare(house, project, one.commit_after or "", two.commit_after or "")
    names = ("attempt", "branch", "exit_code", "cpu_seconds", "peak_memory_bytes", "tokens", "cost_usd")
    tasks_of = tuple(f"T{each.task.number} {each.task.key}" for each in seen)
    fields: dict[str, tuple[object, object]] = (
        {"task": (tasks_of[0], tasks_of[1])} if one.task_id != two.task_id else {}
    )
    fields |= {
        name: (getattr(one, name), getattr(two, name)) for name in names if getattr(one, name) != getattr(two, name)
    }
    for key in sorted({*one.agent_config, *two.agent_config}):
        pair = (one.agent_config.get(key), two.agent_config.get(key))
        if pair[0] != pair[1]:
            fields[f"agent_config.{key}"] = pair
    seconds = tuple(worked_seconds(each, each.ended_at) if each.ended_at else None for each in (one, two))
    fields["seconds"] = (seconds[0], seconds[1])
    return StepDiff(code, fields)


def log(house: House, step: Step, *, after: int = 0, limit: int = 1000) -> tuple[LogLine, ...]:
    """Gives lines of a step's output in their order, those after the id `after`."""
    with house.database.read() as connection:
        return tuple(logs.list_(connection, step.id, after=after, limit=limit).items)


def tail(house: House, step: Step, lines: int) -> tuple[LogLine, ...]:
    """Gives the last lines of a step's output, in their order."""
    with house.database.read() as connection:
        return logs.tail(connection, step.id, lines)


def last_lines(house: House, of: Iterable[Step]) -> Mapping[str, str]:
    """Gives the last line that is not blank of each of these steps that runs, by task id."""
    with house.database.read() as connection:
        found = {step.task_id: logs.tail(connection, step.id, 5) for step in of if step.ended_at is None}
    return {
        task_id: next((line.text for line in reversed(lines) if line.text.strip()), "")
        for task_id, lines in found.items()
    }


def export(house: House, project: Project) -> Iterator[str]:
    """Gives every step of a project as one line of JSON each, oldest first."""
    with house.database.read() as connection:
        yield from step_lines.export_jsonl(connection, project.id)


def import_(house: House, lines: Iterable[str]) -> Imported:
    """Adds steps from JSON lines, all or none; one that is there already stays as it is."""
    with house.database.transaction() as connection:
        return step_lines.import_jsonl(connection, lines, actor=house.actor)


def number_in(reference: str) -> int:
    """Gives the number of a step that a person wrote as `7` or `step 7`."""
    text = reference.lower().removeprefix("step").strip(" #")
    if not text.isdecimal():
        raise NotFound(f"{reference!r} is not a step number", hint="list them: holdfast steps")
    return int(text)
