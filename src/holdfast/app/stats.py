"""Figures: what plans, tasks, steps and agents came to, of a plan, a project, or all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from holdfast.app.wire import House
from holdfast.domain.stats import AgentFigures, Durations, Figures, Kind, ProjectFigures, Summary, Tally, work
from holdfast.store import projects, stats


def gather(house: House, *, project_id: str | None = None, plan_id: str | None = None) -> Summary:
    """Gives the figures of a plan, else of a project, else of all, as of one moment."""
    place = {"project_id": project_id, "plan_id": plan_id}
    with house.database.read(snapshot=True) as connection:
        plans = stats.plan_statuses(connection, **place)
        tasks = stats.task_statuses(connection, **place)
        tallies = stats.tallies(connection, **place)
        lasted = {by: stats.durations(connection, *by, **place) for by in ((), ("project_id",), ("agent", "model"))}
        slugs = {each: projects.get(connection, each).slug for each in plans}
    return Summary(
        _figures(plans, tasks, tallies, lasted[()].get(())),
        tuple(
            ProjectFigures(
                slug,
                _figures(
                    {each: plans[each]},
                    {each: tasks.get(each, {})},
                    {kind: tally for kind, tally in tallies.items() if kind.project_id == each},
                    lasted["project_id",].get((each,)),
                ),
            )
            for each, slug in sorted(slugs.items(), key=lambda item: item[1])
        ),
        tuple(
            AgentFigures(
                *key,
                work([tally for kind, tally in tallies.items() if (kind.agent, kind.model) == key], times),
            )
            for key in sorted({(kind.agent, kind.model) for kind in tallies})
            for times in [lasted["agent", "model"].get(key)]
        ),
    )


def _figures(
    plans: Mapping[str, Mapping[str, int]],
    tasks: Mapping[str, Mapping[str, int]],
    tallies: Mapping[Kind, Tally],
    lasted: Durations | None,
) -> Figures:
    return Figures(_summed(plans), _summed(tasks), work(tallies.values(), lasted))


def _summed(by_project: Mapping[str, Mapping[str, int]]) -> Mapping[str, int]:
    whole: Counter[str] = Counter()
    for each in by_project.values():
        whole.update(each)
    return dict(sorted(whole.items()))
