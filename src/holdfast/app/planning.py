"""Plans that a model or an agent drafts, reviews and changes; and what a plan will probably take.

Whoever drafts is asked first and without any lock; what comes of it is stored in one transaction, or nothing is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from holdfast import clock
from holdfast.agents import catalog
from holdfast.app import edits, plans, projects
from holdfast.app.edits import Edited
from holdfast.app.plans import Drafting
from holdfast.app.wire import House
from holdfast.domain import prices, suggestions
from holdfast.domain.conversation import TokenUsage
from holdfast.domain.estimate import Estimate, estimate, limits_cost_alone, unguarded
from holdfast.domain.plan import GateName, Plan, Project
from holdfast.domain.planfile import PlanFile, parse, render
from holdfast.domain.revisions import take_back
from holdfast.domain.step import state
from holdfast.domain.suggestions import Suggestion
from holdfast.domain.task import Task
from holdfast.domain.transitions import PlanStatus
from holdfast.engine import editing, inquiries, suggesting
from holdfast.engine.agent_choice import agent_name
from holdfast.engine.pricing import price_table
from holdfast.errors import IllegalState, NotFound, OverBudget, UsageError
from holdfast.planner import Context, Drafted, Drafter, Facts, ReviewType, draft_plan, review_plan
from holdfast.planner.context import MAX_FILE_BYTES, choose, describe, words
from holdfast.settings import Settings
from holdfast.store import edits as edit_rows
from holdfast.store import iterations, past, steps, tasks
from holdfast.store import plans as plan_rows
from holdfast.store import projects as project_rows
from holdfast.store.iterations import Iteration
from holdfast.vcs import contents_at, files_at, mentions

MAX_REQUEST = 20_000
RECENT_STEPS = 15


class Scope(StrEnum):
    PLAN = "plan"
    PHASE = "phase"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that was drafted. `plan` is None where it was not stored. `cut` says what the drafter was not told.

    `cost_usd` is None where the price of the model is not known.
    """

    plan: Plan | None
    file: PlanFile
    text: str
    author: str
    answers: int
    usage: TokenUsage
    cost_usd: float | None
    files: tuple[str, ...]
    cut: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """What was suggested for a plan: numbered from 1 in the order of `suggestions`, kept as that `iteration`."""

    plan: Plan
    iteration: int
    type: ReviewType
    suggestions: tuple[Suggestion, ...]
    author: str
    usage: TokenUsage
    cost_usd: float | None
    cut: tuple[str, ...]


# -- generate ----------------------------------------------------------------------------------------------------------


def generate(
    house: House,
    project: Project,
    request: str,
    drafter: Drafter,
    *,
    base: str = "",
    gates: Collection[GateName] = (),
    agents: Collection[str] = (),
    dry_run: bool = False,
) -> Draft:
    """Drafts a plan for a request in plain words and stores it, as a draft with its first iteration.

    `agents` are those that its tasks may name. Raises what the drafter raises; then nothing is stored.
    """
    if not request.strip():
        raise UsageError("the request is empty", hint='say what is to be done: holdfast plan generate "…"')
    if len(request) > MAX_REQUEST:
        raise UsageError(
            f"the request is longer than {MAX_REQUEST:,} characters", hint="put the rest into a file of it"
        )
    commit = projects.start_commit(house, project, base)
    root = Path(project.path) if project.git else house.workspaces.vault(project).path
    context = _context(house, project, root, commit, request)
    drafted = asyncio.run(draft_plan(drafter, request, context, agents=agents))
    file = replace(drafted.result, gates=tuple(gate for gate in GateName if gate in gates), text="")
    text = render(file)
    cost = _cost(house, drafted)
    told = {"request": request, "plan": text, **_told(drafted, cost, context)}
    drafting = Drafting(request, text, replace(drafted.usage, cost_usd=cost), told)
    plan = None if dry_run else plans.create(house, project, file, base=commit, drafted=drafting)
    return Draft(plan, file, text, drafted.author, drafted.answers, drafted.usage, cost, context.files, context.cut)


