"""Several processes on one database: one executes on SQLite, many on PostgreSQL, and the living take over the dead."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import text
from tests.agents.runs import eventually
from tests.engine.conftest import DEADLINE_SECONDS, Bench, opened, settings, statuses

from holdfast import clock
from holdfast.agents import journal, kill_strays
from holdfast.app import database, execution, history, plans
from holdfast.domain.planfile import parse
from holdfast.domain.step import Step
from holdfast.domain.transitions import PlanStatus, TaskStatus
from holdfast.engine import recovery
from holdfast.engine.queues import FIRST_POLL_SECONDS, POLL_SECONDS
from holdfast.engine.task_run import since_life
from holdfast.engine.worker import Worker
from holdfast.errors import Unavailable
from holdfast.store import OperationStatus, WorkerKind, operations, tables, workers
from holdfast.store import Worker as Row
from holdfast.store import tasks as task_rows
from holdfast.vcs import Vault

WORKER = """
import threading
from holdfast.app import execution, wire
with wire.open_house() as house, execution.working(house, "worker") as worker:
    print("working" if worker else "refused", flush=True)
    worker.runtime.ended.wait()
"""

PLAN = """
title: Shared
phases:
  - title: p
    mode: parallel
    tasks:
      - {title: a, run: "echo a >> OUTSIDE; sleep 0.3; echo a > a"}
      - {title: b, run: "echo b >> OUTSIDE; sleep 0.2; echo b > b"}
  - title: s
    tasks: [{title: c, run: "echo c >> OUTSIDE; sleep 0.3; cat a b > c"}]
"""

HELD = """
title: T
phases: [{title: a, tasks: [{title: t, run: 'while ! test -e GO; do sleep 0.05; done; echo 1 > one'}]}]
"""


@contextmanager
def worker_process(bench: Bench) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "HOLDFAST_DATA": str(bench.house.places.data),
        "HOLDFAST_DB": bench.house.settings.db,
        "HOLDFAST_RETRY_BASE_SECONDS": "0.05",
        "HOLDFAST_SANDBOX": "none",
    }
    process = subprocess.Popen([sys.executable, "-c", WORKER], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def finished(bench: Bench, ids: list[str]) -> None:
    for plan_id in ids:
        view = bench.until(None, plan_id)
        assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
        assert [step.attempt for step in view.steps] == [1, 1, 1]
        assert bench.files(view.plan.branch)["c"] == "a\nb\n"
    assert list(database.examine(bench.house)) == []


def test_two_workers_on_postgresql_share_the_plans_and_the_one_left_takes_over(
    postgres_url: str, tmp_path: Path, repository: Path
) -> None:
    outside = tmp_path / "outside"
    for bench in opened(settings(tmp_path, postgres_url), repository):
        with worker_process(bench) as first, worker_process(bench):
            ids = [bench.start(PLAN.replace("OUTSIDE", str(outside))).id for _ in range(3)]
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not outside.exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            first.send_signal(signal.SIGKILL)
            finished(bench, ids)
    assert sorted(outside.read_text().split()) == sorted(["a", "b", "c"] * 3), "each command ran exactly once"


def test_on_sqlite_one_process_executes_and_the_others_are_its_clients(tmp_path: Path, repository: Path) -> None:
    outside = tmp_path / "outside"
    for bench in opened(settings(tmp_path), repository):
        with worker_process(bench) as process:
            with pytest.raises(Unavailable, match=f"process {process.pid} executes"):
                Worker(bench.house.database, bench.house.settings, bench.house.places, "run").__enter__()
            with bench.working() as none:
                assert none is None
            assert [each.alive for each in execution.workers_now(bench.house)] == [True]
            ids = [bench.start(PLAN.replace("OUTSIDE", str(outside))).id for _ in range(2)]
            finished(bench, ids)
        assert not execution.is_worked_on(bench.house)


def test_a_worker_need_not_wait_for_what_its_own_command_had_open(bench: Bench) -> None:
    path = bench.vault().path
    with bench.working(), Vault.open(path) as vault:
        assert vault.recover(0.0)


def test_a_command_hardly_waits_for_a_vault_that_a_worker_has(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("holdfast.vcs.vault.monotonic", lambda: sum(waited))
    monkeypatch.setattr("holdfast.vcs.vault.sleep", waited.append)
    path = bench.vault().path
    bench.house.let_go()
    with Vault.open(path):
        assert bench.vault().head("main") is None
    assert sum(waited) < 0.5


def test_work_that_lost_its_workflow_is_found_and_goes_on(bench: Bench) -> None:
    """The engine's tables may be cleaned or lost: ours are the truth, so the work is started again from them."""
    plan = bench.start(HELD.replace("GO", str(go := bench.repository.parent / "go")))
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: statuses(view)["t"] == "running" and len(view.steps) == 1)
    with bench.house.database.engine.begin() as connection:
        connection.execute(text("DELETE FROM workflow_status"))
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: len(view.steps) == 2)
        go.touch()
        view = bench.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert [(step.attempt, step.interrupted) for step in view.steps] == [(1, True), (1, False)]
    assert bench.files(plan.branch)["one"] == "1\n"
    assert list(database.examine(bench.house)) == []


