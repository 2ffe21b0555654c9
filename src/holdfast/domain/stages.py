"""How a plan goes through its stages: which checkpoint is due, which gate opens, what comes next."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.domain.checkpoint import StageName
from holdfast.domain.plan import ApprovalKind, GateName, GateOrder, Plan
from holdfast.domain.transitions import PlanStage

_S = PlanStage


@dataclass(frozen=True, slots=True)
class Enter:
    """The plan goes on to `stage`; `checkpoint` is written before."""

    stage: PlanStage
    checkpoint: StageName | None = None


@dataclass(frozen=True, slots=True)
class OpenGate:
    """A person decides before the plan goes on."""

    kind: ApprovalKind


@dataclass(frozen=True, slots=True)
class Implement:
    """The plan's phases run: its own, or the round of a review."""


@dataclass(frozen=True, slots=True)
class Verify:
    """The plan's own checks run; when they pass the plan goes on as `then` says."""

    then: Enter


@dataclass(frozen=True, slots=True)
class Finish:
    """The plan is complete."""


StageMove = Enter | OpenGate | Implement | Verify | Finish


def next_stage(plan: Plan, *, implemented: bool, approved: bool) -> StageMove:
    """Gives what the plan does in its stage.

    `implemented`: every phase is completed or skipped. `approved`: the gate of this stage was approved for this visit.
    """
    result_gate = GateName.RESULT in plan.gates
    match plan.stage:
        case _S.PENDING:
            return Enter(_S.PLANNING, StageName.WORKFLOW_START)
        case _S.PLANNING:
            return Enter(_S.PLAN_AWAITING_APPROVAL, StageName.AFTER_PLANNING)
        case _S.PLAN_AWAITING_APPROVAL:
            gated = GateName.PLAN in plan.gates and not approved
            return OpenGate(ApprovalKind.PLAN) if gated else Enter(_S.PLAN_APPROVED)
        case _S.PLAN_APPROVED:
            return Enter(_S.IMPLEMENTING, StageName.START_IMPLEMENTATION)
        case _S.IMPLEMENTING:
            return Enter(_after_implementing(plan), StageName.AFTER_IMPLEMENTATION) if implemented else Implement()
        case _S.IMPLEMENTATION_AWAITING_APPROVAL:
            gated = result_gate and not approved
            return OpenGate(ApprovalKind.RESULT) if gated else Enter(_after_approval(plan))
        case _S.REVIEWING:
            done = Enter(_after_review(plan), StageName.AFTER_REVIEW)
            return Implement() if plan.review and not implemented else done
        case _S.VERIFYING:
            done = Enter(_S.COMPLETED, StageName.AFTER_VERIFICATION)
            return Verify(done) if plan.verify else done
        case _S.COMPLETED:
            return Finish()


def _after_implementing(plan: Plan) -> PlanStage:
    if plan.gate_order is GateOrder.APPROVE_THEN_REVIEW:
        return _S.IMPLEMENTATION_AWAITING_APPROVAL
    return _S.REVIEWING


def _after_approval(plan: Plan) -> PlanStage:
    return _S.REVIEWING if plan.gate_order is GateOrder.APPROVE_THEN_REVIEW else _S.VERIFYING


def _after_review(plan: Plan) -> PlanStage:
    if plan.gate_order is GateOrder.APPROVE_THEN_REVIEW:
        return _S.VERIFYING
    return _S.IMPLEMENTATION_AWAITING_APPROVAL
