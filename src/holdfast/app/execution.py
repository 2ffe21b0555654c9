"""Works on plans in this process, or watches another worker do it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from holdfast.app import history, plans
from holdfast.app.plans import PlanView
from holdfast.app.wire import House
from holdfast.domain.plan import Plan
from holdfast.domain.transitions import PLAN_EXECUTING, TASK_ACTIVE, PauseReason, PlanStatus
from holdfast.errors import Unavailable
from holdfast.store import locks, workers
from holdfast.store import plans as plan_rows

if TYPE_CHECKING:
    from holdfast.engine.worker import Worker

LOOK_SECONDS = 0.2
ALIVE_SECONDS = 1.0

EXIT_OK = 0
EXIT_PLAN_FAILED = 6
EXIT_WAITS = 7
EXIT_RUNNING = 8
EXIT_BUDGET = 9
EXIT_INTERRUPTED = 130


class WorkerGone(Exception):
    """The worker that a client followed is gone: the client may work itself."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that is registered, and whether its liveness lock is held."""

    id: str
    kind: str
    host: str
    pid: int
    home: str
    alive: bool
    started_at: datetime


@contextmanager
def working(house: House, kind: str) -> Generator[Worker | None]:
    """Makes this process a worker for the block, or gives None where another one works on this SQLite database."""
    from holdfast.engine.worker import Worker

    house.let_go()
    with ExitStack() as stack:
        worker: Worker | None = None
        try:
            worker = stack.enter_context(Worker(house.database, house.settings, house.places, kind))
        except Unavailable as error:
            if error.code != "worker_running":
                raise
        yield worker


def follow(
    house: House,
    worker: Worker | None,
    plan_id: str,
    show: Callable[[PlanView], None],
    *,
    stop_waiting: Callable[[PlanView], bool],
    take_over: bool = False,
) -> PlanView:
    """Shows a plan again and again until it no longer runs, or `stop_waiting` says so; gives its last view.

    Raises what broke the worker, if it broke: nothing is lost, the next one goes on. A client that would `take_over`
    gets `WorkerGone` when nobody works on the plan any more.
    """
    newest, view = -1, None
    asked = time.monotonic()
    while True:
        if take_over and worker is None and time.monotonic() - asked > ALIVE_SECONDS:
            asked = time.monotonic()
            if not is_worked_on(house):
                raise WorkerGone
        if worker is not None and worker.runtime.broken is not None:
            raise worker.runtime.broken
        # Every change has its event, so an unchanged history means an unchanged plan.
        last = history.last_event(house)
        if view is None or last != newest:
            newest, view = last, plans.show(house, plan_id)
        show(view)
        if view.plan.status not in PLAN_EXECUTING or stop_waiting(view):
            return view
        if worker is None:
            time.sleep(LOOK_SECONDS)
        else:
            worker.runtime.ended.wait(LOOK_SECONDS)


def exit_code(plan: Plan) -> int:
    """Gives the exit code that tells how a plan stands (design section 8)."""
    match plan.status:
        case PlanStatus.COMPLETED:
            return EXIT_OK
        case PlanStatus.FAILED | PlanStatus.CANCELLED:
            return EXIT_PLAN_FAILED
        case PlanStatus.WAITING:
            return EXIT_WAITS
        case PlanStatus.RUNNING | PlanStatus.DRAFT:
            return EXIT_RUNNING
        case PlanStatus.PAUSED:
            return _paused_code(plan.pause_reason)


def _paused_code(reason: PauseReason | None) -> int:
    match reason:
        case PauseReason.TASK_FAILED | PauseReason.DEADLOCK:
            return EXIT_PLAN_FAILED
        case PauseReason.BUDGET:
            return EXIT_BUDGET
        case PauseReason.USER | PauseReason.INTERRUPTED:
            return EXIT_INTERRUPTED
        case _:
            return EXIT_WAITS


def workers_now(house: House) -> tuple[WorkerView, ...]:
    """Gives the workers that have not stopped in order, with whether they are alive."""
    with house.database.read() as connection:
        found = workers.list_(connection, stopped=False, limit=1000).items
    return tuple(
        WorkerView(
            each.id, each.kind, each.host, each.pid, each.home, locks.is_alive(house.database, each.id), each.started_at
        )
        for each in found
    )


def is_worked_on(house: House) -> bool:
    """Tells whether a live worker executes this home's plans."""
    return any(each.alive and each.home == house.places.home for each in workers_now(house))


def interrupted(house: House) -> tuple[PlanView, ...]:
    """Gives the plans that should run but that no live worker works on: what a crash cut off."""
    if is_worked_on(house):
        return ()
    with house.database.read() as connection:
        executing = plan_rows.executing(connection, home=house.places.home)
    return tuple(plans.show(house, plan.id) for plan in executing)


def cut_off(view: PlanView) -> tuple[str, ...]:
    """Names the tasks of a plan that were under way."""
    return tuple(f"T{task.number} {task.title}" for task in view.tasks if task.status in TASK_ACTIVE)
