"""Which state may follow which. These tables are the rule; the schema's CHECKs and the docs are made of them.

A change that is not in a table raises `IllegalTransition` (exit code 3, API 409).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from holdfast.errors import IllegalTransition


class PlanStatus(StrEnum):
    DRAFT = "draft"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PlanStage(StrEnum):
    PENDING = "pending"
    PLANNING = "planning"
    PLAN_AWAITING_APPROVAL = "plan_awaiting_approval"
    PLAN_APPROVED = "plan_approved"
    IMPLEMENTING = "implementing"
    IMPLEMENTATION_AWAITING_APPROVAL = "implementation_awaiting_approval"
    REVIEWING = "reviewing"
    VERIFYING = "verifying"
    COMPLETED = "completed"


class PauseReason(StrEnum):
    USER = "user"
    PHASE_COMPLETE = "phase_complete"
    APPROVAL = "approval"
    TASK_FAILED = "task_failed"
    INTERRUPTED = "interrupted"
    ROLLBACK = "rollback"
    BUDGET = "budget"
    DEADLOCK = "deadlock"


class PhaseStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class TaskStatus(StrEnum):
    PENDING = "pending"
    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    INTERRUPTED = "interrupted"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class ApprovalStatus(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


State = TypeVar("State", bound=StrEnum)

_P, _S, _F, _T, _A = PlanStatus, PlanStage, PhaseStatus, TaskStatus, ApprovalStatus

PLAN_STATUS: Mapping[PlanStatus, tuple[PlanStatus, ...]] = {
    _P.DRAFT: (_P.RUNNING, _P.CANCELLED),
    _P.RUNNING: (_P.WAITING, _P.PAUSED, _P.COMPLETED, _P.FAILED, _P.CANCELLED),
    _P.WAITING: (_P.RUNNING, _P.PAUSED, _P.FAILED, _P.CANCELLED),
    _P.PAUSED: (_P.RUNNING, _P.PAUSED, _P.CANCELLED),
    _P.COMPLETED: (_P.PAUSED,),
    _P.FAILED: (_P.RUNNING, _P.PAUSED, _P.CANCELLED),
    _P.CANCELLED: (),
}

PLAN_STAGE: Mapping[PlanStage, tuple[PlanStage, ...]] = {
    _S.PENDING: (_S.PLANNING,),
    _S.PLANNING: (_S.PLAN_AWAITING_APPROVAL,),
    _S.PLAN_AWAITING_APPROVAL: (_S.PLAN_APPROVED, _S.PLANNING),
    _S.PLAN_APPROVED: (_S.IMPLEMENTING,),
    _S.IMPLEMENTING: (_S.IMPLEMENTATION_AWAITING_APPROVAL, _S.REVIEWING),
    _S.IMPLEMENTATION_AWAITING_APPROVAL: (_S.REVIEWING, _S.VERIFYING, _S.IMPLEMENTING),
    _S.REVIEWING: (_S.VERIFYING, _S.IMPLEMENTATION_AWAITING_APPROVAL, _S.IMPLEMENTING),
    _S.VERIFYING: (_S.COMPLETED, _S.IMPLEMENTING),
    _S.COMPLETED: (_S.IMPLEMENTING,),
}

PHASE: Mapping[PhaseStatus, tuple[PhaseStatus, ...]] = {
    _F.PENDING: (_F.RUNNING, _F.SKIPPED, _F.CANCELLED),
    _F.RUNNING: (_F.PAUSED, _F.COMPLETED, _F.FAILED, _F.CANCELLED),
    _F.PAUSED: (_F.RUNNING, _F.CANCELLED),
    _F.COMPLETED: (_F.PENDING,),
    _F.FAILED: (_F.RUNNING, _F.PENDING, _F.CANCELLED),
    _F.SKIPPED: (_F.PENDING,),
    _F.CANCELLED: (),
}

TASK: Mapping[TaskStatus, tuple[TaskStatus, ...]] = {
    _T.PENDING: (_T.AWAITING_APPROVAL, _T.QUEUED, _T.SKIPPED, _T.CANCELLED),
    _T.AWAITING_APPROVAL: (_T.QUEUED, _T.PENDING, _T.SKIPPED, _T.CANCELLED),
    _T.QUEUED: (_T.RUNNING, _T.INTERRUPTED, _T.PAUSED, _T.CANCELLED),
    _T.RUNNING: (_T.COMPLETED, _T.FAILED, _T.RETRYING, _T.INTERRUPTED, _T.PAUSED, _T.CANCELLED),
    _T.RETRYING: (_T.RUNNING, _T.QUEUED, _T.PAUSED, _T.FAILED, _T.CANCELLED),
    _T.INTERRUPTED: (_T.QUEUED, _T.CANCELLED),
    _T.PAUSED: (_T.QUEUED, _T.SKIPPED, _T.CANCELLED),
    _T.COMPLETED: (_T.PENDING,),
    _T.FAILED: (_T.PENDING, _T.COMPLETED, _T.SKIPPED, _T.CANCELLED),
    _T.SKIPPED: (_T.PENDING,),
    _T.CANCELLED: (),
}

APPROVAL: Mapping[ApprovalStatus, tuple[ApprovalStatus, ...]] = {
    _A.OPEN: (_A.APPROVED, _A.REJECTED, _A.CANCELLED),
    _A.APPROVED: (),
    _A.REJECTED: (),
    _A.CANCELLED: (),
}

TASK_DONE = frozenset({_T.COMPLETED, _T.SKIPPED})
TASK_ENDED = frozenset({_T.COMPLETED, _T.SKIPPED, _T.FAILED, _T.CANCELLED})
TASK_ACTIVE = frozenset({_T.QUEUED, _T.RUNNING, _T.RETRYING, _T.INTERRUPTED})
PLAN_EXECUTING = frozenset({_P.RUNNING, _P.WAITING})


def check(table: Mapping[State, tuple[State, ...]], entity: str, source: State, target: State) -> State:
    """Gives `target` back if `table` lets it follow `source`, else raises `IllegalTransition`."""
    allowed = table[source]
    if target not in allowed:
        raise IllegalTransition(entity, source, target, tuple(str(state) for state in allowed))
    return target
