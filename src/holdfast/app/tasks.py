"""Verbs and views of tasks."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast import clock
from holdfast.app.wire import House
from holdfast.domain.budget import Usage
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.conversation import Conversation, Head
from holdfast.domain.history import EventType
from holdfast.domain.plan import Phase, Plan, Project
from holdfast.domain.step import Step
from holdfast.domain.task import Task
from holdfast.domain.transitions import PLAN_EXECUTING, TASK, TASK_ACTIVE, PhaseStatus, PlanStatus, TaskStatus
from holdfast.engine import suggesting
from holdfast.engine.kept import KeptFiles, keep, record_checkpoint
from holdfast.engine.standing import record, standing
from holdfast.engine.workspace import Place, commit_work, make_checkpoint, place_of
from holdfast.errors import IllegalState, NotFound, Unavailable, UsageError
from holdfast.failpoints import failpoint
from holdfast.store import (
    Connection,
    Operation,
    OperationStatus,
    checkpoints,
    conversations,
    events,
    locks,
    operations,
    plans,
    projects,
    steps,
    tasks,
)
from holdfast.vcs import Change, Diff, DiffLimits, Vault, diff, measure

ANSWER_LOOK_SECONDS = 0.1
_CAN_BE_LEFT_OUT = frozenset(source for source, targets in TASK.items() if TaskStatus.SKIPPED in targets)
RETRY = "retry"
SKIP = "skip"


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task with its surroundings; its steps and checkpoints newest first, and how far its conversation is."""

    task: Task
    plan: Plan
    phase: Phase
    project: Project
    steps: tuple[Step, ...]
    checkpoints: tuple[Checkpoint, ...]
    conversation: Head

    @property
    def place(self) -> Place:
        return place_of(self.project, self.plan, self.phase, self.task)


def find(house: House, reference: str, *, plan_id: str | None = None) -> str:
    """Gives the id of the task that `reference` names; a key alone is one of the newest plan."""
    with house.database.read() as connection:
        try:
            return tasks.find(connection, reference, plan_id=plan_id)
        except NotFound:
            newest = plans.list_(connection, limit=1).items
            if plan_id is not None or not newest:
                raise
            return tasks.find(connection, reference, plan_id=newest[0].id)


def show(house: House, task_id: str) -> TaskView:
    with house.database.read() as connection:
        return _view(connection, task_id)


def _view(connection: Connection, task_id: str) -> TaskView:
    task = tasks.get(connection, task_id)
    plan = plans.get(connection, task.plan_id)
    return TaskView(
        task=task,
        plan=plan,
        phase=plans.phase(connection, task.phase_id),
        project=projects.get(connection, plan.project_id),
        steps=tuple(reversed(steps.of_task(connection, task_id))),
        checkpoints=tuple(checkpoints.list_(connection, task_id=task_id, limit=1000).items),
        conversation=conversations.head(connection, Conversation(plan.id, task_id)),
    )


def used(house: House, task_id: str) -> Usage:
    """Gives what the steps of a task have used up to now."""
    with house.database.read() as connection:
        return steps.usage(connection, task_id=task_id, now=clock.now())


def worktree(house: House, view: TaskView) -> str:
    """Gives the folder that a task works in, empty where it is not there (yet, or any more)."""
    path = house.workspaces.path(view.place)
    return path if view.project.home == house.places.home and Path(path).is_dir() else ""


def retry(house: House, task_id: str) -> Task:
    """Lets a failed task be tried again with all its attempts, or one that was left out be done after all.

    Its plan goes on at `resume`, and `undo` takes it back. Raises `IllegalState` for any other task: what is completed
    is gone back to.
    """
    return _changed(house, task_id, TaskStatus.PENDING, RETRY)


def skip(house: House, task_id: str) -> Task:
    """Leaves a task out that has failed, was stopped or has not begun; what depends on it may run.

    `undo` takes it back while its phase is not over.
    """
    return _changed(house, task_id, TaskStatus.SKIPPED, SKIP)


