"""Suggested changes of a plan: each knows what it was made for, so that it is refused once that is no longer so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, assert_never, cast

from holdfast.domain.budget import Budget
from holdfast.domain.permissions import Policy, PolicyWord, Rule, Verdict
from holdfast.domain.plan import PhaseMode
from holdfast.domain.planfile.spec import PhaseSpec, PlanFile, TaskSpec
from holdfast.domain.planfile.writing import render_phase, render_task
from holdfast.domain.transitions import TaskStatus
from holdfast.errors import IllegalState


class SuggestionKind(StrEnum):
    ADD_TASK = "add_task"
    MODIFY_TASK = "modify_task"
    REORDER = "reorder"
    ADD_PHASE = "add_phase"
    BREAK_DOWN_TASK = "break_down_task"
    RETRY_TASK = "retry_task"
    SKIP_TASK = "skip_task"


REOPENING = {SuggestionKind.RETRY_TASK: TaskStatus.PENDING, SuggestionKind.SKIP_TASK: TaskStatus.SKIPPED}


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a plan that a suggestion is about: tasks, a phase, or the keys of a phase's tasks in their order."""

    tasks: tuple[TaskSpec, ...] = ()
    phase: PhaseSpec | None = None
    order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One change, with what it finds (`before`) and what it makes of it (`after`).

    `target` is a phase's title (add_task, reorder), the title of the phase that a new one follows, empty for the first
    place (add_phase), or else a task's key. That of retry_task and skip_task has failed; what they do to it beside a
    change of its words is for who carries them out (`REOPENING`). `place` is the key of the task that a new one
    follows in its phase, empty for the end.
    """

    kind: SuggestionKind
    target: str
    reasoning: str
    before: Part
    after: Part
    place: str = ""


class Stale(IllegalState):
    """Raised for a change whose target is no longer what the change was made for."""

    default_code = "stale"


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a task stands in a plan."""

    phase: int
    place: int
    task: TaskSpec


def apply(plan: PlanFile, suggestion: Suggestion) -> PlanFile:
    """Gives the plan with the suggestion carried out; raises `Stale` if the plan is no longer what it was made for.

    Whether the parts of the new plan fit together is for the rules of plan files to say.
    """
    match suggestion.kind:
        case SuggestionKind.ADD_TASK:
            return _add_task(plan, suggestion)
        case (
            SuggestionKind.MODIFY_TASK
            | SuggestionKind.BREAK_DOWN_TASK
            | SuggestionKind.RETRY_TASK
            | SuggestionKind.SKIP_TASK
        ):
            return _replace_task(plan, suggestion)
        case SuggestionKind.REORDER:
            return _reorder(plan, suggestion)
        case SuggestionKind.ADD_PHASE:
            return _add_phase(plan, suggestion)
        case _:
            assert_never(suggestion.kind)


def find_task(plan: PlanFile, key: str) -> TaskSpec | None:
    """Gives the task of that key, None if there is none."""
    found = _find(plan, key)
    return found.task if found else None


def find_phase(plan: PlanFile, title: str) -> PhaseSpec | None:
    """Gives the only phase of that title, None if there is none or more than one."""
    place = _phase_place(plan, title)
    return None if place is None else plan.phases[place]


def _find(plan: PlanFile, key: str) -> _Found | None:
    for index, phase in enumerate(plan.phases):
        for place, task in enumerate(phase.tasks):
            if task.key == key:
                return _Found(index, place, task)
    return None


def _phase_place(plan: PlanFile, title: str) -> int | None:
    places = [index for index, phase in enumerate(plan.phases) if phase.title == title]
    return places[0] if len(places) == 1 else None


def _with_tasks(plan: PlanFile, index: int, tasks: Sequence[TaskSpec]) -> PlanFile:
    phases = list(plan.phases)
    phases[index] = replace(phases[index], tasks=tuple(tasks))
    return replace(plan, phases=tuple(phases))


def _refuse_taken(plan: PlanFile, tasks: Sequence[TaskSpec], *, but: str = "") -> None:
    taken = [task.key for task in tasks if task.key != but and _find(plan, task.key)]
    if taken:
        raise Stale(f"the plan has a task {taken[0]!r} by now", hint=_AGAIN)


_AGAIN = "ask for a new review: holdfast plan review"


def _add_task(plan: PlanFile, suggestion: Suggestion) -> PlanFile:
    index = _phase_place(plan, suggestion.target)
    if index is None:
        raise Stale(f"the plan has no phase {suggestion.target!r} any more", hint=_AGAIN)
    _refuse_taken(plan, suggestion.after.tasks)
    tasks = list(plan.phases[index].tasks)
    keys = [task.key for task in tasks]
    if suggestion.place and suggestion.place not in keys:
        message = f"the phase {suggestion.target!r} has no task {suggestion.place!r} any more"
        raise Stale(message, hint=_AGAIN)
    at = keys.index(suggestion.place) + 1 if suggestion.place else len(tasks)
    return _with_tasks(plan, index, [*tasks[:at], *suggestion.after.tasks, *tasks[at:]])


