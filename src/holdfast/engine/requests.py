"""What a command asks of the worker that has a task's worktree: an operation, carried out once, awaited by the command.

Killed between making and recording, the checkpoint is made again under the same number by whoever runs the task next.
"""

from __future__ import annotations

import asyncio

from holdfast.domain.checkpoint import CheckpointKind
from holdfast.domain.transitions import TaskStatus
from holdfast.engine.runtime import Runtime, attempted, in_thread, persistent
from holdfast.engine.work import add_checkpoint, keep_ignored, load, task_checkpoint
from holdfast.errors import IllegalState
from holdfast.failpoints import failpoint
from holdfast.store import OperationStatus, operations, steps, tasks
from holdfast.store.operations import CHECKPOINT


def begin_requests(runtime: Runtime, begun: set[str]) -> None:
    """Begins what was asked about the tasks that this worker executes; `begun` keeps what it began already."""
    executions = dict(runtime.executions)
    if not executions:
        return
    with runtime.database.read() as connection:
        asked = operations.open_ones(connection)
    for operation in asked:
        execution = executions.get(operation.task_id or "")
        if operation.kind == CHECKPOINT and execution is not None and operation.id not in begun:
            begun.add(operation.id)
            asyncio.run_coroutine_threadsafe(answer(runtime, operation.id), execution.loop)


def withdraw_orphans(runtime: Runtime) -> None:
    """Ends what was asked about tasks that do not run any more; the command that asked does it too, if it lives."""
    with runtime.database.read() as connection:
        asked = [each for each in operations.open_ones(connection) if each.kind == CHECKPOINT]
        of = {each.id: tasks.get(connection, each.task_id or "") for each in asked}
    for operation_id, task in of.items():
        if task.status is not TaskStatus.RUNNING:
            refuse(runtime, operation_id, f"T{task.number} is {task.status} by now")


async def answer(runtime: Runtime, operation_id: str) -> None:
    """Carries one request out, or tells why it cannot be."""
    done = await attempted(asyncio.to_thread(persistent, make_requested, runtime, operation_id))
    if done["error"]:
        await in_thread(refuse, runtime, operation_id, done["error"])


def refuse(runtime: Runtime, operation_id: str, error: str) -> None:
    with runtime.database.transaction() as connection:
        operations.finish(connection, operation_id, status=OperationStatus.FAILED, outcome={"error": error})


def make_requested(runtime: Runtime, operation_id: str) -> None:
    """Makes the checkpoint that was asked for; its row and the end of the operation are one commit."""
    with runtime.database.read() as connection:
        operation = operations.get(connection, operation_id)
        task = tasks.get(connection, operation.task_id or "")
        work = load(connection, task, task.claim)
    with runtime.workspaces.worktree(work.place) as worktree:
        with runtime.database.read() as connection:
            step = steps.running(connection, task.id)
        if step is None:
            raise IllegalState(f"T{task.number} does not run any more")
        snapshot = worktree.snapshot()
        kept = keep_ignored(runtime, work, worktree)
        name = str(operation.intent["name"])
        made = task_checkpoint(runtime, work, step.id, CheckpointKind.MANUAL, snapshot, step.commit_before, name)
        failpoint("engine.request.made")
        with runtime.database.transaction() as connection:
            ended = operations.finish(connection, operation.id, outcome={"checkpoint": made.number, "id": made.id})
            if ended.outcome.get("id") == made.id:  # else the command waits no longer
                add_checkpoint(connection, runtime, work, made, kept, actor=operation.actor)
