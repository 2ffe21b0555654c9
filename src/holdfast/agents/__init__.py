"""Agents: what runs outside of Holdfast, and how it is started, met again, heard and ended.

The contract:

- A run lives in a folder of its own, for good: `start` runs its command at most once, whoever calls it how often.
- The command belongs to the shim (`shim/`), not to the worker: killing the worker does not touch it, and the next
  worker adopts it with `run_command` or `follow`, from the journal record it had last stored.
- `state` follows from a lock and a file, never from a time-out. A run whose end nobody saw is `lost`; it is never
  started again in its folder. The caller kills its strays (`kill_strays`), resets, and starts a new run.
- When a run has ended, its whole process tree is gone; what could not be killed is named in the outcome.
- No secret is written down: the environment reaches the shim in memory, and what passes is redacted (`Redactor`) before
  it is recorded, streamed or stored.
- Records are read from the journal file only, each exactly once and in order; what was cut off is said so in it.

`catalog` has the agents that can be named, `acp/` holds sessions with those that speak ACP, on the same ground;
`scripted/` is such an agent, for tests and demos. Only this folder talks to processes of agents. `text` is free to
import; the rest loads on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from holdfast.agents.text import strip_control

if TYPE_CHECKING:
    from holdfast.agents.bell import close_input, follow, kill, limit_suspended, send, stop, suspend_limit, sync
    from holdfast.agents.command import CommandOutcome, environment, run_command
    from holdfast.agents.journal import Record, complete, read
    from holdfast.agents.launch import Launch, Lost, RunState, kill_strays, secret_values, start, state
    from holdfast.agents.shim.redact import Redactor

__all__ = [
    "CommandOutcome",
    "Launch",
    "Lost",
    "Record",
    "Redactor",
    "RunState",
    "close_input",
    "complete",
    "environment",
    "follow",
    "kill",
    "kill_strays",
    "limit_suspended",
    "read",
    "run_command",
    "secret_values",
    "send",
    "start",
    "state",
    "stop",
    "strip_control",
    "suspend_limit",
    "sync",
]

_PLACES = {
    "command": ("CommandOutcome", "environment", "run_command"),
    "journal": ("Record", "complete", "read"),
    "bell": ("close_input", "follow", "kill", "limit_suspended", "send", "stop", "suspend_limit", "sync"),
    "launch": ("Launch", "Lost", "RunState", "kill_strays", "secret_values", "start", "state"),
    "shim.redact": ("Redactor",),
}


def __getattr__(name: str) -> object:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
