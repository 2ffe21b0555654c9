"""Figures are sums of the rows, made by the database: the same on both, in all and by project, agent and plan."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import update
from tests.store.world import World, build, end, start

from holdfast.domain.conversation import TokenUsage
from holdfast.domain.stats import Durations, Kind, StepCounts, UsageSums
from holdfast.domain.task import FailureKind
from holdfast.store import stats, steps
from holdfast.store.tables import steps as step_table


def run(
    world: World,
    number: int,
    *,
    seconds: float,
    exit_code: int | None = 0,
    failure: FailureKind | None = None,
    agent: Mapping[str, Any] | None = None,
    used: tuple[TokenUsage, ...] = (),
) -> str:
    """Makes a step of the world's task that took so long; gives its id."""
    step = start(world, world.task, number)
    with world.database.transaction() as connection:
        for launch, each in enumerate(used):
            steps.use(connection, step.id, f"agent-{launch}", each, estimated=each.input_tokens == 1)
    ended = end(world, step, 0 if exit_code is None else exit_code, failure=failure)
    values = {"agent_config": agent or {"executor": "command"}, "exit_code": exit_code}
    values["started_at"] = (ended.ended_at or step.started_at) - timedelta(seconds=seconds)
    with world.database.transaction() as connection:
        connection.execute(update(step_table).where(step_table.c.id == step.id).values(**values))
    return step.id


ROBOT = {"agent": "robot", "model": "large"}


def test_steps_are_counted_by_project_agent_and_model(world: World) -> None:
    other = build(world.database, "till")
    run(world, 1, seconds=1.0)
    run(world, 2, seconds=4.0, exit_code=1, failure=FailureKind.EXIT)
    told = TokenUsage(100, 20, 5, 1, cost_usd=0.5), TokenUsage(1, 1, cost_usd=0.25), TokenUsage(7)
    run(world, 3, seconds=10.0, exit_code=None, failure=FailureKind.AGENT, agent=ROBOT, used=told)
    back = run(other, 1, seconds=2.0, agent={"agent": "robot", "model": ""})
    with world.database.transaction() as connection:
        steps.deactivate(connection, back, actor="ada")
    start(other, other.tasks[1])
    with world.database.read() as connection:
        found = stats.tallies(connection)
        here = stats.tallies(connection, plan_id=world.plan.id)
    commands = found[Kind(world.project.id, "", "")]
    assert commands.counts == StepCounts(2, completed=1, failed=1, retries=1, succeeded=1, ended=2)
    robot = found[Kind(world.project.id, "robot", "large")]
    assert robot.counts == StepCounts(1, failed=1, retries=1, ended=1)
    assert robot.used == UsageSums(108, 21, 5, 1, 0.75, known=2, estimated=1, unknown=1)
    assert (robot.used.spent.estimated, robot.used.spent.partly) == (True, True)
    assert found[Kind(other.project.id, "robot", "")].counts == StepCounts(1, rolled_back=1, succeeded=1, ended=1)
    assert found[Kind(other.project.id, "", "")].counts == StepCounts(1, running=1)
    assert here == {kind: tally for kind, tally in found.items() if kind.project_id == world.project.id}


def test_durations_are_of_what_has_ended_by_itself(world: World) -> None:
    for number in range(1, 11):
        run(world, number, seconds=float(number), agent=ROBOT if number > 8 else None)
    cut_off = start(world, world.task, 11)
    end(world, cut_off, interrupted=True)
    with world.database.read() as connection:
        assert stats.durations(connection) == {(): Durations(55.0, 5.0, 9.0)}
        by_agent = stats.durations(connection, "agent", "model")
        assert stats.durations(connection, "project_id", project_id="nobody") == {}
        assert stats.durations(connection, project_id="nobody") == {}
    assert by_agent == {("", ""): Durations(36.0, 4.0, 8.0), ("robot", "large"): Durations(19.0, 9.0, 10.0)}


def test_plans_and_tasks_are_counted_by_status(world: World) -> None:
    other = build(world.database, "till")
    with world.database.read() as connection:
        assert stats.plan_statuses(connection) == {world.project.id: {"draft": 1}, other.project.id: {"draft": 1}}
        assert stats.task_statuses(connection, project_id=other.project.id) == {other.project.id: {"pending": 3}}
        assert stats.task_statuses(connection, plan_id=world.plan.id) == {world.project.id: {"pending": 3}}
