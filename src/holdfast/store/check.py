"""Is the database what it should be? The file's own integrity, and the rules that no constraint can say."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, select, text

from holdfast.domain.transitions import TASK_ENDED, PlanStatus, TaskStatus
from holdfast.store import told
from holdfast.store.database import Database
from holdfast.store.tables import (
    approvals,
    checkpoints,
    messages,
    metadata,
    plans,
    projects,
    steps,
    tasks,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: which rule, of which row, and what is wrong."""

    rule: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class Stats:
    """Rows per table and bytes of the database (SQLite: with its log)."""

    rows: dict[str, int]
    total_bytes: int
    plans_by_status: dict[str, int]


def check(database: Database) -> list[Problem]:
    """Gives everything that is wrong; an empty list means that the database keeps all its promises."""
    with database.read(snapshot=True) as connection:
        problems = _file(connection) if database.is_sqlite else []
        if problems:
            return problems
        rules = (_history, _running, _step_numbers, _checkpoint_numbers, _heads, _completed, _gates)
        return [problem for rule in rules for problem in rule(connection)]


def _file(connection: Connection) -> list[Problem]:
    found = [
        Problem("integrity", "file", str(row[0]))
        for row in connection.execute(text("PRAGMA integrity_check"))
        if row[0] != "ok"
    ]
    for row in connection.execute(text("PRAGMA foreign_key_check")):
        found.append(Problem("foreign_key", f"{row[0]} row {row[1]}", f"points at a row of {row[2]} that is not there"))
    return found


def _history(connection: Connection) -> list[Problem]:
    """The events of a plan, replayed, tell just what its rows say."""
    ids = connection.execute(select(plans.c.id, plans.c.number).order_by(plans.c.number)).all()
    return [
        Problem("history", f"P{plan.number}: {subject}", wrong)
        for plan in ids
        for subject, wrong in told.untold(connection, plan.id)
    ]


def _running(connection: Connection) -> list[Problem]:
    open_step = and_(steps.c.active, steps.c.ended_at.is_(None), ~steps.c.interrupted)
    counted = (
        select(steps.c.task_id, func.count().label("number")).where(open_step).group_by(steps.c.task_id).subquery()
    )
    query = select(tasks.c.number, tasks.c.status, counted.c.number.label("open")).join(
        counted, counted.c.task_id == tasks.c.id
    )
    found: list[Problem] = []
    for row in connection.execute(query):
        if row.open > 1:
            found.append(Problem("one_running_step", f"T{row.number}", f"has {row.open} running steps"))
        if row.status in TASK_ENDED:
            found.append(Problem("ended_task_runs", f"T{row.number}", f"is {row.status}, but a step of it still runs"))
    silent = (steps.c.exit_code.is_(None), ~steps.c.interrupted, steps.c.failure.is_(None))
    for number in connection.execute(select(steps.c.number).where(steps.c.ended_at.is_not(None), *silent)).scalars():
        found.append(Problem("end_told", f"step {number}", "has ended without an exit code"))
    return found


def _step_numbers(connection: Connection) -> list[Problem]:
    query = (
        select(projects.c.slug, projects.c.last_step, func.count(steps.c.id), func.max(steps.c.number))
        .outerjoin(steps, steps.c.project_id == projects.c.id)
        .group_by(projects.c.id, projects.c.slug, projects.c.last_step)
    )
    return [
        Problem("step_numbers", slug, f"has {count} steps up to number {last or 0}; {given} numbers were given")
        for slug, given, count, last in connection.execute(query)
        if not (last or 0) == count == given
    ]


def _checkpoint_numbers(connection: Connection) -> list[Problem]:
    owner = func.coalesce(checkpoints.c.task_id, checkpoints.c.plan_id)
    query = select(owner, checkpoints.c.number, func.count()).group_by(owner, checkpoints.c.number)
    return [
        Problem("checkpoint_numbers", str(subject), f"checkpoint {number} exists {count} times")
        for subject, number, count in connection.execute(query.having(func.count() > 1))
    ]