def _told(drafted: Drafted[Any], cost: float | None, context: Context) -> dict[str, object]:
    """Gives what an iteration keeps of how a draft came about."""
    return {
        "drafter": drafted.author,
        "prompt": drafted.prompt,
        "answers": drafted.answers,
        "usage": {**asdict(drafted.usage), "cost_usd": cost},
        "files": context.files,
        "cut": context.cut,
    }


def _cost(house: House, drafted: Drafted[Any]) -> float | None:
    return prices.cost_of(price_table(house.settings), drafted.author, drafted.usage, clock.now().date())


def _context(house: House, project: Project, root: Path, commit: str, request: str) -> Context:
    """Gathers what a drafter is told of the project at a commit of the repository `root`."""
    files = files_at(root, commit)
    wanted = choose(request, files, mentions(root, commit, words(request)))
    small = [path for path in wanted if files[path] <= MAX_FILE_BYTES]
    cut = [f"{path} is too large to be shown" for path in wanted if path not in small]
    contents: dict[str, str] = {}
    for path, data in contents_at(root, commit, small).items():
        try:
            contents[path] = data.decode()
        except UnicodeDecodeError:
            cut.append(f"{path} is not text")
    facts = Facts(project.slug, files, contents, _recent_steps(house, project), cut)
    return describe(facts, house.settings.planner_context_characters)


def _recent_steps(house: House, project: Project) -> tuple[str, ...]:
    with house.database.read() as connection:
        newest = steps.list_(connection, project_id=project.id, limit=RECENT_STEPS).items
        titles = {step.task_id: tasks.get(connection, step.task_id).title for step in newest}
    return tuple(
        f"step {step.number}: {titles[step.task_id]}: {state(step)}, {step.files_changed} files changed"
        + (f", {step.error.strip().splitlines()[0][:200]}" if step.error.strip() else "")
        for step in newest
    )


# -- review and apply --------------------------------------------------------------------------------------------------


def review(
    house: House,
    plan_id: str,
    review_type: ReviewType,
    drafter: Drafter,
    *,
    scope: Scope = Scope.PLAN,
    target: str = "",
) -> Review:
    """Asks for suggestions to a plan, or to its phase or task `target`, and stores them with what they are for.

    Of a plan that has begun the work that is done is looked at: `present_commit` is where. What it uses is the plan's;
    raises `OverBudget` where that may use nothing more.
    """
    with house.database.read() as connection:
        plan = plan_rows.get(connection, plan_id)
        project = project_rows.get(connection, plan.project_id)
        limit = inquiries.spent(connection, plan)
    if plan.status in (PlanStatus.COMPLETED, PlanStatus.CANCELLED):
        raise IllegalState(f"P{plan.number} is {plan.status}: there is nothing left to change")
    if limit:
        raise OverBudget(f"P{plan.number} is not reviewed: {limit}", hint="then ask again")
    text = edits.text(house, plan_id)
    file = parse(text, source="plan")
    about, subject = _about(house, plan_id, file, scope, target)
    root, commit = house.workspaces.vault(project).path, present_commit(house, project, plan)
    context = _context(house, project, root, commit, f"{plan.title} {plan.description} {subject}")
    drafted = asyncio.run(review_plan(drafter, file, review_type, context, about=about))
    cost = _cost(house, drafted)
    content = {
        "type": review_type,
        "about": about,
        "plan": text,
        "suggestions": [suggestions.to_plain(each) for each in drafted.result],
        **_told(drafted, cost, context),
    }
    with house.database.transaction() as connection:
        plan = plan_rows.lock(connection, plan_id)
        kept = iterations.add(connection, plan_id, "review", house.actor, content)
        asked = f"Review {about}: {str(review_type).replace('_', ' ')}."
        used = replace(drafted.usage, cost_usd=cost)
        inquiries.keep_exchange(connection, house, plan, asked, suggestions.listed(drafted.result), used)
    return Review(plan, kept.number, review_type, drafted.result, drafted.author, drafted.usage, cost, context.cut)


