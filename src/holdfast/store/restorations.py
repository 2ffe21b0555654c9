"""Puts rows where a restoration wants them: the one place where a state follows another without a transition.

A thing is put back to a state that it was in before, so the tables of transitions have no say; nothing that runs is
touched. All in the caller's transaction, each with its event, so that a restoration is seen whole or not at all.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, select, update

from holdfast import clock
from holdfast.domain.history import EventType
from holdfast.domain.plan import Plan
from holdfast.domain.restore import RESTORES, PhaseMove, PlanMove, Restoration, StepCopy, TaskMove
from holdfast.domain.step import Step
from holdfast.domain.transitions import PhaseStatus, PlanStatus
from holdfast.errors import IllegalState
from holdfast.store import events, steps
from holdfast.store.tables import checkpoints, phases, plans, tasks

_ENDED_PHASES = frozenset({PhaseStatus.COMPLETED, PhaseStatus.FAILED, PhaseStatus.SKIPPED})


def apply(connection: Connection, restoration: Restoration, plan: Plan, *, actor: str) -> None:
    """Writes everything of a restoration that is kept in rows. The caller holds the plan's lock."""
    ids = {"project_id": plan.project_id, "plan_id": plan.id}
    for step_id in restoration.rolled_back:
        _roll_back(connection, step_id, actor)
    for copy in restoration.restored:
        restore_step(connection, copy, actor=actor)
    for move in restoration.tasks:
        _put_task(connection, move, actor, ids)
    for phase in restoration.phases:
        _put_phase(connection, phase, actor, ids)
    if restoration.plan is not None:
        _put_plan(connection, plan, restoration.plan, actor, ids)
    for superseded, marked in ((True, restoration.superseded), (False, restoration.reinstated)):
        _mark(connection, marked, superseded, actor, ids)


def _roll_back(connection: Connection, step_id: str, actor: str) -> None:
    step = steps.get_by_id(connection, step_id)
    if step.ended_at is None and not step.interrupted:
        # Left open by a completion by hand that was cut off: nothing of it runs.
        steps.finish(connection, step_id, actor=actor, interrupted=True, commit_after=step.commit_before)
    steps.deactivate(connection, step_id, actor=actor)


def restore_step(connection: Connection, copy: StepCopy, *, actor: str) -> Step:
    """Gives the step that brings back what a rolled-back one did: it ended as that one did and has used nothing."""
    done = steps.get_by_id(connection, copy.of)
    values = {
        "run": tasks.c.run + 1,
        "claim": tasks.c.claim + 1,  # whoever still holds the task may write no more
    }
    row = connection.execute(update(tasks).where(tasks.c.id == done.task_id).values(**values).returning(tasks)).one()
    begun = steps.begin(
        connection,
        id=copy.id,
        task_id=done.task_id,
        run=row.run,
        attempt=done.attempt,
        branch=done.branch,
        commit_before=done.commit_before,
        actor=actor,
        agent_config=done.agent_config,
        details={RESTORES: str(done.details.get(RESTORES) or done.id)},
    )
    return steps.finish(
        connection,
        begun.id,
        actor=actor,
        exit_code=done.exit_code,
        interrupted=done.interrupted,
        failure=done.failure,
        error=done.error,
        commit_after=done.commit_after,
        files_changed=done.files_changed,
        bytes_changed=done.bytes_changed,
    )


def _put_task(connection: Connection, move: TaskMove, actor: str, ids: dict[str, str]) -> None:
    row = connection.execute(select(tasks.c.phase_id, tasks.c.status).where(tasks.c.id == move.task_id)).one()
    values: dict[str, Any] = asdict(move.after) | {"retry_at": None, "claim": tasks.c.claim + 1}
    values |= {"start_message_id": move.after.head_message_id}
    connection.execute(update(tasks).where(tasks.c.id == move.task_id).values(**values))
    told = {"from": row.status, "to": move.after.status, "attempt": move.after.attempt}
    told |= {"checkpoint": move.after.head_checkpoint, "branch": move.after.branch}
    events.add(
        connection, EventType.TASK, "put_back", actor, phase_id=row.phase_id, task_id=move.task_id, data=told, **ids
    )


