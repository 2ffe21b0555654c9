"""Several processes on one database: numbers, claims, steps and the fence."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.store.world import AT, World, build, new_checkpoint, new_worker, start

from holdfast.domain.history import EventType
from holdfast.domain.transitions import ApprovalStatus, PlanStatus
from holdfast.errors import ClaimLost, IllegalState
from holdfast.store import approvals, checkpoints, events, logs, plans, steps, tasks
from holdfast.store.check import check
from holdfast.store.database import Database
from holdfast.store.logs import NewLine
from holdfast.store.tables import LogStream

ROOT = Path(__file__).parents[2]


def race(url: str, data: Path, what: str, subject: str, *, processes: int = 2, count: int = 12) -> list[list[Any]]:
    """Lets processes that are all ready start together; gives what each got."""
    arguments = [sys.executable, "-m", "tests.store.racer", url, str(data), what, subject, str(count)]
    racers = [
        subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [json.loads(racer.communicate(timeout=240)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * processes
    return results


def test_no_number_is_given_twice_or_left_out(world: World, tmp_path: Path) -> None:
    one, two = race(world.database.url, tmp_path, "plans", world.project.id)
    assert sorted(plan for plan, _, _ in one + two) == list(range(2, 26))
    assert sorted(task for _, *made in one + two for task in made) == list(range(4, 52))
    assert check(world.database) == []


def test_no_claim_is_given_twice(world: World, tmp_path: Path) -> None:
    worker = new_worker(world.database)
    one, two = race(world.database.url, tmp_path, "claims", f"{worker} {world.task.id}")
    assert sorted(one + two) == list(range(1, 25))
    assert one == sorted(one)
    assert two == sorted(two)


def test_a_run_begun_by_two_processes_is_one_step(world: World, tmp_path: Path) -> None:
    one, two = race(world.database.url, tmp_path, "steps", world.task.id)
    assert one == two
    assert [number for number, _ in one] == list(range(1, 13))
    assert check(world.database) == []


def test_a_gate_opened_by_two_processes_is_one(world: World, tmp_path: Path) -> None:
    one, two = race(world.database.url, tmp_path, "gates", world.plan.id, count=1)
    assert one == two == [1]
    with world.database.read() as connection:
        assert len(approvals.list_(connection, status=ApprovalStatus.OPEN).items) == 1


def test_processes_that_start_together_make_the_schema_once(postgres: Any, tmp_path: Path) -> None:
    sqlite = f"sqlite:///{tmp_path}/new/holdfast.db"
    assert race(sqlite, tmp_path, "open", "", processes=3) == [[1]] * 3
    with postgres.database(empty=True) as url:
        assert race(url, tmp_path, "open", "", processes=3) == [[1]] * 3
        for each in (sqlite, url):
            database = Database.open(each, data=tmp_path)
            assert check(database) == []
            database.close()
    assert not (tmp_path / "backups").exists()


def test_of_two_changes_from_one_state_one_wins(world: World) -> None:
    plan = world.plan
    gate = threading.Barrier(2)
    outcomes: list[str] = []

    def change(status: PlanStatus) -> None:
        gate.wait(240)
        try:
            with world.database.transaction() as connection:
                plans.set_status(connection, plan, status, actor="ada")
            outcomes.append("won")
        except IllegalState:
            outcomes.append("lost")

    threads = [threading.Thread(target=change, args=(to,)) for to in (PlanStatus.RUNNING, PlanStatus.CANCELLED)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert sorted(outcomes) == ["lost", "won"]
    with world.database.read() as connection:
        moved = [event for event in events.list_(connection, type=EventType.PLAN).items if "from" in event.data]
    assert len(moved) == 1


@pytest.mark.parametrize("what", ["step", "checkpoint", "log", "new log", "status", "head"])
def test_a_worker_that_wakes_up_late_writes_nothing(world: World, what: str) -> None:
    """The stale worker checked its claim, slept through a take-over, and writes: 20 trials, none written."""
    worker = new_worker(world.database)
    step = start(world, world.task)
    with world.database.transaction() as connection:
        claim = tasks.take_claim(connection, world.task.id, worker)
        logs.append(connection, step.id, [], launch="old", after=0, last_record=1, claim=claim)
    for _ in range(20):
        with world.database.read() as connection:
            assert tasks.get(connection, world.task.id).claim == claim
        with world.database.transaction() as connection:
            newer = tasks.take_claim(connection, world.task.id, worker)
        with pytest.raises(ClaimLost), world.database.transaction() as connection:
            _write(connection, world, step.id, what, claim)
        claim = newer
    with world.database.read() as connection:
        assert steps.get_by_id(connection, step.id) == step
        assert checkpoints.list_(connection, task_id=world.task.id).items == ()
        assert logs.list_(connection, step.id).items == ()
        assert tasks.get(connection, world.task.id).branch == ""


def _write(connection: Connection, world: World, step_id: str, what: str, claim: int) -> None:
    line = [NewLine(LogStream.STDOUT, AT, "late")]
    match what:
        case "step":
            steps.finish(connection, step_id, actor="w", claim=claim, exit_code=0)
        case "checkpoint":
            checkpoints.add(connection, new_checkpoint(world.task, 1), actor="w", claim=claim)
        case "log":
            logs.append(connection, step_id, line, launch="old", after=1, last_record=2, claim=claim)
        case "new log":
            logs.append(connection, step_id, line, launch="new", after=0, last_record=2, claim=claim)
        case "head":
            checkpoints.set_head(connection, world.task.id, 0, claim=claim)
        case _:
            tasks.set_fields(connection, world.task.id, claim=claim, branch="late")


def test_a_take_over_waits_for_a_write_that_came_first(postgres_url: str, tmp_path: Path) -> None:
    """The fence holds the task's row: no take-over commits between the fence's test and the write's commit."""
    database = Database.open(postgres_url, data=tmp_path)
    world = build(database)
    worker = new_worker(database)
    step = start(world, world.task)
    with database.transaction() as connection:
        claim = tasks.take_claim(connection, world.task.id, worker)
    taken = threading.Event()

    def take_over() -> None:
        with database.transaction() as other:
            tasks.take_claim(other, world.task.id, worker)
        taken.set()

    thread = threading.Thread(target=take_over)
    with database.transaction() as connection:
        checkpoints.add(connection, new_checkpoint(world.task, 1), actor="w", claim=claim)
        thread.start()
        assert not taken.wait(0.3)
    assert taken.wait(240)
    thread.join(240)
    with pytest.raises(ClaimLost), database.transaction() as connection:
        steps.finish(connection, step.id, actor="w", claim=claim, exit_code=0)
    database.close()


def test_a_follower_misses_nothing_when_transactions_commit_out_of_order(postgres_url: str, tmp_path: Path) -> None:
    database = Database.open(postgres_url, data=tmp_path)
    seen: list[int] = []

    def follow() -> None:
        with database.read() as connection:
            seen.extend(event.id for event in events.list_(connection, after=seen[-1] if seen else 0).items)

    with database.engine.connect() as slow:
        first = events.add(slow, EventType.SYSTEM, "slow", "ada")
        with database.transaction() as fast:
            second = events.add(fast, EventType.SYSTEM, "fast", "ada")
            late = events.add(slow, EventType.SYSTEM, "slow", "ada")
        follow()
        assert seen == []
        slow.commit()
    follow()
    follow()
    assert sorted(seen) == [first, second, late]
    assert len(seen) == 3
    database.close()
