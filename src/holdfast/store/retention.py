"""What retention reads and deletes: checkpoints that nobody needs, and blobs that nothing refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Column, Connection, delete, exists, select

from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.history import EventType
from holdfast.domain.plan import Plan
from holdfast.domain.retention import Holdings, strings
from holdfast.store import checkpoints as checkpoint_rows
from holdfast.store import events, plans, steps
from holdfast.store.blobs import Blob
from holdfast.store.operations import RESTORATION
from holdfast.store.rows import entities
from holdfast.store.tables import OperationStatus, blobs, checkpoints, file_snapshots, metadata, operations

# Rows that one statement names by their ids.
_AT_ONCE = 500


def plans_of(connection: Connection, project_id: str) -> tuple[Plan, ...]:
    """Gives all plans of a project, those in the trash too, oldest first."""
    found: list[Plan] = []
    cursor: str | None = None
    while True:
        page = plans.list_(connection, project_id=project_id, limit=1000, cursor=cursor, deleted=None)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return tuple(reversed(found))


def holdings(connection: Connection, plan_id: str, before: datetime) -> Holdings:
    """Gives what a plan has; an operation that went back before `before` and has ended is not undone any more."""
    mentioned: set[str] = set()
    opened = False
    for row in connection.execute(select(operations).where(operations.c.plan_id == plan_id)):
        opened |= row.status is OperationStatus.OPEN
        if row.ended_at is None or row.ended_at >= before or RESTORATION not in row.intent:
            mentioned.update(strings([row.intent, row.outcome]), _heads(row.intent))
    return Holdings(
        plan=plans.get(connection, plan_id),
        tasks=plans.tasks_of(connection, plan_id),
        steps=steps.of_plan(connection, plan_id),
        checkpoints=checkpoint_rows.of_plan(connection, plan_id),
        mentioned=frozenset(mentioned),
        open=opened,
    )


def _heads(intent: Mapping[str, Any]) -> Iterator[str]:
    """Gives the heads that a restoration moves tasks between, as "<task id>@<number>"."""
    restoration = cast("Mapping[str, Any]", intent.get(RESTORATION) or {})
    for move in restoration.get("tasks", ()):
        for side in ("before", "after"):
            yield f"{move['task_id']}@{move[side]['head_checkpoint']}"


def forget(connection: Connection, plan: Plan, gone: Sequence[Checkpoint], *, actor: str) -> None:
    """Deletes checkpoints with the files kept with them, and tells it; what git holds of them is the caller's."""
    ids = [each.id for each in gone]
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        connection.execute(delete(file_snapshots).where(file_snapshots.c.checkpoint_id.in_(some)))
        connection.execute(delete(checkpoints).where(checkpoints.c.id.in_(some)))
    if ids:
        events.add(
            connection,
            EventType.CHECKPOINT,
            "forgotten",
            actor,
            project_id=plan.project_id,
            plan_id=plan.id,
            data={"ids": ids, "refs": [each.ref for each in gone]},
        )


def refs(connection: Connection, plan_ids: Sequence[str]) -> set[str]:
    """Gives the git refs of all checkpoints of those plans."""
    found: set[str] = set()
    for start in range(0, len(plan_ids), _AT_ONCE):
        some = plan_ids[start : start + _AT_ONCE]
        found.update(connection.execute(select(checkpoints.c.ref).where(checkpoints.c.plan_id.in_(some))).scalars())
    return found


def _referring() -> list[Column[str]]:
    """Gives every column that refers to a blob."""
    columns = (column for table in metadata.sorted_tables for column in table.columns)
    return [column for column in columns if any(key.column is blobs.c.digest for key in column.foreign_keys)]


def idle_blobs(connection: Connection) -> tuple[Blob, ...]:
    """Gives the blobs that no row refers to."""
    query = select(blobs).where(*(~exists().where(column == blobs.c.digest) for column in _referring()))
    return entities(Blob, connection.execute(query))


def forget_blobs(connection: Connection, digests: Sequence[str]) -> None:
    """Deletes the rows of those blobs that nothing refers to, also not in a transaction that has not ended."""
    for start in range(0, len(digests), _AT_ONCE):
        some = digests[start : start + _AT_ONCE]
        locked = select(blobs.c.digest).where(blobs.c.digest.in_(some)).with_for_update(skip_locked=True)
        held = list(connection.execute(locked).scalars())
        # A look of its own: who referred to one before it was locked is seen now, and nobody can any more.
        idle = (blob.digest for blob in idle_blobs(connection))
        connection.execute(delete(blobs).where(blobs.c.digest.in_(set(held).intersection(idle))))


def known_blobs(connection: Connection) -> set[str]:
    """Gives the digests of all blobs that are noted."""
    return set(connection.execute(select(blobs.c.digest)).scalars())
