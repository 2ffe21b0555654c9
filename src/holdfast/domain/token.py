"""Tokens: what programs and agents show to be let in, and what each of them reaches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class TokenScope(StrEnum):
    """What a token lets its bearer do: `task` and `plan` are an agent's, bound to that one; the rest are a person's
    or a program's, for all that there is."""

    READ = "read"
    RUN = "run"
    ADMIN = "admin"
    WORKER = "worker"
    PLAN = "plan"
    TASK = "task"


class Tool(StrEnum):
    """The tools that agents are offered, by their names in MCP."""

    PLAN_GET = "plan_get"
    TASK_ADD = "task_add"
    TASK_UPDATE = "task_update"
    CHECKPOINT = "checkpoint"
    ASK_PERSON = "ask_person"
    HISTORY = "history"
    REPORT_PROGRESS = "report_progress"


_LOOKING = frozenset({Tool.PLAN_GET, Tool.HISTORY})
_WORKING = _LOOKING | {Tool.CHECKPOINT, Tool.ASK_PERSON, Tool.REPORT_PROGRESS}
TOOLS: dict[TokenScope, frozenset[Tool]] = {
    TokenScope.READ: _LOOKING,
    TokenScope.RUN: frozenset(Tool),
    TokenScope.ADMIN: frozenset(Tool),
    TokenScope.WORKER: frozenset(),
    TokenScope.PLAN: frozenset(Tool),
    TokenScope.TASK: _WORKING,
}


@dataclass(frozen=True, slots=True)
class Token:
    """One token; its secret is known to its bearer alone. A `task` token has both ids, a `plan` token its plan's.

    `step_id` is the step that it was made for: it is dead once the step has ended.
    """

    id: str
    number: int
    name: str
    scope: TokenScope
    plan_id: str | None
    task_id: str | None
    step_id: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def refusal(self, now: datetime) -> str:
        """Gives why the token is not good any more, empty if it is."""
        if self.revoked_at is not None:
            return "was revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "has expired"
        return ""

    def may(self, tool: Tool) -> bool:
        return tool in TOOLS[self.scope]
