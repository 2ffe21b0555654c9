"""What the workflows of one worker work with."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Generic, ParamSpec, TypedDict, TypeVar

from holdfast import clock
from holdfast.domain.plan import Plan
from holdfast.engine.drivers import Drivers
from holdfast.engine.places import Places
from holdfast.engine.queues import Engine
from holdfast.engine.workspace import Workspaces
from holdfast.errors import HoldfastError, InfraError
from holdfast.settings import Settings
from holdfast.store import Conflict, Connection, Database

CONFLICTS = 5

LOG = logging.getLogger("holdfast.engine")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Execution:
    """One command or agent that runs in this worker now; `request_stop` may be called from any thread."""

    plan_id: str
    task_id: str
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    def request_stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stop.set)


class Closed(Exception):
    """The worker ends: this work is not begun."""


@dataclass(slots=True)
class Runtime:
    """The parts of one worker. `broken` holds the first infrastructure error; then the worker ends at once.

    `unstarted` are the workflows of queued tasks that had not been started at the last look for lost ones, if it was.
    """

    database: Database
    settings: Settings
    places: Places
    engine: Engine
    workspaces: Workspaces
    worker_id: str
    executions: dict[str, Execution] = field(default_factory=dict[str, Execution])
    drivers: Drivers = field(default_factory=Drivers)
    slots: asyncio.Semaphore = field(init=False)
    unstarted: frozenset[str] | None = None
    broken: InfraError | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    _gate: threading.Condition = field(default_factory=threading.Condition)
    _at_work: int = 0
    _closed: bool = False

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.settings.max_parallel)

    @property
    def actor(self) -> str:
        return f"worker:{self.worker_id}"

    @contextmanager
    def execution(self, plan_id: str, task_id: str) -> Generator[asyncio.Event]:
        """Lets the control thread stop what runs inside this block; gives the event that says so."""
        running = Execution(plan_id, task_id, asyncio.get_running_loop(), asyncio.Event())
        self.executions[task_id] = running
        try:
            yield running.stop
        finally:
            del self.executions[task_id]

    def wake(self, connection: Connection, plan: Plan) -> None:
        """Wakes the driver of a plan from a task of it at hand, once the transaction has committed and the task ends.

        A driver that waits in this worker is rung then and needs no message.
        """
        if not self.drivers.waits(plan.id):
            self.engine.wake_plan(connection, plan.id, plan.run)

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Marks blocking work, so that `close` can wait for it; raises `Closed` once that was called."""
        with self._gate:
            if self._closed:
                raise Closed
            self._at_work += 1
        try:
            yield
        finally:
            with self._gate:
                self._at_work -= 1
                self._gate.notify_all()

    def close(self) -> None:
        """Lets no more work begin and waits for what is in a thread: then nothing here touches git or the tables.

        What was to come is left where it is, as after a kill; the next worker goes on with it.
        """
        with self._gate:
            self._closed = True
            self._gate.wait_for(lambda: self._at_work == 0)

    def break_down(self, error: InfraError) -> None:
        """Records why this worker cannot go on and lets it end: its work stays claimable (design section 11)."""
        if self.broken is None:
            self.broken = error
        self.ended.set()


_current: list[Runtime] = []


def install(runtime: Runtime) -> None:
    """Makes `runtime` the one that workflows of this process use; DBOS runs one executor a process."""
    _current[:] = [runtime]


def remove() -> None:
    _current.clear()


def current() -> Runtime:
    """Gives the runtime of this process; workflows run only after `install`."""
    return _current[0]


def persistent(function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
    """Calls `function` again where PostgreSQL chose its transaction as a deadlock's victim; all of ours may be."""
    with _at_work():
        for attempt in range(1, CONFLICTS):
            try:
                return function(*arguments, **keywords)
            except Conflict:
                time.sleep(0.05 * attempt * (1 + clock.jitter()))
        return function(*arguments, **keywords)


def _at_work() -> AbstractContextManager[None]:
    return _current[0].at_work() if _current else nullcontext()


async def in_thread(function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
    """Runs blocking work in a thread. An infrastructure error ends the worker and never reaches DBOS.

    DBOS would record it as the workflow's final error (engine measurements, DBOS 3.4), and the work would be lost. In a
    process that is no worker it is the caller's.
    """
    return await guarded(asyncio.to_thread(persistent, function, *arguments, **keywords))


class Result(TypedDict, Generic[R]):
    """What a step of a workflow gives back: its value, or the error for people. Errors are values here, since an
    exception that DBOS has recorded comes back as another class when it is replayed."""

    value: R | None
    error: str


async def attempted(work: Awaitable[R]) -> Result[R]:
    """Gives the value of `work` or its error; infrastructure errors end the worker instead."""
    try:
        return {"value": await guarded(work), "error": ""}
    except HoldfastError as error:
        return {"value": None, "error": f"{error.message} ({error.hint})" if error.hint else error.message}
    except Exception as error:
        LOG.exception("internal error")
        return {"value": None, "error": f"internal error: {type(error).__name__}: {error}"}


async def guarded(work: Awaitable[R]) -> R:
    """Awaits `work`; on an infrastructure error, or when the worker ends, it waits for the end and never returns."""
    try:
        return await work
    except InfraError as error:
        if not _current:
            raise
        current().break_down(error)
    except Closed:
        pass
    return await asyncio.Future[R]()
