"""Agents: which can be asked for by name, and which of them are on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.agents.catalog import AgentSpec, Found, find, known, named
from holdfast.domain import permissions
from holdfast.errors import Unavailable, UserError
from holdfast.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.agents.acp import Capabilities, Opening, TurnOutcome
    from holdfast.app.wire import House
    from holdfast.domain.conversation import PermissionWanted, TokenUsage, Update
    from holdfast.domain.plan import Project
    from holdfast.sandbox import Sandbox, SandboxName

QUESTION = "Answer with the word yes alone. Use no tool and change nothing."


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
    """What an agent said it can do when a session was opened with it. `seconds` is what all of that took.

    `sandbox` is what it ran in, as a task of `project` would (empty: there was none). `usage` is what it told that it
    used; ACP has no other way to say that it tells that, so before a turn (`prompted`) None means nothing.
    """

    name: str
    path: str
    can: Capabilities
    seconds: float
    peak_memory_bytes: int
    sandbox: str
    project: str
    prompted: bool
    usage: TokenUsage | None


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


def check(house: House, name: str, *, project: str = "", path: Path | None = None, prompt: bool = False) -> AgentCheck:
    """Opens a session with an agent, in an empty folder, and ends it; without `prompt` it costs nothing.

    It is confined as in a task of that project, or of the one that `path` is in; where there is none it is not. With
    `prompt` it is asked one short question, since only a turn shows whether it tells what it uses; whatever it asks
    permission for is refused.

    Raises Unavailable, with what the agent said, where its program is missing, the sandbox does not work, no session is
    opened, no answer given, or it wants a login. The agent may keep the session in its own history.
    """
    from holdfast.clock import new_id
    from holdfast.engine import confine
    from holdfast.engine.agent_drafter import FILES, remove_left
    from holdfast.sandbox import SandboxName, made

    spec, place = require(house.settings, name)
    found = _project(house, project, path or Path.cwd())
    sandbox = confine.sandbox_of(house.settings, found) if found is not None else made(SandboxName.NONE, "")
    if found is not None and sandbox.name is not SandboxName.NONE:
        house.workspaces.vault(found)  # all that is confined is shown it
    folder = house.places.draft(new_id())
    remove_left(folder.parent)
    (folder / FILES).mkdir(parents=True)
    try:
        outcome = asyncio.run(_open(house, spec, found, sandbox, folder, prompt))
    finally:
        confine.kill_run(sandbox, folder.name)
        shutil.rmtree(folder, ignore_errors=True)
    if not outcome.session_id or (prompt and not outcome.succeeded):
        raise _no_answer(spec, sandbox.name, outcome)
    return AgentCheck(
        name,
        str(place.path),
        outcome.capabilities,
        outcome.seconds,
        outcome.peak_memory_bytes,
        str(sandbox.name),
        found.slug if found is not None else "",
        prompt,
        outcome.usage,
    )


def _project(house: House, slug: str, path: Path) -> Project | None:
    """Gives the project of that slug, else the one that `path` is in, None where that is no project's."""
    from holdfast.app import projects

    try:
        return projects.find(house, slug, path)
    except UserError:
        if slug:
            raise
        return None


def _no_answer(spec: AgentSpec, sandbox: SandboxName, outcome: TurnOutcome) -> Unavailable:
    where = "" if sandbox == "none" else f" in the sandbox {sandbox}"
    what = "did not answer" if outcome.session_id else "opened no session"
    hint = f"log in: {spec.login}" if spec.login and outcome.reason == "not_logged_in" else ""
    if not hint and where:
        hint = f"try it without the sandbox: HOLDFAST_SANDBOX=none holdfast agent check {spec.name}"
    hint = hint or f"try it by hand: {' '.join(spec.command)}"
    return Unavailable(f"agent {spec.name!r} {what}{where}: {outcome.message}", hint=hint, code=outcome.reason)


async def _open(
    house: House, spec: AgentSpec, project: Project | None, sandbox: Sandbox, folder: Path, prompt: bool
) -> TurnOutcome:
    """Holds the session in a folder like that of a question to a drafter: the next one removes what a crash left."""
    from holdfast.agents import Launch, environment
    from holdfast.agents.acp import Limits, SessionWanted, run_session
    from holdfast.engine import confine
    from holdfast.engine.agent_drafter import FILES, RUN

    settings, places = house.settings, house.places
    command, shown = confine.shown_to_agent(sandbox, places, folder / "home", spec)
    plain = Launch(
        argv=command,
        cwd=str(folder / FILES),
        env=environment(settings.command_environment.split(","), {}, spec.variables(os.environ)),
        timeout_seconds=settings.planner_timeout_seconds,
        grace_seconds=settings.stop_grace_seconds,
        journal_max_bytes=settings.agent_journal_max_bytes,
        secrets=settings.secret_names,
        token=folder.name,
    )

    def confined(launch: Launch, run: Path) -> Launch:
        if project is None:
            return launch
        return confine.confined_with(launch, sandbox, settings, places, project.id, folder / "home", run, shown)

    async def next_prompt(opening: Opening) -> str | None:
        return QUESTION if prompt and opening.turn == 0 else None

    async def heard(updates: Sequence[Update], position: int) -> None:
        return None

    async def refuse(question: PermissionWanted) -> str | None:
        return permissions.option(question, allow=False)

    return await run_session(
        folder / RUN,
        plain,
        SessionWanted().with_agent(spec),
        next_prompt,
        on_updates=heard,
        ask=refuse,
        stop=asyncio.Event(),
        wrap=confined,
        limits=Limits.of(settings),
    )


def _view(spec: AgentSpec) -> AgentView:
    place = find(spec)
    title = spec.title or spec.name
    spec = replace(spec, environment=dict.fromkeys(spec.environment, "…"))
    if isinstance(place, Found):
        return AgentView(spec.name, title, True, str(place.path), place.version, spec.login, spec)
    return AgentView(spec.name, title, False, "", "", place.hint, spec)
