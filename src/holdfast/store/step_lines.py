"""Steps alone as JSON lines: written out for other tools, read back without ever overwriting one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, select, update

from holdfast.domain.step import Step
from holdfast.errors import UsageError
from holdfast.store import steps as step_rows
from holdfast.store.rows import columns_of, entity
from holdfast.store.tables import projects, steps, tasks

_TIMES = ("started_at", "ended_at")
_NAMES = tuple(field.name for field in fields(Step))
_HINT = "give the lines as `holdfast step export` wrote them, all of them and in their order"


@dataclass(frozen=True, slots=True)
class Imported:
    """How many steps were added, and how many were there before and were left as they are."""

    added: int
    present: int


def export_jsonl(connection: Connection, project_id: str) -> Iterator[str]:
    """Gives each step of a project as one line of JSON (without its line end), in the order of their numbers."""
    query = select(steps).where(steps.c.project_id == project_id).order_by(steps.c.number)
    for row in connection.execute(query):
        values = columns_of(entity(Step, row))
        for name in _TIMES:
            values[name] = values[name].isoformat() if values[name] else None
        yield json.dumps(values, ensure_ascii=False, sort_keys=True)


def import_jsonl(connection: Connection, lines: Iterable[str], *, actor: str) -> Imported:
    """Stores the steps that are not there yet, with their numbers and an event each; the same lines again do nothing.

    Their project, plan and task must be in the database. Raises `UsageError` that names the line for anything else;
    let it undo the transaction, so that all lines are taken or none.
    """
    added = present = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        values = _values(line, number)
        if connection.execute(select(steps.c.id).where(steps.c.id == values["id"])).one_or_none() is not None:
            present += 1
            continue
        _refuse_misfit(connection, values, number)
        stored = connection.execute(steps.insert().values(**values).returning(steps)).one()
        step_rows.tell_imported(connection, entity(Step, stored), actor=actor)
        mine = (projects.c.id == values["project_id"], projects.c.last_step < values["number"])
        connection.execute(update(projects).where(*mine).values(last_step=values["number"]))
        added += 1
    return Imported(added, present)


def _values(line: str, number: int) -> dict[str, Any]:
    try:
        parsed = json.loads(line)
    except ValueError as error:
        raise UsageError(f"line {number} is not JSON: {error}", hint=_HINT) from error
    if not isinstance(parsed, Mapping):
        raise UsageError(f"line {number} is not a step: a JSON object is expected", hint=_HINT)
    values = dict(cast("Mapping[str, Any]", parsed))
    wrong = sorted(set(_NAMES) ^ set(values))
    if wrong:
        raise UsageError(f"line {number} is not a step: missing or unknown {', '.join(wrong)}", hint=_HINT)
    for name in _TIMES:
        values[name] = _time(values[name], f"line {number}: {name}")
    for name, kind in _KINDS.items():
        if not isinstance(values[name], kind) or (kind is int and isinstance(values[name], bool)):
            raise UsageError(f"line {number}: {name} is not a {kind.__name__}: {values[name]!r}", hint=_HINT)
    return values


def _time(value: object, place: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise UsageError(f"{place} is not a time: {value!r}", hint=_HINT) from error
    if moment.tzinfo is None:
        raise UsageError(f"{place} has no time zone: {value!r}", hint=_HINT)
    return moment


_KINDS: Mapping[str, type] = {
    "id": str,
    "number": int,
    "project_id": str,
    "task_id": str,
    "run": int,
    "attempt": int,
    "active": bool,
    "interrupted": bool,
    "branch": str,
    "commit_before": str,
    "agent_config": dict,
    "details": dict,
}


def _refuse_misfit(connection: Connection, values: Mapping[str, Any], line: int) -> None:
    task = connection.execute(select(tasks.c.plan_id).where(tasks.c.id == values["task_id"])).one_or_none()
    if task is None or task.plan_id != values["plan_id"]:
        raise UsageError(
            f"line {line}: the task {values['task_id']} of step {values['number']} is not in this database",
            hint="restore a backup of the whole database instead: holdfast db restore <file>",
        )
    taken = {
        f"number {values['number']}": (
            steps.c.project_id == values["project_id"],
            steps.c.number == values["number"],
        ),
        f"run {values['run']} of its task": (steps.c.task_id == values["task_id"], steps.c.run == values["run"]),
    }
    for what, where in taken.items():
        if connection.execute(select(steps.c.id).where(*where)).one_or_none() is not None:
            raise UsageError(f"line {line}: {what} is another step here", hint="a stored step is never overwritten")
    parent = values["parent_step_id"]
    if parent and connection.execute(select(steps.c.id).where(steps.c.id == parent)).one_or_none() is None:
        raise UsageError(f"line {line}: the parent {parent} of step {values['number']} is missing", hint=_HINT)
