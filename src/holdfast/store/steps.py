"""Steps: one row per run of an attempt, numbered per project, closed once, never deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from sqlalchemy import BindParameter, Connection, and_, bindparam, func, or_, select, update

from holdfast import clock
from holdfast.domain.budget import Usage
from holdfast.domain.conversation import TokenUsage
from holdfast.domain.history import EventType
from holdfast.domain.step import Step, state, worked_between
from holdfast.domain.task import FailureKind
from holdfast.domain.usage import launches_of, spent
from holdfast.errors import IllegalState, NotFound
from holdfast.store import approvals, events
from holdfast.store.paging import Page, before, page
from holdfast.store.rows import by_id, change, changeable, claim_lost, columns_of, entities, entity, insert_fenced, one
from holdfast.store.tables import plans, projects, steps, tasks, workers

# A worker with a task says more often that it is there; after this long without, nobody knows whether the task runs.
UNSEEN = timedelta(seconds=60)

_GUARDED = frozenset(
    "id number project_id plan_id task_id parent_step_id attempt run active started_at ended_at exit_code "  # noqa: SIM905
    "interrupted failure".split()
)


def begin(
    connection: Connection,
    *,
    id: str,
    task_id: str,
    run: int,
    attempt: int,
    branch: str,
    commit_before: str,
    actor: str,
    agent_config: Mapping[str, object] | None = None,
    details: Mapping[str, object] | None = None,
    claim: int | None = None,
) -> Step:
    """Gives the step of a task's run, made now if it does not exist yet: asking twice makes one.

    It takes the project's next number; its parent is the newest active step on `branch`, else of the project. Raises
    `ClaimLost` if `claim` is no longer the task's, and `IllegalState` if another step of the task still runs.
    """
    # The project's row is locked before the look, so that of two who ask at once the later one finds the step.
    place = one(connection, _PLACE, "such task", {"task": task_id})
    for row in connection.execute(_RUN_OR_RUNNING, {"task": task_id, "run": run}):
        if row.run == run:
            return entity(Step, row)
        raise IllegalState(
            f"step {row.number} of task T{place.number} still runs",
            hint="end or interrupt it first",
            code="step_running",
        )
    step = Step(
        id=id,
        number=_take_number(connection, place.project_id),
        project_id=place.project_id,
        plan_id=place.plan_id,
        task_id=task_id,
        parent_step_id=_parent(connection, place.project_id, branch),
        attempt=attempt,
        run=run,
        active=True,
        branch=branch,
        commit_before=commit_before,
        commit_after=None,
        agent_config=agent_config or {},
        details=details or {},
        started_at=clock.now(),
    )
    insert_fenced(connection, steps, columns_of(step), task_id, claim)
    told = {"number": step.number, "attempt": attempt, "run": run}
    _tell(connection, step, "started", actor, told, phase_id=place.phase_id)
    return step


# The statements that every task runs are built once a process: building one costs more than running it.
_TASK: BindParameter[str] = bindparam("task")
_RUN: BindParameter[int] = bindparam("run")
_PROJECT: BindParameter[str] = bindparam("project")
_BRANCH: BindParameter[str] = bindparam("branch")
_PHASE = select(tasks.c.phase_id).where(tasks.c.id == _TASK)
_OF_RUN = select(steps).where(steps.c.task_id == _TASK, steps.c.run == _RUN)
_RUNNING = and_(steps.c.active, steps.c.ended_at.is_(None), ~steps.c.interrupted)
_RUN_OR_RUNNING = (
    select(steps)
    .where(steps.c.task_id == _TASK, or_(steps.c.run == _RUN, _RUNNING))
    .order_by((steps.c.run == _RUN).desc())
)
_PLACE = (
    select(tasks.c.plan_id, tasks.c.phase_id, tasks.c.number, plans.c.project_id)
    .join(plans, plans.c.id == tasks.c.plan_id)
    .join(projects, projects.c.id == plans.c.project_id)
    .where(tasks.c.id == _TASK)
    .with_for_update(key_share=True, of=projects)
)
_NUMBER = (
    update(projects)
    .where(projects.c.id == _PROJECT)
    .values(last_step=projects.c.last_step + 1)
    .returning(projects.c.last_step)
)
_NEWEST = (
    select(steps.c.id).where(steps.c.project_id == _PROJECT, steps.c.active).order_by(steps.c.number.desc()).limit(1)
)
_NEWEST_ON_BRANCH = _NEWEST.where(steps.c.branch == _BRANCH)


def of_run(connection: Connection, task_id: str, run: int) -> Step | None:
    """Gives the step of a task's run, None if that run has not come so far."""
    row = connection.execute(_OF_RUN, {"task": task_id, "run": run}).one_or_none()
    return None if row is None else entity(Step, row)


