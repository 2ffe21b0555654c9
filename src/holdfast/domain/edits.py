"""Edits of a plan that exists: what a changed plan file makes of its rows, what differs, and whether it may.

A draft may change wholly. Once it was started, what has begun stays as it is and where it is; only phases and tasks
that have not may change, come or go. A budget alone may change as long as the plan has not ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, TypeVar

from holdfast.domain import permissions
from holdfast.domain.budget import Budget
from holdfast.domain.permissions import Policy
from holdfast.domain.plan import GateName, Phase, Plan
from holdfast.domain.planfile import PlanFile, to_domain
from holdfast.domain.readiness import BUSY
from holdfast.domain.task import Task
from holdfast.domain.transitions import PLAN_EXECUTING, PhaseStatus, PlanStage, PlanStatus, TaskStatus
from holdfast.errors import IllegalState

Subject = Literal["plan", "phase", "task"]
Deed = Literal["added", "edited", "removed"]
Values = Mapping[str, object]
Row = TypeVar("Row", Phase, Task)

_TASK_FIELDS = (
    "phase_id", "key", "position", "title", "instructions", "executor", "command", "agent", "depends_on",
    "max_attempts", "timeout_seconds", "verify", "retryable", "budget", "permissions",
)  # fmt: skip
_PHASE_FIELDS = ("position", "title", "mode", "pause_after", "when")
_REVIEW_FIELDS = ("review", "review_agent", "review_rounds")
_PLAN_FIELDS = (
    "title", "description", "gates", "gate_order", *_REVIEW_FIELDS, "verify", "budget", "variables", "permissions",
    "supervisor", "supervisor_agent",
)  # fmt: skip

_NOT_BEGUN = frozenset({TaskStatus.PENDING, TaskStatus.AWAITING_APPROVAL})
_TAKES_TASKS = frozenset({PhaseStatus.PENDING, PhaseStatus.RUNNING, PhaseStatus.PAUSED, PhaseStatus.FAILED})
_BEFORE_PLAN_GATE = frozenset({PlanStage.PENDING, PlanStage.PLANNING})
_BEFORE_RESULT = _BEFORE_PLAN_GATE | {
    PlanStage.PLAN_AWAITING_APPROVAL,
    PlanStage.PLAN_APPROVED,
    PlanStage.IMPLEMENTING,
}


@dataclass(frozen=True, slots=True)
class Outline:
    """A plan with its phases in their order, and its tasks in the order of their phases and their places in them."""

    plan: Plan
    phases: tuple[Phase, ...]
    tasks: tuple[Task, ...]

    def tasks_in(self, phase_id: str) -> tuple[Task, ...]:
        return tuple(task for task in self.tasks if task.phase_id == phase_id)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that an edit changes; `before` and `after` hold what differs, under the keys of a plan file."""

    subject: Subject
    deed: Deed
    id: str
    name: str
    before: Values
    after: Values


def revised(
    now: Outline,
    file: PlanFile,
    *,
    ids: Callable[[], str],
    base_commit: str = "",
    renamed: Mapping[str, str] | None = None,
) -> Outline:
    """Gives the rows that `file` makes of the plan: what it keeps has its id, its state and its history still.

    A task is kept by its key (`renamed`: new key → old key), a phase by its title or else by the tasks that it has. An
    empty `slug` or `base_commit` leaves what there is.
    """
    made, made_phases, made_tasks = to_domain(
        file, ids=ids, project_id=now.plan.project_id, created_at=now.plan.created_at
    )
    plan = replace(now.plan, **{name: getattr(made, name) for name in _PLAN_FIELDS})
    if base_commit:
        plan = replace(plan, base_commit=base_commit)
    if file.slug and file.slug != plan.slug:
        plan = replace(plan, slug=file.slug, branch=made.branch)
    old_keys = renamed or {}
    by_key = {task.key: task for task in now.tasks}
    kept_tasks = {task.id: by_key.get(old_keys.get(task.key, task.key)) for task in made_tasks}
    task_ids = {made_id: kept.id if kept else made_id for made_id, kept in kept_tasks.items()}
    kept_phases = _kept_phases(now, made_phases, made_tasks, task_ids)
    phase_ids = {phase.id: kept_phases[phase.id].id if phase.id in kept_phases else phase.id for phase in made_phases}
    phases = [_kept(kept_phases.get(phase.id), replace(phase, plan_id=plan.id), _PHASE_FIELDS) for phase in made_phases]
    tasks: list[Task] = []
    for task in made_tasks:
        needs = tuple(task_ids[each] for each in task.depends_on)
        wanted = replace(task, plan_id=plan.id, phase_id=phase_ids[task.phase_id], depends_on=needs)
        tasks.append(_kept(kept_tasks[task.id], wanted, _TASK_FIELDS))
    return Outline(plan, tuple(phases), tuple(tasks))


def _kept(old: Row | None, wanted: Row, fields: Sequence[str]) -> Row:
    return wanted if old is None else replace(old, **{name: getattr(wanted, name) for name in fields})


