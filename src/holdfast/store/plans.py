"""Plans and their phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy import delete as delete_rows

from holdfast import clock
from holdfast.domain import transitions
from holdfast.domain.history import EventType
from holdfast.domain.plan import Phase, Plan, refuse_deleted
from holdfast.domain.task import Task
from holdfast.domain.transitions import PauseReason, PhaseStatus, PlanStage, PlanStatus
from holdfast.errors import IllegalState, NotFound, UsageError
from holdfast.store import events, references, tasks
from holdfast.store.paging import Page, before, page
from holdfast.store.rows import by_id, change, changeable, columns_of, entities, entity, next_numbers, one, project_of
from holdfast.store.tables import LOCAL_OWNER, phases, plans, projects
from holdfast.store.tables import events as event_rows

# Columns with rules of their own: `set_status` and `set_stage` write them.
_GUARDED = frozenset(
    {
        *("id", "number", "owner_id", "project_id", "status", "stage", "pause_reason", "created_at"),
        *("head_message_id", "deleted_at", "emptied_at"),
    }
)
_ENDED = frozenset({PlanStatus.COMPLETED, PlanStatus.FAILED, PlanStatus.CANCELLED})


def add(
    connection: Connection,
    plan: Plan,
    new_phases: Sequence[Phase],
    new_tasks: Sequence[Task],
    *,
    actor: str = "system",
    owner_id: str = LOCAL_OWNER,
) -> tuple[Plan, tuple[Phase, ...], tuple[Task, ...]]:
    """Stores all rows of a new plan and gives them back with their numbers.

    A slug that the project already has gets the plan's number as a suffix, and so does the branch named after it. That
    of a plan in the trash stays taken: it may come back, and its branch and worktree are named after it.
    """
    number = next_numbers(connection, "plans")[0]
    stored = _with_free_slug(connection, replace(plan, number=number))
    connection.execute(plans.insert().values(**columns_of(stored), owner_id=owner_id))
    if new_phases:
        connection.execute(phases.insert(), [columns_of(phase) for phase in new_phases])
    numbered = tasks.insert_all(connection, new_tasks)
    events.add(
        connection,
        EventType.PLAN,
        "created",
        actor,
        project_id=stored.project_id,
        plan_id=stored.id,
        data={
            "number": number,
            **_named(stored, "title", "status", "stage"),
            "phases": [_named(phase, "id", "title", "mode", "status") for phase in new_phases],
            "tasks": [_named(task, "id", "number", "phase_id", "key", "title", "status") for task in numbered],
        },
        owner_id=owner_id,
    )
    return stored, tuple(new_phases), numbered


def _named(item: Plan | Phase | Task, *names: str) -> dict[str, object]:
    return {name: getattr(item, name) for name in names}


def _with_free_slug(connection: Connection, plan: Plan) -> Plan:
    query = select(plans.c.id).where(plans.c.project_id == plan.project_id, plans.c.slug == plan.slug)
    if connection.execute(query).first() is None:
        return plan
    slug = f"{plan.slug}-{plan.number}"
    branch = plan.branch.removesuffix(plan.slug) + slug if plan.branch.endswith(plan.slug) else plan.branch
    return replace(plan, slug=slug, branch=branch)


def get(connection: Connection, plan_id: str) -> Plan:
    """Gives one plan; raises `NotFound`."""
    return entity(Plan, by_id(connection, plans, plan_id, "such plan"))


def find(connection: Connection, reference: str, *, owner_id: str = LOCAL_OWNER, deleted: bool = False) -> str:
    """Gives the id of the plan "P12", "12", a slug, an id or a beginning of one with 4 or more characters.

    Raises `NotFound`, `UsageError` that lists the candidates if several fit, and `IllegalState` for a plan in the trash
    unless `deleted` ones are looked for too.
    """
    query = select(plans.c.id, plans.c.number).where(plans.c.owner_id == owner_id).order_by(plans.c.number)
    rows: Sequence[Any] = ()
    number = references.number_in(reference, "P")
    if number is not None:
        rows = connection.execute(query.where(plans.c.number == number)).all()
    if not rows:
        rows = connection.execute(query.where(plans.c.slug == reference).limit(8)).all()
    if not rows:
        rows = references.by_prefix(connection, query, plans.c.id, reference)
    found = references.only(rows, "plan", "P", reference, "holdfast plan list").id
    if not deleted:
        refuse_deleted(get(connection, found))
    return found


def list_(
    connection: Connection,
    *,
    status: PlanStatus | None = None,
    project_id: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
    owner_id: str = LOCAL_OWNER,
    deleted: bool | None = False,
) -> Page[Plan]:
    """Gives a page of plans, newest first: those that are not in the trash, only those (`deleted`), or all (None)."""
    query = select(plans).where(plans.c.owner_id == owner_id)
    if deleted is not None:
        query = query.where(plans.c.deleted_at.is_not(None) if deleted else plans.c.deleted_at.is_(None))
    if status is not None:
        query = query.where(plans.c.status == status)
    if project_id is not None:
        query = query.where(plans.c.project_id == project_id)
    found = [entity(Plan, row) for row in connection.execute(before(query, plans.c.number, cursor, limit))]
    return page(found, limit, lambda plan: plan.number)


def lock(connection: Connection, plan_id: str, *, deleted: bool = False) -> Plan:
    """Gives the plan and keeps others from changing it until the transaction ends.

    Raises `IllegalState` for one in the trash unless it may be `deleted`.
    """
    plan = entity(Plan, one(connection, _LOCKED, "such plan", {"wanted": plan_id}))
    if not deleted:
        refuse_deleted(plan)
    return plan


_LOCKED = select(plans).where(plans.c.id == bindparam("wanted")).with_for_update(key_share=True)
_WOKEN = update(plans).where(plans.c.id == bindparam("wanted")).values(wakes=plans.c.wakes + 1)
_PHASES = select(phases).where(phases.c.plan_id == bindparam("plan")).order_by(phases.c.position)


def set_status(
    connection: Connection,
    plan: Plan,
    status: PlanStatus,
    *,
    actor: str,
    reason: PauseReason | None = None,
    data: Mapping[str, object] | None = None,
    **columns: object,
) -> Plan:
    """Moves `plan` from the status it was read with to `status`, with its event; gives the new plan.

    Sets `pause_reason`, `started_at` and `ended_at` as they follow. Raises `IllegalTransition` if the tables do not
    allow it and `IllegalState` if the plan is no longer what `plan` says.
    """
    transitions.check(transitions.PLAN_STATUS, "plan", plan.status, status)
    now = clock.now()
    values: dict[str, Any] = {
        "status": status,
        "pause_reason": reason if status is PlanStatus.PAUSED else None,
        "ended_at": now if status in _ENDED else None,
    }
    if status is PlanStatus.RUNNING and plan.started_at is None:
        values["started_at"] = now
    values |= changeable(plans, columns, _GUARDED)
    changed = change(connection, plans, values, {"id": plan.id, "status": plan.status})
    if changed is None:
        raise _moved_on(connection, plan)
    told = {"from": plan.status, "to": status, **({"reason": reason} if reason else {}), **(data or {})}
    tell(connection, plan, str(status), actor, told)
    return entity(Plan, changed)


def set_stage(
    connection: Connection, plan: Plan, stage: PlanStage, *, actor: str, data: Mapping[str, object] | None = None
) -> Plan:
    """Moves `plan` from the stage it was read with to `stage`, with its event; errors as `set_status`."""
    transitions.check(transitions.PLAN_STAGE, "plan's stage", plan.stage, stage)
    changed = change(connection, plans, {"stage": stage}, {"id": plan.id, "stage": plan.stage})
    if changed is None:
        raise _moved_on(connection, plan)
    tell(connection, plan, "stage", actor, {"from": plan.stage, "to": stage, **(data or {})})
    return entity(Plan, changed)


def set_fields(connection: Connection, plan_id: str, **columns: object) -> Plan:
    """Writes columns that have no rules of their own (stop, cancel_requested, run, base_commit, error …)."""
    values = changeable(plans, columns, _GUARDED)
    row = change(connection, plans, values, {"id": plan_id})
    if row is None:
        raise NotFound("no such plan")
    return entity(Plan, row)


def add_wake(connection: Connection, plan_id: str) -> None:
    """Counts that the plan's driver was told to look again."""
    connection.execute(_WOKEN, {"wanted": plan_id})


