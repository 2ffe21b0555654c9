"""One run of one attempt of a task: prepare its worktree and step, execute it, seal what came of it.

Each of the three may be done again after a kill: prepare finds its step by (task, run), execute adopts the command by
its run folder, seal finds its commit by the trailer and its step by its end. So DBOS records no step of its own for
them: the workflow, taken up again, does all of it again. The claim is taken anew each time the workflow starts or is
recovered, and every row that is written carries it: a worker that was taken over writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import cast

from dbos import DBOS, SetWorkflowID

from holdfast import clock
from holdfast.agents import RunState, state
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.history import EventType
from holdfast.domain.own_git import OWN_GIT, OwnGit, begun, bound, changes, fresh, own_git_of
from holdfast.domain.plan import PhaseMode, Plan
from holdfast.domain.step import ASKED, BEGAN_AT, Step, asked, worked_seconds
from holdfast.domain.task import Executor, FailureKind, Task
from holdfast.domain.transitions import TaskStatus
from holdfast.engine import confine, task_agent, task_command
from holdfast.engine.kept import KeptFiles, restore_kept
from holdfast.engine.queues import RUN_TASK, task_workflow_id
from holdfast.engine.runtime import Runtime, attempted, current, guarded, in_thread, persistent
from holdfast.engine.work import (
    Outcome,
    Work,
    add_checkpoint,
    complete_task,
    fail_task,
    keep_ignored,
    load,
    save_checkpoint,
    task_checkpoint,
)
from holdfast.engine.workspace import commit_work
from holdfast.failpoints import failpoint
from holdfast.store import (
    Connection,
    approvals,
    checkpoints,
    conversations,
    events,
    metrics,
    plans,
    steps,
    tasks,
    translated,
    workers,
)
from holdfast.vcs import Change, Vault, Worktree, measure, new_commits


@DBOS.workflow(name=RUN_TASK, max_recovery_attempts=None)
async def run_task(plan_id: str, task_id: str, run: int) -> None:
    """Runs one attempt of a task to its end and wakes the plan's driver."""
    runtime = current()
    with runtime.drivers.task(plan_id, task_id):
        async with runtime.slots:
            work = await in_thread(take_up, runtime, task_id, run)
            if work is not None:
                await attempt(work)


async def start(plan_id: str, task_id: str, run: int) -> None:
    """Starts the workflow of a queued task in this worker; doing it twice starts it once."""
    with translated(), SetWorkflowID(task_workflow_id(task_id, run)):
        await DBOS.start_workflow_async(run_task, plan_id, task_id, run)


async def attempt(work: Work) -> None:
    """Prepares, executes and seals one run; what goes wrong with our own part ends the try, visibly."""
    runtime = current()
    if work.begun is not None and work.begun.ended_at is not None:
        return
    prepared = await attempted(asyncio.to_thread(persistent, prepare, runtime, work))
    ready, error = prepared["value"], prepared["error"]
    if ready is not None:
        executed = await attempted(execute(runtime, ready.work, ready.step))
        outcome, error = executed["value"], executed["error"]
        if outcome is not None:
            sealed = asyncio.to_thread(persistent, seal, runtime, ready.work, ready.step.id, outcome)
            error = (await attempted(sealed))["error"]
    if error:
        await in_thread(abandon, runtime, work, error)


def abandon(runtime: Runtime, work: Work, error: str) -> None:
    """Ends an attempt that Holdfast could not carry through: its step, if it was begun, and the task's try.

    A commit that it made already is taken off the branch: the next attempt must not start from it.
    """
    with runtime.database.read() as connection:
        step = steps.of_run(connection, work.task.id, work.task.run)
    if step is not None and step.ended_at is None:
        # The next attempt works in the same worktree.
        confine.kill_run(confine.recorded(runtime.settings, step.agent_config), step.id)
        take_off(runtime.workspaces.vault(work.project), step)
    runtime.workspaces.release(work.plan)
    with runtime.database.transaction() as connection:
        plan = plans.lock(connection, work.plan.id)
        task = tasks.get(connection, work.task.id)
        step = steps.of_run(connection, task.id, task.run)
        if step is not None and step.ended_at is None:
            steps.finish(
                connection,
                step.id,
                actor=runtime.actor,
                claim=work.claim,
                failure=FailureKind.INTERNAL,
                error=error,
                commit_after=step.commit_before,
            )
        if task.status is TaskStatus.QUEUED:
            task = tasks.set_status(connection, task, TaskStatus.RUNNING, claim=work.claim, actor=runtime.actor)
        if task.status is TaskStatus.RUNNING:
            kind = FailureKind.INTERNAL
            fail_task(connection, runtime.settings, task, kind, error, claim=work.claim, actor=runtime.actor)
        runtime.wake(connection, plan)


