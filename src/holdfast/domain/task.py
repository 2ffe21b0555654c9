"""Tasks: the atomic units of work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from holdfast.domain.budget import Budget
from holdfast.domain.transitions import TaskStatus


class Executor(StrEnum):
    AGENT = "agent"
    COMMAND = "command"


class FailureKind(StrEnum):
    """Why a step failed; `merge_conflict` and `timeout` are not retried unless the task says so."""

    EXIT = "exit"
    VERIFY = "verify"
    TIMEOUT = "timeout"
    MERGE_CONFLICT = "merge_conflict"
    LOST = "lost"
    START = "start"


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work.

    `key` is its name in the plan file, unique in the plan; `position` its place in its phase, from 0.
    `attempt` counts the tries that a retry limit counts (1 = the first, 0 = none yet); `run` counts the workflows
    started for it and is part of their ids; `claim` is the fence: it grows each time a worker takes the task up, and
    a write with an older claim is refused.
    `head_checkpoint` is the number of the current checkpoint, 0 = none. `branch` is where its commits go.
    """

    id: str
    number: int
    plan_id: str
    phase_id: str
    key: str
    position: int
    title: str
    instructions: str
    executor: Executor
    command: str
    agent: str
    depends_on: tuple[str, ...]
    max_attempts: int
    timeout_seconds: float | None
    verify: tuple[str, ...]
    retryable: bool
    budget: Budget
    status: TaskStatus
    attempt: int = 0
    run: int = 0
    claim: int = 0
    branch: str = ""
    head_checkpoint: int = 0
    retry_at: datetime | None = None
    approved: bool = False
    failure: FailureKind | None = None
    error: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