def delete(connection: Connection, plan: Plan, *, actor: str) -> Plan:
    """Puts a plan into the trash, with its event; the caller holds its lock, and knows that nothing of it runs."""
    return _mark(connection, plan, "deleted", actor, deleted_at=clock.now())


def bring_back(connection: Connection, plan: Plan, *, actor: str) -> Plan:
    """Takes a plan out of the trash, as it was, with its event."""
    return _mark(connection, plan, "brought_back", actor, deleted_at=None)


def empty(connection: Connection, plan: Plan, *, actor: str) -> Plan:
    """Notes that a plan in the trash comes back no more, with its event."""
    return _mark(connection, plan, "emptied", actor, emptied_at=clock.now())


def _mark(connection: Connection, plan: Plan, subtype: str, actor: str, **columns: object) -> Plan:
    marked = change(connection, plans, columns, {"id": plan.id})
    assert marked is not None
    tell(connection, plan, subtype, actor, {"number": plan.number})
    return entity(Plan, marked)


def _moved_on(connection: Connection, plan: Plan) -> IllegalState:
    now = get(connection, plan.id)
    return IllegalState(
        f"plan P{now.number} is {now.status} ({now.stage}) by now, not {plan.status} ({plan.stage})",
        hint="look again: holdfast status",
        code="changed_meanwhile",
    )


