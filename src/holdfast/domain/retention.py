"""What is kept: which checkpoints somebody still needs, and which nobody does. Pure; `engine/retention.py` acts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import cast

from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.plan import Plan
from holdfast.domain.step import Step
from holdfast.domain.task import Task
from holdfast.domain.transitions import PLAN_EXECUTING, PlanStatus

# Plans that nobody goes on with but by going back.
FINISHED = frozenset({PlanStatus.COMPLETED, PlanStatus.CANCELLED})
_NAMED = frozenset({CheckpointKind.MANUAL, CheckpointKind.STAGE})
_OF_STEPS = frozenset({CheckpointKind.INITIAL, CheckpointKind.STEP})


class Need(StrEnum):
    """Why a checkpoint is kept."""

    RUNNING = "running"
    RECENT = "recent"
    NEWEST = "newest"
    HEAD = "head"
    NAMED = "named"
    MENTIONED = "mentioned"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that a plan has, and the strings of the operations that may still be finished or undone.

    `mentioned` has the ids, refs, commits, trees and labels ("T31@4") that they name, among others. `open`: one of them
    has not ended.
    """

    plan: Plan
    tasks: Sequence[Task]
    steps: Sequence[Step]
    checkpoints: Sequence[Checkpoint]
    mentioned: frozenset[str]
    open: bool

    @property
    def busy(self) -> bool:
        """Whether somebody may be working on it now."""
        return self.open or self.plan.status in PLAN_EXECUTING


def needs(held: Holdings, before: datetime) -> dict[str, Need]:
    """Gives the checkpoints, by id, that are needed, and for what; all others may go.

    Nothing that is younger than `before` goes. What was named (by hand, by a stage), what a head stands at and what an
    active step began and ended with stay for good, and so does the newest of each owner: its number is never given
    again. What was left behind (rolled back, superseded), looked at on the way (intervals of steps that have ended) or
    kept for an undo goes when its time is over, unless an operation still mentions it. Nothing is kept of a plan that
    was deleted before then.
    """
    if is_emptied(held.plan, before):
        return {}
    newest = {each.task_id: each.number for each in sorted(held.checkpoints, key=lambda each: each.number)}
    heads = {(task.id, task.head_checkpoint) for task in held.tasks}
    numbers = {task.id: task.number for task in held.tasks}
    steps = {step.id: step for step in held.steps}

    def need(each: Checkpoint) -> Need | None:
        step = steps.get(each.step_id or "")
        owner = f"T{numbers[each.task_id]}" if each.task_id in numbers else f"P{held.plan.number}"
        if held.busy:
            return Need.RUNNING
        if each.created_at >= before:
            return Need.RECENT
        if newest[each.task_id] == each.number:
            return Need.NEWEST
        if (each.task_id, each.number) in heads:
            return Need.HEAD
        if each.kind in _NAMED:
            return Need.NAMED
        names = {each.id, each.ref, each.commit, each.tree, f"{owner}@{each.number}", f"{each.task_id}@{each.number}"}
        if not held.mentioned.isdisjoint(names):
            return Need.MENTIONED
        if each.kind in _OF_STEPS and not each.superseded and (step is None or step.active):
            return Need.STEP
        return Need.STEP if step is not None and step.ended_at is None else None

    found = ((each.id, need(each)) for each in held.checkpoints)
    return {id: why for id, why in found if why is not None}


def is_emptied(plan: Plan, before: datetime) -> bool:
    """Tells whether the trash is emptied of a plan, or was: it was deleted before `before`."""
    return plan.deleted_at is not None and (plan.emptied_at is not None or plan.deleted_at < before)


def is_over(plan: Plan, before: datetime) -> bool:
    """Tells whether the folders that a plan worked in may go: it is finished or deleted, and was so before `before`."""
    if is_emptied(plan, before):
        return True
    return plan.status in FINISHED and plan.ended_at is not None and plan.ended_at < before


def strings(value: object) -> Iterator[str]:
    """Gives every string in a JSON value, keys too."""
    match value:
        case str():
            yield value
        case Mapping():
            for key, item in cast("Mapping[object, object]", value).items():
                yield from strings(key)
                yield from strings(item)
        case list() | tuple():
            for item in cast("Sequence[object]", value):
                yield from strings(item)
        case _:
            pass