def _take_number(connection: Connection, project_id: str) -> int:
    return connection.execute(_NUMBER, {"project": project_id}).scalar_one()


def newest(connection: Connection, project_id: str, branch: str) -> str | None:
    """Gives the id of the newest active step on a branch, None if there is none."""
    return connection.execute(_NEWEST_ON_BRANCH, {"project": project_id, "branch": branch}).scalar_one_or_none()


def _parent(connection: Connection, project_id: str, branch: str) -> str | None:
    return (
        newest(connection, project_id, branch)
        or connection.execute(_NEWEST, {"project": project_id}).scalar_one_or_none()
    )


def finish(
    connection: Connection,
    step_id: str,
    *,
    actor: str,
    claim: int | None = None,
    phase_id: str | None = None,
    exit_code: int | None = None,
    interrupted: bool = False,
    failure: FailureKind | None = None,
    **columns: object,
) -> Step:
    """Ends a step, once: an ended one is given back as it is stored. Give an exit code, a failure or `interrupted`.

    `phase_id` is the phase of its task, which is looked up where it is not given.

    Raises `ClaimLost` if `claim` is given and no longer the task's; the test is part of the writing statement.
    """
    values = changeable(steps, columns, _GUARDED)
    values |= {"ended_at": clock.now(), "exit_code": exit_code, "interrupted": interrupted, "failure": failure}
    row = change(connection, steps, values, {"id": step_id, "ended_at": None}, held=claim)
    if row is None:
        found = get_by_id(connection, step_id)
        if found.ended_at is None:
            raise claim_lost(connection, found.task_id, claim or 0)
        return found
    ended = entity(Step, row)
    told = {"number": ended.number, "exit_code": exit_code, "failure": failure, "commit_after": ended.commit_after}
    _tell(connection, ended, str(state(ended)), actor, told, phase_id=phase_id)
    return ended


def set_fields(connection: Connection, step_id: str, *, claim: int | None = None, **columns: object) -> Step:
    """Writes columns without rules of their own (restarts, tokens, commit_after, details …), fenced by `claim`."""
    values = changeable(steps, columns, _GUARDED)
    row = change(connection, steps, values, {"id": step_id}, held=claim)
    if row is None:
        raise claim_lost(connection, get_by_id(connection, step_id).task_id, claim or 0)
    return entity(Step, row)


def lock(connection: Connection, step_id: str) -> Step:
    """Gives the step and keeps others from changing it until the transaction ends."""
    query = select(steps).where(steps.c.id == step_id).with_for_update(key_share=True)
    return entity(Step, one(connection, query, "such step"))


def use(
    connection: Connection,
    step_id: str,
    launch: str,
    used: TokenUsage,
    *,
    estimated: bool = False,
    claim: int | None = None,
) -> Step:
    """Keeps what the agent of one launch has told that it used so far; the step's sums are those of its launches.

    `estimated` says that its cost was not told, but made of prices.
    """
    step = lock(connection, step_id)
    usage = {**launches_of(step), launch: asdict(used) | ({"estimated": True} if estimated else {})}
    details = {**step.details, "usage": usage}
    sums = spent([replace(step, details=details)])
    return set_fields(
        connection,
        step_id,
        claim=claim,
        details=details,
        tokens=sums.total_tokens,
        cost_usd=sums.cost_usd or 0.0,
    )


def deactivate(connection: Connection, step_id: str, *, actor: str) -> Step:
    """Marks a step as rolled back, for good; one that already is stays as it is. Raises `IllegalState` if it runs."""
    step = get_by_id(connection, step_id)
    if not step.active:
        return step
    where = (steps.c.id == step_id, steps.c.active, or_(steps.c.ended_at.is_not(None), steps.c.interrupted))
    row = connection.execute(update(steps).where(*where).values(active=False).returning(steps)).one_or_none()
    if row is None:
        raise IllegalState(f"step {step.number} still runs", hint="stop the plan first", code="step_running")
    _tell(connection, step, "rolled_back", actor, {"number": step.number})
    return entity(Step, row)


