"""Carries suggestions out: failed tasks are tried again or left out, the plan is edited, all of it or nothing.

Where a review has failed, work that is added takes the plan back to be implemented: that review is left out, and the
result reviewed again once the work is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from holdfast import clock
from holdfast.domain import suggestions
from holdfast.domain.edits import Outline
from holdfast.domain.plan import Plan
from holdfast.domain.planfile import PlanFile
from holdfast.domain.restore import Restoration, turned_round
from holdfast.domain.suggestions import REOPENING, Stale, Suggestion
from holdfast.domain.task import Task
from holdfast.domain.transitions import PlanStage, TaskStatus
from holdfast.engine import editing, restoring
from holdfast.engine.editing import Edited, Make, Wake
from holdfast.engine.restoring import Intent, intent_from
from holdfast.engine.standing import moved, standing
from holdfast.store import Connection, approvals, edits, plans, restorations, steps, tasks
from holdfast.store.iterations import Iteration

# The key of an iteration's content under which stands how it moved tasks that had failed.
REOPENED = "reopened"


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
    before = [standing(connection, task.id) for task, _ in reopened]
    for task, target in reopened:
        reopen(connection, plan, task.id, target, actor=actor)
    if _goes_back(now, wanted):
        plan = plans.set_stage(connection, plan, PlanStage.IMPLEMENTING, actor=actor)
    if before:
        told = {**told, REOPENED: Intent(moved(connection, before)).row()}
    make = _make(wanted)
    return editing.write(connection, plan, make, "apply", told, actor=actor, wake=wake, always=bool(before))


def reopened_by(iteration: Iteration) -> Restoration | None:
    """Gives how an iteration moved tasks that had failed; None if it moved none."""
    stored = iteration.content.get(REOPENED)
    return intent_from(cast("Mapping[str, object]", stored)).restoration if stored else None


def tried_back(connection: Connection, plan: Plan, done: Restoration, make: Make) -> Edited:
    """Gives what `take_back` would make of a plan, or raises what keeps it from that; nothing is written."""
    back = _back(connection, plan, done)
    now = edits.outline(connection, plan)
    if _opens(back):
        targets = {move.task_id: move.after.status for move in back.tasks}
        stage = back.plan.after.stage if back.plan else plan.stage
        opened = tuple(replace(task, status=targets.get(task.id, task.status)) for task in now.tasks)
        now = replace(now, plan=replace(plan, stage=stage), tasks=opened)
    return editing.decided(now, make)[0]


def take_back(
    connection: Connection,
    plan: Plan,
    done: Restoration,
    make: Make,
    told: Mapping[str, object],
    *,
    actor: str,
    wake: Wake,
) -> Edited:
    """Takes an iteration back that moved tasks by `done`, as one itself; the caller holds the plan's lock.

    Raises `IllegalState` if the work has moved on since, or the plan runs.
    """
    back = _back(connection, plan, done)
    told = {**told, REOPENED: Intent(back).row()}
    # A task is edited while it is open: before it has failed again, or after it was opened again.
    if _opens(back):
        plan = _put(connection, plan, back, actor)
        return editing.write(connection, plan, make, "revert", told, actor=actor, wake=wake, always=True)
    edited = editing.write(connection, plan, make, "revert", told, actor=actor, wake=wake, always=True)
    return replace(edited, plan=_put(connection, edited.plan, back, actor))


def _back(connection: Connection, plan: Plan, done: Restoration) -> Restoration:
    """Gives what takes `done` back, or raises what keeps it from being taken back."""
    back = turned_round(done, clock.new_id)
    restoring.refuse_running(plan)
    restoring.refuse_restoring(connection, plan)
    restoring.refuse_over(connection, back)
    restorations.refuse_changed(connection, back)
    return back


def _opens(back: Restoration) -> bool:
    return any(move.before.status is TaskStatus.FAILED for move in back.tasks)


def _put(connection: Connection, plan: Plan, back: Restoration, actor: str) -> Plan:
    if back.plan is not None:
        # What the plan says of itself is for the edit to change.
        back = replace(back, plan=replace(back.plan, after=replace(back.plan.after, variables=plan.variables)))
    restorations.apply(connection, back, plan, actor=actor)
    return plans.get(connection, plan.id)


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
