"""Each list is read in its order from an index: a page costs what the page costs, however much there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.event import listen
from tests.store.world import World

from holdfast.domain.conversation import Conversation
from holdfast.domain.transitions import ApprovalStatus, PlanStatus, TaskStatus
from holdfast.store import (
    approvals,
    checkpoints,
    iterations,
    logs,
    operations,
    plans,
    projects,
    snapshots,
    steps,
    tasks,
    tokens,
    workers,
)

LISTS: dict[str, Callable[[Connection], object]] = {
    "projects": projects.list_,
    "plans": plans.list_,
    "plans of a status": lambda to: plans.list_(to, status=PlanStatus.RUNNING),
    "plans of a project": lambda to: plans.list_(to, project_id="p"),
    "plans of a project and status": lambda to: plans.list_(to, project_id="p", status=PlanStatus.RUNNING),
    "iterations": lambda to: iterations.list_(to, "p"),
    "tasks of a status": lambda to: tasks.list_(to, status=TaskStatus.RUNNING),
    "steps": steps.list_,
    "steps of a project": lambda to: steps.list_(to, project_id="p"),
    "steps of a plan": lambda to: steps.list_(to, project_id="p", plan_id="p", active=True),
    "steps of a task": lambda to: steps.list_(to, project_id="p", plan_id="p", task_id="t"),
    "checkpoints of a plan": lambda to: checkpoints.list_(to, plan_id="p"),
    "checkpoints of a task": lambda to: checkpoints.list_(to, task_id="t"),
    "snapshots of a task": lambda to: snapshots.list_(to, Conversation("p", "t")),
    "snapshots of a plan": lambda to: snapshots.list_(to, Conversation("p", None)),
    "log": lambda to: logs.list_(to, "s"),
    "approvals": approvals.list_,
    "approvals of a status": lambda to: approvals.list_(to, status=ApprovalStatus.OPEN),
    "approvals of a plan": lambda to: approvals.list_(to, plan_id="p"),
    "operations": operations.list_,
    "operations of a plan": lambda to: operations.list_(to, plan_id="p"),
    "tokens": tokens.list_,
    "workers": workers.list_,
    "workers at work": lambda to: workers.list_(to, stopped=False),
}


def test_every_list_is_read_in_its_order_from_an_index(sqlite_world: World) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        asked.append((statement, parameters))

    costly: dict[str, list[str]] = {}
    with sqlite_world.database.read() as connection:
        listen(connection, "before_cursor_execute", note)
        for name, read in LISTS.items():
            asked.clear()
            read(connection)
            statement, parameters = asked[0]
            way = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            if any("TEMP B-TREE" in step or (step.startswith("SCAN") and "INDEX" not in step) for step in way):
                costly[name] = way
    assert costly == {}