def present_commit(house: House, project: Project, plan: Plan) -> str:
    """Gives the commit that a plan's work has come to: the head of its branch, or where it starts from."""
    vault = house.workspaces.vault(project)
    return vault.head(plan.branch) or house.workspaces.bring(project, plan.base_commit)


def _about(house: House, plan_id: str, file: PlanFile, scope: Scope, target: str) -> tuple[str, str]:
    """Gives what to look at, in words, and the words that say what it is about."""
    match scope:
        case Scope.PLAN:
            return "the whole plan", " ".join(task.title for phase in file.phases for task in phase.tasks)
        case Scope.PHASE:
            phase = suggestions.find_phase(file, target)
            if phase is None:
                listed = ", ".join(repr(each.title) for each in file.phases)
                raise NotFound(f"the plan has no phase {target!r}", hint=f"its phases: {listed}")
            return f"the phase {phase.title!r} alone", " ".join((phase.title, *(each.title for each in phase.tasks)))
        case Scope.TASK:
            with house.database.read() as connection:
                task = tasks.get(connection, tasks.find(connection, target, plan_id=plan_id))
            return f"the task with the key {task.key!r} alone", f"{task.title} {task.instructions}"


def apply(
    house: House, plan_id: str, numbers: Sequence[int], *, iteration: int | None = None, dry_run: bool = False
) -> Edited:
    """Carries out suggestions of a review (default: the newest), all of them or none, in the order of their numbers.

    Raises `Stale` if one was made for what is no longer so, and `IllegalState` if its target has started.
    """
    kept = _review(house, plan_id, iteration)
    stored = cast("list[dict[str, Any]]", kept.content["suggestions"])
    unknown = [number for number in numbers if not 1 <= number <= len(stored)]
    if unknown or not numbers:
        hint = f"it has 1 to {len(stored)}" if stored else "it suggests nothing"
        raise UsageError(f"the review {kept.number} has no suggestion {unknown[0] if unknown else ''}", hint=hint)
    chosen = sorted(set(numbers))
    wanted = [suggestions.from_plain(stored[number - 1]) for number in chosen]

    told = {"by": "plan apply", "review": kept.number, "suggestions": chosen}
    if dry_run:
        with house.database.read() as connection:
            return suggesting.tried(edit_rows.outline(connection, plan_rows.get(connection, plan_id)), wanted)
    with house.database.transaction() as connection:
        plan = plan_rows.lock(connection, plan_id)
        return suggesting.carry_out(connection, plan, wanted, told, actor=house.actor, wake=house.wake)


def _review(house: House, plan_id: str, iteration: int | None) -> Iteration:
    with house.database.read() as connection:
        if iteration is not None:
            found = iterations.get(connection, plan_id, iteration)
            if found.kind != "review":
                raise UsageError(f"the iteration {iteration} is no review but: {found.kind}", hint=_LIST)
            return found
        newest = iterations.newest(connection, plan_id, "review")
    if newest is None:
        raise NotFound("the plan was never reviewed", hint="ask for suggestions: holdfast plan review")
    return newest


_LIST = "list them: holdfast plan iterations"


def summary(iteration: Iteration) -> str:
    """Gives in a line what an iteration was about."""
    content = cast("dict[str, Any]", dict(iteration.content))
    match iteration.kind:
        case "generate":
            return f"{content['request']} ({content['drafter']})"
        case "review":
            return f"{content['type']} of {content['about']}: {len(content['suggestions'])} suggestions"
        case "apply":
            listed = ", ".join(str(number) for number in content["suggestions"])
            return f"suggestions {listed} of the review {content['review']}"
        case "revert":
            return f"took iteration {content['of']} back"
        case _:
            changes = [f"{each['subject']} {each['name']} {each['deed']}" for each in content.get("changes", [])]
            return ", ".join(changes)