def _changed(house: House, task_id: str, target: TaskStatus, kind: str) -> Task:
    with house.database.transaction() as connection:
        plan = plans.lock(connection, tasks.get(connection, task_id).plan_id)
        task = tasks.get(connection, task_id)
        _refuse_reopening(plan, plans.phase(connection, task.phase_id), task, target)
        before = standing(connection, task_id)
        changed = reopen(house, connection, plan, task_id, target)
        record(connection, before, kind=kind, actor=house.actor, told={"task": changed.key})
    return changed


def may_skip(house: House, task_id: str) -> None:
    """Raises `IllegalState` for a task that cannot be left out."""
    with house.database.read() as connection:
        task = tasks.get(connection, task_id)
        plan, phase = plans.get(connection, task.plan_id), plans.phase(connection, task.phase_id)
        _refuse_reopening(plan, phase, task, TaskStatus.SKIPPED)


def _refuse_reopening(plan: Plan, phase: Phase, task: Task, target: TaskStatus) -> None:
    """Raises `IllegalState` for a task whose plan, phase or own state has no place for `target` any more."""
    name, of = f"T{task.number}", f"P{plan.number}"
    look = f"look: holdfast status {of}"
    if plan.status in (PlanStatus.COMPLETED, PlanStatus.CANCELLED):
        again = f"run it again from there: holdfast plan execute {of} --from task --task {name}"
        if task.status is TaskStatus.SKIPPED:
            again = f"open it again: holdfast task continue {name}"
        cloned = f"make another one of it: holdfast plan clone {of}"
        hint = again if plan.status is PlanStatus.COMPLETED else cloned
        raise IllegalState(f"{of} is {plan.status}: none of its tasks is to be done any more", hint=hint)
    if target is TaskStatus.SKIPPED and task.status not in _CAN_BE_LEFT_OUT:
        hint = f"stop it first: holdfast plan pause {of} --interrupt" if task.status in TASK_ACTIVE else look
        raise IllegalState(
            f"{name} is {task.status}: only a task that has failed, was stopped or has not begun is left out", hint=hint
        )
    late = task.status is TaskStatus.SKIPPED and phase.status not in (PhaseStatus.COMPLETED, PhaseStatus.SKIPPED)
    if target is TaskStatus.PENDING and task.status is not TaskStatus.FAILED and not late:
        hint = (
            f"go back to before it: holdfast task rewind {name} --to 1" if task.status is TaskStatus.COMPLETED else look
        )
        raise IllegalState(f"{name} is {task.status}: only a task that has failed is tried again", hint=hint)


def reopen(house: House, connection: Connection, plan: Plan, task_id: str, target: TaskStatus) -> Task:
    """Makes a task that has ended open again, or leaves it out; the caller holds the plan's lock."""
    changed = suggesting.reopen(connection, plan, task_id, target, actor=house.actor)
    if plan.status in PLAN_EXECUTING:
        house.wake(connection, plan)
    return changed


def complete(house: House, task_id: str) -> Step:
    """Takes what is in the task's worktree now as its result: a step of its own, committed, then completed.

    For a failed task that a person has put right by hand. Raises `IllegalState` while its plan runs.
    """
    with house.database.read() as connection:
        view = _view(connection, task_id)
    if view.task.status is not TaskStatus.FAILED:
        raise IllegalState(
            f"T{view.task.number} is {view.task.status}: only a failed task is completed by hand",
            hint=f"look: holdfast status P{view.plan.number}",
        )
    if view.plan.status in PLAN_EXECUTING:
        raise IllegalState(
            f"P{view.plan.number} is running", hint=f"pause it first: holdfast plan pause P{view.plan.number}"
        )
    vault = house.workspaces.vault(view.project)
    with house.workspaces.worktree(view.place) as worktree:
        snapshot = worktree.snapshot(full=True)
        step = _begin_by_hand(house, view)
        failpoint("app.complete.begun")
        commit = commit_work(vault, view.place, view.task, step, snapshot.tree, clock.now())
        failpoint("app.complete.committed")
        if view.place.own is not None:
            _merge_by_hand(vault, view, step, commit)
        checkpoint = make_checkpoint(
            vault,
            _next_number(house, task_id),
            plan=view.plan,
            task=view.task,
            step_id=step.id,
            kind=CheckpointKind.STEP,
            name="completed by hand",
            tree=snapshot.tree,
            snapshot=snapshot,
            head_commit=commit,
            state={"variables": dict(view.plan.variables)},
        )
        kept = keep(house.places.blobs, view.project, worktree)
        change = measure(vault, step.commit_before, commit)
        with house.database.transaction() as connection:
            return _end_by_hand(connection, house, view, step, checkpoint, kept, change)