def _heads(connection: Connection) -> list[Problem]:
    joined = and_(checkpoints.c.task_id == tasks.c.id, checkpoints.c.number == tasks.c.head_checkpoint)
    query = select(tasks.c.number, tasks.c.head_checkpoint).outerjoin(checkpoints, joined)
    query = query.join(plans, plans.c.id == tasks.c.plan_id).where(plans.c.emptied_at.is_(None))
    missing = query.where(tasks.c.head_checkpoint > 0, checkpoints.c.id.is_(None))
    found = [
        Problem("head", f"T{number}", f"its head is checkpoint {head}, which does not exist")
        for number, head in connection.execute(missing)
    ]
    for letter, owner in (("P", plans), ("T", tasks)):
        said = select(owner.c.number, owner.c.head_message_id).outerjoin(
            messages, messages.c.id == owner.c.head_message_id
        )
        gone = said.where(owner.c.head_message_id.is_not(None), messages.c.id.is_(None))
        for number, head in connection.execute(gone):
            found.append(Problem("head", f"{letter}{number}", f"its head is message {head}, which does not exist"))
    return found


def _completed(connection: Connection) -> list[Problem]:
    done = (TaskStatus.COMPLETED, TaskStatus.SKIPPED)
    query = (
        select(plans.c.number, tasks.c.number, tasks.c.status)
        .join(tasks, tasks.c.plan_id == plans.c.id)
        .where(plans.c.status == PlanStatus.COMPLETED, tasks.c.status.not_in(done))
    )
    return [
        Problem("completed", f"P{plan}", f"is completed, but its task T{task} is {status}")
        for plan, task, status in connection.execute(query)
    ]


def _gates(connection: Connection) -> list[Problem]:
    ended = (PlanStatus.COMPLETED, PlanStatus.CANCELLED)
    query = (
        select(approvals.c.number, plans.c.number, plans.c.status)
        .join(plans, plans.c.id == approvals.c.plan_id)
        .where(approvals.c.status == "open", plans.c.status.in_(ended))
    )
    return [
        Problem("gate", f"A{gate}", f"is open, but plan P{plan} is {status}")
        for gate, plan, status in connection.execute(query)
    ]


def refs(connection: Connection, *, home: str) -> dict[str, list[tuple[str, str]]]:
    """Gives by project which refs its vault has to have, each with the short name of what needs it.

    Of the projects of one data folder, and of those only that have any work.
    """
    kept = (
        select(plans.c.project_id, plans.c.number, tasks.c.number, checkpoints.c.number, checkpoints.c.ref)
        .join(plans, plans.c.id == checkpoints.c.plan_id)
        .join(projects, projects.c.id == plans.c.project_id)
        .outerjoin(tasks, tasks.c.id == checkpoints.c.task_id)
        .where(projects.c.home == home)
        .order_by(checkpoints.c.id)
    )
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for project, plan, task, number, ref in connection.execute(kept):
        found[project].append((f"T{task}@{number}" if task else f"P{plan}@{number}", ref))
    worked = (
        select(plans.c.project_id, plans.c.number, steps.c.branch)
        .join(plans, plans.c.id == steps.c.plan_id)
        .join(projects, projects.c.id == plans.c.project_id)
        .where(projects.c.home == home)
        .where(steps.c.active, steps.c.commit_after.is_not(None), plans.c.emptied_at.is_(None))
        .distinct()
    )
    for project, plan, branch in connection.execute(worked):
        found[project].append((f"P{plan}", f"refs/heads/{branch}"))
    return found


def stats(database: Database) -> Stats:
    """Gives rows per table, bytes, and plans per status."""
    with database.read(snapshot=True) as connection:
        rows = {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }
        by_status = Counter(str(status) for status in connection.execute(select(plans.c.status)).scalars())
        if database.path is None:
            total = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
        else:
            parts = (database.path.with_name(database.path.name + suffix) for suffix in ("", "-wal"))
            total = sum(part.stat().st_size for part in parts if part.exists())
    return Stats(rows, int(total), dict(by_status))
