"""`plan generate|review|apply|iterations|revert|estimate`: plans that a model or an agent helps with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from holdfast.cli.grammar import dry_run_option, page_options, project_option, verb
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.edits import Edited
    from holdfast.app.planning import Draft, Review
    from holdfast.app.wire import House
    from holdfast.domain.conversation import TokenUsage
    from holdfast.domain.estimate import Estimate, Spread
    from holdfast.domain.suggestions import Suggestion

Function = TypeVar("Function", bound=Callable[..., Any])

TYPES = ("refine_descriptions", "add_missing", "optimize_order", "break_down")
gate_option = click.option(
    "--gate", "gates", multiple=True, type=click.Choice(["plan", "result"]), help="Where you decide; repeatable."
)
plan_argument = click.argument("plan", metavar="PLAN")


def drafter_options(function: Function) -> Function:
    """Adds `--model` and `--agent`, of which one may be given."""
    model = click.option(
        "--model", default="", metavar="PROVIDER:NAME", help="Model that drafts (HOLDFAST_PLANNER_MODEL)."
    )
    agent = click.option("--agent", default="", metavar="NAME", help="Agent that drafts, in a mode that only reads.")
    return model(agent(function))


def refuse_both(model: str, agent: str) -> None:
    if model and agent:
        raise click.UsageError("--model and --agent exclude each other")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options of a command say about the plan to be drafted, and who shall do it."""

    project: str
    base: str
    gates: tuple[str, ...]
    model: str
    agent: str


@verb(
    "generate",
    example="""
    holdfast plan generate "Add rate limiting to the API" --gate plan
    holdfast plan generate "Port the tests to pytest" --model anthropic:claude-opus-5 --dry-run
    """,
)
@click.argument("request")
@project_option
@click.option("--base", default="", metavar="REF", help="Branch or commit to start from (default: the checkout's).")
@gate_option
@drafter_options
@dry_run_option
def generate(
    session: Session,
    request: str,
    project: str,
    base: str,
    gates: tuple[str, ...],
    model: str,
    agent: str,
    dry_run: bool,
) -> int:
    """Draft a plan for a request in plain words.

    The model, or agent, is told the request and a part of the project: its file tree, its README, files that the
    request names or that have its words, recent steps. The plan is stored as a draft that you can look at, edit, have
    reviewed and execute.
    """
    with session.house() as house:
        wishes = Wishes(project, base, gates, model, agent)
        show_draft(session, drafted(session, house, request, wishes, dry_run=dry_run))
    return 0


def drafted(session: Session, house: House, request: str, wishes: Wishes, *, dry_run: bool) -> Draft:
    """Gives the plan that was drafted for a request, stored unless it is a dry run."""
    from holdfast.app import planning, projects
    from holdfast.app.wire import drafter
    from holdfast.domain.plan import GateName

    refuse_both(wishes.model, wishes.agent)
    found = projects.find(house, wishes.project, Path.cwd())
    commit = projects.start_commit(house, found, wishes.base)
    who = drafter(house, found, commit, model=wishes.model, agent=wishes.agent)
    session.note(f"{who.name} drafts a plan")
    gates = [GateName(gate) for gate in wishes.gates]
    return planning.generate(house, found, request, who, base=wishes.base, gates=gates, dry_run=dry_run)


def show_draft(session: Session, made: Draft) -> None:
    """Prints a plan that was drafted, what that took and what the drafter was not told."""
    from holdfast.cli.render import say

    if session.json:
        session.document(made)
        return
    say(session.out, made.text.rstrip())
    for each in made.cut:
        session.note(f"{made.author} was not told everything: {each}")
    session.note(_spent(made.author, made.usage, made.cost_usd))
    if made.plan is None:
        say(session.out, "nothing was stored (--dry-run)", style="dim")
        return
    name = f"P{made.plan.number}"
    say(session.out, f"{name} is a draft; look: holdfast plan review {name}   start it: holdfast plan execute {name}")


def _spent(author: str, usage: TokenUsage, cost_usd: float | None) -> str:
    cost = "at an unknown cost" if cost_usd is None else f"for ${cost_usd:.4f}"
    return f"{author} used {usage.total_tokens:,} tokens {cost}"