def _merge_by_hand(vault: Vault, view: TaskView, step: Step, commit: str) -> None:
    """Brings the work of a person on a task of a parallel phase into the plan's branch; refuses a conflict."""
    from holdfast.engine.merge import Candidate, merge

    conflicts = merge(vault, view.plan, Candidate(view.task, replace(step, commit_after=commit)))
    if conflicts:
        raise IllegalState(
            f"the work on T{view.task.number} conflicts with the plan's branch in: {', '.join(conflicts[:20])}",
            hint="make those files fit what the other tasks did, then complete it again",
            code="merge_conflict",
        )


def _begin_by_hand(house: House, view: TaskView) -> Step:
    """Begins the step that records the work of a person, or gives the one that a kill or a refusal left open."""
    with house.database.transaction() as connection:
        plan = plans.lock(connection, view.plan.id)
        task = tasks.get(connection, view.task.id)
        if task.status is not TaskStatus.FAILED or plan.status in PLAN_EXECUTING:
            raise IllegalState(
                f"T{task.number} is {task.status}, P{plan.number} is {plan.status} by now", hint="look, and try again"
            )
        left = steps.running(connection, task.id)
        if left is not None:
            return left
        task = tasks.set_fields(connection, task.id, run=task.run + 1)
        head = house.workspaces.vault(view.project).head(view.place.branch)
        return steps.begin(
            connection,
            id=clock.new_id(),
            task_id=task.id,
            attempt=task.attempt,
            run=task.run,
            branch=view.place.branch,
            commit_before=head or view.plan.base_commit,
            agent_config={"executor": "hand"},
            claim=task.claim,
            actor=house.actor,
        )


def _end_by_hand(
    connection: Connection,
    house: House,
    view: TaskView,
    step: Step,
    checkpoint: Checkpoint,
    kept: KeptFiles,
    change: Change,
) -> Step:
    plans.lock(connection, view.plan.id)
    task = tasks.get(connection, view.task.id)
    record_checkpoint(connection, task, checkpoint, kept, actor=house.actor)
    ended = steps.finish(
        connection,
        step.id,
        actor=house.actor,
        exit_code=0,
        commit_after=checkpoint.head_commit,
        files_changed=change.files,
        bytes_changed=change.bytes,
    )
    tasks.set_status(
        connection, task, TaskStatus.COMPLETED, actor=house.actor, data={"by_hand": True}, failure=None, error=""
    )
    return ended


def _next_number(house: House, task_id: str) -> int:
    with house.database.read() as connection:
        return checkpoints.next_number(connection, task_id=task_id)


def checkpoint(house: House, task_id: str, message: str) -> Checkpoint:
    """Makes a checkpoint of kind `manual` of the task's worktree; where a worker runs the task, it makes it.

    Raises `Unavailable` if that worker does not answer within `answer_seconds`; then there is none.
    """
    with house.database.read() as connection:
        view = _view(connection, task_id)
        worker = tasks.claimed_by(connection, task_id)
    if not view.steps:
        raise IllegalState(
            f"T{view.task.number} has not run yet: it has no worktree",
            hint=f"look: holdfast status P{view.plan.number}",
        )
    if view.task.status is TaskStatus.RUNNING and worker is not None and locks.is_alive(house.database, worker):
        return _asked_of_worker(house, view.task, message)
    vault = house.workspaces.vault(view.project)
    with house.workspaces.worktree(view.place) as worktree:
        made = make_checkpoint(
            vault,
            _next_number(house, task_id),
            plan=view.plan,
            task=view.task,
            step_id=view.steps[0].id,
            kind=CheckpointKind.MANUAL,
            name=message,
            tree=(snapshot := worktree.snapshot(full=True)).tree,
            snapshot=snapshot,
            head_commit=vault.head(view.place.branch) or view.plan.base_commit,
            state={"variables": dict(view.plan.variables)},
        )
        kept = keep(house.places.blobs, view.project, worktree)
        with house.database.transaction() as connection:
            record_checkpoint(connection, view.task, made, kept, actor=house.actor)
            return checkpoints.get(connection, made.number, task_id=task_id)


