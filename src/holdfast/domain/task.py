"""Tasks: the atomic units of work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from holdfast.domain.budget import Budget
from holdfast.domain.permissions import Policy
from holdfast.domain.transitions import TaskStatus


class Executor(StrEnum):
    AGENT = "agent"
    COMMAND = "command"


class FailureKind(StrEnum):
    """Why a step failed: by its command, its checks, its time limit, its merge, the loss of its run, its start,
    or (`internal`) because Holdfast could not do its own part: the worktree, the commit, the checkpoint.
    An agent's also by what the agent did (`agent`), by its login, its model's limits, or because it is not there; a
    reviewer's because it still wants changes or gives no verdict (`review`)."""

    EXIT = "exit"
    VERIFY = "verify"
    TIMEOUT = "timeout"
    MERGE_CONFLICT = "merge_conflict"
    LOST = "lost"
    START = "start"
    INTERNAL = "internal"
    AGENT = "agent"
    LOGIN = "login"
    RATE_LIMIT = "rate_limit"
    MISSING = "missing"
    REVIEW = "review"


# These come back with each attempt: a conflict on the same commits, an agent that is not there or not logged in, a
# reviewer that is not content. A person (or a retry by hand) decides.
NEVER_RETRIED = frozenset({FailureKind.MERGE_CONFLICT, FailureKind.LOGIN, FailureKind.MISSING, FailureKind.REVIEW})
# An attempt that failed so is not used up: it goes on after the wait.
NOT_COUNTED = frozenset({FailureKind.RATE_LIMIT})


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work.

    `key` is its name in the plan file, unique in the plan; `position` its place in its phase, from 0.
    `attempt` counts the tries that a retry limit counts (1 = the first, 0 = none yet); `run` counts the workflows
    started for it and is part of their ids; `claim` is the fence: it grows each time a worker takes the task up, and
    a write with an older claim is refused.
    `head_checkpoint` is the number of the current checkpoint, 0 = none. `branch` is where its commits go.
    The agent of a `read_only` task may look and not change; what it changes all the same is not committed.
    `contestant_of` is the task that this one is a fork of: it ends on its own branch and is not merged. In a race it
    starts where that task does; else `fork_point` names the checkpoint that it starts from, as "T31@4".
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
    read_only: bool = False
    contestant_of: str | None = None
    fork_point: str = ""
    permissions: Policy | None = None


@dataclass(frozen=True, slots=True)
class RetryRule:
    """How long to wait before the next attempt: exponential from `base_seconds`, at most `max_seconds`."""

    base_seconds: float
    max_seconds: float


def after_failure(
    task: Task, failure: FailureKind, rule: RetryRule, *, now: datetime, jitter: float
) -> tuple[TaskStatus, datetime | None]:
    """Gives what a task becomes after its attempt failed: retrying and from when, or failed.

    The wait doubles with each attempt; `jitter` in [0, 1) takes up to half of it away, so that tasks that failed
    together do not come back together. What an overloaded model costs is no attempt: it is waited out, ever longer.
    """
    counted = failure not in NOT_COUNTED
    if counted and (not task.retryable or failure in NEVER_RETRIED or task.attempt >= task.max_attempts):
        return TaskStatus.FAILED, None
    tries = task.attempt if counted else task.run
    wait = min(rule.base_seconds * 2 ** min(max(0, tries - 1), 30), rule.max_seconds)
    return TaskStatus.RETRYING, now + timedelta(seconds=wait * (1 - jitter / 2))