def take_off(vault: Vault, step: Step) -> None:
    """Moves the step's branch back to before the step, if its head is the step's own commit."""
    head = vault.head(step.branch)
    if head is None or head == step.commit_before:
        return
    if vault.trailers(head).get("Holdfast-Step") == str(step.number):
        vault.move_branch(step.branch, step.commit_before, head)


def take_up(runtime: Runtime, task_id: str, run: int) -> Work | None:
    """Claims the task for this worker, or gives None where this run of it is over."""
    with runtime.database.transaction() as connection:
        task = tasks.lock(connection, task_id)
        if task.run != run or task.status not in (TaskStatus.QUEUED, TaskStatus.RUNNING):
            return None
        # A run that was begun before: its last worker is asked for while the claim is still that worker's.
        seen = workers.seen_with(connection, task_id) if task.status is TaskStatus.RUNNING else None
        claim = tasks.take_claim(connection, task_id, runtime.worker_id)
        work = load(connection, task, claim)
        step = work.begun
        if step is not None and step.ended_at is None and seen and (idle := since_life(runtime, step, seen)):
            steps.set_fields(connection, step.id, claim=claim, idle_seconds=step.idle_seconds + idle)
        if task.status is TaskStatus.QUEUED and (work.plan.stop is not None or work.plan.cancel_requested):
            tasks.set_status(connection, work.task, TaskStatus.PAUSED, claim=claim, actor=runtime.actor)
            runtime.wake(connection, work.plan)
            return None
        return work


def since_life(runtime: Runtime, step: Step, seen: datetime) -> float:
    """Gives for how many seconds nothing of a step has run, if nothing does; its worker was last `seen` then."""
    runs = runtime.places.runs(step.id)
    if any(state(run) in (RunState.STARTING, RunState.RUNNING) for run in runs):
        return 0.0
    # What a shim wrote last, it wrote while what it keeps was alive.
    written = [path.lstat().st_mtime for run in runs for path in run.iterdir()]
    return max(0.0, clock.now().timestamp() - max([seen.timestamp(), *written]))


@dataclass(frozen=True, slots=True)
class Ready:
    """A claimed task with its branch, and its step."""

    work: Work
    step: Step


def prepare(runtime: Runtime, work: Work) -> Ready:
    """Makes branch and worktree ready and begins the step; one that was begun before the worker died is given back."""
    if work.begun is not None:
        return Ready(work, work.begun)
    configuration = task_command.configuration(runtime.settings, work.project, work.plan, work.task)
    if work.task.executor is Executor.AGENT:
        configuration |= task_agent.configuration(runtime.settings, work.project, work.plan, work.task)
    work = give_branch(runtime, work)
    vault = runtime.workspaces.vault(work.project)
    head = vault.head(work.place.branch)
    if head is None:
        vault.create_branch(work.place.branch, vault.head(work.plan.branch) or work.plan.base_commit)
        head = vault.head(work.place.branch)
    assert head is not None
    failpoint("engine.prepare.branch_made")
    from_branch = starts_clean(runtime, work, vault.tree_of(head))
    if from_branch:
        runtime.workspaces.forget_missing(work.place)
    with runtime.workspaces.worktree(work.place, recreate=from_branch) as worktree:
        if from_branch:
            found = clean(runtime, work, worktree, vault.tree_of(head), head)
            found = worktree.set_own_git(begun(found, work.place.branch, head), found)
        else:
            found = worktree.own_git()
        if work.task.fork_point:
            begin_with_kept(runtime, work, worktree)
        failpoint("engine.prepare.worktree_ready")
        initial, kept = None, KeptFiles()
        if lacks_initial(runtime, work.task):
            snapshot = worktree.snapshot(own=found)
            initial = task_checkpoint(runtime, work, None, CheckpointKind.INITIAL, snapshot, head)
            kept = keep_ignored(runtime, work, worktree)
    failpoint("engine.prepare.before_begin")
    with runtime.database.transaction() as connection:
        if initial is not None:
            add_checkpoint(connection, runtime, work, initial, kept)
        began = initial.number if initial else 0 if from_branch else work.task.head_checkpoint
        return begin(connection, runtime, work, head, configuration, found, began)


