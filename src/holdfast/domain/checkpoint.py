"""Checkpoints: bound points of code, conversation and state, numbered per task (or per plan for its stages)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class CheckpointKind(StrEnum):
    INITIAL = "initial"
    INTERVAL = "interval"
    STEP = "step"
    MANUAL = "manual"
    STAGE = "stage"
    PRE_REWIND = "pre_rewind"


class StageName(StrEnum):
    """The six stage checkpoints of a plan, in their order."""

    WORKFLOW_START = "workflow_start"
    AFTER_PLANNING = "after_planning"
    START_IMPLEMENTATION = "start_implementation"
    AFTER_IMPLEMENTATION = "after_implementation"
    AFTER_REVIEW = "after_review"
    AFTER_VERIFICATION = "after_verification"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One bound point. `number` is 1, 2, 3 … per task; stage checkpoints have `task_id` None and count per plan.

    `commit` is a commit object in the vault whose tree is the whole worktree, `head_commit` the branch's commit then.
    `state` is the plan's state at that moment: variables and the keys of its finished tasks.
    `skipped` and `busy` name the files that were too large, or kept changing while they were read.
    """

    id: str
    number: int
    plan_id: str
    task_id: str | None
    step_id: str | None
    kind: CheckpointKind
    name: str
    ref: str
    commit: str
    tree: str
    head_commit: str
    message_id: str | None
    state: Mapping[str, object]
    skipped: tuple[str, ...]
    busy: tuple[str, ...]
    created_at: datetime
    superseded: bool = False
    details: Mapping[str, object] = field(default_factory=dict[str, object])


def checkpoint_ref(owner_id: str, number: int) -> str:
    """Gives the name of the git ref that keeps checkpoint `number` of a task (or a plan) alive."""
    return f"refs/holdfast/checkpoints/{owner_id}/{number}"