def tell(connection: Connection, plan: Plan, subtype: str, actor: str, data: Mapping[str, object]) -> None:
    """Writes an event of a plan that is no change of its status or stage."""
    ids = {"project_id": plan.project_id, "plan_id": plan.id}
    events.add(connection, EventType.PLAN, subtype, actor, data=data, **ids)


def phases_of(connection: Connection, plan_id: str) -> tuple[Phase, ...]:
    """Gives a plan's phases in their order."""
    return entities(Phase, connection.execute(_PHASES, {"plan": plan_id}))


def tasks_of(connection: Connection, plan_id: str) -> tuple[Task, ...]:
    """Gives a plan's tasks in the order of their phases and of their places in them."""
    return tasks.of_plan(connection, plan_id)


def phase(connection: Connection, phase_id: str) -> Phase:
    """Gives one phase; raises `NotFound`."""
    return entity(Phase, by_id(connection, phases, phase_id, "such phase"))


def set_phase_status(
    connection: Connection,
    current: Phase,
    status: PhaseStatus,
    *,
    actor: str,
    data: Mapping[str, object] | None = None,
) -> Phase:
    """Moves a phase from the status it was read with to `status`, with its event; errors as `set_status`."""
    transitions.check(transitions.PHASE, "phase", current.status, status)
    now = clock.now()
    values: dict[str, Any] = {"status": status}
    match status:
        case PhaseStatus.RUNNING:
            values |= {"started_at": current.started_at or now, "ended_at": None}
        case PhaseStatus.PENDING:
            values |= {"started_at": None, "ended_at": None}
        case PhaseStatus.PAUSED:
            pass
        case _:
            values["ended_at"] = now
    changed = change(connection, phases, values, {"id": current.id, "status": current.status})
    if changed is None:
        found = phase(connection, current.id)
        raise IllegalState(
            f"the phase '{found.title}' is {found.status} by now, not {current.status}", code="changed_meanwhile"
        )
    _tell_phase(connection, current, str(status), actor, {"from": current.status, "to": status, **(data or {})})
    return entity(Phase, changed)