def _replace_task(plan: PlanFile, suggestion: Suggestion) -> PlanFile:
    found = _find(plan, suggestion.target)
    if found is None or (found.task,) != suggestion.before.tasks:
        gone = "is gone" if found is None else "was changed since"
        raise Stale(f"the task {suggestion.target!r} {gone}", hint=_AGAIN)
    new = suggestion.after.tasks
    _refuse_taken(plan, new, but=suggestion.target)
    tasks = plan.phases[found.phase].tasks
    changed = _with_tasks(plan, found.phase, [*tasks[: found.place], *new, *tasks[found.place + 1 :]])
    if suggestion.kind is not SuggestionKind.BREAK_DOWN_TASK:
        return changed
    needed = {key for task in new for key in task.depends_on}
    return _redirected(changed, suggestion.target, tuple(task.key for task in new if task.key not in needed))


def _redirected(plan: PlanFile, gone: str, instead: tuple[str, ...]) -> PlanFile:
    """Lets what depended on a task that was broken down depend on those of its parts that no other part waits for."""
    new = set(instead)

    def depends(task: TaskSpec) -> tuple[str, ...]:
        if gone not in task.depends_on or task.key in new:
            return task.depends_on
        listed = (key for each in task.depends_on for key in (instead if each == gone else (each,)))
        return tuple(dict.fromkeys(listed))

    phases = (
        replace(phase, tasks=tuple(replace(task, depends_on=depends(task)) for task in phase.tasks))
        for phase in plan.phases
    )
    return replace(plan, phases=tuple(phases))


def _reorder(plan: PlanFile, suggestion: Suggestion) -> PlanFile:
    index = _phase_place(plan, suggestion.target)
    tasks = {} if index is None else {task.key: task for task in plan.phases[index].tasks}
    if index is None or tuple(tasks) != suggestion.before.order:
        raise Stale(f"the tasks of the phase {suggestion.target!r} were changed since", hint=_AGAIN)
    return _with_tasks(plan, index, [tasks[key] for key in suggestion.after.order])


def _add_phase(plan: PlanFile, suggestion: Suggestion) -> PlanFile:
    new = suggestion.after.phase
    assert new is not None
    if any(phase.title == new.title for phase in plan.phases):
        raise Stale(f"the plan has a phase {new.title!r} by now", hint=_AGAIN)
    _refuse_taken(plan, new.tasks)
    after = _phase_place(plan, suggestion.target) if suggestion.target else -1
    if after is None:
        raise Stale(f"the plan has no phase {suggestion.target!r} any more", hint=_AGAIN)
    return replace(plan, phases=(*plan.phases[: after + 1], new, *plan.phases[after + 1 :]))


def listed(found: Sequence[Suggestion]) -> str:
    """Gives suggestions as they are numbered, in a line each."""
    lines = (f"{number}. {each.kind} {each.target}: {each.reasoning}" for number, each in enumerate(found, 1))
    return "\n".join(lines) or "Nothing is suggested."


def fragment(part: Part) -> str:
    """Gives a part as plan files write it, for people to read; empty if there is nothing in it."""
    if part.order:
        return "".join(f"- {key}\n" for key in part.order)
    return render_phase(part.phase) if part.phase else "".join(render_task(task) for task in part.tasks)


# -- as stored ---------------------------------------------------------------------------------------------------------


def to_plain(suggestion: Suggestion) -> dict[str, object]:
    """Gives a suggestion as plain JSON values; `from_plain` gives it back."""
    return cast("dict[str, object]", asdict(suggestion))


def from_plain(values: Mapping[str, Any]) -> Suggestion:
    """Gives the suggestion that `to_plain` made these values of."""
    return Suggestion(
        kind=SuggestionKind(values["kind"]),
        target=values["target"],
        reasoning=values["reasoning"],
        before=_part(values["before"]),
        after=_part(values["after"]),
        place=values["place"],
    )


def _part(values: Mapping[str, Any]) -> Part:
    tasks = tuple(_task(each) for each in values["tasks"])
    phase = None if values["phase"] is None else _phase(values["phase"])
    return Part(tasks, phase, tuple(values["order"]))


def _phase(values: Mapping[str, Any]) -> PhaseSpec:
    tasks = tuple(_task(each) for each in values["tasks"])
    made: dict[str, Any] = {**values, "mode": PhaseMode(values["mode"]), "tasks": tasks}
    return PhaseSpec(**made)


def _policy(values: Mapping[str, Any]) -> Policy:
    rules = tuple(Rule(**{**each, "verdict": Verdict(each["verdict"])}) for each in values["rules"])
    return Policy(rules, None if values["otherwise"] is None else PolicyWord(values["otherwise"]))


def _task(values: Mapping[str, Any]) -> TaskSpec:
    made: dict[str, Any] = {
        **values,
        "depends_on": tuple(values["depends_on"]),
        "verify": tuple(values["verify"]),
        "budget": Budget(**values["budget"]),
        "permissions": None if values["permissions"] is None else _policy(values["permissions"]),
    }
    return TaskSpec(**made)
