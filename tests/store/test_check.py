"""The check finds what no constraint forbids, and is quiet about a database in order."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from tests.store.world import World, end, move, new_checkpoint, start

from holdfast import clock
from holdfast.domain.plan import ApprovalKind
from holdfast.domain.transitions import PlanStatus, TaskStatus
from holdfast.store import approvals, checkpoints, plans
from holdfast.store.check import check, stats


def test_a_database_in_order_has_no_problems(world: World) -> None:
    task = move(world, world.task, TaskStatus.QUEUED, TaskStatus.RUNNING)
    end(world, start(world, task))
    move(world, task, TaskStatus.COMPLETED)
    with world.database.transaction() as connection:
        checkpoints.add(connection, new_checkpoint(world.task, 1), actor="w")
        checkpoints.set_head(connection, world.task.id, 1)
        plans.set_status(connection, world.plan, PlanStatus.RUNNING, actor="ada")
    assert check(world.database) == []


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("UPDATE tasks SET status = 'completed' WHERE key = 'a'", "history"),
        ("UPDATE plans SET status = 'running'", "history"),
        ("UPDATE phases SET status = 'running' WHERE position = 0", "history"),
        ("UPDATE tasks SET status = 'failed' WHERE key = 'b'", "ended_task_runs"),
        ("UPDATE projects SET last_step = 7", "step_numbers"),
        ("UPDATE tasks SET head_checkpoint = 3 WHERE key = 'c'", "head"),
        ("UPDATE plans SET status = 'completed'", "completed"),
        ("UPDATE plans SET status = 'cancelled'", "gate"),
    ],
)
def test_a_broken_promise_is_named(world: World, damage: str, rule: str) -> None:
    start(world, world.tasks[1])
    with world.database.transaction() as connection:
        approvals.open(
            connection, id=clock.new_id(), plan_id=world.plan.id, kind=ApprovalKind.PLAN, title="?", actor="w"
        )
    assert check(world.database) == []
    with world.database.transaction() as connection:
        connection.execute(text(damage))
    assert rule in [problem.rule for problem in check(world.database)]


def test_a_row_that_points_nowhere_is_named(sqlite_world: World) -> None:
    with sqlite_world.database.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        driver.execute("PRAGMA foreign_keys=OFF")
        driver.execute("DELETE FROM phases WHERE position = 0")
        driver.execute("PRAGMA foreign_keys=ON")
    assert [problem.rule for problem in check(sqlite_world.database)] == ["foreign_key"]


def test_stats_count_rows_and_bytes(world: World) -> None:
    found = stats(world.database)
    assert (found.rows["plans"], found.rows["tasks"], found.plans_by_status) == (1, 3, {"draft": 1})
    assert found.total_bytes > 10_000