def lacks_initial(runtime: Runtime, task: Task) -> bool:
    """Tells whether the task's initial checkpoint is to be made."""
    if task.head_checkpoint == 0:
        return True
    if task.started_at is not None:
        return False
    # A worker that died here may have kept what was in the way, and no more.
    with runtime.database.read() as connection:
        return not checkpoints.has_own(connection, task.id)


def starts_clean(runtime: Runtime, work: Work, tree: str) -> bool:
    """Tells whether this run starts from what its branch holds, the files `tree`.

    A command always does, so that trying it again means the same, and who may only read; an agent goes on from what
    its last attempt left, or from within one that it was put back to.
    """
    if work.task.executor is Executor.COMMAND or work.task.read_only:
        return True
    with runtime.database.read() as connection:
        own = [each for each in steps.of_task(connection, work.task.id) if each.branch == work.place.branch]
        if any(each.active for each in own):
            return False
        head = work.task.head_checkpoint if own else 0
        return head == 0 or checkpoints.get(connection, head, task_id=work.task.id).tree == tree


def clean(runtime: Runtime, work: Work, worktree: Worktree, tree: str, head: str) -> OwnGit:
    """Makes the worktree exactly `tree`; what no checkpoint holds yet (an edit by hand) is kept in one first.

    Gives what the worktree's own git says, which stays as it is.
    """
    own = worktree.own_git()
    snapshot = worktree.snapshot(own=own)
    if snapshot.tree == tree:
        return own
    with runtime.database.read() as connection:
        known = checkpoints.has_tree(connection, work.plan.id, snapshot.tree)
    if not known:
        save_checkpoint(runtime, work, None, CheckpointKind.PRE_REWIND, worktree, snapshot, head)
    worktree.set_tree(tree)
    return own


def begin_with_kept(runtime: Runtime, work: Work, worktree: Worktree) -> None:
    """Gives a fork, before its first step, the ignored files that its first checkpoint keeps."""
    with runtime.database.read() as connection:
        if steps.of_task(connection, work.task.id):
            return
        first = checkpoints.get(connection, 1, task_id=work.task.id)
    restore_kept(runtime.database, runtime.places.blobs, worktree, first, None)


def give_branch(runtime: Runtime, work: Work) -> Work:
    """Gives the task its branch: its plan's, or in a parallel phase one of its own, recorded before it is made.

    After a merge conflict that is a new one; the old one stays.
    """
    if work.task.branch:
        return work
    if work.phase.mode is not PhaseMode.PARALLEL:
        return replace(work, task=replace(work.task, branch=work.plan.branch))
    branch = f"{work.plan.branch}--{work.task.key}"
    taken = {name.removeprefix("refs/heads/") for name in runtime.workspaces.vault(work.project).refs("refs/heads/")}
    names = [branch, *(f"{branch}-{n}" for n in range(2, len(taken) + 3))]
    branch = next(name for name in names if name not in taken)
    with runtime.database.transaction() as connection:
        return replace(work, task=tasks.set_fields(connection, work.task.id, claim=work.claim, branch=branch))


