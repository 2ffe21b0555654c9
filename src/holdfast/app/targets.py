"""Finds the checkpoint that a person names."""

from __future__ import annotations

from holdfast.domain import references
from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.plan import Plan
from holdfast.domain.references import Reference, label
from holdfast.domain.task import Task
from holdfast.errors import NotFound
from holdfast.store import Connection, checkpoints, tasks

_SHOWN = 8


def find_checkpoint(connection: Connection, named: str, *, task: Task | None, plan: Plan) -> Checkpoint:
    """Gives the checkpoint of a task, or of a plan (`task` None), that `named` means.

    It is named by its number, `T31@4`, the beginning of its id or of its commit (7 digits at least), its name, a stage
    of the plan, or `latest`. The nearest that fits is taken: a task's own before its plan's stages, a plan's own before
    its tasks', what work led to before what was left behind. Raises `UsageError` that lists the candidates if several
    are as near, `NotFound` if there is none.
    """
    wanted = references.read(named)
    if wanted.owner:
        return _of_owner(connection, wanted, task, plan)
    found = checkpoints.matching(connection, wanted, plan_id=plan.id, task_id=task.id if task else None)
    if task is None and (wanted.latest or not found):
        found = checkpoints.matching(connection, wanted, plan_id=plan.id, task_id=None, whole_plan=True)
    elif not found and not wanted.latest and wanted.number is None:
        found = checkpoints.matching(connection, wanted, plan_id=plan.id, task_id=None)
    if not found:
        raise _unknown(connection, named, task, plan)
    found = tuple(each for each in found if not each.superseded) or found
    return references.only(named, [(_label(connection, each, plan), each) for each in found])


def _of_owner(connection: Connection, wanted: Reference, task: Task | None, plan: Plan) -> Checkpoint:
    """Gives the checkpoint of a text that names its task or plan."""
    if wanted.owner == f"P{plan.number}":
        owner: Task | None = None
    elif task is not None:
        if wanted.owner != f"T{task.number}":
            raise _unknown(connection, wanted.text, task, plan)
        owner = task
    else:
        owner = tasks.get(connection, tasks.find(connection, wanted.owner, plan_id=plan.id))
    found = checkpoints.matching(connection, wanted, plan_id=plan.id, task_id=owner.id if owner else None)
    if not found:
        raise _unknown(connection, wanted.text, owner, plan)
    return found[0]


def _label(connection: Connection, checkpoint: Checkpoint, plan: Plan) -> str:
    if checkpoint.task_id is None:
        return label(f"P{plan.number}", checkpoint)
    return label(f"T{tasks.get(connection, checkpoint.task_id).number}", checkpoint)


def _unknown(connection: Connection, named: str, task: Task | None, plan: Plan) -> NotFound:
    """Gives the error that says which checkpoints there are."""
    whose, command = (
        (f"P{plan.number}", "plan checkpoints") if task is None else (f"T{task.number}", "task checkpoints")
    )
    there = checkpoints.list_(
        connection, task_id=task.id if task else None, plan_id=None if task else plan.id, limit=_SHOWN
    )
    if not there.items:
        return NotFound(f"{whose} has no checkpoint '{named}'", hint="it has none yet: they are made as it runs")
    shown = ", ".join(_label(connection, each, plan) for each in there.items) + (", …" if there.next_cursor else "")
    return NotFound(f"{whose} has no checkpoint '{named}'", hint=f"it has {shown}; look: holdfast {command} {whose}")
