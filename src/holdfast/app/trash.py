"""The trash: plans that were deleted stay as they were, out of the way, until `gc` empties it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from holdfast import clock
from holdfast.app.wire import House
from holdfast.domain.plan import Plan
from holdfast.domain.readiness import BUSY
from holdfast.domain.transitions import PlanStatus
from holdfast.engine import restoring
from holdfast.errors import IllegalState
from holdfast.store import Connection, Operation, operations, plans

DELETE = "delete"
# The key of an intent under which it stands which plan went into the trash or came out of it.
TRASH = "trash"
_AT_REST = frozenset({PlanStatus.DRAFT, PlanStatus.COMPLETED, PlanStatus.FAILED, PlanStatus.CANCELLED})
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Discarded:
    """A plan in the trash: since when, when `gc` may take it for good, and the operation to undo."""

    plan: Plan
    since: datetime
    until: datetime
    operation: str


@dataclass(frozen=True, slots=True)
class Moving:
    """A plan that goes into the trash or comes out of it; with `unbegun` only one that has not run goes there."""

    plan_id: str
    into: bool
    unbegun: bool = False

    def turned_round(self) -> Moving:
        """Gives what takes it back."""
        return Moving(self.plan_id, not self.into, self.unbegun)


def moving_of(done: Operation) -> Moving | None:
    """Gives what an operation moved into the trash or out of it, None for one that did neither."""
    told = cast("Mapping[str, object] | None", done.intent.get(TRASH))
    if told is None:
        return None
    return Moving(str(told["plan"]), bool(told["into"]), bool(told.get("unbegun")))


def delete(house: House, plan_id: str) -> Operation:
    """Puts a plan that is a draft or is over into the trash, where nothing of it is lost; `undo` brings it back.

    Raises `IllegalState` for one that may still go on, and while somebody goes back with it.
    """
    restoring.finish_open(house, plan_id)
    with house.database.transaction() as connection:
        return move(connection, Moving(plan_id, into=True), kind=DELETE, actor=house.actor, plan_id=plan_id)


def may_delete(house: House, plan_id: str) -> None:
    """Raises what `delete` would."""
    with house.database.read() as connection:
        _refuse_going_on(connection, plans.get(connection, plan_id))


def move(
    connection: Connection,
    moving: Moving,
    *,
    kind: str,
    actor: str,
    plan_id: str,
    task_id: str | None = None,
    undoes: str = "",
) -> Operation:
    """Moves a plan into the trash or out of it, with its operation; `plan_id` is the plan that the deed is listed with.

    Raises `IllegalState` where that cannot be (any more).
    """
    plan = plans.lock(connection, moving.plan_id, deleted=True)
    may_move(connection, plan, moving)
    if moving.into:
        plans.delete(connection, plan, actor=actor)
    else:
        plans.bring_back(connection, plan, actor=actor)
    intent = {TRASH: {"plan": plan.id, "into": moving.into, "unbegun": moving.unbegun}}
    begun = operations.begin(
        connection, id=clock.new_id(), kind=kind, actor=actor, intent=intent, plan_id=plan_id, task_id=task_id
    )
    told = {"plan": f"P{plan.number}", "title": plan.title}
    return operations.finish(connection, begun.id, outcome=told | ({"undoes": undoes} if undoes else {}))


def may_move(connection: Connection, plan: Plan, moving: Moving) -> None:
    """Raises `IllegalState` where a plan cannot be moved so (any more)."""
    if moving.into:
        _refuse_going_on(connection, plan, unbegun=moving.unbegun)
    else:
        _refuse_back(plan)


def _refuse_going_on(connection: Connection, plan: Plan, *, unbegun: bool = False) -> None:
    name = f"P{plan.number}"
    if plan.deleted_at is not None:
        raise IllegalState(f"{name} is in the trash already", hint="look: holdfast trash list", code="in_trash")
    busy = any(task.status in BUSY for task in plans.tasks_of(connection, plan.id))
    if plan.status not in _AT_REST or busy:
        hint = f"end it first: holdfast plan cancel {name}"
        raise IllegalState(f"{name} is {plan.status}: only a draft, or a plan that is over, is deleted", hint=hint)
    if unbegun and plan.run:
        hint = f"to be rid of it: holdfast plan delete {name}"
        raise IllegalState(f"{name} has run since then", hint=hint, code="changed_meanwhile")
    restoring.refuse_restoring(connection, plan)


def _refuse_back(plan: Plan) -> None:
    if plan.emptied_at is not None:
        raise IllegalState(
            f"P{plan.number} was deleted for good: holdfast gc has emptied the trash of it", code="forgotten"
        )
    if plan.deleted_at is None:
        raise IllegalState(f"P{plan.number} is not in the trash any more", code="changed_meanwhile")


def list_(house: House) -> tuple[Discarded, ...]:
    """Gives the plans in the trash, the newest plan first."""
    keep = timedelta(days=house.settings.keep_days)
    with house.database.read() as connection:
        found = [plan for plan in plans.list_(connection, limit=_MOST, deleted=True).items if plan.emptied_at is None]
        deeds = operations.list_(connection, limit=_MOST).items
    by_plan: dict[str, str] = {}
    for done in deeds:
        moved = moving_of(done)
        if moved is not None and moved.into:
            by_plan.setdefault(moved.plan_id, f"O{done.number}")
    return tuple(
        Discarded(plan, since, since + keep, by_plan.get(plan.id, "")) for plan in found if (since := plan.deleted_at)
    )
