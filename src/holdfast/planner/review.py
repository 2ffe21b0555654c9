"""A plan becomes suggestions, each of which fits it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

from holdfast.domain import suggestions
from holdfast.domain.planfile import PhaseSpec, PlanFile, TaskSpec, render
from holdfast.domain.suggestions import Part, Suggestion, SuggestionKind
from holdfast.errors import UserError
from holdfast.planner.context import Context
from holdfast.planner.drafting import Drafted, Drafter, Unusable, draft, numbered
from holdfast.planner.generate import checked
from holdfast.planner.prompts import rescue_prompt, review_prompt
from holdfast.planner.shapes import DraftReview, DraftSuggestion, DraftTask

Thing = TypeVar("Thing")


class ReviewType(StrEnum):
    """What a review looks for."""

    REFINE_DESCRIPTIONS = "refine_descriptions"
    ADD_MISSING = "add_missing"
    OPTIMIZE_ORDER = "optimize_order"
    BREAK_DOWN = "break_down"


async def review_plan(
    drafter: Drafter, plan: PlanFile, review_type: ReviewType, context: Context, *, about: str = "the whole plan"
) -> Drafted[tuple[Suggestion, ...]]:
    """Gives suggestions for a plan, each of which can be applied to it by itself; none is an answer too.

    `about` says in words what of the plan to look at. Errors are those of `draft_plan`.
    """
    prompt = review_prompt(numbered(render(plan)), review_type, about, context)
    return await draft(drafter, prompt, DraftReview, lambda shape: _fitting(plan, shape.suggestions), what="review")


Fits = Callable[[Sequence[Suggestion]], object]


async def rescue_plan(drafter: Drafter, plan: PlanFile, failures: str, fits: Fits) -> Drafted[tuple[Suggestion, ...]]:
    """Gives suggestions for a plan of which tasks have failed for good: what to try again, leave out, add or change.

    `failures` says which failed and why. `fits` raises `IllegalState` for suggestions that could not be carried out
    now, by themselves or all together. Errors are those of `draft_plan`.
    """

    def check(shape: DraftReview) -> tuple[Suggestion, ...]:
        found = _fitting(plan, shape.suggestions, fits)
        try:
            fits(found)
        except (UserError, Unusable) as error:
            raise Unusable(f"All of it together cannot be carried out: {error}") from error
        return found

    prompt = rescue_prompt(numbered(render(plan, keys=True)), failures)
    return await draft(drafter, prompt, DraftReview, check, what="suggestion")


def _fitting(plan: PlanFile, drafts: Sequence[DraftSuggestion], fits: Fits | None = None) -> tuple[Suggestion, ...]:
    """Gives the suggestions; raises `Unusable` with what is wrong with each that does not fit."""
    found: list[Suggestion] = []
    problems: list[str] = []
    agents = {task.agent for phase in plan.phases for task in phase.tasks}
    for number, each in enumerate(drafts, 1):
        try:
            suggestion = _suggestion(plan, each)
            checked(suggestions.apply(plan, suggestion), agents)
            if fits is not None:
                fits((suggestion,))
            elif suggestion.kind in suggestions.REOPENING:
                raise Unusable("no task has failed")
        except (Unusable, UserError) as error:
            problems.append(f"- suggestion {number} ({each.kind} {each.target!r}): {error}")
        else:
            found.append(suggestion)
    if problems:
        raise Unusable("\n".join(problems))
    return tuple(found)


def _suggestion(plan: PlanFile, draft: DraftSuggestion) -> Suggestion:
    before, after = _parts(plan, draft)
    return Suggestion(draft.kind, draft.target, draft.reasoning.strip(), before, after, draft.after)


def _parts(plan: PlanFile, draft: DraftSuggestion) -> tuple[Part, Part]:
    match draft.kind:
        case SuggestionKind.ADD_TASK:
            return Part(), Part(tasks=(_needed(draft.task, "task").spec(),))
        case SuggestionKind.MODIFY_TASK:
            task = _task(plan, draft.target)
            return Part(tasks=(task,)), Part(tasks=(_changed(task, draft),))
        case SuggestionKind.REORDER:
            phase = _phase(plan, draft.target)
            order = tuple(task.key for task in phase.tasks)
            if sorted(order) != sorted(draft.order) or order == tuple(draft.order):
                raise Unusable(f"`order` has to hold the phase's keys, each once, in a new order: {', '.join(order)}")
            return Part(order=order), Part(order=tuple(draft.order))
        case SuggestionKind.ADD_PHASE:
            return Part(), Part(phase=_needed(draft.phase, "phase").spec())
        case SuggestionKind.BREAK_DOWN_TASK:
            task = _task(plan, draft.target)
            if len(draft.parts) < 2:
                raise Unusable("`parts` needs at least two tasks")
            return Part(tasks=(task,)), Part(tasks=_broken_down(task, draft.parts))
        case SuggestionKind.RETRY_TASK:
            task = _task(plan, draft.target)
            return Part(tasks=(task,)), Part(tasks=(_changed(task, draft) if draft.changes else task,))
        case SuggestionKind.SKIP_TASK:
            task = _task(plan, draft.target)
            return Part(tasks=(task,)), Part(tasks=(task,))


def _task(plan: PlanFile, key: str) -> TaskSpec:
    return _needed(suggestions.find_task(plan, key), f"task {key!r} of the plan as target")


def _phase(plan: PlanFile, title: str) -> PhaseSpec:
    return _needed(suggestions.find_phase(plan, title), f"phase {title!r} of the plan as target")


def _needed(thing: Thing | None, name: str) -> Thing:
    if thing is None:
        raise Unusable(f"it needs a {name}")
    return thing


def _changed(task: TaskSpec, draft: DraftSuggestion) -> TaskSpec:
    changes = _needed(draft.changes, "`changes`").model_dump(exclude_none=True)
    if "instructions" in changes and changes["instructions"] and "run" not in changes:
        changes["run"] = ""
    if changes.get("run") and "instructions" not in changes:
        changes |= {"instructions": "", "agent": ""}
    listed = {name: tuple(changes[name]) for name in ("depends_on", "verify") if name in changes}
    changed = replace(task, **{**changes, **listed})
    if changed == task:
        raise Unusable("it changes nothing")
    return changed


def _broken_down(task: TaskSpec, drafts: Sequence[DraftTask]) -> tuple[TaskSpec, ...]:
    """Gives the parts: those that wait for no other part wait for what the whole waited for; its agent is theirs."""
    parts = [part.spec() for part in drafts]
    keys = {part.key for part in parts}
    return tuple(
        replace(
            part,
            depends_on=part.depends_on if keys & set(part.depends_on) else _joined(task.depends_on, part.depends_on),
            agent=part.agent or ("" if part.run else task.agent),
            timeout_seconds=task.timeout_seconds,
            max_attempts=task.max_attempts,
            retryable=task.retryable,
        )
        for part in parts
    )


def _joined(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))
