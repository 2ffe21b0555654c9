"""Which agent a task is run by, and whether it is there. Cheap to import: verbs ask before anything is started."""

from __future__ import annotations

from holdfast.agents import catalog
from holdfast.agents.catalog import AgentSpec
from holdfast.domain.plan import Project
from holdfast.domain.task import Task
from holdfast.errors import NotFound, Unavailable
from holdfast.settings import Settings


def agent_name(settings: Settings, project: Project, task: Task) -> str:
    """Gives the agent of a task: its own, else its project's, else that of the settings; empty where none is named."""
    return task.agent or str(project.settings.get("agent", "")) or settings.agent


def agent_of(settings: Settings, project: Project, task: Task) -> AgentSpec:
    """Gives the agent of a task; raises `Unavailable` where none is named, nobody knows it, or it is not installed."""
    name = agent_name(settings, project, task)
    if not name:
        raise Unavailable(
            f"the task {task.key!r} names no agent, nor does its project",
            hint="write `agent: NAME` into the plan file, or set HOLDFAST_AGENT; holdfast agent list shows them",
            code="agent_missing",
        )
    try:
        spec = catalog.named(settings, name)
    except NotFound as error:
        raise Unavailable(
            f"the task {task.key!r} needs {name}: {error.message}", hint=error.hint, code="agent_missing"
        ) from error
    place = catalog.program(spec)
    if isinstance(place, catalog.Missing):
        raise Unavailable(
            f"the task {task.key!r} needs the agent {name}, which is not installed",
            hint=place.hint,
            code="agent_missing",
        )
    return spec
