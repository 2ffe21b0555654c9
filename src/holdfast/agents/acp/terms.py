"""What is asked of an agent's session, what bounds it, and what is said of it when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from holdfast.domain.conversation import TokenUsage, TurnEnded
from holdfast.settings import Settings

if TYPE_CHECKING:
    from holdfast.agents.catalog import AgentSpec

Reason = Literal[
    "end_turn",
    "max_tokens",
    "max_turn_requests",
    "refusal",
    "cancelled",
    "stopped",
    "timeout",
    "start_failed",
    "not_logged_in",
    "rate_limited",
    "protocol_error",
    "agent_error",
    "agent_died",
    "lost",
]


@dataclass(frozen=True, slots=True)
class SessionWanted:
    """Which session a run is to hold: a new one, one that is loaded again, or a fork of one.

    `cwd` is the worktree as the agent sees it (None: as the launch names it). To `load` takes what the agent offers,
    `session/resume` before `session/load`, to `fork` takes `session/fork`; both take a new session where the agent does
    not offer it or has no such session: `Opening.carried` tells. `mode` and `model` are ids or names that the agent
    lists; `auth_method` is used where the agent wants to be logged in. `mcp_servers` are in ACP's own form.
    """

    how: Literal["new", "load", "fork"] = "new"
    session_id: str = ""
    cwd: str | None = None
    mode: str | None = None
    model: str | None = None
    auth_method: str | None = None
    mcp_servers: tuple[Mapping[str, Any], ...] = ()
    reads_files: bool = True
    writes_files: bool = True
    terminals: bool = True

    def with_agent(self, spec: AgentSpec) -> SessionWanted:
        """Gives this with the login, mode and model that the agent's file says."""
        return replace(self, auth_method=spec.auth_method or None, mode=spec.mode or None, model=spec.model or None)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session may take at most. Beyond a limit of size or number it fails; a flood of updates is thinned out.

    `updates_per_second` and `updates_burst` are the rate and the depth of a token bucket. `garbage_lines` counts lines
    that are no message. `start_seconds` is what `initialize` may take, `session_seconds` all from there to the open
    session, `leave_seconds` what the agent gets to end by itself once its input is closed.
    """

    line_bytes: int = 16 << 20
    file_bytes: int = 10 << 20
    terminals: int = 32
    terminal_output_bytes: int = 256 << 10
    terminal_journal_bytes: int = 16 << 20
    open_requests: int = 256
    garbage_lines: int = 100
    updates_per_second: float = 5_000.0
    updates_burst: int = 50_000
    start_seconds: float = 60.0
    session_seconds: float = 120.0
    leave_seconds: float = 2.0

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Gives the limits that are set: each is the setting of its name, with `agent_` before it."""
        return cls(**{each.name: getattr(settings, f"agent_{each.name}") for each in fields(cls)})


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that a session can be set to: a mode or a model."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the agent says it can do. `modes` and `models` are known once a session is open."""

    agent: str = ""
    version: str = ""
    load: bool = False
    resume: bool = False
    fork: bool = False
    list: bool = False
    modes: tuple[Choice, ...] = ()
    models: tuple[Choice, ...] = ()
    auth_methods: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """When a prompt is wanted: the session's id, how many prompts this run has had, and how the last turn ended.

    `carried` says that the session knows what was said in it before; where it does not, the first prompt must tell it.
    `version` is the agent's own, empty where it told none.
    """

    session_id: str
    carried: bool
    turn: int
    last: TurnEnded | None
    version: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a session cannot go on: the reason of its outcome, and a sentence for people."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    """How a session's last turn ended, and the agent's process with it.

    `session_id` is empty where no session was opened; with `capabilities.load` or `.resume` another run can carry it
    on. `turns` counts the prompts of this run. `usage` is the last that the agent told. The rest is as in
    `CommandOutcome`.
    """

    reason: Reason
    message: str
    session_id: str
    capabilities: Capabilities
    turns: int
    usage: TokenUsage | None
    exit_code: int | None = None
    signal: int | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    dropped_bytes: int = 0
    survivors: tuple[int, ...] = field(default=())

    @property
    def succeeded(self) -> bool:
        """Whether the agent ended its last turn by itself, content."""
        return self.reason == "end_turn"
