"""Real sessions with the scripted agent, and what was heard in them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.agents.runs import Run

from holdfast.agents import Launch, read
from holdfast.agents.acp import Limits, Opening, SessionWanted, TurnOutcome, run_session
from holdfast.domain.conversation import Noted, PermissionWanted, Spoke, ToolUsed, Update

# A turn with all that a client has a part in; each effect shows if it is done twice.
EVERYTHING = [
    {"think": "hm"},
    {"say": "I begin. "},
    {"append": {"path": "own", "text": "once\n"}},
    {"ask": {"title": "May I?", "allow": [{"say": "I may. "}], "reject": [{"say": "I may not. "}]}},
    {"write": {"path": "through/client", "text": "written\n", "client": True}},
    {"run": {"command": "echo ran >> terminal; echo from the terminal", "terminal": True}},
    {"run": "echo ran >> shell"},
    {"usage": {"used": 10, "cost": 0.25, "input": 7, "output": 3}},
    {"say": "I end."},
]


@dataclass
class Talk:
    """One session: its run folder, its worktree, its script, and what came of it."""

    run: Run
    updates: list[Update] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    openings: list[Opening] = field(default_factory=list)
    questions: list[PermissionWanted] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    answer: str | None = "allow"
    prompts: Sequence[str] = ("do it",)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def home(self) -> Path:
        return self.run.folder.parent / "home"

    def script(self, *turns: object, start: object = (), **about: object) -> Path:
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.run.folder.parent / f"{self.run.folder.name}.json"
        path.write_text(json.dumps({"agent": about, "start": list(start), "turns": list(turns)}))  # type: ignore[call-overload]
        return path

    def launch(self, script: Path, **options: Any) -> Launch:
        argv = (sys.executable, "-m", "holdfast.agents.scripted", str(script))
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        return self.run.launch(**{"argv": argv, "env": env, **options})

    async def go(
        self,
        *turns: object,
        session: SessionWanted | None = None,
        limits: Limits | None = None,
        launch: Mapping[str, Any] | None = None,
        **script: Any,
    ) -> TurnOutcome:
        return await run_session(
            self.run.folder,
            self.launch(self.script(*turns, **script), **(launch or {})),
            session or SessionWanted(),
            self.next_prompt,
            after=self.positions[-1] if self.positions else 0,
            on_updates=self.keep,
            ask=self.ask,
            stop=self.stop,
            limits=limits or Limits(leave_seconds=120.0),
        )

    async def next_prompt(self, opening: Opening) -> str | None:
        self.openings.append(opening)
        return self.prompts[opening.turn] if opening.turn < len(self.prompts) else None

    async def keep(self, updates: Sequence[Update], position: int) -> None:
        self.updates.extend(updates)
        self.positions.append(position)
        if self.said():
            self.heard.set()

    async def ask(self, wanted: PermissionWanted) -> str | None:
        assert wanted in self.updates, "the question is stored before it is asked"
        suspended = [record for record in read(self.run.folder / "journal.jsonl") if record.kind == "limit_suspended"]
        assert suspended[-1].fields["until"] == f"a{wanted.request}", "the agent's time does not run on"
        self.questions.append(wanted)
        return self.answer

    def said(self) -> str:
        return "".join(update.text for update in self.updates if isinstance(update, Spoke) and not update.thought)

    def noted(self, what: str) -> list[Noted]:
        return [update for update in self.updates if isinstance(update, Noted) and update.what == what]

    def calls(self) -> list[ToolUsed]:
        return [update for update in self.updates if isinstance(update, ToolUsed)]

    def file(self, name: str) -> str:
        return (self.run.cwd / name).read_text()
