"""Undo and redo: takes back what was moved, restored, forked, deleted or edited last, or any one deed that can be.

A deed is an operation that went back with something, let it go on, forked it or moved it into the trash or out of it,
or an iteration that edited a plan. What takes a deed back is a deed itself, so taking that back again is to redo the
first. Nothing remembers what is in effect: it follows from who took back what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from holdfast import clock
from holdfast.app import planning, trash
from holdfast.app import plans as plan_verbs
from holdfast.app.forks import FORK
from holdfast.app.trash import Moving, moving_of
from holdfast.app.wire import House
from holdfast.domain.plan import Plan, refuse_deleted
from holdfast.domain.restore import Preserve, Restoration, as_steps_stand, turned_round
from holdfast.engine import restoring
from holdfast.engine.handover import Handover, hand_over, handover_of
from holdfast.engine.restoring import Intent, intent_of
from holdfast.errors import IllegalState, NotFound
from holdfast.store import (
    Connection,
    Operation,
    OperationStatus,
    checkpoints,
    iterations,
    operations,
    plans,
    projects,
    restorations,
    steps,
    tasks,
)
from holdfast.store.iterations import Iteration
from holdfast.store.operations import RESTORATION

UNDO = "undo"
REDO = "redo"
# So far back is looked for what can be taken back.
LOOKED_THROUGH = 1000
_SAID_FIRST = ("plan", "task", "step", "checkpoint", "was")
# What of an outcome is said elsewhere, or says nothing.
_NOT_SAID = ("preserved", "saved", "undoes", "task")
_NOTHING = ("", None, False)


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that can be taken back, named O4 or P3#2 (iteration 2). `undoes` names the deed that it took back.

    `of` is the task or plan that it was done to.
    `kept` says as what the work that it left behind is kept: `branch NAME` or `stash REF`.
    """

    name: str
    kind: str
    of: str
    plan_id: str
    actor: str
    at: datetime
    told: str
    undoes: str = ""
    in_effect: bool = True
    kept: str = ""


def deeds(house: House, *, plan_id: str | None = None) -> tuple[Deed, ...]:
    """Gives what was done and can or could be taken back, newest first."""
    with house.database.read() as connection:
        return _deeds(connection, plan_id)


def _deeds(connection: Connection, plan_id: str | None) -> tuple[Deed, ...]:
    done = operations.list_(connection, plan_id=plan_id, limit=LOOKED_THROUGH).items
    edited = iterations.recent(connection, LOOKED_THROUGH)
    numbers = {each.id: each.number for each in plans.list_(connection, limit=LOOKED_THROUGH, deleted=None).items}
    done = [each for each in done if each.status is OperationStatus.DONE and _is_deed(each)]
    of_tasks = tasks.numbers(connection, {each.task_id for each in done if each.task_id})
    found = [_of_operation(each, _whose(each, numbers, of_tasks)) for each in done]
    found += [
        _of_iteration(each, numbers[each.plan_id])
        for each in edited
        if "after" in each.content and each.plan_id in numbers and plan_id in (None, each.plan_id)
    ]
    return _with_effect(sorted(found, key=lambda deed: deed.at, reverse=True))


def _whose(done: Operation, of_plans: Mapping[str, int], of_tasks: Mapping[str, int]) -> str:
    task, plan = of_tasks.get(done.task_id or ""), of_plans.get(done.plan_id or "")
    return f"T{task}" if task else f"P{plan}" if plan else ""


def _is_deed(done: Operation) -> bool:
    return RESTORATION in done.intent or handover_of(done) is not None or _trashing(done) is not None


def _trashing(done: Operation) -> Moving | None:
    """Gives what takes a deed back that has to do with the trash; None for another. A fork goes there unless it ran."""
    if done.kind == FORK:
        return Moving(str(done.intent["fork_plan"]), into=True, unbegun=True)
    moved = moving_of(done)
    return moved.turned_round() if moved else None


def _of_operation(done: Operation, of: str) -> Deed:
    told = {name: value for name, value in done.outcome.items() if name not in _NOT_SAID and value not in _NOTHING}
    # In an order of its own: PostgreSQL keeps none.
    names = sorted(told, key=lambda name: (_SAID_FIRST.index(name) if name in _SAID_FIRST else len(_SAID_FIRST), name))
    words = " ".join(_said(name, told[name]) for name in names if told[name] != of)
    undoes = str(done.outcome.get("undoes") or "")
    preserved = cast("Mapping[str, object]", done.outcome.get("preserved") or {})
    kept = f"{preserved['type']} {preserved['reference']}" if preserved else ""
    name, plan_id = f"O{done.number}", done.plan_id or ""
    return Deed(name, done.kind, of, plan_id, done.actor, done.started_at, words, undoes, kept=kept)