@verb(
    "review",
    example="""
    holdfast plan review P3 --type add_missing
    holdfast plan review P3 --type break_down --scope task migrate
    """,
)
@plan_argument
@click.argument("target", required=False, default="", metavar="[PHASE|TASK]")
@click.option(
    "--type", "review_type", type=click.Choice(TYPES), default="add_missing", show_default=True, help="What for."
)
@click.option(
    "--scope", type=click.Choice(["plan", "phase", "task"]), default="plan", show_default=True, help="What to look at."
)
@drafter_options
def review(session: Session, plan: str, target: str, review_type: str, scope: str, model: str, agent: str) -> int:
    """Ask for suggestions how to make a plan better.

    Nothing changes but that the suggestions are kept; `holdfast plan apply PLAN 1 3` carries some of them out.
    """
    from holdfast.app import planning, plans
    from holdfast.app.wire import drafter
    from holdfast.planner import ReviewType

    refuse_both(model, agent)
    if (scope == "plan") == bool(target):
        raise click.UsageError("name a phase or task with --scope phase or --scope task, and only then")
    with session.house() as house:
        plan_id = plans.find(house, plan)
        view = plans.show(house, plan_id)
        at = planning.present_commit(house, view.project, view.plan)
        who = drafter(house, view.project, at, model=model, agent=agent)
        session.note(f"{who.name} reviews the plan")
        made = planning.review(house, plan_id, ReviewType(review_type), who, scope=planning.Scope(scope), target=target)
    if session.json:
        session.document(made)
    else:
        _show_review(session, made)
    return 0


def _show_review(session: Session, made: Review) -> None:
    from holdfast.cli.render import say

    for number, each in enumerate(made.suggestions, 1):
        say(session.out, f"{number}  {each.kind}  {each.target}", style="bold")
        say(session.out, f"   {each.reasoning}")
        _show_parts(session, each)
    session.note(_spent(made.author, made.usage, made.cost_usd))
    name = f"P{made.plan.number}"
    if made.suggestions:
        say(session.out, f"carry some out: holdfast plan apply {name} 1 …", style="dim")
    else:
        say(session.out, f"{made.author} has no suggestion for {name}")


def _show_parts(session: Session, suggestion: Suggestion) -> None:
    """Prints what a suggestion takes away and what it puts there, as plan files have it."""
    import difflib

    from holdfast.cli.render import say
    from holdfast.domain.suggestions import fragment

    before, after = fragment(suggestion.before).splitlines(), fragment(suggestion.after).splitlines()
    for line in list(difflib.unified_diff(before, after, n=2, lineterm=""))[3:]:
        say(session.out, f"   {line}", style={"+": "green", "-": "red"}.get(line[:1], "dim"))


@verb(
    "apply",
    example="""
    holdfast plan apply P3 1 3
    holdfast plan apply P3 2 --review 4 --dry-run
    """,
)
@plan_argument
@click.argument("numbers", nargs=-1, required=True, type=click.IntRange(1), metavar="NUMBER…")
@click.option(
    "--review", "iteration", type=click.IntRange(1), default=None, help="Iteration of the review (default: newest)."
)
@dry_run_option
def apply(session: Session, plan: str, numbers: tuple[int, ...], iteration: int | None, dry_run: bool) -> int:
    """Carry out suggestions of a review, all of them or none.

    One that was made for what has changed since is refused, and so is one whose task or phase has started.
    """
    from holdfast.app import planning, plans

    with session.house() as house:
        plan_id = plans.find(house, plan)
        done = planning.apply(house, plan_id, numbers, iteration=iteration, dry_run=dry_run)
    _show_edited(session, done, dry_run)
    return 0


def _show_edited(session: Session, done: Edited, dry_run: bool) -> None:
    from holdfast.cli.render import safe, say

    if session.json:
        session.document({"dry_run": dry_run, **_edited(done)})
        return
    for line in done.difference.splitlines()[2:]:
        say(session.out, line, style={"+": "green", "-": "red"}.get(line[:1], "dim"))
    name = f"P{done.plan.number} {safe(done.plan.title)}"
    if dry_run:
        say(session.out, "nothing was stored (--dry-run)", style="dim")
    elif done.iteration is None:
        say(session.out, f"{name} is so already")
    else:
        back = f"holdfast plan revert P{done.plan.number} {done.iteration}"
        say(session.out, f"{name} is changed (iteration {done.iteration}); take it back: {back}")


