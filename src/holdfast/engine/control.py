"""Carries requests and reached budgets to what runs in this worker, and looks after dead workers.

One thread a worker: requests come from other processes and are in the tables, so that none is lost with a worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from holdfast import clock
from holdfast.domain.budget import Budget, reached
from holdfast.domain.plan import PauseMode, Plan
from holdfast.engine import inquiries
from holdfast.engine.requests import begin_requests
from holdfast.engine.runtime import LOG, Runtime, persistent
from holdfast.errors import InfraError
from holdfast.store import Connection, plans, steps, tasks, workers

LOOK_SECONDS = 0.25
RECOVER_SECONDS = 5.0
SEE_SECONDS = 20.0
FORGET_SECONDS = 600.0
KEPT_DAYS = 7


class Control(threading.Thread):
    """Looks at the tables every quarter of a second while something runs here, and for dead workers every few."""

    def __init__(self, runtime: Runtime, recover: Callable[[], None]) -> None:
        super().__init__(name="holdfast-control", daemon=True)
        self._runtime = runtime
        self._recover = recover
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        recovered = forgotten = seen = time.monotonic()
        begun = set[str]()
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                persistent(stop_what_must, self._runtime)
                persistent(begin_requests, self._runtime, begun)
                if self._runtime.executions and time.monotonic() - seen > SEE_SECONDS:
                    persistent(see, self._runtime)
                    seen = time.monotonic()
                if time.monotonic() - recovered > RECOVER_SECONDS:
                    persistent(self._recover)
                    recovered = time.monotonic()
                if time.monotonic() - forgotten > FORGET_SECONDS:
                    self._runtime.engine.forget(clock.now() - timedelta(days=KEPT_DAYS))
                    forgotten = time.monotonic()
            except InfraError as error:
                self._runtime.break_down(error)
                return
            except Exception as error:  # noqa: BLE001  a bug here ends the worker, visibly; see below
                # Without this thread no stop and no budget is obeyed: the worker must not go on as if it were.
                LOG.exception("internal error")
                self._runtime.break_down(InfraError(f"internal error in the control thread: {error}"))
                return


def see(runtime: Runtime) -> None:
    with runtime.database.transaction() as connection:
        workers.see(connection, runtime.worker_id)


def stop_what_must(runtime: Runtime) -> None:
    """Asks the executions of this worker to stop where a person or a budget says so, and rings drivers that wait here
    and were woken by another process."""
    executions = list(runtime.executions.values())
    plan_ids = {each.plan_id for each in executions}.union(runtime.drivers.waiting())
    if not plan_ids:
        return
    with runtime.database.read() as connection:
        found = {plan_id: plans.get(connection, plan_id) for plan_id in plan_ids}
        for execution in executions:
            if must_stop(connection, found[execution.plan_id], execution.task_id):
                execution.request_stop()
    for plan in found.values():
        runtime.drivers.wake(plan.id, plan.wakes)


def must_stop(connection: Connection, plan: Plan, task_id: str) -> bool:
    """Tells whether a person or a budget wants the execution of a task (or of the plan's own checks) to end."""
    if plan.stop is PauseMode.INTERRUPT or plan.cancel_requested:
        return True
    if task_id == plan.id:
        return False  # the plan's own checks: its budget is for its steps
    if plan.budget != Budget() and reached(plan.budget, inquiries.usage_of_plan(connection, plan.id)):
        return True
    budget = tasks.get(connection, task_id).budget
    return budget != Budget() and bool(reached(budget, steps.usage(connection, task_id=task_id, now=clock.now())))