def _said(name: str, value: object) -> str:
    if value is True:
        return name
    return f"{name} {', '.join(map(str, cast('list[object]', value))) if isinstance(value, list) else value}"


def _of_iteration(edited: Iteration, plan: int) -> Deed:
    undoes = f"P{plan}#{edited.content['of']}" if edited.kind == "revert" else ""
    name, told = f"P{plan}#{edited.number}", planning.summary(edited)
    return Deed(name, edited.kind, f"P{plan}", edited.plan_id, edited.author, edited.created_at, told, undoes)


def _with_effect(newest_first: list[Deed]) -> tuple[Deed, ...]:
    """Says of each deed whether it still counts: unless a later one that counts took it back."""
    taken_back: set[str] = set()
    found: list[Deed] = []
    for deed in newest_first:
        counts = deed.name not in taken_back
        if counts and deed.undoes:
            taken_back.add(deed.undoes)
        found.append(replace(deed, in_effect=counts))
    return tuple(found)


def takes_back(deed: Deed, all_deeds: tuple[Deed, ...]) -> bool:
    """Tells whether a deed is an undo; what takes an undo back is none."""
    if not deed.undoes:
        return False
    target = next((each for each in all_deeds if each.name == deed.undoes), None)
    return target is None or not takes_back(target, all_deeds)


def undo(house: House, name: str = "", *, plan_id: str | None = None) -> Deed:
    """Takes back the deed of that name, or the last one; gives the deed that did it.

    Raises `IllegalState` where the work has moved on so that it no longer can be, or where there is nothing.
    """
    return _take_back(house, chosen(house, name, plan_id=plan_id))


def redo(house: House, *, plan_id: str | None = None) -> Deed:
    """Puts again what was undone last."""
    return _take_back(house, undone(house, plan_id=plan_id))


def chosen(house: House, name: str = "", *, plan_id: str | None = None) -> Deed:
    """Gives the deed that `undo` would take back; what was cut off is carried through first, and is a deed then."""
    _carry_through(house, plan_id)
    found = deeds(house, plan_id=plan_id)
    if not name:
        last = next((each for each in found if each.in_effect and not takes_back(each, found)), None)
        if last is None:
            raise IllegalState("there is nothing to undo", hint="look: holdfast operations")
        return last
    named = next((each for each in found if each.name.lower() == name.strip().lower()), None)
    if named is None:
        raise NotFound(f"there is no operation {name} that could be undone", hint="look: holdfast operations")
    if not named.in_effect:
        raise IllegalState(f"{named.name} has been undone already", hint="put it again: holdfast redo")
    return named


def undone(house: House, *, plan_id: str | None = None) -> Deed:
    """Gives the undo that `redo` would take back, as `chosen` does."""
    _carry_through(house, plan_id)
    found = deeds(house, plan_id=plan_id)
    last = next((each for each in found if each.in_effect and takes_back(each, found)), None)
    if last is None:
        raise IllegalState("there is nothing to redo", hint="look: holdfast operations")
    return last


def _carry_through(house: House, plan_id: str | None) -> None:
    for operation in restoring.cut_off(house, plan_id):
        restoring.finish(house, operation.id)


def _take_back(house: House, deed: Deed) -> Deed:
    if "#" in deed.name:
        planning.revert(house, deed.plan_id, int(deed.name.partition("#")[2]))
        return deeds(house, plan_id=deed.plan_id)[0]
    with house.database.read() as connection:
        done = operations.find(connection, deed.name)
    trashing, handed = _trashing(done), handover_of(done)
    if trashing is not None:
        _move(house, trashing, done, deed)
    elif handed is not None:
        _hand_back(house, handed, done, deed)
    else:
        restoring.finish(house, _begin(house, deed).id)
    return deeds(house, plan_id=deed.plan_id)[0]


def may_take_back(house: House, deed: Deed) -> None:
    """Raises what keeps a deed from being taken back, as far as that is seen before it is begun; nothing is written."""
    if "#" in deed.name:
        planning.revert(house, deed.plan_id, int(deed.name.partition("#")[2]), dry_run=True)
        return
    with house.database.read() as connection:
        done = operations.find(connection, deed.name)
        trashing, handed = _trashing(done), handover_of(done)
        if trashing is not None:
            trash.may_move(connection, plans.get(connection, trashing.plan_id), trashing)
        elif handed is None:
            plan = plans.get(connection, deed.plan_id)
            refuse_deleted(plan)
            _turned(house, connection, deed, done, plan)
    if handed is not None:
        _refuse_handed_on(house, handed, deed)
        if not handed.branch:
            plan_verbs.merge_files(house, deed.plan_id, back=not handed.back, dry_run=True)


