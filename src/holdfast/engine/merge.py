"""Merges finished parallel tasks into their plan's branch, in task order. Only the plan's driver merges."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast import clock
from holdfast.domain.plan import Plan, Project
from holdfast.domain.readiness import PlanState, may_merge
from holdfast.domain.step import Step
from holdfast.domain.task import FailureKind, Task
from holdfast.domain.transitions import TaskStatus
from holdfast.engine.runtime import Runtime
from holdfast.engine.work import complete_task, fail_task
from holdfast.engine.workspace import AUTHOR, commit_message
from holdfast.failpoints import failpoint
from holdfast.store import Connection, plans, steps, tasks
from holdfast.vcs import Vault


@dataclass(frozen=True, slots=True)
class Candidate:
    """A task whose step succeeded on its own branch and waits to be merged."""

    task: Task
    step: Step


def merge_next(runtime: Runtime, project: Project, state: PlanState) -> bool:
    """Merges the first task whose turn it is; tells whether there was one."""
    plan = state.plan
    on_its_own = [
        task for task in state.tasks if task.status is TaskStatus.RUNNING and task.branch not in ("", plan.branch)
    ]
    chosen = next_candidate(runtime, state, on_its_own) if on_its_own else None
    if chosen is None:
        return False
    vault = runtime.workspaces.vault(project)
    conflicts = merge(vault, plan, chosen)
    failpoint("engine.merge.merged")
    with runtime.database.transaction() as connection:
        plans.lock(connection, plan.id)
        record(connection, runtime, chosen, conflicts)
    return True


def next_candidate(runtime: Runtime, state: PlanState, running: list[Task]) -> Candidate | None:
    for task in running:
        with runtime.database.read() as connection:
            step = steps.of_run(connection, task.id, task.run)
        if step is None or step.ended_at is None or step.failure is not None or step.interrupted:
            continue
        if may_merge(task, [other for other in state.tasks if other.phase_id == task.phase_id]):
            return Candidate(task, step)
    return None


def merge(vault: Vault, plan: Plan, chosen: Candidate) -> tuple[str, ...]:
    """Brings the task's commit into the plan's branch, unless it is there; gives the paths in conflict, if any."""
    head = vault.head(plan.branch)
    theirs = chosen.step.commit_after
    assert head is not None
    assert theirs is not None
    if vault.is_ancestor(theirs, head):
        return ()
    message = f"Merge {commit_message(plan, chosen.task, chosen.step)}"
    result = vault.merge(head, theirs, message, author=AUTHOR, time=chosen.step.ended_at or clock.now())
    if result.commit is None:
        return result.conflicts
    failpoint("engine.merge.commit_written")
    vault.move_branch(plan.branch, result.commit, head)
    return ()


def record(connection: Connection, runtime: Runtime, chosen: Candidate, conflicts: tuple[str, ...]) -> None:
    task = tasks.get(connection, chosen.task.id)
    if task.status is not TaskStatus.RUNNING or task.run != chosen.task.run:
        return
    if not conflicts:
        told: dict[str, object] = {"step": chosen.step.number, "merged": True}
        complete_task(connection, task, claim=task.claim, actor=runtime.actor, data=told)
        return
    error = f"merging {task.branch} into the plan's branch conflicts in: {', '.join(conflicts[:20])}"
    fail_task(
        connection,
        runtime.settings,
        task,
        FailureKind.MERGE_CONFLICT,
        error,
        claim=task.claim,
        actor=runtime.actor,
    )