def test_a_queue_that_a_worker_left_quick_when_it_died_is_looked_at_as_calmly_as_before(bench: Bench) -> None:
    house, calm = bench.house, text("SELECT polling_interval_sec FROM queues WHERE name = :name")
    with bench.working() as worker:
        assert worker is not None
        name = house.engine.register_queue(house.places.home, FIRST_POLL_SECONDS)
        row = Row(clock.new_id(), "here", 42, WorkerKind.RUN, house.places.home, "0.1", clock.now(), clock.now())
        with house.database.transaction() as connection:
            workers.add(connection, row)
        recovery.take_over(worker.runtime)
        with house.database.read() as connection:
            assert connection.execute(calm, {"name": name}).scalar_one() == POLL_SECONDS


def test_a_task_that_was_queued_when_its_worker_died_is_started_and_not_told_as_interrupted(bench: Bench) -> None:
    plan = bench.start("title: T\nphases: [{title: a, tasks: [{title: t, run: 'echo 1 > one'}]}]")
    with bench.house.database.transaction() as connection:
        (task,) = task_rows.of_plan(connection, plan.id)
        task_rows.set_status(connection, task, TaskStatus.QUEUED, actor="tester", attempt=1, run=1)
    with bench.working() as worker:
        assert bench.until(worker, plan.id).plan.status is PlanStatus.COMPLETED
    told = [event.subtype for event in history.everything(bench.house, plan_id=plan.id) if event.task_id == task.id]
    assert "interrupted" not in told
    assert [step.run for step in plans.show(bench.house, plan.id).steps] == [1]


def test_a_plan_that_was_cut_off_is_named(bench: Bench) -> None:
    plan = bench.start(HELD.replace("GO", str(go := bench.repository.parent / "go")))
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: statuses(view)["t"] == "running")
        assert execution.interrupted(bench.house) == ()
    (cut,) = execution.interrupted(bench.house)
    assert execution.cut_off(cut) == ("T1 t",)
    go.touch()
    with bench.working() as worker:
        assert bench.until(worker, plan.id).plan.status is PlanStatus.COMPLETED
    assert [step.restarts for step in plans.show(bench.house, plan.id).steps] == [0], "the command was adopted"


def kill_all_of(bench: Bench, step: Step) -> Path:
    """Kills the command of a step and its shim; gives the folder of the run."""
    (run,) = bench.house.places.runs(step.id)
    os.kill(cast(int, next(journal.read(run / "journal.jsonl")).fields["shim"]), signal.SIGKILL)
    kill_strays(step.id)
    return run