def begin(
    connection: Connection,
    runtime: Runtime,
    work: Work,
    commit_before: str,
    configuration: Mapping[str, object],
    found: OwnGit,
    began: int,
) -> Ready:
    """queued → running, with its step.

    That notes what was asked, which checkpoint it began at (`began`, 0: with what its branch has), and the own git of
    its worktree where that is not a fresh one.
    """
    noted = bound(found, work.place.branch, commit_before, ())
    task = work.task
    context = conversations.start_of(connection, task.id).context if task.executor is Executor.AGENT else ""
    details: dict[str, object] = {ASKED: asked(task, context, configuration)}
    details |= {BEGAN_AT: began} if began else {}
    step = steps.begin(
        connection,
        id=clock.new_id(),
        task_id=task.id,
        attempt=task.attempt,
        run=task.run,
        branch=work.place.branch,
        commit_before=commit_before,
        agent_config=configuration,
        details=details | ({OWN_GIT: {"before": noted.row()}} if noted else {}),
        claim=work.claim,
        actor=runtime.actor,
    )
    running = tasks.set_status(
        connection,
        task,
        TaskStatus.RUNNING,
        claim=work.claim,
        actor=runtime.actor,
        data={"step": step.number},
        branch=task.branch,
    )
    return Ready(replace(work, task=running), step)


async def execute(runtime: Runtime, work: Work, step: Step) -> Outcome:
    """Runs the task's command or agent and its checks, or adopts them where they run already."""
    with runtime.execution(work.plan.id, work.task.id) as stop:
        keeper = asyncio.create_task(_keep_checkpoints(runtime, work, step))
        try:
            executor = task_command if work.task.executor is Executor.COMMAND else task_agent
            return await executor.run(runtime, work, step, stop)
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)


async def _keep_checkpoints(runtime: Runtime, work: Work, step: Step) -> None:
    """Makes a checkpoint of the running task every `checkpoint_interval_seconds`, if anything changed."""
    interval = runtime.settings.checkpoint_interval_seconds
    if not interval:
        return
    while True:
        await asyncio.sleep(interval)
        await guarded(asyncio.to_thread(persistent, interval_checkpoint, runtime, work, step))


def interval_checkpoint(runtime: Runtime, work: Work, step: Step) -> None:
    with runtime.workspaces.worktree(work.place) as worktree:
        with runtime.database.read() as connection:
            if steps.get_by_id(connection, step.id).ended_at is not None:
                return  # it was sealed while this waited for the worktree
            latest = checkpoints.latest(connection, task_id=work.task.id)
        snapshot = worktree.snapshot()
        if latest is None or latest.tree != snapshot.tree:
            save_checkpoint(runtime, work, step.id, CheckpointKind.INTERVAL, worktree, snapshot, step.commit_before)


def seal(runtime: Runtime, work: Work, step_id: str, outcome: Outcome) -> None:
    """Commits what the step made, binds it in a checkpoint, ends the step and moves the task on."""
    with runtime.database.read() as connection:
        step = steps.get_by_id(connection, step_id)
    if step.ended_at is not None:
        return
    ended_at = clock.now()
    vault = runtime.workspaces.vault(work.project)
    with runtime.workspaces.worktree(work.place) as worktree:
        snapshot = worktree.snapshot(full=step.restarts > 0 or work.claim > 1)
        kept = keep_ignored(runtime, work, worktree)
        failpoint("engine.seal.snapshot")
        succeeded = outcome["failure"] is None and not outcome["interrupted"]
        commit = step.commit_before
        if succeeded and not work.task.read_only:
            commit = commit_work(vault, work.place, work.task, step, snapshot.tree, ended_at)
        checkpoint = task_checkpoint(runtime, work, step_id, CheckpointKind.STEP, snapshot, commit)
        change = measure(vault, step.commit_before, commit)
        step = replace(step, details=with_own_git(vault, step, snapshot.own))
        with runtime.database.transaction() as connection:
            end_step(connection, runtime, work, Ending(step, outcome, checkpoint, change, kept))
            failpoint("engine.seal.before_commit")
    failpoint("engine.seal.committed")
    if not runtime.database.is_sqlite:
        # Another worker of this data folder may run the next task: it needs the worktree's lock.
        runtime.workspaces.release(work.plan)


