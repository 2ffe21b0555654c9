"""Agents: which can be asked for by name, and which of them are on this machine."""

from __future__ import annotations

import asyncio
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.agents.catalog import AgentSpec, Found, find, known, named
from holdfast.errors import Unavailable
from holdfast.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.agents.acp import Capabilities, Opening, TurnOutcome
    from holdfast.domain.conversation import PermissionWanted, Update


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


@dataclass(frozen=True, slots=True)
class AgentCheck:
    """What an agent said it can do when a session was opened with it. `seconds` is what all of that took."""

    name: str
    path: str
    can: Capabilities
    seconds: float
    peak_memory_bytes: int


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


def check(settings: Settings, name: str) -> AgentCheck:
    """Opens a session with an agent, in an empty folder, and ends it: no prompt is sent, so it costs nothing.

    Raises Unavailable, with what the agent said, where its program is missing, no session is opened, or it wants a
    login. The agent may keep the empty session in its own history.
    """
    spec, place = require(settings, name)
    with tempfile.TemporaryDirectory(prefix="holdfast-check-") as folder:
        outcome = asyncio.run(_open(settings, spec, place, Path(folder)))
    if not outcome.session_id:
        hint = spec.login if outcome.reason == "not_logged_in" else f"try it by hand: {' '.join(spec.command)}"
        raise Unavailable(
            f"agent {name!r} opened no session: {outcome.message}",
            hint=f"log in: {hint}" if outcome.reason == "not_logged_in" and hint else hint,
            code=outcome.reason,
        )
    return AgentCheck(name, str(place.path), outcome.capabilities, outcome.seconds, outcome.peak_memory_bytes)


async def _open(settings: Settings, spec: AgentSpec, place: Found, folder: Path) -> TurnOutcome:
    from holdfast.agents import Launch, environment, kill_strays
    from holdfast.agents.acp import Limits, SessionWanted, run_session
    from holdfast.clock import new_id

    (folder / "worktree").mkdir()
    launch = Launch(
        cwd=str(folder / "worktree"),
        env=environment(settings.command_environment.split(","), {}, spec.variables(os.environ)),
        token=new_id(),
        argv=(str(place.path), *spec.command[1:]),
        grace_seconds=settings.stop_grace_seconds,
    )

    async def no_prompt(opening: Opening) -> str | None:
        return None

    async def heard(updates: Sequence[Update], position: int) -> None:
        return None

    async def refuse(question: PermissionWanted) -> str | None:
        return None

    try:
        return await run_session(
            folder / "run",
            launch,
            SessionWanted().with_agent(spec),
            no_prompt,
            on_updates=heard,
            ask=refuse,
            stop=asyncio.Event(),
            limits=Limits.of(settings),
        )
    finally:
        await asyncio.to_thread(kill_strays, launch.token)


def _view(spec: AgentSpec) -> AgentView:
    place = find(spec)
    title = spec.title or spec.name
    spec = replace(spec, environment=dict.fromkeys(spec.environment, "…"))
    if isinstance(place, Found):
        return AgentView(spec.name, title, True, str(place.path), place.version, spec.login, spec)
    return AgentView(spec.name, title, False, "", "", place.hint, spec)