def edit(connection: Connection, plan: Plan, told: Mapping[str, object], *, actor: str, **columns: object) -> Plan:
    """Changes what a plan says of itself, with its event; raises `UsageError` for a slug that another plan has."""
    if "slug" in columns:
        taken = select(plans.c.number).where(
            plans.c.project_id == plan.project_id, plans.c.slug == columns["slug"], plans.c.id != plan.id
        )
        if (other := connection.execute(taken).scalar_one_or_none()) is not None:
            raise UsageError(f"the plan P{other} has the slug {columns['slug']!r}", hint="choose another")
    edited = set_fields(connection, plan.id, **columns)
    tell(connection, edited, "edited", actor, told)
    return edited


def add_phase(connection: Connection, phase: Phase, told: Mapping[str, object], *, actor: str) -> None:
    """Adds a phase to a plan that exists, after all others; `arrange_phases` gives it its place."""
    last = select(func.max(phases.c.position)).where(phases.c.plan_id == phase.plan_id)
    position = (connection.execute(last).scalar_one_or_none() or 0) + 1
    connection.execute(phases.insert().values(**columns_of(replace(phase, position=position))))
    _tell_phase(connection, phase, "added", actor, told)


def edit_phase(
    connection: Connection, phase: Phase, told: Mapping[str, object], *, actor: str, **columns: object
) -> None:
    """Changes a phase; that it may is for the caller to know (`domain.edits.check`)."""
    values = changeable(phases, columns, frozenset(phases.c.keys()) - {"title", "mode", "pause_after", "when"})
    change(connection, phases, values, {"id": phase.id})
    _tell_phase(connection, phase, "edited", actor, told)


def remove_phase(connection: Connection, phase: Phase, told: Mapping[str, object], *, actor: str) -> None:
    """Removes a phase that has no tasks any more."""
    _tell_phase(connection, phase, "removed", actor, told)
    connection.execute(delete_rows(phases).where(phases.c.id == phase.id))


def arrange_phases(connection: Connection, plan_id: str, ids: Sequence[str]) -> None:
    """Puts a plan's phases into that order; by way of places below nought, since no two may have the same."""
    connection.execute(update(phases).where(phases.c.plan_id == plan_id).values(position=-1 - phases.c.position))
    for position, phase_id in enumerate(ids):
        connection.execute(update(phases).where(phases.c.id == phase_id).values(position=position))


def _tell_phase(connection: Connection, phase: Phase, subtype: str, actor: str, data: Mapping[str, object]) -> None:
    project_id = project_of(connection, phase.plan_id)
    ids = {"project_id": project_id, "plan_id": phase.plan_id, "phase_id": phase.id}
    events.add(connection, EventType.PHASE, subtype, actor, data={"title": phase.title, **data}, **ids)


def count_by_status(connection: Connection, *, owner_id: str = LOCAL_OWNER) -> dict[PlanStatus, int]:
    """Gives how many plans are in each status that any has; those in the trash are left out."""
    query = select(plans.c.status, func.count()).where(plans.c.owner_id == owner_id, plans.c.deleted_at.is_(None))
    query = query.group_by(plans.c.status)
    return {row[0]: row[1] for row in connection.execute(query)}


def executing(connection: Connection, *, home: str) -> tuple[Plan, ...]:
    """Gives the plans that run or wait in one data folder, oldest first."""
    query = (
        select(plans)
        .join(projects, projects.c.id == plans.c.project_id)
        .where(projects.c.home == home, plans.c.status.in_(transitions.PLAN_EXECUTING))
        .order_by(plans.c.number)
    )
    return entities(Plan, connection.execute(query))


def home(connection: Connection, plan_id: str) -> str:
    """Gives the id of the data folder that a plan's project lives in."""
    query = select(projects.c.home).join(plans, plans.c.project_id == projects.c.id).where(plans.c.id == plan_id)
    return one(connection, query, "such plan").home


def stage_entered_at(connection: Connection, plan_id: str) -> datetime | None:
    """Gives when the plan came into its present stage, None if it never left the first."""
    query = select(func.max(event_rows.c.at)).where(
        event_rows.c.plan_id == plan_id, event_rows.c.type == EventType.PLAN, event_rows.c.subtype == "stage"
    )
    return connection.execute(query).scalar_one()
