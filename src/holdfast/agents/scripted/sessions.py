"""The scripted agent's memory: one JSON file per session, replaced whole."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Session:
    """What was said, how many turns came to their end, and the MCP servers that the client named."""

    id: str
    cwd: str
    mode: str = ""
    model: str = ""
    turns: int = 0
    said: list[list[str]] = field(default_factory=list[list[str]])
    servers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def history(self) -> str:
        """Gives what was said so far, one line each."""
        return "\n".join(f"{who}: {text}" for who, text in self.said)


class Sessions:
    """The sessions in a folder."""

    def __init__(self) -> None:
        home = os.environ.get("HOME", "/tmp")
        self._folder = Path(os.environ.get("HOLDFAST_SCRIPTED_SESSIONS") or Path(home, ".holdfast-scripted"))

    def new(self, cwd: str, like: Session | None = None) -> Session:
        """Makes a session, with the memory of another if given."""
        identity = f"session-{os.urandom(6).hex()}"
        session = Session(identity, cwd)
        if like is not None:
            session = Session(identity, cwd, like.mode, like.model, like.turns, [list(said) for said in like.said])
        self.save(session)
        return session

    def find(self, identity: str) -> Session | None:
        """Gives a session, None if there is none of that name, or a power cut left nothing of it."""
        try:
            return Session(**json.loads((self._folder / f"{Path(identity).name}.json").read_text()))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def all(self) -> list[Session]:
        """Gives all sessions."""
        found = [self.find(path.stem) for path in sorted(self._folder.glob("session-*.json"))]
        return [session for session in found if session is not None]

    def save(self, session: Session) -> None:
        """Keeps the session; a crash leaves the old file or the new one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f"{session.id}.new"
        draft.write_text(json.dumps(asdict(session)))
        draft.rename(self._folder / f"{session.id}.json")
