"""A task that this worker has claimed: its outcome, its checkpoints, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from holdfast import clock
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.history import EventType
from holdfast.domain.plan import Phase, Plan, Project
from holdfast.domain.step import Step
from holdfast.domain.task import FailureKind, RetryRule, Task, after_failure
from holdfast.domain.transitions import TaskStatus
from holdfast.engine.kept import KeptFiles, keep, record_checkpoint
from holdfast.engine.runtime import Runtime
from holdfast.engine.workspace import Place, make_checkpoint, place_of
from holdfast.settings import Settings
from holdfast.store import Connection, checkpoints, events, plans, projects, steps, tasks
from holdfast.vcs import Snapshot, Worktree


class Outcome(TypedDict):
    """What came of a step's command and checks; plain values, since DBOS records it."""

    exit_code: int | None
    failure: FailureKind | None
    error: str
    interrupted: bool
    cpu_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """A task that this worker has claimed, with what surrounds it; `begun` is its step, if it was begun before."""

    project: Project
    plan: Plan
    phase: Phase
    task: Task
    claim: int
    begun: Step | None = None

    @property
    def place(self) -> Place:
        return place_of(self.project, self.plan, self.phase, self.task)

    @property
    def reviews(self) -> bool:
        """Whether the task judges the plan's result."""
        return self.phase.review_round > 0 and self.task.read_only


def load(connection: Connection, task: Task, claim: int) -> Work:
    plan = plans.get(connection, task.plan_id)
    phase = plans.phase(connection, task.phase_id)
    begun = steps.of_run(connection, task.id, task.run) if task.status is TaskStatus.RUNNING else None
    return Work(projects.get(connection, plan.project_id), plan, phase, task, claim, begun)


def keep_ignored(runtime: Runtime, work: Work, worktree: Worktree) -> KeptFiles:
    """Stores the ignored files that the project lists in `include_ignored`; durable on return."""
    return keep(runtime.places.blobs, work.project, worktree)


def save_checkpoint(
    runtime: Runtime,
    work: Work,
    step_id: str | None,
    kind: CheckpointKind,
    worktree: Worktree,
    snapshot: Snapshot,
    head_commit: str,
) -> None:
    """Makes the task's next checkpoint and records it at once (the last one of a step is recorded with its end)."""
    checkpoint = task_checkpoint(runtime, work, step_id, kind, snapshot, head_commit)
    kept = keep_ignored(runtime, work, worktree)
    with runtime.database.transaction() as connection:
        add_checkpoint(connection, runtime, work, checkpoint, kept)


def add_checkpoint(
    connection: Connection,
    runtime: Runtime,
    work: Work,
    checkpoint: Checkpoint,
    kept: KeptFiles,
    *,
    actor: str = "",
) -> None:
    """Records a checkpoint of the task whose work this is, by its claim."""
    record_checkpoint(connection, work.task, checkpoint, kept, claim=work.claim, actor=actor or runtime.actor)


def task_checkpoint(
    runtime: Runtime,
    work: Work,
    step_id: str | None,
    kind: CheckpointKind,
    snapshot: Snapshot,
    head_commit: str,
    name: str = "",
) -> Checkpoint:
    """Writes the objects and the ref of the task's next checkpoint; the caller records it."""
    with runtime.database.read() as connection:
        state = plan_state(connection, work.plan)
        number = checkpoints.next_number(connection, task_id=work.task.id)
        newest = steps.newest(connection, work.project.id, work.place.branch)
    return make_checkpoint(
        runtime.workspaces.vault(work.project),
        number,
        plan=work.plan,
        task=work.task,
        step_id=step_id,
        kind=kind,
        name=name,
        tree=snapshot.tree,
        snapshot=snapshot,
        head_commit=head_commit,
        state=state,
        after_step=newest,
    )


def plan_state(connection: Connection, plan: Plan) -> dict[str, object]:
    """Gives the part of a checkpoint that says where the plan was: its variables and its finished tasks."""
    finished = tasks.keys(connection, plan.id, status=TaskStatus.COMPLETED)
    return {"variables": dict(plan.variables), "finished": list(finished), "stage": str(plan.stage)}


def restart_step(
    connection: Connection, runtime: Runtime, work: Work, step: Step, told: Mapping[str, object], **columns: object
) -> Step:
    """Lets a step whose run was lost begin again, and tells it with `told`; it stays the same step."""
    restart = step.restarts + 1
    restarted = steps.set_fields(connection, step.id, claim=work.claim, restarts=restart, **columns)
    events.add(
        connection,
        EventType.STEP,
        "restarted",
        runtime.actor,
        project_id=step.project_id,
        plan_id=step.plan_id,
        phase_id=work.phase.id,
        task_id=step.task_id,
        step_id=step.id,
        data={"step": step.number, "restart": restart, **told},
    )
    return restarted


def complete_task(
    connection: Connection,
    task: Task,
    *,
    claim: int,
    actor: str,
    data: dict[str, object],
) -> None:
    """running → completed, with what went wrong before wiped off."""
    tasks.set_status(
        connection,
        task,
        TaskStatus.COMPLETED,
        claim=claim,
        actor=actor,
        data=data,
        failure=None,
        error="",
        retry_at=None,
    )


def fail_task(
    connection: Connection,
    settings: Settings,
    task: Task,
    failure: FailureKind,
    error: str,
    *,
    claim: int,
    actor: str,
) -> None:
    """Makes a task whose attempt failed wait for its next one, or failed for good."""
    now = clock.now()
    rule = RetryRule(settings.retry_base_seconds, settings.retry_max_seconds)
    status, retry_at = after_failure(task, failure, rule, now=now, jitter=clock.jitter())
    tasks.set_status(
        connection,
        task,
        status,
        claim=claim,
        actor=actor,
        data={"failure": str(failure), "error": error[:500]},
        failure=failure,
        error=error,
        retry_at=retry_at,
    )
