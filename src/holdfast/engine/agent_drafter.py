"""A drafter of plans that is a coding agent: it reads the project's files, changes nothing, and answers in words.

Each answer is a session of its own, in a folder that is made for it and removed after it: the files of the commit that
the plan starts from, never the user's checkout. What was said before is told again, since many agents cannot load a
session. A process that dies leaves a folder, which the next drafter removes, and an agent that ends with its time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from holdfast import clock, planner
from holdfast.agents import Launch, RunState, environment, kill_strays, state
from holdfast.agents.acp import Limits, Opening, SessionWanted, TurnOutcome, run_session
from holdfast.agents.catalog import AgentSpec
from holdfast.domain import permissions
from holdfast.domain.conversation import PermissionWanted, Spoke, TokenUsage, Update
from holdfast.domain.permissions import Verdict
from holdfast.domain.plan import Project
from holdfast.domain.prompt import quoted
from holdfast.engine import confine
from holdfast.engine.places import Places
from holdfast.engine.workspace import Workspaces
from holdfast.errors import Unavailable
from holdfast.settings import Settings
from holdfast.vcs import write_files

RUN = "run"
FILES = "files"


@dataclass(slots=True)
class AgentDrafter:
    """Asks one agent about one commit of a project; `Drafter` of the planner is its contract."""

    settings: Settings
    places: Places
    workspaces: Workspaces
    project: Project
    commit: str
    agent: AgentSpec
    _said: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @property
    def name(self) -> str:
        return f"agent:{self.agent.name}"

    async def __call__(self, prompt: str, schema: Mapping[str, Any]) -> planner.Answer:
        folder = self.places.draft(clock.new_id())
        heard = Heard()
        try:
            await asyncio.to_thread(self._make, folder)
            asked = planner.with_schema(told_again(self._said) + prompt, schema)
            done = await self._hold(folder, asked, heard)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, True)
        if not done.succeeded:
            raise Unavailable(
                f"the agent {self.agent.name} gave no answer: {done.message or done.reason}",
                hint=f"log in: {self.agent.login}" if done.reason == "not_logged_in" else "look: holdfast agent check",
                code=done.reason,
            )
        self._said.append((prompt, heard.text))
        return planner.Answer(heard.text, done.usage or TokenUsage())

    def _make(self, folder: Path) -> None:
        remove_left(folder.parent)
        vault = self.workspaces.vault(self.project)
        if not vault.has_commit(self.commit):
            self.workspaces.bring(self.project, self.commit)
        write_files(vault, folder / FILES, self.commit)

    async def _hold(self, folder: Path, prompt: str, heard: Heard) -> TurnOutcome:
        settings, files = self.settings, str(folder / FILES)
        sandbox = await asyncio.to_thread(confine.sandbox_of, settings, self.project)
        command, shown = confine.shown_to_agent(sandbox, self.places, folder / "home", self.agent)
        plain = Launch(
            argv=command,
            cwd=files,
            env=environment(settings.command_environment.split(","), {}, self.agent.variables(os.environ)),
            timeout_seconds=settings.planner_timeout_seconds,
            grace_seconds=settings.stop_grace_seconds,
            journal_max_bytes=settings.agent_journal_max_bytes,
            token=folder.name,
            secrets=settings.secret_names,
        )

        def confined(launch: Launch, run: Path) -> Launch:
            home = folder / "home"
            return confine.confined_with(launch, sandbox, settings, self.places, self.project.id, home, run, shown)

        async def next_prompt(opening: Opening) -> str | None:
            return prompt if opening.turn == 0 else None

        async def ask(wanted: PermissionWanted) -> str | None:
            allowed = permissions.decide(permissions.READ_ONLY, wanted.call, files) is Verdict.ALLOW
            return permissions.option(wanted, allow=allowed)

        wanted = SessionWanted(writes_files=False, terminals=False).with_agent(self.agent)
        wanted = replace(wanted, mode=self.agent.read_only_mode or wanted.mode)
        try:
            return await run_session(
                folder / RUN,
                plain,
                wanted,
                next_prompt,
                on_updates=heard.take,
                ask=ask,
                stop=asyncio.Event(),
                wrap=confined,
                limits=Limits.of(settings),
            )
        finally:
            await asyncio.to_thread(confine.kill_run, sandbox, plain.token)


@dataclass(slots=True)
class Heard:
    """What an agent says in one session: each stretch of speech between its other doings is a paragraph."""

    _parts: list[str] = field(default_factory=list[str])
    _speaks: bool = False

    async def take(self, updates: Sequence[Update], _: int) -> None:
        for update in updates:
            spoken = isinstance(update, Spoke) and not update.thought
            if isinstance(update, Spoke) and spoken:
                self._parts.append(update.text if self._speaks or not self._parts else f"\n\n{update.text}")
            self._speaks = spoken

    @property
    def text(self) -> str:
        return "".join(self._parts)


def told_again(said: Sequence[tuple[str, str]]) -> str:
    """Gives what was asked and answered before, as the beginning of the next prompt."""
    if not said:
        return ""
    entries = (f"You were asked:\n{quoted(asked)}\n\nYou answered:\n{quoted(answered)}" for asked, answered in said)
    return "\n\n".join(["This goes on from a conversation of which you have lost the record:", *entries, ""])


def remove_left(drafts: Path) -> None:
    """Removes the folders of drafters that died, once nothing runs in them any more."""
    for left in drafts.iterdir() if drafts.is_dir() else ():
        if (left / RUN).is_dir() and state(left / RUN) in (RunState.ENDED, RunState.LOST):
            kill_strays(left.name)
            shutil.rmtree(left, ignore_errors=True)
