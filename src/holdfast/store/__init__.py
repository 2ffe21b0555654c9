"""The store: the one truth about the work, in SQLite or PostgreSQL.

What this room promises to the rooms above it:

- `Database.open(url, data=…)` gives a database whose settings were checked and whose schema is this code's.
- `database.transaction()` and `database.read()` give a connection; the modules of query functions (`plans`, `tasks`,
  `steps`, `checkpoints`, `approvals`, `events`, `logs`, `metrics`, `workers`, `operations`, `iterations`, `edits`,
  `projects`, `conversations`, `messages`, `snapshots`, `blobs`, `retention`, `tokens`) take it first. Dataclasses of
  `domain/` go in and come out; each change writes its event with itself.
- A change of state is checked by `domain.transitions`, compared with the state it was decided from, and refused if
  that is no longer so. A write of a worker carries its claim and is refused in SQL when another worker has taken over.
- What is asked for twice is done once: steps by (task, run), checkpoints by (task, number), log lines by journal
  position, messages by their ids, gates by what they are about.
- Every error is one of `holdfast.errors` (see `faults`); a connection used outside `transaction()` and `read()`, as in
  a transaction of the workflow engine, is wrapped in `translated()`.

All functions block; async callers run them in threads. Only this room imports SQLAlchemy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from holdfast.store.blobs import Blob, KeptFile
    from holdfast.store.check import Problem, Stats
    from holdfast.store.database import Database
    from holdfast.store.faults import Conflict, ConstraintViolated, translated
    from holdfast.store.locks import WorkerLock
    from holdfast.store.logs import LogLine, NewLine
    from holdfast.store.messages import Source
    from holdfast.store.metrics import Metric
    from holdfast.store.operations import Operation
    from holdfast.store.paging import Page
    from holdfast.store.step_lines import Imported
    from holdfast.store.tables import LogStream, OperationStatus, WorkerKind
    from holdfast.store.workers import Worker

_HOMES = {
    "Blob": "holdfast.store.blobs",
    "Conflict": "holdfast.store.faults",
    "Connection": "sqlalchemy",
    "ConstraintViolated": "holdfast.store.faults",
    "Database": "holdfast.store.database",
    "Imported": "holdfast.store.step_lines",
    "KeptFile": "holdfast.store.blobs",
    "LogLine": "holdfast.store.logs",
    "LogStream": "holdfast.store.tables",
    "Metric": "holdfast.store.metrics",
    "NewLine": "holdfast.store.logs",
    "Operation": "holdfast.store.operations",
    "OperationStatus": "holdfast.store.tables",
    "Page": "holdfast.store.paging",
    "Problem": "holdfast.store.check",
    "Source": "holdfast.store.messages",
    "Stats": "holdfast.store.check",
    "Worker": "holdfast.store.workers",
    "WorkerKind": "holdfast.store.tables",
    "WorkerLock": "holdfast.store.locks",
    "translated": "holdfast.store.faults",
}

__all__ = [
    "Blob",
    "Conflict",
    "Connection",
    "ConstraintViolated",
    "Database",
    "Imported",
    "KeptFile",
    "LogLine",
    "LogStream",
    "Metric",
    "NewLine",
    "Operation",
    "OperationStatus",
    "Page",
    "Problem",
    "Source",
    "Stats",
    "Worker",
    "WorkerKind",
    "WorkerLock",
    "translated",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: SQLAlchemy is not needed for `--help`."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
