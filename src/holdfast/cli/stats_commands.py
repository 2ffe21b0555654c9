"""`stats`: what plans, tasks, steps and agents came to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import verb
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.domain.stats import Figures, Summary, Work

_FIGURES = ("steps", "succeeded", "retries", "median", "90 % within", "tokens", "cost")


@verb(
    "stats",
    example="""
    holdfast stats
    holdfast stats --project shop --json
    holdfast stats --plan P3
    """,
)
@click.option("--project", default="", metavar="SLUG", help="Only of this project.")
@click.option("--plan", default="", metavar="PLAN", help="Only of this plan.")
def stats(session: Session, project: str, plan: str) -> int:
    """Sum up plans, tasks and steps: how they went, how long they took, what they used.

    In all, per project, and per agent and model. Times are those of steps that ended on their own.
    """
    from holdfast.app import plans, projects
    from holdfast.app import stats as figures

    if project and plan:
        raise click.UsageError("--project and --plan: say one of them")
    with session.house() as house:
        found = figures.gather(
            house,
            project_id=projects.find(house, project, Path.cwd()).id if project else None,
            plan_id=plans.find(house, plan) if plan else None,
        )
    if session.json:
        session.document(found)
    else:
        _show(session, found)
    return 0


def _show(session: Session, found: Summary) -> None:
    from holdfast.cli import render

    render.show(session.out, render.facts(_all(found.all)))
    if len(found.projects) > 1:
        rows = [
            [each.project, str(sum(each.figures.plans.values())), *_row(each.figures.work)] for each in found.projects
        ]
        render.say(session.out)
        render.show(session.out, render.table(["project", "plans", *_FIGURES], rows, right=("plans", *_FIGURES)))
    if found.agents:
        rows = [[each.agent or "(commands)", each.model, *_row(each.work)] for each in found.agents]
        render.say(session.out)
        render.show(session.out, render.table(["agent", "model", *_FIGURES], rows, right=_FIGURES))


def _all(figures: Figures) -> list[tuple[str, str]]:
    from holdfast.cli.render import cost, seconds, tokens

    work, times = figures.work, figures.work.durations
    states = ("running", "completed", "failed", "interrupted", "rolled_back")
    steps = {state: number for state in states if (number := getattr(work.steps, state))}
    share = f"{_share(work)} of {work.steps.ended}" if work.steps.ended else ""
    lasted = (
        ""
        if times is None
        else (
            f"median {seconds(times.median_seconds)}, 90 % within {seconds(times.p90_seconds)}, "
            f"together {seconds(times.total_seconds)}"
        )
    )
    return [
        ("plans", _counted(figures.plans)),
        ("tasks", _counted(figures.tasks)),
        ("steps", _counted(steps)),
        ("succeeded", share),
        ("retries", str(work.steps.retries or "")),
        ("time", lasted),
        ("tokens", tokens(work.spent)),
        ("cost", cost(work.spent)),
    ]


def _counted(counts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{number} {state.replace('_', ' ')}" for state, number in counts.items())
    return f"{sum(counts.values())} ({listed})" if counts else "none"


def _row(work: Work) -> list[str]:
    from holdfast.cli.render import cost, seconds

    times, used = work.durations, work.spent.total_tokens
    return [
        str(work.steps.steps),
        _share(work),
        str(work.steps.retries),
        "" if times is None else seconds(times.median_seconds),
        "" if times is None else seconds(times.p90_seconds),
        f"{used:,}" if used else "",
        cost(work.spent),
    ]


def _share(work: Work) -> str:
    return "" if work.success_share is None else f"{work.success_share:.0%}"