def test_a_worktree_that_was_deleted_while_all_were_dead_is_made_again_for_the_same_step(
    bench: Bench, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    command = f"test -e {begun} || {{ touch {begun}; exec sleep 600; }}; echo 1 > one"
    plan = bench.start(f"title: T\nphases: [{{title: a, tasks: [{{title: t, run: '{command}'}}]}}]")
    with bench.working() as worker:
        view = bench.until(worker, plan.id, lambda _: begun.exists())
    kill_all_of(bench, view.steps[0])
    shutil.rmtree(bench.house.places.plan_worktree(view.plan))
    with bench.working() as worker:
        view = bench.until(worker, plan.id)
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    assert [(step.attempt, step.restarts) for step in view.steps] == [(1, 1)]
    assert bench.files(plan.branch)["one"] == "1\n"


def test_the_hours_in_which_a_machine_was_off_are_idle_time_and_on_no_budget(bench: Bench, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    command = f"test -e {begun} || {{ touch {begun}; exec sleep 600; }}"
    task = f"{{title: t, run: '{command}', budget: {{max_seconds: 600}}}}"
    plan = bench.start(f"title: T\nphases: [{{title: a, tasks: [{task}]}}]")
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda _: begun.exists())
    (step,) = plans.show(bench.house, plan.id).steps
    run = kill_all_of(bench, step)
    night = timedelta(hours=8)
    evening = (clock.now() - night).timestamp()
    for file in run.iterdir():
        os.utime(file, (evening, evening))
    with bench.house.database.transaction() as connection:
        connection.execute(tables.steps.update().values(started_at=step.started_at - night))
        connection.execute(tables.workers.update().values(seen_at=clock.now() - night))
    with bench.working() as worker:
        view = bench.until(worker, plan.id)
        assert worker is not None
        never_launched = since_life(worker.runtime, replace(step, id="of which nothing ran"), clock.now() - night)
    assert never_launched == pytest.approx(night.total_seconds(), abs=120)
    assert view.plan.status is PlanStatus.COMPLETED
    (step,) = view.steps
    assert step.restarts == 1
    assert step.idle_seconds == pytest.approx(night.total_seconds(), abs=120)
    assert 0 < view.usage.seconds < 240


def test_workflows_that_ended_are_forgotten_and_the_record_stays(either: Bench) -> None:
    plan = either.start("title: T\nphases: [{title: a, tasks: [{title: t, run: 'true'}]}]")
    with either.working() as worker:
        view = either.until(worker, plan.id)
        assert either.house.engine.forget(clock.now() - timedelta(days=1)) == 0
        forgotten, deadline = 0, time.monotonic() + DEADLINE_SECONDS
        while forgotten < 2:  # a workflow ends a moment after what it did is to be seen
            assert time.monotonic() < deadline
            forgotten += either.house.engine.forget(clock.now() + timedelta(days=1))
    assert (forgotten, either.house.engine.forget(clock.now() + timedelta(days=1))) == (2, 0)
    assert len(plans.show(either.house, view.plan.id).steps) == 1
    assert list(database.examine(either.house)) == []


def test_a_checkpoint_that_was_asked_for_by_a_command_that_died_is_given_up_once_its_task_does_not_run(
    bench: Bench,
) -> None:
    house = bench.house
    plan = plans.create(house, bench.project, parse(PLAN, source="plan.yaml"))
    asked = {"kind": operations.CHECKPOINT, "actor": "gone", "intent": {"name": "by hand"}}
    with house.database.transaction() as connection:
        task = plans.show(house, plan.id).tasks[0]
        made = operations.begin(connection, id=clock.new_id(), plan_id=plan.id, task_id=task.id, **asked)
    with bench.working(), house.database.read() as connection:
        ended = operations.get(connection, made.id)
    assert (ended.status, ended.outcome) == (OperationStatus.FAILED, {"error": "T1 is pending by now"})


def test_a_task_that_is_being_taken_up_is_not_interrupted_for_want_of_a_workflow(
    postgres_url: str, tmp_path: Path, repository: Path
) -> None:
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for bench in opened(settings(tmp_path, postgres_url), repository):
        database = bench.house.database
        plan = plans.create(bench.house, bench.project, parse(PLAN, source="plan.yaml"))
        with database.transaction() as connection:
            (task, *_) = task_rows.of_plan(connection, plan.id)
            queued = task_rows.set_status(connection, task, TaskStatus.QUEUED, actor="tester")
        with bench.working() as worker, ThreadPoolExecutor(1) as pool:
            assert worker is not None
            with database.transaction() as connection:
                claim = task_rows.take_claim(connection, task.id, worker.id)
                looking = pool.submit(recovery.interrupt, worker.runtime, plan, queued)
                eventually(lambda: connection.execute(waits).scalar_one())
            looking.result()
        with database.read() as connection:
            now = task_rows.get(connection, task.id)
        assert (now.status, now.claim) == (TaskStatus.QUEUED, claim)