def _edited(done: Edited) -> Mapping[str, object]:
    return {
        "plan": done.plan,
        "changes": done.changes,
        "before": done.before,
        "after": done.after,
        "iteration": done.iteration,
    }


@verb("iterations", example="holdfast plan iterations P3")
@plan_argument
@page_options(50)
def iterations(session: Session, plan: str, limit: int, cursor: str) -> int:
    """Show how a plan came to be as it is, newest first.

    Each generation, review, edit and application is an iteration: who asked for it, what it changed. With --json they
    have their prompts, plan files and usage too.
    """
    from holdfast.app import edits, planning, plans
    from holdfast.cli.render import say, show, table, when

    with session.house() as house:
        page = edits.history(house, plans.find(house, plan), limit=limit, cursor=cursor)
    if session.json:
        session.document(page)
        return 0
    if not page.items:
        say(session.out, "the plan is as it was made")
        return 0
    rows = [
        [str(each.number), each.kind, planning.summary(each), each.author, when(each.created_at)] for each in page.items
    ]
    show(session.out, table(["iteration", "kind", "what", "by", "at"], rows, right=("iteration",)))
    session.more(page.next_cursor)
    return 0


@verb(
    "revert",
    example="""
    holdfast plan revert P3 4
    holdfast plan revert P3 4 --dry-run
    """,
)
@plan_argument
@click.argument("iteration", type=click.IntRange(1))
@dry_run_option
def revert(session: Session, plan: str, iteration: int, dry_run: bool) -> int:
    """Take the change of one iteration back.

    What was changed elsewhere since stays. It is refused where the same thing was changed again, or has started. It is
    an iteration itself, so it can be taken back too.
    """
    from holdfast.app import planning, plans

    with session.house() as house:
        done = planning.revert(house, plans.find(house, plan), iteration, dry_run=dry_run)
    _show_edited(session, done, dry_run)
    return 0


@verb(
    "estimate",
    example="""
    holdfast plan estimate P3
    holdfast plan estimate P3 --model anthropic:claude-opus-5
    """,
)
@plan_argument
@click.option("--model", default="", metavar="NAME", help="Model whose price tokens have, where history knows no cost.")
def estimate(session: Session, plan: str, model: str) -> int:
    """Tell what is left of a plan will probably take: time, tokens, cost.

    From tasks like its own that were done before: the middle of them, and the range that eight in ten fell into. Where
    there are none it is a rough guess, and says so.
    """
    from holdfast.app import planning, plans

    with session.house() as house:
        plan_id = plans.find(house, plan)
        found = planning.estimated(house, plan_id, model=model)
        view = plans.show(house, plan_id)
    if session.json:
        session.document(found)
    else:
        names = {task.id: f"T{task.number} {task.title}" for task in view.tasks}
        _show_estimate(session, found, names)
    return 0


def _show_estimate(session: Session, found: Estimate, names: Mapping[str, str]) -> None:
    from holdfast.cli.render import say, show, table

    rows = [
        [names[one.task_id], *_figures(one.seconds, one.tokens, one.cost_usd), _basis(one.basis, one.samples)]
        for one in found.tasks
    ]
    rows.append(["all, one by one", *_figures(found.work_seconds, found.tokens, found.cost_usd), ""])
    rows.append(["from start to end", *_figures(found.elapsed_seconds, None, None)[:1], "", "", ""])
    show(session.out, table(["task", "time", "tokens", "cost", "from"], rows, right=("time", "tokens", "cost")))
    say(session.out, "each: the middle, and in brackets the range that eight in ten fall into", style="dim")
    for each in found.assumptions:
        say(session.out, f"- {each}", style="dim")
    for each in found.warnings:
        session.note(each)


def _figures(time: Spread, tokens: Spread | None, cost: Spread | None) -> list[str]:
    from holdfast.cli.render import seconds

    return [
        _spread(time, seconds),
        _spread(tokens, lambda value: f"{value:,.0f}") if tokens is not None else "",
        "unknown" if cost is None else _spread(cost, lambda value: f"${value:,.2f}"),
    ]


def _spread(spread: Spread, shown: Callable[[float], str]) -> str:
    if spread.low == spread.high:
        return shown(spread.middle)
    return f"{shown(spread.middle)} ({shown(spread.low)} to {shown(spread.high)})"


def _basis(basis: str, samples: int) -> str:
    return f"{basis.replace('_', ' ')} ({samples} tasks)" if samples else str(basis)