def with_own_git(vault: Vault, step: Step, after: OwnGit | None) -> Mapping[str, object]:
    """Gives the step's details with what its agent did with git itself, and what stands there now, if anything."""
    noted = cast("Mapping[str, object]", step.details.get(OWN_GIT) or {})
    before = own_git_of(noted.get("before")) or fresh(step.branch, step.commit_before)
    if after is None or after == before:
        return step.details
    done = changes(before, after, lambda tip, others: new_commits(vault, tip, others))
    told = {**noted, "after": after.row(), "changes": [asdict(each) for each in done]}
    return {**step.details, OWN_GIT: told}


@dataclass(frozen=True, slots=True)
class Ending:
    """All that the end of a step consists of; its files and git objects are on the disk already."""

    step: Step
    outcome: Outcome
    checkpoint: Checkpoint
    change: Change
    kept: KeptFiles


def end_step(connection: Connection, runtime: Runtime, work: Work, ending: Ending) -> None:
    """Writes the end of a step: step, checkpoint, task, metrics, events and the driver's wake, all or none."""
    outcome = ending.outcome
    plan = plans.lock(connection, work.plan.id)
    add_checkpoint(connection, runtime, work, ending.checkpoint, ending.kept)
    ended = steps.finish(
        connection,
        ending.step.id,
        actor=runtime.actor,
        claim=work.claim,
        phase_id=work.phase.id,
        exit_code=outcome["exit_code"],
        interrupted=outcome["interrupted"],
        failure=outcome["failure"],
        error=outcome["error"],
        commit_after=ending.checkpoint.head_commit,
        cpu_seconds=outcome["cpu_seconds"],
        peak_memory_bytes=outcome["peak_memory_bytes"],
        files_changed=ending.change.files,
        bytes_changed=ending.change.bytes,
        details=ending.step.details,
    )
    tell_own_git(connection, work, ended, runtime.actor)
    if work.task.executor is Executor.AGENT:
        # What it still asked for, nobody needs to decide.
        approvals.cancel_open(connection, plan_id=plan.id, task_id=work.task.id, actor=runtime.actor)
    move_task(connection, runtime, work, plan, ended)
    seconds = worked_seconds(ended, clock.now())
    measured = {
        "duration": (seconds, "s"),
        "cpu": (ended.cpu_seconds, "s"),
        "peak_memory": (float(ended.peak_memory_bytes), "B"),
        "files_changed": (float(ended.files_changed), ""),
        "bytes_changed": (float(ended.bytes_changed), "B"),
        "restarts": (float(ended.restarts), ""),
        "tokens": (float(ended.tokens), ""),
        "cost": (ended.cost_usd, "USD"),
    }
    metrics.add_all(connection, plan.id, ended.id, measured)
    runtime.wake(connection, plan)


def tell_own_git(connection: Connection, work: Work, ended: Step, actor: str) -> None:
    """Writes the event that says what the step's agent did with git itself, if anything."""
    told = ended.details.get(OWN_GIT)
    if isinstance(told, dict) and "changes" in told:
        events.add(
            connection,
            EventType.FILE,
            "git",
            actor,
            project_id=ended.project_id,
            plan_id=ended.plan_id,
            phase_id=work.phase.id,
            task_id=ended.task_id,
            step_id=ended.id,
            data={"step": ended.number, "changes": told["changes"]},
        )


def move_task(connection: Connection, runtime: Runtime, work: Work, plan: Plan, ended: Step) -> None:
    """Gives the task the status that follows from its step; a parallel one stays running until it is merged.

    A contestant of a race never is: it ends where it is."""
    task = work.task
    told: dict[str, object] = {"step": ended.number, "attempt": ended.attempt}
    if ended.interrupted:
        target = TaskStatus.CANCELLED if plan.cancel_requested else TaskStatus.PAUSED
        tasks.set_status(connection, task, target, claim=work.claim, actor=runtime.actor, data=told)
        return
    if ended.failure is None:
        if work.phase.mode is not PhaseMode.PARALLEL or task.contestant_of is not None:
            complete_task(connection, task, claim=work.claim, actor=runtime.actor, data=told)
        return
    fail_task(connection, runtime.settings, task, ended.failure, ended.error, claim=work.claim, actor=runtime.actor)
