"""Tasks, claims and edits on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.store.world import World, build, end, move, new_task, new_worker, start

from holdfast import clock
from holdfast.domain.history import EventType
from holdfast.domain.task import FailureKind
from holdfast.domain.transitions import TaskStatus
from holdfast.errors import ClaimLost, IllegalState, IllegalTransition, NotFound, UsageError
from holdfast.store import events, plans, tasks
from holdfast.store.faults import ConstraintViolated

S = TaskStatus


@pytest.mark.parametrize("reference", ["T2", "t2", "2"])
def test_a_task_is_found_by_its_number(world: World, reference: str) -> None:
    with world.database.read() as connection:
        assert tasks.find(connection, reference) == world.tasks[1].id


def test_a_key_is_known_within_its_plan_only(world: World) -> None:
    other = build(world.database, "till")
    with world.database.read() as connection:
        assert tasks.find(connection, "b", plan_id=other.plan.id) == other.tasks[1].id
        with pytest.raises(NotFound):
            tasks.find(connection, "b")
        with pytest.raises(NotFound):
            tasks.find(connection, "T1", plan_id=other.plan.id)
        with pytest.raises(UsageError, match="ambiguous: T1"):
            tasks.find(connection, world.task.id[:4])
        assert tasks.find(connection, world.task.id) == world.task.id


def test_a_status_moves_with_its_event_its_times_and_its_columns(world: World) -> None:
    queued = move(world, world.task, S.QUEUED)
    with world.database.transaction() as connection:
        running = tasks.set_status(connection, queued, S.RUNNING, actor="worker:w", attempt=1, run=1, branch="b")
        failed = tasks.set_status(
            connection, running, S.FAILED, actor="worker:w", failure=FailureKind.EXIT, error="exit 2", data={"code": 2}
        )
    with world.database.read() as connection:
        assert tasks.get(connection, failed.id) == failed
        told = events.list_(connection, task_id=failed.id, type=EventType.TASK, after=0).items
    assert (running.attempt, running.run, running.branch, running.ended_at) == (1, 1, "b", None)
    assert running.started_at is not None
    assert (failed.failure, failed.error) == (FailureKind.EXIT, "exit 2")
    assert failed.ended_at is not None
    assert [event.data["to"] for event in told] == ["queued", "running", "failed"]
    assert told[-1].data == {"from": "running", "to": "failed", "attempt": 1, "code": 2}
    again = move(world, failed, S.PENDING)
    assert (again.started_at, again.ended_at) == (None, None)


def test_dependencies_survive_a_change_of_status(world: World) -> None:
    changed = move(world, world.tasks[2], S.QUEUED)
    assert changed.depends_on == world.tasks[2].depends_on


def test_a_transition_that_the_tables_lack_is_refused(world: World) -> None:
    with pytest.raises(IllegalTransition):
        move(world, world.task, S.COMPLETED)


def test_of_two_decisions_from_one_state_the_second_is_refused(world: World) -> None:
    move(world, world.task, S.QUEUED)
    with pytest.raises(IllegalState, match="T1 is queued by now, not pending"):
        move(world, world.task, S.SKIPPED)


def test_each_claim_is_the_next_and_names_its_worker(world: World) -> None:
    first, second = new_worker(world.database), new_worker(world.database)
    with world.database.transaction() as connection:
        assert tasks.take_claim(connection, world.task.id, first) == 1
        assert tasks.take_claim(connection, world.task.id, second) == 2
        assert tasks.claimed_by(connection, world.task.id) == second
        with pytest.raises(NotFound):
            tasks.take_claim(connection, clock.new_id(), first)


def test_a_claim_needs_a_known_worker(world: World) -> None:
    with pytest.raises(ConstraintViolated), world.database.transaction() as connection:
        tasks.take_claim(connection, world.task.id, clock.new_id())


def test_a_worker_that_was_taken_over_changes_nothing(world: World) -> None:
    worker = new_worker(world.database)
    queued = move(world, world.task, S.QUEUED)
    with world.database.transaction() as connection:
        stale = tasks.take_claim(connection, queued.id, worker)
        running = tasks.set_status(connection, queued, S.RUNNING, actor="w", claim=stale)
        tasks.take_claim(connection, queued.id, worker)
    with pytest.raises(ClaimLost, match=r"T1 was taken over \(claim 2, this one is 1\)"):
        with world.database.transaction() as connection:
            tasks.set_status(connection, running, S.COMPLETED, actor="w", claim=stale)
    with pytest.raises(ClaimLost), world.database.transaction() as connection:
        tasks.set_fields(connection, running.id, claim=stale, branch="x")
    with world.database.read() as connection:
        found = tasks.get(connection, running.id)
    assert (found.status, found.branch) == (S.RUNNING, "")


def test_columns_with_rules_are_not_written_past_them(world: World) -> None:
    for column in ("status", "claimed_by", "number", "nonsense"):
        with pytest.raises(TypeError, match=column), world.database.transaction() as connection:
            tasks.set_fields(connection, world.task.id, **{column: 1})


def test_tasks_of_one_status_are_listed_oldest_first(world: World) -> None:
    moved = move(world, world.tasks[1], S.QUEUED)
    with world.database.read() as connection:
        assert tasks.list_(connection, status=S.QUEUED) == (moved,)
        assert tasks.list_(connection, status=S.PENDING) == (world.tasks[0], world.tasks[2])
        assert tasks.list_(connection, status=S.QUEUED, claimed_by=clock.new_id()) == ()


def test_tasks_that_depend_on_each_other_are_added_together_and_put_in_their_places(world: World) -> None:
    first = new_task(world.phases[1], "first", 1)
    second = new_task(world.phases[1], "second", 2, (first.id,))
    with world.database.transaction() as connection:
        tasks.add(connection, [second, first], [{"why": 2}, {"why": 1}], actor="ada")
        tasks.arrange(connection, {world.tasks[2].id: 3})
        keys = [task.key for task in plans.tasks_of(connection, world.plan.id)]
        assert tasks.get(connection, second.id) == replace(second, number=4)
        told = events.list_(connection, task_id=first.id).items
    assert keys == ["a", "b", "first", "second", "c"]
    assert [(event.subtype, event.actor, event.data["why"]) for event in told] == [("added", "ada", 1)]


def test_a_task_is_edited_only_before_it_starts(world: World) -> None:
    told = {"before": {"run": "true"}, "after": {"run": "make"}}
    with world.database.transaction() as connection:
        edited = tasks.edit(connection, world.tasks[2], told, actor="ada", command="make", depends_on=[world.task.id])
        assert (edited.command, edited.depends_on) == ("make", (world.task.id,))
        assert events.list_(connection, task_id=edited.id, subtype="edited").items[0].data == {"key": "c", **told}
        with pytest.raises(TypeError, match="status"):
            tasks.edit(connection, edited, {}, actor="ada", status=S.COMPLETED)
    move(world, edited, S.QUEUED)
    with pytest.raises(IllegalState, match="T3 is queued"), world.database.transaction() as connection:
        tasks.edit(connection, edited, {}, actor="ada", command="rm")


def test_an_edited_task_that_waited_for_its_gate_is_pending_and_not_approved(world: World) -> None:
    asked = move(world, world.task, S.AWAITING_APPROVAL)
    with world.database.transaction() as connection:
        tasks.set_fields(connection, asked.id, approved=True)
        edited = tasks.edit(connection, asked, {}, actor="ada", command="make")
    assert (edited.status, edited.approved, edited.command) == (S.PENDING, False, "make")


def test_a_removed_task_is_gone_but_its_history_stays(world: World) -> None:
    with world.database.transaction() as connection:
        tasks.remove(connection, world.tasks[1], {"before": {"run": "true"}}, actor="ada")
        left = plans.tasks_of(connection, world.plan.id)
        told = events.list_(connection, task_id=world.tasks[1].id).items
    assert [task.key for task in left] == ["a", "c"]
    assert left[1].depends_on == (world.task.id,)
    assert [event.subtype for event in told] == ["removed"]


def test_a_task_with_steps_is_not_removed(world: World) -> None:
    end(world, start(world, world.task))
    with pytest.raises(IllegalState, match="has a history"), world.database.transaction() as connection:
        tasks.remove(connection, world.task, {}, actor="ada")


def test_a_task_cannot_depend_on_itself_or_on_nothing(world: World) -> None:
    for other in (world.task.id, clock.new_id()):
        with pytest.raises(ConstraintViolated), world.database.transaction() as connection:
            tasks.edit(connection, world.task, {}, actor="ada", depends_on=[other])
