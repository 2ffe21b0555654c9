"""Carries suggestions out: failed tasks are tried again or left out, the plan is edited, all of it or nothing.

Where a review has failed, work that is added takes the plan back to be implemented: that review is left out, and the
result reviewed again once the work is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from holdfast.domain import suggestions
from holdfast.domain.edits import Outline
from holdfast.domain.plan import Plan
from holdfast.domain.planfile import PlanFile
from holdfast.domain.suggestions import REOPENING, Stale, Suggestion
from holdfast.domain.task import Task
from holdfast.domain.transitions import PlanStage, TaskStatus
from holdfast.engine import editing
from holdfast.engine.editing import Edited, Make, Wake
from holdfast.store import Connection, approvals, edits, plans, steps, tasks


def tried(now: Outline, wanted: Sequence[Suggestion]) -> Edited:
    """Gives what suggestions would make of a plan, or raises what keeps them from being carried out."""
    targets = {task.id: target for task, target in _reopened(now, wanted)}
    if _goes_back(now, wanted):
        now = replace(now, plan=replace(now.plan, stage=PlanStage.IMPLEMENTING))
    changed = tuple(replace(task, status=targets.get(task.id, task.status)) for task in now.tasks)
    return editing.decided(replace(now, tasks=changed), _make(wanted))[0]


def carry_out(
    connection: Connection,
    plan: Plan,
    wanted: Sequence[Suggestion],
    told: Mapping[str, object],
    *,
    actor: str,
    wake: Wake,
) -> Edited:
    """Carries suggestions out in the order that they have, as one iteration; the caller holds the plan's lock.

    Raises `Stale` if one was made for what is no longer so, and `IllegalState` if its target has started; then nothing
    is written.
    """
    now = edits.outline(connection, plan)
    tried(now, wanted)
    reopened = _reopened(now, wanted)
    for task, target in reopened:
        reopen(connection, plan, task.id, target, actor=actor)
    if _goes_back(now, wanted):
        plan = plans.set_stage(connection, plan, PlanStage.IMPLEMENTING, actor=actor)
    make = _make(wanted)
    return editing.write(connection, plan, make, "apply", told, actor=actor, wake=wake, always=bool(reopened))


def _make(wanted: Sequence[Suggestion]) -> Make:
    def change(file: PlanFile) -> PlanFile:
        for each in wanted:
            file = suggestions.apply(file, each)
        return file

    return editing.changed(change, {})


def _goes_back(now: Outline, wanted: Sequence[Suggestion]) -> bool:
    """Tells whether suggestions add work to a plan whose review has failed."""
    works = any(each.kind not in REOPENING for each in wanted)
    return works and now.plan.stage is PlanStage.REVIEWING and bool(_failed_reviews(now))


def _failed_reviews(now: Outline) -> list[Task]:
    return [task for task in now.tasks if task.read_only and task.status is TaskStatus.FAILED]


def _reopened(now: Outline, wanted: Sequence[Suggestion]) -> list[tuple[Task, TaskStatus]]:
    """Gives the failed tasks that are tried again or left out, with the state that they get."""
    by_key = {task.key: task for task in now.tasks}
    left_out = _failed_reviews(now) if _goes_back(now, wanted) else []
    found = [(task, TaskStatus.SKIPPED) for task in left_out]
    for each in wanted:
        if each.kind not in REOPENING:
            continue
        task = by_key.get(each.target)
        if task is None or task.status is not TaskStatus.FAILED:
            raise Stale(f"{each.kind} is for a task that has failed; {each.target!r} has not, or not any more")
        if task not in left_out:
            found.append((task, REOPENING[each.kind]))
    if len({task.id for task, _ in found}) < len(found):
        raise Stale("a failed task is either tried again or left out, and once")
    return found


def reopen(connection: Connection, plan: Plan, task_id: str, target: TaskStatus, *, actor: str) -> Task:
    """Lets a failed task be tried again (`pending`) or leaves it out (`skipped`); the caller holds the plan's lock."""
    task = tasks.get(connection, task_id)
    left = steps.running(connection, task_id) if task.status is TaskStatus.FAILED else None
    if left is not None:
        # A completion by hand that was begun and not carried through.
        steps.finish(connection, left.id, actor=actor, interrupted=True, commit_after=left.commit_before)
    anew: dict[str, Any] = {"attempt": 0, "approved": False, "failure": None}
    anew["branch"] = task.branch if task.fork_point else ""
    columns = anew if target is TaskStatus.PENDING else {}
    changed = tasks.set_status(connection, task, target, actor=actor, **columns)
    approvals.cancel_open(connection, plan_id=plan.id, task_id=task_id, actor=actor)
    return changed