def revert(house: House, plan_id: str, iteration: int, *, dry_run: bool = False) -> Edited:
    """Takes the change of one iteration back, and leaves later changes of other things; it is an iteration itself.

    Raises `Stale` if what it changed was changed again, `IllegalState` if that has started or nothing was changed.
    """
    with house.database.read() as connection:
        kept = iterations.get(connection, plan_id, iteration)
    before, after = kept.content.get("before"), kept.content.get("after")
    if not isinstance(before, str) or not isinstance(after, str):
        hint = "end the plan instead: holdfast plan cancel" if kept.kind == "generate" else _LIST
        raise IllegalState(
            f"the iteration {iteration} ({kept.kind}) changed nothing that could be taken back", hint=hint
        )
    old, new = parse(before, source="plan"), parse(after, source="plan")
    renamed, told = dict(_renamed(kept)), {"of": iteration}

    def change(now: PlanFile) -> PlanFile:
        return take_back(now, old, new)

    reopened = suggesting.reopened_by(kept)
    if reopened is None:
        return edits.revise(house, plan_id, change, kind="revert", told=told, renamed=renamed, dry_run=dry_run)
    make = editing.changed(change, renamed)
    if dry_run:
        with house.database.read() as connection:
            return suggesting.tried_back(connection, plan_rows.get(connection, plan_id), reopened, make)
    told = {"by": "plan revert", **told}
    with house.database.transaction() as connection:
        plan = plan_rows.lock(connection, plan_id)
        return suggesting.take_back(connection, plan, reopened, make, told, actor=house.actor, wake=house.wake)


def _renamed(kept: Iteration) -> Iterator[tuple[str, str]]:
    """Gives the keys that tasks get back, each with the one that the iteration gave the task."""
    for change in cast("list[dict[str, Any]]", kept.content["changes"]):
        if change["subject"] == "task" and change["deed"] == "edited" and "key" in change["after"]:
            yield change["before"]["key"], change["after"]["key"]


# -- estimate ----------------------------------------------------------------------------------------------------------


def estimated(house: House, plan_id: str, *, model: str = "") -> Estimate:
    """Gives what is left of a plan will probably take; `model` prices tokens where no past task tells its cost."""
    price = price_table(house.settings).find(model, clock.now().date()) if model else None
    if model and price is None:
        raise UsageError(f"the price of {model!r} is not known", hint="add it to the file that HOLDFAST_PRICES names")
    with house.database.read() as connection:
        plan = plan_rows.get(connection, plan_id)
        project = project_rows.get(connection, plan.project_id)
        listed = plan_rows.tasks_of(connection, plan_id)
        found = estimate(
            plan_rows.phases_of(connection, plan_id),
            listed,
            past.past_tasks(connection),
            project_id=plan.project_id,
            max_parallel=house.settings.max_parallel,
            token_cost=lambda tokens: None if price is None else prices.cost_of_total(price, tokens),
        )
    told = unguarded(plan, listed, found, lambda task: _is_priced(house.settings, project, task))
    return replace(found, warnings=tuple(told))


def warnings(house: House, plan_id: str) -> tuple[str, ...]:
    """Says which limits of a plan may never be reached; looks at what was done before only where one could be so."""
    with house.database.read() as connection:
        budgets = [plan_rows.get(connection, plan_id).budget]
        budgets += [task.budget for task in plan_rows.tasks_of(connection, plan_id)]
    return estimated(house, plan_id).warnings if any(map(limits_cost_alone, budgets)) else ()


def _is_priced(settings: Settings, project: Project, task: Task) -> bool:
    """Tells whether a task's agent names a model whose price is known."""
    try:
        model = catalog.named(settings, agent_name(settings, project, task)).model
    except (NotFound, UsageError):
        return False
    return price_table(settings).find(model, clock.now().date()) is not None
