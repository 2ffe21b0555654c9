"""Workers: the processes that ran or run tasks. Whether one is alive, only its lock tells (`locks`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from holdfast import clock
from holdfast.domain.history import EventType
from holdfast.store import events
from holdfast.store.paging import Page, before, page
from holdfast.store.rows import columns_of, entity, one
from holdfast.store.tables import WorkerKind, tasks, workers


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that runs tasks; `home` tells its data folder, and so which worktrees it can reach.

    While tasks run in it, it writes `seen_at` now and then: how long nobody has been there, never whether it is dead.
    """

    id: str
    host: str
    pid: int
    kind: WorkerKind
    home: str
    version: str
    started_at: datetime
    seen_at: datetime
    stopped_at: datetime | None = None


def add(connection: Connection, worker: Worker) -> Worker:
    """Stores a worker that starts, with its event."""
    connection.execute(workers.insert().values(**columns_of(worker)))
    _tell(connection, worker, "started")
    return worker


def see(connection: Connection, worker_id: str) -> None:
    """Writes that a worker is there."""
    connection.execute(update(workers).where(workers.c.id == worker_id).values(seen_at=clock.now()))


def seen_with(connection: Connection, task_id: str) -> datetime | None:
    """Gives when the worker that has claimed a task was last seen; None if none has."""
    query = select(workers.c.seen_at).join(tasks, tasks.c.claimed_by == workers.c.id).where(tasks.c.id == task_id)
    return connection.execute(query).scalar_one_or_none()


def stop(connection: Connection, worker_id: str, *, actor: str = "") -> Worker:
    """Marks a worker as ended, once, by itself or by who found it dead (`actor`)."""
    where = (workers.c.id == worker_id, workers.c.stopped_at.is_(None))
    changed = update(workers).where(*where).values(stopped_at=clock.now())
    ended = connection.execute(changed).rowcount == 1
    worker = get(connection, worker_id)
    if ended:
        _tell(connection, worker, "stopped", actor)
    return worker


def get(connection: Connection, worker_id: str) -> Worker:
    """Gives one worker; raises `NotFound`."""
    return entity(Worker, one(connection, select(workers).where(workers.c.id == worker_id), "such worker"))


def list_(
    connection: Connection, *, stopped: bool | None = None, limit: int = 100, cursor: str | None = None
) -> Page[Worker]:
    """Gives a page of workers, newest first; `stopped=False` gives those that have not been marked as ended."""
    query = select(workers)
    if stopped is not None:
        query = query.where(workers.c.stopped_at.is_not(None) if stopped else workers.c.stopped_at.is_(None))
    rows = connection.execute(before(query, workers.c.id, cursor, limit, numeric=False))
    return page([entity(Worker, row) for row in rows], limit, lambda worker: worker.id)


def _tell(connection: Connection, worker: Worker, subtype: str, actor: str = "") -> None:
    told = {"worker": worker.id, "host": worker.host, "pid": worker.pid, "kind": worker.kind}
    events.add(connection, EventType.WORKER, subtype, actor or f"worker:{worker.id}", data=told)
