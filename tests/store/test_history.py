"""Events, logs, gates, metrics, workers and operations on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Connection, update
from tests.store.world import AT, World, new_worker, start

from holdfast import clock
from holdfast.domain.history import EventType
from holdfast.domain.plan import ApprovalKind
from holdfast.domain.transitions import ApprovalStatus
from holdfast.errors import ClaimLost, IllegalState, IllegalTransition, NotFound
from holdfast.store import approvals, events, logs, metrics, operations, tasks, workers
from holdfast.store.faults import ConstraintViolated
from holdfast.store.logs import NewLine
from holdfast.store.tables import LogStream, OperationStatus
from holdfast.store.tables import events as event_table


def _tell(world: World, count: int, subtype: str = "note") -> list[int]:
    with world.database.transaction() as connection:
        return [
            events.add(connection, EventType.SYSTEM, subtype, "ada", plan_id=world.plan.id, data={"n": n})
            for n in range(count)
        ]


def test_events_are_paged_newest_first_and_stay_put(world: World) -> None:
    ids = _tell(world, 7)
    with world.database.transaction() as connection:
        first = events.list_(connection, subtype="note", limit=3)
        events.add(connection, EventType.SYSTEM, "note", "ada")
        second = events.list_(connection, subtype="note", limit=3, cursor=first.next_cursor)
        third = events.list_(connection, subtype="note", limit=3, cursor=second.next_cursor)
    assert [event.id for event in first.items + second.items + third.items] == ids[::-1]
    assert third.next_cursor is None


def test_events_are_filtered(world: World) -> None:
    before = clock.now()
    _tell(world, 2)
    with world.database.transaction() as connection:
        events.add(connection, EventType.CHAT, "question", "bob", project_id=world.project.id)
        everything = events.list_(connection)
        assert len(events.list_(connection, type=EventType.CHAT).items) == 1
        assert len(events.list_(connection, actor="bob", project_id=world.project.id).items) == 1
        assert len(events.list_(connection, plan_id=world.plan.id, subtype="note").items) == 2
        assert len(events.list_(connection, since=before).items) == 3
        assert len(events.list_(connection, until=before).items) == len(everything.items) - 3
        assert events.list_(connection, since=before + timedelta(days=1)).items == ()
        assert events.list_(connection, owner_id="other").items == ()


def test_a_follower_gets_each_event_once_in_order(world: World) -> None:
    with world.database.read() as connection:
        seen = events.last_id(connection)
    ids = _tell(world, 5)
    followed: list[int] = []
    for _ in range(4):
        with world.database.read() as connection:
            page = events.list_(connection, after=seen, limit=2)
        followed += [event.id for event in page.items]
        seen = followed[-1]
    assert followed == ids
    more = _tell(world, 1)
    with world.database.read() as connection:
        assert [event.id for event in events.list_(connection, after=seen).items] == more
        assert events.last_id(connection) == more[0]


def test_an_event_is_never_changed(world: World) -> None:
    with pytest.raises(ConstraintViolated, match="never changed"), world.database.transaction() as connection:
        connection.execute(update(event_table).values(actor="nobody"))


def _tell_then_fail(connection: Connection, _done: object) -> None:
    connection.execute(update(event_table).values(actor="nobody"))


def test_an_undone_change_leaves_no_event(world: World) -> None:
    with pytest.raises(ConstraintViolated), world.database.transaction() as connection:
        _tell_then_fail(connection, events.add(connection, EventType.SYSTEM, "undone", "ada"))
    with world.database.read() as connection:
        assert events.list_(connection, subtype="undone").items == ()


def _lines(*texts: str) -> list[NewLine]:
    return [NewLine(LogStream.STDOUT, AT, text) for text in texts]


def test_journal_records_are_taken_in_once(world: World) -> None:
    step = start(world, world.task)
    with world.database.transaction() as connection:
        assert logs.append(connection, step.id, _lines("a", "b\x00"), launch="1", after=0, last_record=2)
        assert not logs.append(connection, step.id, _lines("a", "b"), launch="1", after=0, last_record=2)
        assert not logs.append(connection, step.id, _lines("d"), launch="1", after=3, last_record=4)
        assert logs.append(connection, step.id, _lines("c"), launch="1", after=2, last_record=3)
        assert logs.append(connection, step.id, _lines("e"), launch="2", after=0, last_record=1)
        assert logs.position(connection, step.id, "1") == 3
        assert logs.position(connection, step.id, "9") == 0
        first = logs.list_(connection, step.id, limit=3)
        rest = logs.list_(connection, step.id, after=int(first.next_cursor or 0))
        assert [line.text for line in first.items + rest.items] == ["a", "b\ufffd", "c", "e"]
        assert [line.text for line in logs.tail(connection, step.id, 2)] == ["c", "e"]
        assert logs.stored_characters(connection, step.id) == 5


def test_output_and_its_position_are_one_change(world: World) -> None:
    step = start(world, world.task)
    with pytest.raises(ConstraintViolated), world.database.transaction() as connection:
        _tell_then_fail(connection, logs.append(connection, step.id, _lines("a"), launch="1", after=0, last_record=1))
    with world.database.transaction() as connection:
        assert logs.position(connection, step.id, "1") == 0
        assert logs.append(connection, step.id, _lines("a"), launch="1", after=0, last_record=1)


def test_a_worker_that_was_taken_over_adds_no_output(world: World) -> None:
    worker = new_worker(world.database)
    step = start(world, world.task)
    with world.database.transaction() as connection:
        stale = tasks.take_claim(connection, world.task.id, worker)
        logs.append(connection, step.id, _lines("mine"), launch="1", after=0, last_record=1, claim=stale)
        tasks.take_claim(connection, world.task.id, worker)
    for launch, after in (("1", 1), ("2", 0)):
        with pytest.raises(ClaimLost), world.database.transaction() as connection:
            logs.append(connection, step.id, _lines("x"), launch=launch, after=after, last_record=9, claim=stale)
    with world.database.read() as connection:
        assert [line.text for line in logs.list_(connection, step.id).items] == ["mine"]
        assert logs.position(connection, step.id, "1") == 1


def _gate(world: World, kind: ApprovalKind = ApprovalKind.TASK, task: int | None = 0) -> approvals.Approval:
    with world.database.transaction() as connection:
        return approvals.open(
            connection,
            id=clock.new_id(),
            plan_id=world.plan.id,
            kind=kind,
            title="may it?",
            actor="worker:w",
            task_id=None if task is None else world.tasks[task].id,
            details={"a": 1},
        )


def test_a_gate_is_opened_once_and_decided_once(world: World) -> None:
    gate = _gate(world)
    assert _gate(world) == gate
    with world.database.transaction() as connection:
        decided = approvals.decide(connection, gate, ApprovalStatus.APPROVED, actor="ada", comment="fine")
        assert approvals.get(connection, gate.id) == decided
    assert (decided.decided_by, decided.comment, decided.status) == ("ada", "fine", ApprovalStatus.APPROVED)
    with pytest.raises(IllegalState, match="A1 is approved by ada already"):
        with world.database.transaction() as connection:
            approvals.decide(connection, gate, ApprovalStatus.REJECTED, actor="bob")
    with pytest.raises(IllegalTransition), world.database.transaction() as connection:
        approvals.decide(connection, decided, ApprovalStatus.REJECTED, actor="bob")
    assert _gate(world).number == 2


def test_gates_are_listed_found_and_closed_together(world: World) -> None:
    made = [_gate(world, ApprovalKind.PLAN, None), _gate(world, ApprovalKind.TASK, 0), _gate(world, task=1)]
    with world.database.transaction() as connection:
        assert approvals.list_(connection, status=ApprovalStatus.OPEN).items == tuple(made[::-1])
        assert approvals.find(connection, "A2") == made[1].id
        assert approvals.find(connection, made[2].id[:30]) == made[2].id
        with pytest.raises(NotFound):
            approvals.find(connection, "A9")
        approvals.cancel_open(connection, plan_id=world.plan.id, task_id=world.tasks[0].id, actor="ada")
        left = approvals.list_(connection, plan_id=world.plan.id, status=ApprovalStatus.OPEN).items
        assert [gate.number for gate in left] == [3, 1]
        found = approvals.latest(connection, plan_id=world.plan.id, kind=ApprovalKind.PLAN)
        assert found == made[0]


def test_a_metric_has_one_value_per_name(world: World) -> None:
    step = start(world, world.task)
    with world.database.transaction() as connection:
        metrics.upsert(connection, world.plan.id, "seconds", 1.5, unit="s")
        metrics.upsert(connection, world.plan.id, "seconds", 2.5, unit="s")
        metrics.upsert(connection, world.plan.id, "seconds", 9, unit="s", step_id=step.id)
        found = metrics.of_plan(connection, world.plan.id)
    assert [(metric.step_id, metric.name, metric.value) for metric in found] == [
        (None, "seconds", 2.5),
        (step.id, "seconds", 9.0),
    ]


def test_a_worker_is_marked_as_ended_once(world: World) -> None:
    first, second = new_worker(world.database), new_worker(world.database)
    with world.database.transaction() as connection:
        ended = workers.stop(connection, first, actor="worker:2")
        assert workers.stop(connection, first) == ended
        assert [worker.id for worker in workers.list_(connection, stopped=False).items] == [second]
        assert [worker.id for worker in workers.list_(connection).items] == [second, first]
        told = events.list_(connection, type=EventType.WORKER, subtype="stopped").items
    assert [event.actor for event in told] == ["worker:2"]


def test_an_operation_is_begun_and_ended_once(world: World) -> None:
    id = clock.new_id()
    with world.database.transaction() as connection:
        begun = operations.begin(connection, id=id, kind="rewind", actor="ada", intent={"to": 3}, task_id=world.task.id)
        assert operations.begin(connection, id=id, kind="rewind", actor="bob", intent={}) == begun
        assert operations.open_ones(connection) == (begun,)
        done = operations.finish(connection, id, outcome={"from": 5})
        assert operations.finish(connection, id, outcome={}, status=OperationStatus.FAILED) == done
        assert operations.open_ones(connection) == ()
        assert operations.list_(connection).items == (done,)
    assert (done.status, done.outcome, done.intent) == (OperationStatus.DONE, {"from": 5}, {"to": 3})
