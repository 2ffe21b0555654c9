"""Events, logs, gates, metrics, workers and operations on both databases."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update
from sqlalchemy.event import listen
from tests.store.world import AT, World, build, move, new_worker, start

from holdfast import clock
from holdfast.domain.history import EventType
from holdfast.domain.plan import ApprovalKind
from holdfast.domain.transitions import ApprovalStatus, TaskStatus
from holdfast.errors import ClaimLost, IllegalState, IllegalTransition, NotFound, UsageError
from holdfast.store import approvals, audit, events, logs, metrics, operations, tasks, workers
from holdfast.store.check import check
from holdfast.store.database import Database
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


# -- pages of a long history -----------------------------------------------------------------------------------------


def test_pages_stay_put_while_others_write(world: World) -> None:
    """Whatever was there at the first page comes once, in order, however much is written meanwhile."""
    there = _tell(world, 60, "flood")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            _tell(world, 3, "flood")

    writers = [threading.Thread(target=write) for _ in range(3)]
    for each in writers:
        each.start()
    try:
        for size in (1, 7, 60):
            seen: list[int] = []
            cursor: str | None = None
            while not seen or min(seen) > there[0]:
                with world.database.read() as connection:
                    page = events.list_(connection, plan_id=world.plan.id, subtype="flood", limit=size, cursor=cursor)
                seen += [event.id for event in page.items]
                cursor = page.next_cursor
            assert len(seen) == len(set(seen))
            assert [id for id in seen if id in there] == there[::-1]
            with world.database.read() as connection:
                there = [event.id for event in events.list_(connection, subtype="flood", limit=60).items][::-1]
    finally:
        stop.set()
        for each in writers:
            each.join()


def test_a_page_is_in_the_order_of_time_and_of_writing_within_one_time(world: World) -> None:
    values = {"owner_id": "local", "type": EventType.SYSTEM, "subtype": "n", "actor": "ada", "data": {}}
    hours = [3, 1, 2, 1, 3]
    with world.database.transaction() as connection:
        ids = [
            connection.execute(
                event_table.insert().values(at=AT + timedelta(hours=hour), **values).returning(event_table.c.id)
            ).scalar_one()
            for hour in hours
        ]
    seen: list[int] = []
    cursor: str | None = None
    for _ in hours:
        with world.database.read() as connection:
            page = events.list_(connection, subtype="n", limit=1, cursor=cursor)
        seen += [event.id for event in page.items]
        cursor = page.next_cursor
    assert seen == [ids[4], ids[0], ids[2], ids[3], ids[1]]
    assert cursor is None


@pytest.mark.parametrize("cursor", ["x", "-1", "1e3", "9" * 30, "999999", " 1"])
def test_a_cursor_that_is_none_is_refused(world: World, cursor: str) -> None:
    with world.database.read() as connection, pytest.raises(UsageError, match=r"cursor|no event"):
        events.list_(connection, cursor=cursor)


def test_an_actor_is_named_wholly_or_by_role(world: World) -> None:
    with world.database.transaction() as connection:
        for actor in ("worker:1", "worker:2", "workers", "ada"):
            events.add(connection, EventType.SYSTEM, "who", actor)
        by_role = events.list_(connection, subtype="who", actor="worker").items
        assert [event.actor for event in by_role] == ["worker:2", "worker:1"]
        assert [event.actor for event in events.list_(connection, actor="worker:1").items] == ["worker:1"]


FILTERS: list[dict[str, Any]] = [
    {},
    {"project_id": "p"},
    {"plan_id": "p"},
    {"phase_id": "p"},
    {"task_id": "t"},
    {"step_id": "s"},
    {"type": EventType.STEP},
    {"subtype": "completed"},
    {"actor": "ada"},
    {"actor": "worker"},
    {"plan_id": "p", "type": EventType.STEP, "actor": "ada"},
    {"project_id": "p", "subtype": "completed"},
]


@pytest.mark.parametrize("times", [{}, {"since": AT, "until": AT + timedelta(days=1)}], ids=["any", "from-to"])
@pytest.mark.parametrize("filters", FILTERS, ids=lambda filters: "-".join(filters) or "none")
def test_a_page_is_read_in_order_from_one_index(
    sqlite_world: World, filters: dict[str, Any], times: dict[str, Any]
) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        asked.append((statement, parameters))

    (there,) = _tell(sqlite_world, 1)
    with sqlite_world.database.read() as connection:
        listen(connection, "before_cursor_execute", note)
        events.list_(connection, cursor=str(there), **filters, **times)
        statement, parameters = asked[-1]
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    (step,) = [row[-1] for row in plan]
    assert step.startswith("SEARCH events USING INDEX ix_events_"), step
    assert "at" in step, step


def test_states_are_read_in_the_order_in_which_they_became_true(postgres_url: str, tmp_path: Path) -> None:
    """A transaction that began to write first may be the later one to change a thing."""
    database = Database.open(postgres_url, data=tmp_path)
    world = build(database)
    with database.transaction() as early:
        events.add(early, EventType.SYSTEM, "first", "ada")
        queued = move(world, world.task, TaskStatus.QUEUED)
        tasks.set_status(early, queued, TaskStatus.RUNNING, actor="ada")
    assert check(database) == []
    with database.read(snapshot=True) as connection:
        told = [each.subtype for each in events.of_plan(connection, world.plan.id) if each.type is EventType.TASK]
    assert told == ["queued", "running"]
    database.close()


def test_the_record_of_a_plan_is_of_one_moment(world: World) -> None:
    start(world, world.task)
    with world.database.read(snapshot=True) as connection:
        parts = audit.parts(connection, world.plan.id)
        names, found = [], {}
        for name, rows in parts:
            names.append(name)
            found[name] = list(rows)
            if name == "tasks":
                _tell(world, 1, "later")
    assert names[:2] == ["project", "plan"]
    assert names[-2:] == ["actors", "events"]
    assert [step.number for step in found["steps"]] == [1]
    assert [event.subtype for event in found["events"]] == ["created", "started"]
    assert {actor.name: actor.events for actor in found["actors"]} == {"ada": 1, "worker:w": 1}