def rebudgeted(now: Outline, budget: Budget, task_id: str | None) -> Outline:
    """Gives the plan with another budget, its own (None) or that of one of its tasks."""
    if task_id is None:
        return replace(now, plan=replace(now.plan, budget=budget))
    tasks = (replace(task, budget=budget) if task.id == task_id else task for task in now.tasks)
    return replace(now, tasks=tuple(tasks))


def _kept_phases(
    now: Outline, made: Sequence[Phase], tasks: Sequence[Task], task_ids: Mapping[str, str]
) -> dict[str, Phase]:
    """Gives for phases of the new plan the present phase that each of them is, the surest pairs first."""
    home = {task.id: task.phase_id for task in now.tasks}
    shared = {(new.id, old.id): 0 for new in made for old in now.phases}
    for task in tasks:
        if (old_home := home.get(task_ids[task.id])) is not None:
            shared[task.phase_id, old_home] += 1
    pairs = [
        (new.title == old.title, shared[new.id, old.id], -abs(new.position - old.position), new, old)
        for new in made
        for old in now.phases
        if new.title == old.title or shared[new.id, old.id]
    ]
    found: dict[str, Phase] = {}
    for *_, new, old in sorted(pairs, key=lambda pair: pair[:3], reverse=True):
        if new.id not in found and old not in found.values():
            found[new.id] = old
    return found


def changes(now: Outline, then: Outline) -> tuple[Change, ...]:
    """Gives what differs, in the order in which it is told: the plan, its phases, its tasks.

    A place that moves only because another thing came or went is no change; another order is one of the phase or plan.
    """
    names = _names(now) | _names(then)
    stays = _stays(now) & _stays(then)
    return (
        *_compared("plan", _plan_values(now, names, stays), _plan_values(then, names, stays), names),
        *_compared("phase", _phase_values(now, names, stays), _phase_values(then, names, stays), names),
        *_compared("task", _task_values(now, names), _task_values(then, names), names),
    )


def _names(of: Outline) -> dict[str, str]:
    count = Counter(phase.title for phase in of.phases)
    titles = {
        phase.id: phase.title if count[phase.title] == 1 else f"{phase.title} (phase {phase.position + 1})"
        for phase in of.phases
    }
    return titles | {task.id: task.key for task in of.tasks} | {of.plan.id: of.plan.title}


def _stays(of: Outline) -> set[tuple[str, str]]:
    """Gives what is where: the things that are so on both sides are those whose order can be compared."""
    return {(phase.id, of.plan.id) for phase in of.phases} | {(task.id, task.phase_id) for task in of.tasks}


def _plan_values(of: Outline, names: Mapping[str, str], stays: set[tuple[str, str]]) -> dict[str, Values]:
    plan = of.plan
    values: dict[str, object] = {name: getattr(plan, name) for name in _PLAN_FIELDS}
    values["permissions"] = _plain(plan.permissions)
    order = tuple(names[phase.id] for phase in of.phases if (phase.id, plan.id) in stays)
    values |= {"budget": asdict(plan.budget), "slug": plan.slug, "base": plan.base_commit, "phases": order}
    return {plan.id: values}


def _phase_values(of: Outline, names: Mapping[str, str], stays: set[tuple[str, str]]) -> dict[str, Values]:
    return {
        phase.id: {
            "title": phase.title,
            "mode": phase.mode,
            "pause_after": phase.pause_after,
            "when": phase.when,
            "tasks": tuple(names[task.id] for task in of.tasks_in(phase.id) if (task.id, phase.id) in stays),
        }
        for phase in of.phases
    }


def _task_values(of: Outline, names: Mapping[str, str]) -> dict[str, Values]:
    return {
        task.id: {
            "phase": names[task.phase_id],
            "key": task.key,
            "title": task.title,
            "instructions": task.instructions,
            "run": task.command,
            "agent": task.agent,
            "depends_on": tuple(names[each] for each in task.depends_on),
            "max_attempts": task.max_attempts,
            "timeout": task.timeout_seconds,
            "verify": task.verify,
            "retryable": task.retryable,
            "budget": asdict(task.budget),
            "permissions": _plain(task.permissions),
        }
        for task in of.tasks
    }


def _plain(policy: Policy | None) -> object:
    return None if policy is None else permissions.plain(policy)


def _compared(
    subject: Subject, old: Mapping[str, Values], new: Mapping[str, Values], names: Mapping[str, str]
) -> Iterator[Change]:
    for id, before in old.items():
        if id not in new:
            yield Change(subject, "removed", id, names[id], before, {})
    for id, after in new.items():
        before = old.get(id)
        if before is None:
            yield Change(subject, "added", id, names[id], {}, after)
        elif differ := [key for key in after if before[key] != after[key]]:
            was, becomes = ({key: values[key] for key in differ} for values in (before, after))
            yield Change(subject, "edited", id, names[id], was, becomes)


def check(now: Outline, then: Outline, changed: Sequence[Change]) -> None:
    """Raises `IllegalState` that lists everything that the plan's state keeps from being changed like this."""
    found = list(dict.fromkeys(_objections(now, then, changed)))
    if found:
        hint = "what has begun stays: add a task, or retry, skip or complete the one there is"
        if now.plan.status in _ENDED:
            hint = "make another plan of it: holdfast plan export"
        raise IllegalState("\n".join(found), hint=hint, code="started")


