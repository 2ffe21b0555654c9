"""Which agent a task is run by, whether it is there, and what it may do unasked.

Cheap to import: verbs ask before anything is started.
"""

from __future__ import annotations

from holdfast.agents import catalog
from holdfast.agents.catalog import AgentSpec
from holdfast.domain import permissions
from holdfast.domain.permissions import Policy
from holdfast.domain.plan import Plan, Project
from holdfast.domain.task import Task
from holdfast.errors import NotFound, Unavailable, UsageError
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


def installed_agent(settings: Settings, name: str) -> AgentSpec:
    """Gives the agent of that name; raises `Unavailable` where it is not installed, `NotFound` if nobody knows it."""
    spec = catalog.named(settings, name)
    place = catalog.program(spec)
    if isinstance(place, catalog.Missing):
        raise Unavailable(f"the agent {name} is not installed", hint=place.hint, code="agent_missing")
    return spec


def supervisor_of(settings: Settings, project: Project, plan: Plan, *, agent: str = "", model: str = "") -> str:
    """Gives who answers for a plan, "agent:NAME" or a model's name: who is given, else the plan's own, else who is set.

    Raises `Unavailable` where none is named, or the agent is not installed.
    """
    if model:
        return model
    chosen = agent or plan.supervisor_agent or settings.supervisor_agent
    if not chosen and settings.planner_model:
        return settings.planner_model
    chosen = chosen or str(project.settings.get("agent", "")) or settings.agent
    if not chosen:
        raise Unavailable(
            "nobody is named to be the plan's supervisor",
            hint="name an agent: --agent NAME, or HOLDFAST_SUPERVISOR_AGENT; holdfast agent list shows them",
            code="agent_missing",
        )
    return f"agent:{installed_agent(settings, chosen).name}"


def policy_of(settings: Settings, project: Project, plan: Plan, task: Task) -> Policy:
    """Gives what a task's agent may do unasked, as the task, plan, agent, project and settings say, the nearest first.

    Raises `UsageError` where one of them is no policy.
    """
    try:
        of_agent = catalog.named(settings, agent_name(settings, project, task)).permissions
    except NotFound:
        of_agent = None
    given = project.settings.get("permissions")
    return permissions.in_force(
        task.permissions,
        plan.permissions,
        of_agent,
        None if given is None else permissions.read(given),
        default_policy(settings),
    )


def default_policy(settings: Settings) -> Policy:
    """Gives what agents may do unasked where nothing else says; raises `UsageError` that names the setting."""
    try:
        return permissions.read(settings.permissions)
    except UsageError as error:
        raise UsageError(f"HOLDFAST_PERMISSIONS: {error.message}", hint=error.hint) from error
