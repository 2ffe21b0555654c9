"""What past tasks took, and how plans came to be, from both databases."""

from __future__ import annotations

import pytest
from tests.store.world import build, end, move, start

from holdfast.domain.task import Executor
from holdfast.domain.transitions import TaskStatus
from holdfast.errors import NotFound
from holdfast.store import iterations, past
from holdfast.store.database import Database

DONE = (TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.COMPLETED)


def test_a_task_that_is_done_counts_with_all_its_steps(database: Database) -> None:
    world = build(database)
    a, b, c = world.tasks
    end(world, start(world, a), exit_code=1, tokens=10, cost_usd=0.5)
    end(world, start(world, a, run=2), tokens=20, cost_usd=0.25)
    end(world, start(world, b), tokens=100)
    end(world, start(world, c))
    move(world, a, *DONE)
    move(world, b, *DONE)
    with database.read() as connection:
        found = {each.tokens: each for each in past.past_tasks(connection)}
        assert len(past.past_tasks(connection, limit=1)) == 1
    assert set(found) == {30, 100}, "the third one is not done"
    assert found[30].cost_usd == 0.75
    assert found[100].cost_usd is None, "tokens without a cost"
    assert found[30].project_id == world.project.id
    assert found[30].executor is Executor.COMMAND
    assert found[30].seconds > 0


def test_an_iteration_is_found_by_its_number_and_the_newest_by_its_kind(database: Database) -> None:
    world = build(database)
    with database.transaction() as connection:
        for kind in ("generate", "review", "review", "apply"):
            iterations.add(connection, world.plan.id, kind, "ada", {"kind": kind})
    with database.read() as connection:
        assert iterations.get(connection, world.plan.id, 2).kind == "review"
        newest = iterations.newest(connection, world.plan.id, "review")
        assert newest is not None
        assert newest.number == 3
        assert iterations.newest(connection, world.plan.id, "edit") is None
        with pytest.raises(NotFound):
            iterations.get(connection, world.plan.id, 9)