_ENDED = frozenset({PlanStatus.COMPLETED, PlanStatus.CANCELLED})


def _objections(now: Outline, then: Outline, changed: Sequence[Change]) -> Iterator[str]:
    plan = now.plan
    if plan.status is PlanStatus.DRAFT or not changed:
        return
    name = f"P{plan.number}"
    if plan.status in _ENDED or plan.cancel_requested:
        yield f"{name} is {'being cancelled' if plan.cancel_requested else plan.status}: it cannot be edited"
        return
    work = [each for each in changed if not _is_limit(each) and (each.subject != "plan" or "phases" in each.after)]
    if work and plan.stage not in _BEFORE_RESULT:
        yield f"{name} is at the stage {str(plan.stage).replace('_', ' ')}: its phases and tasks cannot change any more"
        return
    yield from _plan_objections(now, then, next((each for each in changed if each.subject == "plan"), None))
    yield from _phase_objections(now, then, changed)
    yield from _task_objections(now, then, changed)


def _plan_objections(now: Outline, then: Outline, change: Change | None) -> Iterator[str]:
    plan = now.plan
    fields = set(change.after) if change is not None else set[str]()
    name, executing = f"P{plan.number}", plan.status in PLAN_EXECUTING
    for field in sorted(fields & {"slug", "base"}):
        yield f"the {field} of {name} cannot change: it was started"
    for gate in set(now.plan.gates) ^ set(then.plan.gates):
        if plan.stage not in (_BEFORE_PLAN_GATE if gate is GateName.PLAN else _BEFORE_RESULT):
            yield f"{name} has passed the place of the gate `{gate}`"
    for field in sorted(fields & {"gate_order", *_REVIEW_FIELDS}):
        if plan.stage not in _BEFORE_RESULT:
            yield f"`{field}` of {name} cannot change at the stage {str(plan.stage).replace('_', ' ')}"
    if "verify" in fields and executing and plan.stage is PlanStage.VERIFYING:
        yield f"the checks of {name} run: pause it to change them"
    busy = [task for task in now.tasks if task.status in BUSY]
    if "variables" in fields and executing and (busy or plan.stage is PlanStage.VERIFYING):
        user = f"T{busy[0].number} {busy[0].key}" if busy else "a check"
        yield f"the variables of {name} are in use by {user}: pause it to change them"


def _phase_objections(now: Outline, then: Outline, changed: Sequence[Change]) -> Iterator[str]:
    phases = {phase.id: phase for phase in now.phases}
    for change in changed:
        begun = change.id in phases and phases[change.id].status is not PhaseStatus.PENDING
        if change.subject == "phase" and begun and set(change.after) != {"tasks"}:
            yield f"the phase {change.name!r} is {phases[change.id].status}"
    begun = {phase.id for phase in now.phases if phase.status is not PhaseStatus.PENDING}
    if _is_overtaken(begun, [phase.id for phase in now.phases], [phase.id for phase in then.phases]):
        yield "what has not started cannot go before a phase that has"


def _task_objections(now: Outline, then: Outline, changed: Sequence[Change]) -> Iterator[str]:
    tasks = {task.id: task for task in now.tasks}
    statuses = {phase.id: phase.status for phase in now.phases}
    places = {task.id: task.phase_id for task in then.tasks}
    for change in changed:
        if change.subject != "task" or _is_limit(change):
            continue
        task = tasks.get(change.id)
        if task is not None and task.status not in _NOT_BEGUN:
            yield f"T{task.number} {task.key} is {task.status}"
        elif task is not None and task.run > 0 and (change.deed == "removed" or "key" in change.after):
            yield f"T{task.number} {task.key} has run: it keeps its place and its name in the history"
        if "phase" in change.after and statuses.get(places[change.id], PhaseStatus.PENDING) not in _TAKES_TASKS:
            yield f"the phase {change.after['phase']!r} is {statuses[places[change.id]]}: it takes no more tasks"
    begun = {task.id for task in now.tasks if task.status not in _NOT_BEGUN}
    for phase in then.phases:
        old, new = ([task.id for task in of.tasks_in(phase.id)] for of in (now, then))
        if _is_overtaken(begun, old, new):
            yield f"in the phase {phase.title!r} what has not started cannot go before a task that has"


def _is_limit(change: Change) -> bool:
    """Tells whether a change gives a task another budget and nothing else: that may be at any time."""
    return change.subject == "task" and change.deed == "edited" and set(change.after) == {"budget"}


def _is_overtaken(begun: set[str], old: Sequence[str], new: Sequence[str]) -> bool:
    """Tells whether anything but removals changed before the last thing that has begun."""

    def front(order: Sequence[str]) -> Sequence[str]:
        last = max((place for place, each in enumerate(order) if each in begun), default=-1)
        return order[: last + 1]

    return [each for each in front(old) if each in new] != list(front(new))
