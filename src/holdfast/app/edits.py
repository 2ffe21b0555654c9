"""Edits of a plan that exists, also while it runs. All of them are one: the plan file as it is becomes another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from holdfast.app import projects
from holdfast.app.wire import House
from holdfast.domain.edits import Outline
from holdfast.domain.planfile import PlanFile, read_values, values
from holdfast.domain.task import Task
from holdfast.domain.words import slug
from holdfast.engine import editing
from holdfast.engine.editing import Edited, Make, file_of, rendered
from holdfast.errors import IllegalState, NotFound, UsageError
from holdfast.store import Page, iterations, plans, tasks
from holdfast.store import edits as edit_rows
from holdfast.store import projects as project_rows
from holdfast.store.iterations import Iteration

Fields = Mapping[str, Any]
"""Values under the keys of a plan file, e.g. {"title": …, "timeout": "15m"}; None takes one away."""


def text(house: House, plan_id: str) -> str:
    """Gives the plan as a plan file to be edited: each task with its key, by which it stays the same task."""
    with house.database.read() as connection:
        return rendered(edit_rows.outline(connection, plans.get(connection, plan_id)))


def history(house: House, plan_id: str, *, limit: int = 50, cursor: str = "") -> Page[Iteration]:
    """Gives a page of the edits of a plan, newest first."""
    with house.database.read() as connection:
        return iterations.list_(connection, plan_id, limit=limit, cursor=cursor or None)


def apply_file(
    house: House, plan_id: str, file: PlanFile, *, since: str | None = None, dry_run: bool = False
) -> Edited:
    """Makes the plan what `file` says. With `since`, the text that was edited, only if nobody changed it meanwhile."""

    def make(now: Outline) -> tuple[PlanFile, Mapping[str, str]]:
        if since is not None and rendered(now) != since:
            raise IllegalState(
                f"P{now.plan.number} was changed by somebody else meanwhile",
                hint=f"look: holdfast plan history P{now.plan.number}",
                code="changed_meanwhile",
            )
        return file, {}

    return _edit(house, plan_id, "plan edit", make, base=file.base, dry_run=dry_run)


def edit_plan(house: House, plan_id: str, fields: Fields, *, dry_run: bool = False) -> Edited:
    """Changes what the plan says of itself; `variables` are merged into those that there are."""

    def change(whole: dict[str, Any], _: Outline) -> None:
        given = dict(fields)
        if isinstance(given.get("variables"), Mapping):
            given["variables"] = {**whole.get("variables", {}), **given["variables"]}
        whole.update(given)

    return _change(house, plan_id, "plan edit", change, base=str(fields.get("base") or ""), dry_run=dry_run)


def add_phase(
    house: House, plan_id: str, fields: Fields, *, position: int | None = None, dry_run: bool = False
) -> Edited:
    """Adds a phase with its `tasks` (at least one) to the plan, at its end or at `position` (1 = the first)."""

    def change(whole: dict[str, Any], now: Outline) -> None:
        for task in fields.get("tasks", ()):
            _refuse_key(now, task)
        _insert(whole["phases"], fields, position)

    return _change(house, plan_id, "phase add", change, dry_run=dry_run)


def edit_phase(
    house: House, plan_id: str, phase: str, fields: Fields, *, position: int | None = None, dry_run: bool = False
) -> Edited:
    """Changes a phase that has not started, or its place among those that have not."""

    def change(whole: dict[str, Any], now: Outline) -> None:
        index = _phase_index(now, phase)
        edited = {**whole["phases"].pop(index), **fields}
        _insert(whole["phases"], edited, index + 1 if position is None else position)

    return _change(house, plan_id, "phase edit", change, dry_run=dry_run)


def remove_phase(house: House, plan_id: str, phase: str, *, dry_run: bool = False) -> Edited:
    """Removes a phase with its tasks; none of it may have run, and no task elsewhere may depend on one of them."""

    def change(whole: dict[str, Any], now: Outline) -> None:
        index = _phase_index(now, phase)
        _refuse_needed(now, now.tasks_in(now.phases[index].id))
        if len(now.phases) == 1:
            raise IllegalState(f"it is the only phase of P{now.plan.number}", hint="add another one first")
        del whole["phases"][index]

    return _change(house, plan_id, "phase rm", change, dry_run=dry_run)


def add_task(
    house: House, plan_id: str, fields: Fields, *, phase: str = "", position: int | None = None, dry_run: bool = False
) -> Edited:
    """Adds a task to a phase (default: the last one), at its end or at `position` (1 = the first)."""

    def change(whole: dict[str, Any], now: Outline) -> None:
        _refuse_key(now, fields)
        index = _phase_index(now, phase) if phase else len(now.phases) - 1
        _insert(whole["phases"][index]["tasks"], fields, position)

    return _change(house, plan_id, "task add", change, dry_run=dry_run)


def edit_task(
    house: House, task_id: str, fields: Fields, *, phase: str = "", position: int | None = None, dry_run: bool = False
) -> Edited:
    """Changes a task that has not started, or moves it to another phase or place."""
    task = _task(house, task_id)
    key = str(fields.get("key") or task.key)
    renamed = {key: task.key} if key != task.key else {}

    def change(whole: dict[str, Any], now: Outline) -> None:
        if renamed:
            _refuse_key(now, fields)
        source, place = _place(now, task_id)
        edited = _with_executor(whole["phases"][source]["tasks"].pop(place), fields)
        target = _phase_index(now, phase) if phase else source
        stays = target == source and position is None
        _insert(whole["phases"][target]["tasks"], edited, place + 1 if stays else position)
        for other in (each for of in whole["phases"] for each in of["tasks"] if renamed):
            other["depends_on"] = [key if each == task.key else each for each in other.get("depends_on", ())]

    return _change(house, task.plan_id, "task edit", change, renamed=renamed, dry_run=dry_run)


def remove_task(house: House, task_id: str, *, dry_run: bool = False) -> Edited:
    """Removes a task that has never run and that no other depends on."""
    task = _task(house, task_id)

    def change(whole: dict[str, Any], now: Outline) -> None:
        source, place = _place(now, task_id)
        _refuse_needed(now, (task,))
        phase = now.phases[source]
        if len(now.tasks_in(phase.id)) == 1:
            raise IllegalState(
                f"T{task.number} {task.key} is the only task of the phase {phase.title!r}",
                hint=f"remove the phase: holdfast phase rm P{now.plan.number} {phase.position + 1}",
            )
        del whole["phases"][source]["tasks"][place]

    return _change(house, task.plan_id, "task rm", change, dry_run=dry_run)


def revise(
    house: House,
    plan_id: str,
    change: Callable[[PlanFile], PlanFile],
    *,
    kind: str,
    told: Mapping[str, object],
    renamed: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> Edited:
    """Makes the plan what `change` makes of it as it is at that moment; the result is read by the rules of a file.

    The iteration is of that kind and keeps what is `told` beside what every edit keeps. `renamed` holds the present
    key of each task that gets a new one.
    """

    make = editing.changed(change, renamed or {})
    return _edit(house, plan_id, f"plan {kind}", make, base="", dry_run=dry_run, kind=kind, told=told)


def _change(
    house: House,
    plan_id: str,
    by: str,
    change: Callable[[dict[str, Any], Outline], None],
    *,
    base: str = "",
    renamed: Mapping[str, str] | None = None,
    dry_run: bool,
) -> Edited:
    """Edits a plan by changing the values of its plan file; they are read again by the rules of a file."""

    def make(now: Outline) -> tuple[PlanFile, Mapping[str, str]]:
        whole = values(file_of(now))
        change(whole, now)
        return read_values(_without_none(whole)), renamed or {}

    return _edit(house, plan_id, by, make, base=base, dry_run=dry_run)


def _edit(
    house: House,
    plan_id: str,
    by: str,
    make: Make,
    *,
    base: str,
    dry_run: bool,
    kind: str = "edit",
    told: Mapping[str, object] | None = None,
) -> Edited:
    commit = _commit(house, plan_id, base) if base else ""
    if dry_run:
        with house.database.read() as connection:
            now = edit_rows.outline(connection, plans.get(connection, plan_id))
            return editing.decided(now, make, commit)[0]
    with house.database.transaction() as connection:
        plan, given = plans.lock(connection, plan_id), {"by": by, **(told or {})}
        return editing.write(
            connection, plan, make, kind, given, actor=house.actor, wake=house.wake, base_commit=commit
        )


def _commit(house: House, plan_id: str, base: str) -> str:
    with house.database.read() as connection:
        project = project_rows.get(connection, plans.get(connection, plan_id).project_id)
    return projects.start_commit(house, project, base)


def _task(house: House, task_id: str) -> Task:
    with house.database.read() as connection:
        return tasks.get(connection, task_id)


def _without_none(whole: Any) -> Any:
    if isinstance(whole, dict):
        items = cast("dict[str, Any]", whole).items()
        return {key: _without_none(value) for key, value in items if value is not None}
    return [_without_none(item) for item in cast("list[Any]", whole)] if isinstance(whole, list) else whole


def _insert(into: list[Any], item: Fields, position: int | None) -> None:
    """Puts an item at its place, counted from 1; at the end without one."""
    if position is not None and not 1 <= position <= len(into) + 1:
        raise UsageError(f"there is no position {position}", hint=f"1 to {len(into) + 1}")
    into.insert(len(into) if position is None else position - 1, dict(item))


def _with_executor(task: Fields, fields: Fields) -> Fields:
    """Gives the task with new fields; a command takes the place of instructions and agent, and they of a command."""
    gone = ["instructions", "agent"] if fields.get("run") else ["run"] if fields.get("instructions") else []
    return {**{key: value for key, value in task.items() if key not in gone}, **fields}


def _phase_index(now: Outline, reference: str) -> int:
    """Gives the index of the phase of that title, or of that number in the plan."""
    titles = [phase.title.lower() for phase in now.phases]
    if titles.count(reference.lower()) == 1:
        return titles.index(reference.lower())
    if reference.isdecimal() and 1 <= int(reference) <= len(titles):
        return int(reference) - 1
    listed = ", ".join(f"{number} {phase.title}" for number, phase in enumerate(now.phases, 1))
    if reference.lower() in titles:
        raise UsageError(f"several phases of P{now.plan.number} are called {reference!r}", hint=f"by number: {listed}")
    raise NotFound(f"P{now.plan.number} has no phase {reference!r}", hint=f"its phases: {listed}")


def _place(now: Outline, task_id: str) -> tuple[int, int]:
    """Gives the index of the task's phase, and of the task in it."""
    for index, phase in enumerate(now.phases):
        ids = [task.id for task in now.tasks_in(phase.id)]
        if task_id in ids:
            return index, ids.index(task_id)
    raise NotFound("the task is gone")


def _refuse_key(now: Outline, fields: Fields) -> None:
    key = str(fields.get("key") or slug(str(fields.get("title", ""))))
    found = next((task for task in now.tasks if task.key == key), None)
    if found is not None:
        raise UsageError(
            f"the key {key!r} is already that of T{found.number} {found.title}", hint="give it another key"
        )


def _refuse_needed(now: Outline, gone: Sequence[Task]) -> None:
    ids = {task.id for task in gone}
    needing = [task for task in now.tasks if task.id not in ids and ids.intersection(task.depends_on)]
    if needing:
        named = ", ".join(f"T{task.number} {task.key}" for task in needing)
        raise IllegalState(
            f"other tasks depend on it: {named}", hint="edit them first: holdfast task edit", code="needed"
        )