def _refuse_handed_on(house: House, handed: Handover, deed: Deed) -> Plan:
    """Gives the plan of a merge, or raises what keeps that from being taken back."""
    with house.database.read() as connection:
        plan = plans.get(connection, deed.plan_id)
        project = projects.get(connection, plan.project_id)
    plan_verbs.refuse_foreign(house, project)
    if (handed.back or not handed.branch) and house.workspaces.vault(project).head(plan.branch) != handed.commit:
        raise _gone_on(deed, plan.branch)
    return plan


def _hand_back(house: House, handed: Handover, done: Operation, deed: Deed) -> None:
    """Takes back what a merge wrote, a branch or files, or writes again what was taken back."""
    plan = _refuse_handed_on(house, handed, deed)
    kind = REDO if done.kind == UNDO else UNDO
    if handed.branch:
        hand_over(house, plan, replace(handed, back=not handed.back, undoes=deed.name), kind=kind)
        return
    changed = plan_verbs.merge_files(house, plan.id, back=not handed.back, undoing=(kind, deed.name))
    if not changed:
        told = f"{deed.name} ({deed.kind}) cannot be taken back: the files are so already"
        raise IllegalState(told, hint="look: holdfast plan merge --dry-run", code="changed_meanwhile")


def _move(house: House, moving: Moving, done: Operation, deed: Deed) -> None:
    kind = REDO if done.kind == UNDO else UNDO
    with house.database.transaction() as connection:
        trash.move(
            connection,
            moving,
            kind=kind,
            actor=house.actor,
            plan_id=deed.plan_id,
            task_id=done.task_id,
            undoes=deed.name,
        )


def _begin(house: House, deed: Deed) -> Operation:
    restoring.finish_open(house, deed.plan_id)
    with house.database.transaction() as connection:
        plan = plans.lock(connection, deed.plan_id)
        done = operations.find(connection, deed.name)
        back = _turned(house, connection, deed, done, plan)
        kind = REDO if done.kind == UNDO else UNDO
        return restoring.begin(
            connection,
            plan,
            Intent(back, Preserve.DISCARD, told={"undoes": deed.name}, undoes=done.id),
            kind=kind,
            actor=house.actor,
            task_id=done.task_id,
        )


def _turned(house: House, connection: Connection, deed: Deed, done: Operation, plan: Plan) -> Restoration:
    """Gives the restoration that takes a deed back, or raises what keeps it from being taken back."""
    back = turned_round(intent_of(done).restoration, clock.new_id)
    back = as_steps_stand(back, steps.of_plan(connection, plan.id))
    _refuse_moved_on(house, connection, deed, back, plan.project_id)
    restoring.refuse_over(connection, back)
    _refuse_forgotten(house, connection, back, plan.project_id)
    restoring.refuse_running(plan)
    _refuse_changed(connection, deed, back)
    return back


def _refuse_changed(connection: Connection, deed: Deed, back: Restoration) -> None:
    """Raises `IllegalState` that names the deed if the work has moved on since it was done."""
    try:
        restorations.refuse_changed(connection, back)
    except IllegalState as error:
        told = f"{deed.name} ({deed.kind}) cannot be taken back any more: {error.message}"
        raise IllegalState(told, hint="look: holdfast operations, holdfast status", code=error.code) from error


def _refuse_moved_on(house: House, connection: Connection, deed: Deed, back: Restoration, project_id: str) -> None:
    vault = house.workspaces.vault(projects.get(connection, project_id))
    for move in back.branches:
        if vault.head(move.branch) != move.before:
            raise _gone_on(deed, move.branch)


def _gone_on(deed: Deed, branch: str) -> IllegalState:
    return IllegalState(
        f"{deed.name} ({deed.kind}) cannot be taken back any more: {branch} has gone on since then",
        hint="go back to before that first: holdfast steps, holdfast step rollback",
        code="changed_meanwhile",
    )


def _refuse_forgotten(house: House, connection: Connection, back: Restoration, project_id: str) -> None:
    """Raises `IllegalState` if `holdfast gc` took away what would be brought back."""
    vault = house.workspaces.vault(projects.get(connection, project_id))
    wanted = [move.after for move in back.branches] + [move.after for move in back.files]
    heads = ((move.task_id, move.after.head_checkpoint) for move in back.tasks)
    try:
        for task_id, number in heads:
            if number:
                checkpoints.get(connection, number, task_id=task_id)
        lost = vault.objects.missing(bytes.fromhex(each) for each in wanted)
    except NotFound:
        lost = {b""}
    if lost:
        raise IllegalState(
            "what it would bring back is no longer kept: holdfast gc took it away",
            hint="look at what is there: holdfast task checkpoints",
            code="forgotten",
        )