def get(connection: Connection, project_id: str, number: int) -> Step:
    """Gives step `number` of a project; raises `NotFound`."""
    where = and_(steps.c.project_id == project_id, steps.c.number == number)
    row = connection.execute(select(steps).where(where)).one_or_none()
    if row is None:
        raise NotFound(f"no step {number}", hint="holdfast steps lists them")
    return entity(Step, row)


def get_by_id(connection: Connection, step_id: str) -> Step:
    """Gives one step; raises `NotFound`."""
    return entity(Step, by_id(connection, steps, step_id, "such step"))


def numbers(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Gives the numbers of steps by their ids."""
    query = select(steps.c.id, steps.c.number).where(steps.c.id.in_(ids))
    return {row.id: row.number for row in connection.execute(query)}


def of_task(connection: Connection, task_id: str) -> tuple[Step, ...]:
    """Gives all steps of a task, oldest first."""
    query = select(steps).where(steps.c.task_id == task_id).order_by(steps.c.number)
    return entities(Step, connection.execute(query))


def running(connection: Connection, task_id: str) -> Step | None:
    """Gives the task's step that has no end yet, if there is one."""
    query = select(steps).where(steps.c.task_id == task_id, steps.c.active, steps.c.ended_at.is_(None))
    row = connection.execute(query.where(~steps.c.interrupted)).one_or_none()
    return None if row is None else entity(Step, row)


def list_(
    connection: Connection,
    *,
    project_id: str | None = None,
    plan_id: str | None = None,
    task_id: str | None = None,
    active: bool | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[Step]:
    """Gives a page of steps, newest first: by number within a project, plan or task, else by the time of their ids."""
    query = select(steps)
    equal = {"project_id": project_id, "plan_id": plan_id, "task_id": task_id, "active": active}
    for name, value in equal.items():
        if value is not None:
            query = query.where(steps.c[name] == value)
    numbered = any((project_id, plan_id, task_id))
    key = steps.c.number if numbered else steps.c.id
    found = [entity(Step, row) for row in connection.execute(before(query, key, cursor, limit, numeric=numbered))]
    return page(found, limit, lambda step: step.number if numbered else step.id)


def count(connection: Connection, project_id: str) -> int:
    """Gives how many steps a project has."""
    return connection.execute(
        select(func.count()).select_from(steps).where(steps.c.project_id == project_id)
    ).scalar_one()


def tell_imported(connection: Connection, step: Step, *, actor: str) -> None:
    """Writes the event of a step that came from elsewhere with all that it is."""
    names = ("number", "attempt", "run", "exit_code", "failure", "commit_after")
    _tell(connection, step, "imported", actor, {name: getattr(step, name) for name in names} | {"state": state(step)})


def _tell(
    connection: Connection,
    step: Step,
    subtype: str,
    actor: str,
    data: Mapping[str, object],
    *,
    phase_id: str | None = None,
) -> None:
    events.add(
        connection,
        EventType.STEP,
        subtype,
        actor,
        project_id=step.project_id,
        plan_id=step.plan_id,
        phase_id=phase_id or connection.execute(_PHASE, {"task": step.task_id}).scalar_one(),
        task_id=step.task_id,
        step_id=step.id,
        data=data,
    )


def of_plan(connection: Connection, plan_id: str) -> tuple[Step, ...]:
    """Gives all steps of a plan, oldest first."""
    query = select(steps).where(steps.c.plan_id == plan_id).order_by(steps.c.number)
    return entities(Step, connection.execute(query))


def usage(connection: Connection, *, now: datetime, plan_id: str | None = None, task_id: str | None = None) -> Usage:
    """Gives what the steps of a plan or of a task have used up to `now`, running and rolled-back ones too."""
    owner = steps.c.plan_id == plan_id if task_id is None else steps.c.task_id == task_id
    columns = (steps.c.task_id, steps.c.started_at, steps.c.ended_at, steps.c.idle_seconds, steps.c.tokens)
    attended = tasks.outerjoin(workers, workers.c.id == tasks.c.claimed_by)
    query = select(*columns, steps.c.cost_usd, workers.c.seen_at).join(attended, tasks.c.id == steps.c.task_id)
    rows = connection.execute(query.where(owner)).all()
    asking = approvals.waiting_since(connection, {row.task_id for row in rows if row.ended_at is None})
    used = Usage()
    for row in rows:
        attended_until = (row.seen_at or now) + UNSEEN
        until = row.ended_at or min(now, asking.get(row.task_id, now), attended_until)
        used += Usage(worked_between(row.started_at, until, row.idle_seconds), row.tokens, row.cost_usd)
    return used