def _asked_of_worker(house: House, task: Task, message: str) -> Checkpoint:
    """Asks the worker that runs the task for a checkpoint, and waits; a request that is given up is withdrawn."""
    with house.database.transaction() as connection:
        asked = operations.begin(
            connection,
            id=clock.new_id(),
            kind=operations.CHECKPOINT,
            actor=house.actor,
            intent={"name": message},
            plan_id=task.plan_id,
            task_id=task.id,
        )
    deadline = time.monotonic() + house.settings.answer_seconds
    while asked.status is OperationStatus.OPEN:
        time.sleep(ANSWER_LOOK_SECONDS)
        with house.database.read() as connection:
            asked, now = operations.get(connection, asked.id), tasks.get(connection, task.id)
        if asked.status is OperationStatus.OPEN and now.status is not TaskStatus.RUNNING:
            asked = _withdrawn(house, asked, f"T{task.number} is {now.status} by now")
        elif asked.status is OperationStatus.OPEN and time.monotonic() > deadline:
            asked = _withdrawn(house, asked, f"the worker that runs T{task.number} did not answer")
    if asked.status is OperationStatus.FAILED:
        raise Unavailable(
            f"there is no checkpoint: {asked.outcome['error']}", hint="look: holdfast status; then try again"
        )
    with house.database.read() as connection:
        return checkpoints.get(connection, int(str(asked.outcome["checkpoint"])), task_id=task.id)


def _withdrawn(house: House, asked: Operation, error: str) -> Operation:
    """Ends a request that nobody waits for any more, unless it was carried out just now."""
    with house.database.transaction() as connection:
        return operations.finish(connection, asked.id, status=OperationStatus.FAILED, outcome={"error": error})


def changes(house: House, task_id: str) -> Diff:
    """Gives what the task's newest step changed, or its newest checkpoint where the step is not over."""
    view = show(house, task_id)
    if not view.steps:
        raise IllegalState(
            f"T{view.task.number} has not run yet: there is nothing to compare",
            hint=f"look: holdfast status P{view.plan.number}",
        )
    newest = view.steps[0]
    after = newest.commit_after
    if after in (None, newest.commit_before) and view.checkpoints:
        after = view.checkpoints[0].commit
    return compare(house, view.project, newest.commit_before, after or newest.commit_before)


def compare(house: House, project: Project, before: str, after: str) -> Diff:
    limits = house.settings
    vault = house.workspaces.vault(project)
    return diff(vault, before, after, DiffLimits(limits.diff_max_files, limits.diff_max_lines))


PROGRESS_CHARACTERS = 500
PROGRESS_SECONDS = 1.0


def report_progress(house: House, plan_id: str, task_id: str | None, message: str, percent: int | None = None) -> None:
    """Writes how far an agent says it is into the history, as `task.progress` (`plan.progress` without a task).

    Raises `IllegalState` for more than one a second: a flood is not history.
    """
    if not message.strip() or len(message) > PROGRESS_CHARACTERS:
        raise UsageError(f"progress is told in 1 to {PROGRESS_CHARACTERS} characters")
    kind = EventType.PLAN if task_id is None else EventType.TASK
    with house.database.transaction() as connection:
        plan = plans.get(connection, plan_id)
        told = events.list_(connection, plan_id=plan_id, task_id=task_id, type=kind, subtype="progress", limit=1).items
        if told and (clock.now() - told[0].at).total_seconds() < PROGRESS_SECONDS:
            raise IllegalState("progress was reported less than a second ago", code="too_often")
        events.add(
            connection,
            kind,
            "progress",
            house.actor,
            project_id=plan.project_id,
            plan_id=plan_id,
            phase_id=None if task_id is None else tasks.get(connection, task_id).phase_id,
            task_id=task_id,
            data={"message": message} if percent is None else {"message": message, "percent": percent},
        )
