"""What finished tasks took: the history that estimates are made of."""

from __future__ import annotations

from sqlalchemy import Connection, select

from holdfast.domain.estimate import PastTask
from holdfast.domain.step import worked_between
from holdfast.domain.transitions import TaskStatus
from holdfast.store.tables import plans, steps, tasks


def past_tasks(connection: Connection, *, limit: int = 1000) -> tuple[PastTask, ...]:
    """Gives the newest completed tasks, of all projects, with the time, tokens and cost of all their steps together."""
    newest = (
        select(tasks.c.id)
        .where(tasks.c.status == TaskStatus.COMPLETED)
        .order_by(tasks.c.number.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        select(
            plans.c.project_id, tasks.c.executor, tasks.c.agent, tasks.c.command, steps.c.task_id, steps.c.started_at,
            steps.c.ended_at, steps.c.idle_seconds, steps.c.tokens, steps.c.cost_usd,
        )
        .join(tasks, tasks.c.id == steps.c.task_id)
        .join(plans, plans.c.id == tasks.c.plan_id)
        .where(steps.c.task_id.in_(select(newest.c.id)), steps.c.ended_at.is_not(None))
    )  # fmt: skip
    found: dict[str, PastTask] = {}
    for row in connection.execute(query):
        before = found.get(row.task_id)
        # Tokens without a cost: nobody knew the price.
        known = (row.cost_usd > 0 or row.tokens == 0) and (before is None or before.cost_usd is not None)
        found[row.task_id] = PastTask(
            project_id=row.project_id,
            executor=row.executor,
            agent=row.agent,
            command=row.command,
            seconds=worked_between(row.started_at, row.ended_at, row.idle_seconds)
            + (before.seconds if before else 0.0),
            tokens=row.tokens + (before.tokens if before else 0),
            cost_usd=row.cost_usd + ((before.cost_usd if before else 0.0) or 0.0) if known else None,
        )
    return tuple(found.values())
