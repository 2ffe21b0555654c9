"""Runs a plan's work again: a clone of it as a new plan, or the plan itself from somewhere before."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import cast

from holdfast import clock
from holdfast.app import plans as plan_verbs
from holdfast.app import rewinds
from holdfast.app.checkpoints import beginning_of
from holdfast.app.rewinds import How, Preview
from holdfast.app.wire import House
from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.plan import Phase, Plan
from holdfast.domain.planfile import PlanFile, parse, to_domain
from holdfast.domain.readiness import current_phase
from holdfast.domain.transitions import PlanStatus
from holdfast.errors import IllegalState, UsageError
from holdfast.store import plans, projects, tasks


class From(StrEnum):
    """Where a plan is run from: from its beginning, where it is, or a phase's or a task's beginning."""

    BEGINNING = "beginning"
    CURRENT = "current"
    PHASE = "phase"
    TASK = "task"


def run_from(house: House, plan_id: str, start: From, *, name: str = "", how: How | None = None) -> Plan:
    """Starts a plan, after going back to where it is to start from; `name` is the phase's title or the task.

    Without a name the phase is the present one, else the last. Raises as going back and `resume` do.
    """
    match target_of(house, plan_id, start, name=name):
        case Phase() as phase:
            rewinds.rollback_phase(house, plan_id, phase.id, how)
        case Checkpoint(task_id=str(task_id)) as first:
            rewinds.rewind_task(house, task_id, first, how)
        case _:
            pass
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
    return (plan_verbs.execute if plan.status is PlanStatus.DRAFT else plan_verbs.resume)(house, plan_id)


def preview_from(house: House, plan_id: str, start: From, *, name: str = "") -> Preview | None:
    """Gives what `run_from` would take back, None if nothing; raises what it would."""
    match target_of(house, plan_id, start, name=name):
        case Phase() as phase:
            return rewinds.preview_phase(house, plan_id, phase.id)
        case Checkpoint(task_id=str(task_id)) as first:
            return rewinds.preview_rewind(house, task_id, first)
        case _:
            return None


def target_of(house: House, plan_id: str, start: From, *, name: str = "") -> Phase | Checkpoint | None:
    """Gives the phase whose beginning, or the checkpoint that a plan goes back to before it runs; None: it stays."""
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
    if plan.status is PlanStatus.DRAFT:
        if start in (From.PHASE, From.TASK):
            raise IllegalState(
                f"P{plan.number} has not run yet: it starts at its beginning",
                hint=f"start it: holdfast plan execute P{plan.number}",
            )
        return None
    if plan.status is PlanStatus.CANCELLED or (plan.status is PlanStatus.COMPLETED and start is From.CURRENT):
        clone = f"run it anew: holdfast plan clone P{plan.number}"
        raise IllegalState(f"P{plan.number} is {plan.status}", hint=clone)
    match start:
        case From.BEGINNING:
            return _phases(house, plan_id)[0]
        case From.PHASE:
            return phase_named(house, plan_id, name)
        case From.TASK:
            return _start_of(house, plan_id, name)
        case From.CURRENT:
            return None


def _phases(house: House, plan_id: str) -> tuple[Phase, ...]:
    with house.database.read() as connection:
        return plans.phases_of(connection, plan_id)


def phase_named(house: House, plan_id: str, name: str = "") -> Phase:
    """Gives the phase of that title or place (1 = the first), without a name the present one, else the last."""
    phases = _phases(house, plan_id)
    if not name:
        return current_phase(phases) or phases[-1]
    found = [phase for phase in phases if name in (phase.title, str(phase.position + 1))]
    if len(found) != 1:
        listed = ", ".join(f"{phase.position + 1} {phase.title}" for phase in phases)
        raise UsageError(f"the plan has {len(found) or 'no'} phases {name!r}", hint=f"its phases: {listed}")
    return found[0]


def _start_of(house: House, plan_id: str, name: str) -> Checkpoint | None:
    """Gives the checkpoint at which a task began, None for one that has not."""
    with house.database.read() as connection:
        if not name:
            raise UsageError("which task is the plan to start from?", hint="name it: --task T4")
        task = tasks.get(connection, tasks.find(connection, name, plan_id=plan_id))
        return beginning_of(connection, task)


# -- clones ----------------------------------------------------------------------------------------------------------


def clone(house: House, plan_id: str, *, title: str = "", at: Checkpoint | None = None) -> Plan:
    """Stores a draft that does a plan's work anew, from the commit that it began at; gives the draft.

    With `at` it begins at that checkpoint of the plan, with the files and variables of then, and leaves out what was
    finished then. Raises `IllegalState` if nothing was left to do.
    """
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
        project = projects.get(connection, plan.project_id)
    file = parse(plan_verbs.export(house, plan_id), source=f"P{plan.number}")
    if at is not None:
        finished = cast("list[str]", at.state.get("finished") or [])
        variables = cast("dict[str, str]", at.state.get("variables") or {})
        file = replace(without(file, set(finished)), variables={**file.variables, **variables})
        if not file.phases:
            raise IllegalState(f"at that checkpoint nothing of P{plan.number} was left to do")
    base = at.commit if at else plan.base_commit
    if plan.run or at:
        # The commit may be one that only the vault has: it is kept for the clone before there is one.
        house.workspaces.vault(project).pin(base)
    copied = replace(file, title=title or f"{plan.title} (again)", slug="", base="", text="")
    row, phases, new_tasks = to_domain(copied, ids=clock.new_id, project_id=project.id, created_at=clock.now())
    row = replace(row, base_commit=base)
    with house.database.transaction() as connection:
        stored, _, _ = plans.add(connection, row, tuple(phases), tuple(new_tasks), actor=house.actor)
        told = {"of": f"P{plan.number}", "checkpoint": at.number if at else None}
        plans.tell(connection, stored, "cloned", house.actor, told)
    return stored


def without(file: PlanFile, keys: set[str]) -> PlanFile:
    """Gives a plan file without those tasks; what depended on them no longer does, and no phase is left empty."""
    phases = [
        replace(
            phase,
            tasks=tuple(
                replace(task, depends_on=tuple(each for each in task.depends_on if each not in keys))
                for task in phase.tasks
                if task.key not in keys
            ),
        )
        for phase in file.phases
    ]
    return replace(file, phases=tuple(phase for phase in phases if phase.tasks))
