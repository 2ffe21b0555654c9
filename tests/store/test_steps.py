"""Steps and checkpoints on both databases."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update
from tests.store.world import World, build, end, new_checkpoint, new_worker, start

from holdfast import clock
from holdfast.domain.checkpoint import CheckpointKind, StageName
from holdfast.domain.history import EventType
from holdfast.domain.plan import ApprovalKind
from holdfast.domain.step import StepState, parent_of_next, state, worked_seconds
from holdfast.domain.task import FailureKind
from holdfast.domain.transitions import ApprovalStatus
from holdfast.errors import ClaimLost, IllegalState, NotFound, UsageError
from holdfast.store import approvals, checkpoints, events, step_lines, steps, tables, tasks
from holdfast.store.faults import ConstraintViolated
from holdfast.store.tables import events as event_table
from holdfast.store.tables import steps as step_table


def test_the_same_run_begun_twice_is_one_step(world: World) -> None:
    first = start(world, world.task)
    again = start(world, world.task)
    assert again == first
    assert (first.number, first.active, state(first)) == (1, True, StepState.RUNNING)
    with world.database.read() as connection:
        assert len(events.list_(connection, type=EventType.STEP).items) == 1


def test_steps_are_numbered_per_project(world: World) -> None:
    other = build(world.database, "till")
    numbers = [start(world, task).number for task in world.tasks]
    assert numbers == [1, 2, 3]
    assert start(other, other.task).number == 1


def test_a_task_has_one_running_step(world: World) -> None:
    start(world, world.task, run=1)
    with pytest.raises(IllegalState, match="step 1 of task T1 still runs"):
        start(world, world.task, run=2)
    copy = {"id": clock.new_id(), "number": 9, "run": 9, "task_id": world.task.id, "plan_id": world.plan.id}
    copy |= {"project_id": world.project.id, "branch": "", "commit_before": "", "agent_config": {}, "details": {}}
    with pytest.raises(ConstraintViolated), world.database.transaction() as connection:
        connection.execute(step_table.insert().values(**copy, started_at=clock.now()))


def test_a_step_ends_once(world: World) -> None:
    step = start(world, world.task)
    ended = end(world, step, 1, commit_after="b" * 40, tokens=5, cpu_seconds=0.25, peak_memory_bytes=2**40)
    assert (ended.exit_code, ended.tokens, state(ended)) == (1, 5, StepState.FAILED)
    again = end(world, step, 0, tokens=99)
    assert again == ended
    with world.database.read() as connection:
        assert steps.get(connection, world.project.id, 1) == ended
        told = events.list_(connection, step_id=step.id, after=0).items
    assert [event.subtype for event in told] == ["started", "failed"]


def test_an_interrupted_step_makes_room_for_the_next_run(world: World) -> None:
    step = start(world, world.task)
    with world.database.transaction() as connection:
        closed = steps.finish(connection, step.id, actor="worker:2", interrupted=True, failure=FailureKind.LOST)
        assert steps.running(connection, world.task.id) is None
    assert state(closed) is StepState.INTERRUPTED
    assert start(world, world.task, run=2).number == 2


def test_an_end_says_how(world: World) -> None:
    step = start(world, world.task)
    with pytest.raises(ConstraintViolated), world.database.transaction() as connection:
        steps.finish(connection, step.id, actor="w")


def test_the_parent_is_the_newest_active_step_of_the_branch_else_of_the_project(world: World) -> None:
    made = []
    for run, branch in enumerate(("x", "x", "y", "x", "z"), start=1):
        step = start(world, world.task, run=run, branch=branch)
        assert step.parent_step_id == parent_of_next(made, branch)
        made.append(end(world, step))
    with world.database.transaction() as connection:
        steps.deactivate(connection, made[3].id, actor="ada")
        steps.deactivate(connection, made[4].id, actor="ada")
    assert start(world, world.task, run=6, branch="x").parent_step_id == made[1].id
    assert start(world, world.tasks[1], branch="new").parent_step_id is not None


def test_a_rolled_back_step_stays_so(world: World) -> None:
    step = end(world, start(world, world.task))
    with world.database.transaction() as connection:
        gone = steps.deactivate(connection, step.id, actor="ada")
        assert steps.deactivate(connection, step.id, actor="ada") == gone
        assert state(gone) is StepState.ROLLED_BACK
        assert len(events.list_(connection, subtype="rolled_back").items) == 1
    with pytest.raises(ConstraintViolated, match="stays rolled back"), world.database.transaction() as connection:
        connection.execute(update(step_table).values(active=True))
    with pytest.raises(TypeError), world.database.transaction() as connection:
        steps.set_fields(connection, step.id, active=True)


def test_a_running_step_is_not_rolled_back(world: World) -> None:
    step = start(world, world.task)
    with pytest.raises(IllegalState, match="still runs"), world.database.transaction() as connection:
        steps.deactivate(connection, step.id, actor="ada")


def test_a_worker_that_was_taken_over_neither_begins_nor_ends_a_step(world: World) -> None:
    worker = new_worker(world.database)
    with world.database.transaction() as connection:
        stale = tasks.take_claim(connection, world.task.id, worker)
    step = start(world, world.task, claim=stale)
    with world.database.transaction() as connection:
        now = tasks.take_claim(connection, world.task.id, worker)
    for write in (
        lambda c: steps.finish(c, step.id, actor="w", claim=stale, exit_code=0),
        lambda c: steps.set_fields(c, step.id, claim=stale, restarts=1),
        lambda c: checkpoints.add(c, new_checkpoint(world.task, 1), actor="w", claim=stale),
        lambda c: checkpoints.set_head(c, world.task.id, 0, claim=stale),
    ):
        with pytest.raises(ClaimLost), world.database.transaction() as connection:
            write(connection)
    with world.database.transaction() as connection:
        assert steps.get_by_id(connection, step.id) == step
        assert checkpoints.latest(connection, task_id=world.task.id) is None
        assert steps.finish(connection, step.id, actor="w", claim=now, exit_code=0).exit_code == 0
    with pytest.raises(ClaimLost):
        start(world, world.task, run=2, claim=stale)
    with world.database.read() as connection:
        assert steps.count(connection, world.project.id) == 1


def test_a_refused_begin_uses_no_number_up(world: World) -> None:
    with pytest.raises(ClaimLost):
        start(world, world.task, claim=7)
    assert start(world, world.task).number == 1


def test_steps_are_listed_newest_first_and_filtered(world: World) -> None:
    made = [end(world, start(world, world.task, run=run)) for run in range(1, 6)]
    other = end(world, start(world, world.tasks[1]))
    with world.database.transaction() as connection:
        steps.deactivate(connection, made[0].id, actor="ada")
        first = steps.list_(connection, project_id=world.project.id, limit=4)
        second = steps.list_(connection, project_id=world.project.id, limit=4, cursor=first.next_cursor)
        everywhere = steps.list_(connection, limit=4)
        rest = steps.list_(connection, limit=4, cursor=everywhere.next_cursor)
        active = steps.list_(connection, task_id=world.task.id, active=True)
    assert [step.number for step in first.items] == [6, 5, 4, 3]
    assert [step.number for step in second.items] == [2, 1]
    assert [step.number for step in everywhere.items + rest.items] == [6, 5, 4, 3, 2, 1]
    assert [step.number for step in active.items] == [5, 4, 3, 2]
    with world.database.read() as connection:
        assert [step.number for step in steps.of_task(connection, other.task_id)] == [6]
        assert [step.number for step in steps.of_plan(connection, world.plan.id)] == [1, 2, 3, 4, 5, 6]
        with pytest.raises(NotFound, match="no step 7"):
            steps.get(connection, world.project.id, 7)


def test_usage_adds_up_what_steps_took(world: World) -> None:
    one = end(world, start(world, world.task), tokens=10, cost_usd=0.5)
    two = start(world, world.tasks[1])
    now = two.started_at + timedelta(seconds=7)
    assert one.ended_at is not None
    with world.database.read() as connection:
        used = steps.usage(connection, plan_id=world.plan.id, now=now)
        mine = steps.usage(connection, task_id=world.tasks[1].id, now=now)
    assert (used.tokens, used.cost_usd) == (10, 0.5)
    assert used.seconds == pytest.approx(7 + (one.ended_at - one.started_at).total_seconds())
    assert mine.seconds == 7


def test_usage_leaves_out_the_time_in_which_an_agent_waits_for_a_person(world: World) -> None:
    step = start(world, world.task)
    asked = {"plan_id": world.plan.id, "task_id": world.task.id, "kind": ApprovalKind.PERMISSION, "actor": "w"}
    with world.database.transaction() as connection:
        gates = [approvals.open(connection, id=clock.new_id(), title="?", subject=name, **asked) for name in "ab"]
        ago = clock.now() - timedelta(hours=1)
        connection.execute(tables.steps.update().values(started_at=ago - timedelta(seconds=60)))
        connection.execute(tables.approvals.update().values(opened_at=ago))
        assert steps.usage(connection, task_id=world.task.id, now=clock.now()).seconds == pytest.approx(60)
        for gate in gates:
            approvals.decide(connection, gate, ApprovalStatus.APPROVED, actor="ada")
        idle = steps.get_by_id(connection, step.id).idle_seconds
        assert idle == pytest.approx(3600, abs=60), "the same hour is not counted for each of them"
        later = clock.now() + timedelta(seconds=100)
        assert steps.usage(connection, task_id=world.task.id, now=later).seconds == pytest.approx(160, abs=60)
    assert worked_seconds(end(world, step), clock.now()) < 200


def test_exported_steps_come_back_with_their_numbers(world: World) -> None:
    for run in (1, 2, 3):
        end(world, start(world, world.task, run=run), details={"ü": [1, None]})
    with world.database.read() as connection:
        lines = list(step_lines.export_jsonl(connection, world.project.id))
        before = steps.of_task(connection, world.task.id)
    with world.database.transaction() as connection:
        connection.execute(event_table.delete())
        connection.execute(step_table.delete().where(step_table.c.number == 3))
        connection.execute(step_table.delete().where(step_table.c.number == 2))
        assert step_lines.import_jsonl(connection, lines, actor="ada") == step_lines.Imported(2, 1)
        assert step_lines.import_jsonl(connection, lines, actor="ada") == step_lines.Imported(0, 3)
        after = steps.of_task(connection, world.task.id)
    assert after == before
    assert start(world, world.task, run=4).number == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is not a step"),
        ('{"id": 1}', "line 2 is not a step: missing or unknown"),
        ({"started_at": "yesterday"}, "line 2: started_at is not a time"),
        ({"started_at": "2026-01-01"}, "line 2: started_at has no time zone"),
        ({"number": "1"}, "line 2: number is not a int"),
        ({"id": "other", "task_id": "nowhere"}, "line 2: the task nowhere of step 1"),
        ({"id": "other"}, "line 2: number 1 is another step here"),
        ({"id": "other", "number": 5}, "line 2: run 1 of its task is another step here"),
        ({"id": "other", "number": 5, "run": 5, "parent_step_id": "x"}, "line 2: the parent x of step 5 is missing"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_taken(world: World, change: str | dict[str, object], message: str) -> None:
    end(world, start(world, world.task))
    with world.database.read() as connection:
        line = next(iter(step_lines.export_jsonl(connection, world.project.id)))
    bad = change if isinstance(change, str) else json.dumps(json.loads(line) | change)
    with pytest.raises(UsageError, match=message), world.database.transaction() as connection:
        step_lines.import_jsonl(connection, ["", bad], actor="ada")
    with world.database.read() as connection:
        assert steps.count(connection, world.project.id) == 1


def test_a_checkpoint_comes_back_as_it_was_stored_and_is_stored_once(world: World) -> None:
    first = new_checkpoint(world.task, 1)
    with world.database.transaction() as connection:
        assert checkpoints.next_number(connection, task_id=world.task.id) == 1
        checkpoints.add(connection, first, actor="w")
        again = checkpoints.add(connection, replace(first, id=clock.new_id()), actor="w")
        assert again == first
        assert checkpoints.next_number(connection, task_id=world.task.id) == 2
        assert checkpoints.get(connection, 1, task_id=world.task.id) == first
        assert len(events.list_(connection, type=EventType.CHECKPOINT).items) == 1


def test_a_number_keeps_its_commit(world: World) -> None:
    with world.database.transaction() as connection:
        checkpoints.add(connection, new_checkpoint(world.task, 1), actor="w")
    with pytest.raises(IllegalState, match="checkpoint 1 is already commit cccccccc"):
        with world.database.transaction() as connection:
            checkpoints.add(connection, new_checkpoint(world.task, 1, "f" * 40), actor="w")


def test_a_plan_counts_its_own_checkpoints(world: World) -> None:
    stage = replace(
        new_checkpoint(world.task, 1), task_id=None, kind=CheckpointKind.STAGE, name=StageName.WORKFLOW_START
    )
    with world.database.transaction() as connection:
        checkpoints.add(connection, new_checkpoint(world.task, 1), actor="w")
        checkpoints.add(connection, stage, actor="w")
        checkpoints.add(connection, replace(new_checkpoint(world.task, 2), id=clock.new_id()), actor="w")
        assert checkpoints.next_number(connection, plan_id=world.plan.id) == 2
        assert checkpoints.latest(connection, plan_id=world.plan.id) == stage
        latest = checkpoints.latest(connection, task_id=world.task.id)
        assert latest is not None
        assert latest.number == 2
        everything = checkpoints.list_(connection, plan_id=world.plan.id, limit=2)
        rest = checkpoints.list_(connection, plan_id=world.plan.id, limit=2, cursor=everything.next_cursor)
        assert len(everything.items + rest.items) == 3
        first = checkpoints.list_(connection, task_id=world.task.id, limit=1)
        assert [each.number for each in first.items] == [2]


def test_a_head_is_a_checkpoint_that_exists(world: World) -> None:
    with world.database.transaction() as connection:
        checkpoints.add(connection, new_checkpoint(world.task, 1), actor="w")
        checkpoints.set_head(connection, world.task.id, 1)
        assert tasks.get(connection, world.task.id).head_checkpoint == 1
        with pytest.raises(NotFound):
            checkpoints.set_head(connection, world.task.id, 2)
