"""Edits of a plan that exists, as rows: decided from the plan as it is, written with their events and iteration."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from holdfast import clock
from holdfast.domain.budget import Budget
from holdfast.domain.edits import Change, Outline, changes, check, rebudgeted, revised
from holdfast.domain.plan import Plan
from holdfast.domain.planfile import PlanFile, from_domain, parse, render
from holdfast.domain.transitions import PLAN_EXECUTING
from holdfast.store import Connection, edits, iterations

Make = Callable[[Outline], tuple[PlanFile, Mapping[str, str]]]
"""Gives the plan file that the plan is to become, and the present key of each task that gets a new one."""
Wake = Callable[[Connection, Plan], None]
"""Lets the driver of a plan that executes look again."""


@dataclass(frozen=True, slots=True)
class Edited:
    """What an edit changed; `iteration` is None where nothing was written. `before` and `after` are plan files."""

    plan: Plan
    changes: tuple[Change, ...]
    before: str
    after: str
    iteration: int | None

    @property
    def difference(self) -> str:
        """Gives the plan files line by line, as a unified diff."""
        before, after = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        return "".join(difflib.unified_diff(before, after, "before", "after", n=2))


def changed(change: Callable[[PlanFile], PlanFile], renamed: Mapping[str, str]) -> Make:
    """Gives the edit that makes of the plan what `change` does; the result is read by the rules of a file."""

    def make(now: Outline) -> tuple[PlanFile, Mapping[str, str]]:
        return parse(render(change(file_of(now)), keys=True), source="plan"), renamed

    return make


def decided(now: Outline, make: Make, base_commit: str = "") -> tuple[Edited, Outline]:
    """Gives what an edit makes of the plan, or raises what keeps it from being made; nothing is written."""
    file, renamed = make(now)
    then = revised(now, file, ids=clock.new_id, base_commit=base_commit, renamed=renamed)
    return _compared(now, then), then


def _compared(now: Outline, then: Outline) -> Edited:
    found = changes(now, then)
    check(now, then, found)
    return Edited(then.plan, found, rendered(now), rendered(then), None)


def write(
    connection: Connection,
    plan: Plan,
    make: Make,
    kind: str,
    told: Mapping[str, object],
    *,
    actor: str,
    wake: Wake,
    base_commit: str = "",
    always: bool = False,
) -> Edited:
    """Makes an edit of a plan, which the caller holds locked, with its events and its iteration; wakes its driver.

    One that changes nothing is no iteration, unless `always`: what is `told` of it then matters by itself.
    """
    now = edits.outline(connection, plan)
    edited, then = decided(now, make, base_commit)
    if not edited.changes and not always:
        return edited
    return _written(connection, now, then, edited, kind, told, actor, wake)


def write_budget(
    connection: Connection, plan: Plan, budget: Budget, task_id: str | None, *, actor: str, wake: Wake
) -> Edited:
    """Gives a plan, which the caller holds locked, or a task of it another budget, as an edit like any other.

    The plan is not read anew by the rules of a file: a limit must be lifted whatever else is wrong.
    """
    now = edits.outline(connection, plan)
    then = rebudgeted(now, budget, task_id)
    edited = _compared(now, then)
    if not edited.changes:
        return edited
    return _written(connection, now, then, edited, "edit", {"by": "plan budget"}, actor, wake)


def _written(
    connection: Connection,
    now: Outline,
    then: Outline,
    edited: Edited,
    kind: str,
    told: Mapping[str, object],
    actor: str,
    wake: Wake,
) -> Edited:
    plan = edits.apply(connection, now, then, edited.changes, actor=actor)
    found = [asdict(change) for change in edited.changes]
    content = {**told, "before": edited.before, "after": edited.after, "changes": found}
    iteration = iterations.add(connection, plan.id, kind, actor, content)
    if plan.status in PLAN_EXECUTING:
        wake(connection, plan)
    return replace(edited, plan=plan, iteration=iteration.number)


def file_of(now: Outline) -> PlanFile:
    return from_domain(now.plan, now.phases, now.tasks)


def rendered(now: Outline) -> str:
    """Gives the plan as a plan file to be edited: each task with its key, by which it stays the same task."""
    return render(file_of(now), keys=True)
