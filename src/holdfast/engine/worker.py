"""A process that executes plans: it takes its lock, launches DBOS, runs workflows until it is stopped."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack

from dbos import DBOS

from holdfast import __version__, clock
from holdfast.engine import plan_run, runtime, task_run
from holdfast.engine.answering import Answering
from holdfast.engine.control import Control
from holdfast.engine.places import Places
from holdfast.engine.queues import (
    APPLICATION_VERSION,
    FIRST_POLL_SECONDS,
    POLL_SECONDS,
    SERIALIZER,
    Engine,
    application,
)
from holdfast.engine.recovery import recover
from holdfast.engine.runtime import Runtime
from holdfast.engine.workspace import Workspaces
from holdfast.failpoints import failpoint
from holdfast.settings import Settings
from holdfast.store import Database, WorkerKind, backup, locks, workers
from holdfast.store import Worker as WorkerRow

# The workflows that DBOS may be asked to run; naming them here loads and registers them.
WORKFLOWS = (plan_run.run_plan, task_run.run_task)
# How soon a driver that waits for a person or a time hears that it was woken.
WAKE_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 10.0


class Worker:
    """One executing process; a context: entered it works in the background, left it stops and leaves commands running.

    What runs under a shim when it stops, or is killed, is adopted by the next worker. Entering raises `Unavailable`
    (`worker_running`) where another process executes on the same SQLite file.
    """

    def __init__(self, database: Database, settings: Settings, places: Places, kind: str) -> None:
        self.id = clock.new_id()
        self._kind = WorkerKind(kind)
        self._stack = ExitStack()
        self.runtime = Runtime(
            database=database,
            settings=settings,
            places=places,
            engine=Engine(database),
            workspaces=Workspaces(places, settings),
            worker_id=self.id,
        )

    def __enter__(self) -> Worker:
        with ExitStack() as stack:
            database = self.runtime.database
            stack.callback(self.runtime.engine.close)
            self._lock = stack.enter_context(locks.worker_lock(database, self.id))
            backup.on_start(database)
            with database.transaction() as connection:
                workers.add(connection, self._row())
            runtime.install(self.runtime)
            stack.callback(runtime.remove)
            stack.callback(self.runtime.workspaces.close)
            # Before the queue is looked at for the first time, so that this finds what dead workers left.
            runtime.persistent(recover, self.runtime)
            failpoint("engine.worker.recovered")
            launched = self._launch(database)
            stack.callback(DBOS.destroy)
            stack.callback(_end_looking, launched)
            failpoint("engine.worker.launched")
            stack.callback(self.runtime.close)
            self._answering = Answering(self.runtime)
            stack.callback(self._answering.close)
            runtime.persistent(self._answering.take_up)
            control = Control(self.runtime, self._look_after)
            control.start()
            stack.callback(control.stop)
            self.runtime.engine.register_queue(self.runtime.places.home, POLL_SECONDS)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _look_after(self) -> None:
        self._lock.check()
        recover(self.runtime)
        self._answering.take_up()

    def _row(self) -> WorkerRow:
        now = clock.now()
        return WorkerRow(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            kind=self._kind,
            home=self.runtime.places.home,
            version=__version__,
            started_at=now,
            seen_at=now,
        )

    def _launch(self, database: Database) -> DBOS:
        home = self.runtime.places.home
        launched = DBOS(
            config={
                "name": application(home),
                "application_version": APPLICATION_VERSION,
                "executor_id": self.id,
                "system_database_engine": database.workflow_engine,
                "serializer": SERIALIZER,
                "notification_listener_polling_interval_sec": WAKE_POLL_SECONDS,
                "use_listen_notify": not database.is_sqlite,
                "log_level": "ERROR",
            }
        )
        DBOS.listen_queues([self.runtime.engine.register_queue(home, FIRST_POLL_SECONDS)])
        DBOS.launch()
        return launched


def _end_looking(launched: DBOS) -> None:
    """Ends the threads that look at queues before the loop in which what they find runs: DBOS ends that first."""
    for stop in launched.background_thread_stop_events:
        stop.set()
    for thread in threading.enumerate():
        if thread.name.startswith("queue-worker-"):
            thread.join(_PATIENCE_SECONDS)
