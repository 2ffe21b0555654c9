"""A person lets a plan go on through its supervisor: as it stands, a phase begun again, or from a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from holdfast import clock
from holdfast.app import restarts, rewinds
from holdfast.app.rewinds import How, Preview
from holdfast.app.supervisor import MAX_QUESTION
from holdfast.app.targets import find_checkpoint
from holdfast.app.wire import House
from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.conversation import Conversation
from holdfast.domain.plan import Phase, Plan
from holdfast.domain.restore import PlanMove, Restoration, plan_point
from holdfast.domain.transitions import PlanStatus
from holdfast.engine import inquiries, restoring
from holdfast.engine.restoring import Intent
from holdfast.errors import IllegalState, UsageError
from holdfast.store import Operation, conversations, operations, plans

CONTEXT = "context"


class Mode(StrEnum):
    """`continue` goes on with what there is, `restart_phase` with the present phase, or the last one, begun again,
    `from_checkpoint` from where a checkpoint was: work, variables, and what the supervisor knew by then."""

    CONTINUE = "continue"
    RESTART_PHASE = "restart_phase"
    FROM_CHECKPOINT = "from_checkpoint"


def resume_with(
    house: House, plan_id: str, mode: Mode, *, at: str = "", context: str = "", how: How | None = None
) -> Operation:
    """Takes a plan back to where `mode` says and adds `context`, as one operation; gives it, ended.

    `context` is said in the supervisor's conversation, and told to the plan's agents from then on. The plan goes on at
    `resume`. Raises `IllegalState` while what is to go back runs, while the supervisor is asked, or if there is nothing
    to do.
    """
    target = target_of(house, plan_id, mode, at=at, context=context)
    chosen = _how(mode, context, how)
    done = None
    match target:
        case Checkpoint():
            return rewinds.rollback_plan(house, plan_id, target, chosen)
        case Phase():
            done = rewinds.rollback_phase(house, plan_id, target.id, chosen)
        case None:
            pass
    return done or _add(house, plan_id, chosen.context)


def preview_with(
    house: House, plan_id: str, mode: Mode, *, at: str = "", context: str = "", how: How | None = None
) -> Preview | None:
    """Gives what of the plan `resume_with` would take back, None if nothing; raises what it would."""
    target = target_of(house, plan_id, mode, at=at, context=context)
    chosen = _how(mode, context, how)
    match target:
        case Checkpoint():
            return rewinds.preview_rollback(house, plan_id, target, chosen)
        case Phase():
            return rewinds.preview_phase(house, plan_id, target.id, chosen)
        case None:
            return None


def target_of(house: House, plan_id: str, mode: Mode, *, at: str = "", context: str = "") -> Checkpoint | Phase | None:
    """Gives what the plan goes back to, None where it goes on as it stands; raises what is wrong."""
    if at and mode is not Mode.FROM_CHECKPOINT:
        raise UsageError(f"{mode} has no checkpoint to go on from", hint="say --mode from_checkpoint")
    if mode is Mode.FROM_CHECKPOINT and not at:
        raise UsageError("the checkpoint to go on from is missing", hint="name it: --at 3")
    if len(context) > MAX_QUESTION:
        raise UsageError(f"the context is longer than {MAX_QUESTION:,} characters", hint="put the rest into a file")
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
        _refuse_cancelled(plan)
        if mode is Mode.CONTINUE:
            return None
        if plan.status is PlanStatus.DRAFT:
            start = f"start it: holdfast plan execute P{plan.number}"
            raise IllegalState(f"P{plan.number} has not run yet: there is nothing to go back to", hint=start)
        restoring.refuse_running(plan)
        if mode is Mode.FROM_CHECKPOINT:
            return find_checkpoint(connection, at, task=None, plan=plan)
    return restarts.phase_named(house, plan_id)


def _refuse_cancelled(plan: Plan) -> None:
    if plan.status is PlanStatus.CANCELLED:
        raise IllegalState(f"P{plan.number} was cancelled", hint=f"clone it: holdfast plan clone P{plan.number}")


def _how(mode: Mode, context: str, how: How | None) -> How:
    return replace(how or How(), talk=mode is Mode.FROM_CHECKPOINT, context=context.strip())


def _add(house: House, plan_id: str, context: str) -> Operation:
    """Says what a person adds, and keeps how to take it back: a restoration that moves nothing but that."""
    with house.database.transaction() as connection:
        plan = plans.lock(connection, plan_id)
        _refuse_cancelled(plan)
        if not context:
            hint = f"go on: holdfast resume P{plan.number}"
            raise IllegalState("nothing of the phase has run: there is nothing to begin again", hint=hint)
        restoring.refuse_restoring(connection, plan)
        inquiries.refuse_asked(connection, plan)
        id = clock.new_id()
        before = plan_point(plan, conversations.head(connection, Conversation(plan_id)).message_id)
        said = inquiries.add_context(connection, house, plan, id, context)
        plans.set_fields(connection, plan_id, context=context)
        moved = PlanMove(before, replace(before, head_message_id=said, context=context))
        intent = Intent(Restoration(plan_id, plan=moved)).row()
        operations.begin(connection, id=id, kind=CONTEXT, actor=house.actor, intent=intent, plan_id=plan_id)
        plans.tell(connection, plan, CONTEXT, house.actor, {"operation": id, "message": said})
        return operations.finish(connection, id, outcome={"context": rewinds.in_short(context)})