def _put_phase(connection: Connection, move: PhaseMove, actor: str, ids: dict[str, str]) -> None:
    ended_at = clock.now() if move.after in _ENDED_PHASES else None
    values = {"status": move.after, "ended_at": ended_at}
    changed = update(phases).where(phases.c.id == move.phase_id).values(**values)
    row = connection.execute(changed.returning(phases.c.title)).one()
    told = {"title": row.title, "from": move.before, "to": move.after}
    events.add(connection, EventType.PHASE, "put_back", actor, phase_id=move.phase_id, data=told, **ids)


def _put_plan(connection: Connection, plan: Plan, move: PlanMove, actor: str, ids: dict[str, str]) -> None:
    then = move.after
    values: dict[str, Any] = {"context": then.context}
    if then.head_message_id != move.before.head_message_id:
        # Else it is left where it is: the supervisor may have been asked meanwhile.
        values["head_message_id"] = then.head_message_id
    if then != replace(move.before, head_message_id=then.head_message_id, context=then.context):
        values |= {
            "status": then.status,
            "pause_reason": then.reason if then.status is PlanStatus.PAUSED else None,
            "stage": then.stage,
            "variables": dict(then.variables),
            "stop": None,
            "error": then.error,
            "ended_at": then.ended_at,
        }
    connection.execute(update(plans).where(plans.c.id == plan.id).values(**values))
    told = {"from": plan.status, "to": then.status, "reason": then.reason, "stage": then.stage}
    told |= {"variables": dict(then.variables)}
    events.add(connection, EventType.PLAN, "put_back", actor, data=told, **ids)


def _mark(connection: Connection, marked: tuple[str, ...], superseded: bool, actor: str, ids: dict[str, str]) -> None:
    if not marked:
        return
    changed = update(checkpoints).where(checkpoints.c.id.in_(marked), checkpoints.c.superseded.is_(not superseded))
    connection.execute(changed.values(superseded=superseded))
    subtype = "superseded" if superseded else "reinstated"
    events.add(connection, EventType.CHECKPOINT, subtype, actor, data={"ids": list(marked)}, **ids)


def refuse_changed(connection: Connection, restoration: Restoration) -> None:
    """Raises `IllegalState` if anything that a restoration moves is no longer where it goes from."""
    for move in restoration.tasks:
        row = connection.execute(select(tasks).where(tasks.c.id == move.task_id)).one_or_none()
        if row is None:
            raise _changed("a task of it was removed")
        then = {name: value for name, value in asdict(move.before).items() if name != "context"}
        status = "pending" if row.status == "awaiting_approval" else row.status
        if {name: getattr(row, name) for name in then} | {"status": status} != then:
            raise _changed(f"T{row.number} is {row.status} at T{row.number}@{row.head_checkpoint} by now")
    for phase in restoration.phases:
        row = connection.execute(select(phases).where(phases.c.id == phase.phase_id)).one_or_none()
        if row is None or row.status != phase.before:
            raise _changed(f"the phase '{row.title}' is {row.status} by now" if row else "a phase of it was removed")
    wanted = {*restoration.rolled_back, *(copy.of for copy in restoration.restored)}
    for step_id in wanted:
        step = steps.get_by_id(connection, step_id)
        if step.active is not (step_id in restoration.rolled_back):
            raise _changed(f"step {step.number} is {'active' if step.active else 'rolled back'} by now")
    if restoration.plan is not None:
        before, after = restoration.plan.before, restoration.plan.after
        row = connection.execute(select(plans).where(plans.c.id == restoration.plan_id)).one()
        if (row.status, row.stage) != (before.status, before.stage):
            raise _changed(f"P{row.number} is {row.status} by now")
        if row.head_message_id != before.head_message_id != after.head_message_id:
            raise _changed(f"more was said with the supervisor of P{row.number}")


def _changed(what: str) -> IllegalState:
    return IllegalState(f"the work has moved on: {what}", hint="look again, then repeat it", code="changed_meanwhile")
