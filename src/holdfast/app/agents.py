"""Agents: which can be asked for by name, and which of them are on this machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from holdfast.agents.catalog import AgentSpec, Found, find, known, named
from holdfast.errors import Unavailable
from holdfast.settings import Settings


@dataclass(frozen=True, slots=True)
class AgentView:
    """One agent, and whether its program is on this machine. `hint` says how to get it, or how to log in.

    Of the variables that are set for it the names alone are told: a value may be a key.
    """

    name: str
    title: str
    found: bool
    path: str
    version: str
    hint: str
    spec: AgentSpec


def list_(settings: Settings, *, found_only: bool = False) -> tuple[AgentView, ...]:
    """Gives the agents by name, those of the user's own file too; asks all programs for their versions at once."""
    specs = list(known(settings).values())
    with ThreadPoolExecutor(max_workers=len(specs)) as pool:
        views = tuple(pool.map(_view, specs))
    return tuple(view for view in views if view.found or not found_only)


def show(settings: Settings, name: str) -> AgentView:
    """Gives one agent; raises NotFound for a name that no file has."""
    return _view(named(settings, name))


def require(settings: Settings, name: str) -> tuple[AgentSpec, Found]:
    """Gives an agent that can be started; raises Unavailable, saying how to get it, where its program is missing."""
    spec = named(settings, name)
    place = find(spec)
    if not isinstance(place, Found):
        raise Unavailable(f"the program {spec.command[0]!r} of agent {name!r} is not here", hint=place.hint)
    return spec, place


def _view(spec: AgentSpec) -> AgentView:
    place = find(spec)
    title = spec.title or spec.name
    spec = replace(spec, environment=dict.fromkeys(spec.environment, "…"))
    if isinstance(place, Found):
        return AgentView(spec.name, title, True, str(place.path), place.version, spec.login, spec)
    return AgentView(spec.name, title, False, "", "", place.hint, spec)
