"""Projects, plans, phases and gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from holdfast.domain.budget import Budget
from holdfast.domain.permissions import Policy
from holdfast.domain.transitions import ApprovalStatus, PauseReason, PhaseStatus, PlanStage, PlanStatus
from holdfast.errors import IllegalState

REVIEW_ROUNDS = 2


class PhaseMode(StrEnum):
    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    MANUAL = "manual"


class GateName(StrEnum):
    """Gates that a plan file may switch on."""

    PLAN = "plan"
    RESULT = "result"


class GateOrder(StrEnum):
    APPROVE_THEN_REVIEW = "approve_then_review"
    REVIEW_THEN_APPROVE = "review_then_approve"


class SupervisorMode(StrEnum):
    """What a plan's supervisor does when a task has failed for good: nothing, suggest changes, or make them."""

    OFF = "off"
    SUGGEST = "suggest"
    REPLAN = "replan"


class PauseMode(StrEnum):
    """How a plan stops: `drain` lets running tasks finish, `interrupt` stops them at once."""

    DRAIN = "drain"
    INTERRUPT = "interrupt"


class ApprovalKind(StrEnum):
    PLAN = "plan"
    RESULT = "result"
    TASK = "task"
    PHASE = "phase"
    PERMISSION = "permission"
    QUESTION = "question"


@dataclass(frozen=True, slots=True)
class Project:
    """A git repository that Holdfast works on, or a folder that is none (`git` is False).

    `home` is the id of the data folder that holds its vault and worktrees: only workers of that folder run its plans.
    """

    id: str
    number: int
    slug: str
    path: str
    home: str
    default_branch: str
    settings: Mapping[str, object]
    created_at: datetime
    git: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """The top-level piece of work in a project.

    `run` counts how often a driver workflow was started for it; the workflow's id is made of it.
    `stop` is what a person asked for and the engine has not carried out yet. `wakes` counts how often its driver was
    told to look again. `permissions` is what it says of them itself. `review_agent` empty = the one that does the work;
    `review_rounds` = how often it reviews. `supervisor_agent` empty = the one that is set elsewhere. `context` is what
    a person added when they let it go on; its agents are told from then on. A plan that has `deleted_at` is
    in the trash, and comes back no more once the trash was emptied of it (`emptied_at`).
    """

    id: str
    number: int
    project_id: str
    slug: str
    title: str
    description: str
    status: PlanStatus
    stage: PlanStage
    pause_reason: PauseReason | None
    stop: PauseMode | None
    cancel_requested: bool
    run: int
    branch: str
    base_commit: str
    gates: tuple[GateName, ...]
    gate_order: GateOrder
    review: bool
    verify: tuple[str, ...]
    budget: Budget
    variables: Mapping[str, str]
    spec: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str = ""
    wakes: int = 0
    review_agent: str = ""
    review_rounds: int = REVIEW_ROUNDS
    permissions: Policy | None = None
    supervisor: SupervisorMode = SupervisorMode.OFF
    supervisor_agent: str = ""
    context: str = ""
    deleted_at: datetime | None = None
    emptied_at: datetime | None = None


def refuse_deleted(plan: Plan) -> None:
    """Raises `IllegalState` for a plan in the trash."""
    if plan.emptied_at is not None:
        raise IllegalState(f"P{plan.number} was deleted for good", hint="look: holdfast plan list", code="deleted")
    if plan.deleted_at is not None:
        raise IllegalState(
            f"P{plan.number} is in the trash",
            hint="bring it back with `holdfast undo` and the name that `holdfast trash list` gives",
            code="in_trash",
        )


@dataclass(frozen=True, slots=True)
class Phase:
    """An ordered group of tasks. `position` starts at 0 and is unique in its plan.

    `review_round` 1, 2, … : the engine added it to have the plan's result reviewed; 0: it is the plan's own.
    """

    id: str
    plan_id: str
    position: int
    title: str
    mode: PhaseMode
    pause_after: bool
    when: str
    status: PhaseStatus
    started_at: datetime | None = None
    ended_at: datetime | None = None
    review_round: int = 0


@dataclass(frozen=True, slots=True)
class Approval:
    """One gate: a place where a person decides. `subject` tells apart what one agent asks."""

    id: str
    number: int
    plan_id: str
    kind: ApprovalKind
    status: ApprovalStatus
    title: str
    phase_id: str | None
    task_id: str | None
    opened_at: datetime
    decided_at: datetime | None = None
    decided_by: str = ""
    comment: str = ""
    subject: str = ""
    details: Mapping[str, object] = field(default_factory=dict[str, object])
