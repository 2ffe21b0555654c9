"""Takes over the work of dead workers, and restarts what should run but has no live workflow.

Dead means that its liveness lock is free, never that it was silent for long: two must not work in one worktree.
"""

from __future__ import annotations

from holdfast.domain.plan import Plan
from holdfast.domain.task import Task
from holdfast.domain.transitions import PLAN_EXECUTING, TaskStatus
from holdfast.engine import confine, restoring
from holdfast.engine.driving import start_driver
from holdfast.engine.queues import POLL_SECONDS, plan_workflow_id, task_workflow_id
from holdfast.engine.requests import withdraw_orphans
from holdfast.engine.runtime import LOG, Runtime
from holdfast.errors import UserError
from holdfast.failpoints import failpoint
from holdfast.store import locks, plans, steps, tasks, workers


def recover(runtime: Runtime) -> None:
    """Does both, and ends what was begun and left; safe to do at any time and any number of times."""
    finish_cut_off(runtime)
    take_over(runtime)
    reconcile(runtime)
    withdraw_orphans(runtime)


def finish_cut_off(runtime: Runtime) -> None:
    """Carries through what was cut off when somebody went back or handed a result over; what is under way is left."""
    for operation in restoring.cut_off(runtime):
        try:
            restoring.finish(runtime, operation.id)
        except UserError as error:
            LOG.warning("%s of %s: %s", operation.kind, operation.actor, error)


def take_over(runtime: Runtime) -> None:
    """Hands the workflows of dead workers back to their queues."""
    with runtime.database.read() as connection:
        others = [
            each for each in workers.list_(connection, stopped=False, limit=1000).items if each.id != runtime.worker_id
        ]
    for worker in others:
        if locks.is_alive(runtime.database, worker.id):
            continue
        runtime.engine.hand_back(worker.id, worker.home)
        # One that died as it started left its queue to be looked at as often as that needs.
        runtime.engine.register_queue(worker.home, POLL_SECONDS)
        failpoint("engine.recovery.handed_back")
        with runtime.database.transaction() as connection:
            workers.stop(connection, worker.id, actor=runtime.actor)


def reconcile(runtime: Runtime) -> None:
    """Starts a driver for each executing plan of this home without one; frees tasks whose workflow is gone."""
    with runtime.database.read() as connection:
        executing = plans.executing(connection, home=runtime.places.home)
    drivers = {plan_workflow_id(plan.id, plan.run): plan for plan in executing}
    alive = runtime.engine.live(list(drivers)) if drivers else set[str]()
    unstarted = set[str]()
    for workflow_id, plan in drivers.items():
        unstarted |= reconcile_tasks(runtime, plan)
        if workflow_id not in alive:
            restart_driver(runtime, plan)
    runtime.unstarted = frozenset(unstarted)


def restart_driver(runtime: Runtime, plan: Plan) -> None:
    with runtime.database.transaction() as connection:
        locked = plans.lock(connection, plan.id)
        if locked.run == plan.run and locked.status in PLAN_EXECUTING:
            start_driver(connection, runtime.engine, runtime.places.home, locked)


def reconcile_tasks(runtime: Runtime, plan: Plan) -> set[str]:
    """Frees the tasks of a plan whose workflow is gone, and gives the workflows that may be about to be started.

    A driver starts what it has queued a moment later: only what it has not by the next look is given up. What is found
    at the first look, before any driver has run here, was queued by one that died before it could: it is started.
    """
    with runtime.database.read() as connection:
        busy = [
            task
            for task in plans.tasks_of(connection, plan.id)
            if task.status in (TaskStatus.QUEUED, TaskStatus.RUNNING)
        ]
    workflows = {task_workflow_id(task.id, task.run): task for task in busy}
    alive = runtime.engine.live(list(workflows)) if workflows else set[str]()
    gone = {workflow_id: task for workflow_id, task in workflows.items() if workflow_id not in alive}
    for workflow_id, task in gone.items():
        if task.status is TaskStatus.RUNNING or workflow_id in (runtime.unstarted or ()):
            interrupt(runtime, plan, task)
        elif runtime.unstarted is None:
            start(runtime, plan, task)
    return set(gone)


def start(runtime: Runtime, plan: Plan, task: Task) -> None:
    """Starts the run of a queued task, unless something has changed since it was looked at."""
    with runtime.database.transaction() as connection:
        plans.lock(connection, plan.id)
        now = tasks.lock(connection, task.id)
        if (now.run, now.status) == (task.run, task.status):
            runtime.engine.start_task(connection, runtime.places.home, plan.id, task.id, task.run)


def interrupt(runtime: Runtime, plan: Plan, task: Task) -> None:
    """Closes the step of a task whose workflow is gone and lets the driver queue the task again."""
    with runtime.database.read() as connection:
        step = steps.of_run(connection, task.id, task.run)
    if step is not None and step.ended_at is None:
        confine.kill_run(confine.recorded(runtime.settings, step.agent_config), step.id)
    with runtime.database.transaction() as connection:
        locked = plans.lock(connection, plan.id)
        now = tasks.lock(connection, task.id)
        if (now.run, now.status, now.claim) != (task.run, task.status, task.claim):
            return  # its workflow had not been started when it was looked for
        step = steps.of_run(connection, task.id, task.run)
        if step is not None and step.ended_at is not None and not step.interrupted and step.failure is None:
            return  # it succeeded and waits for its turn to be merged
        claim = tasks.take_claim(connection, task.id, runtime.worker_id)
        if step is not None and step.ended_at is None:
            steps.finish(connection, step.id, claim=claim, actor=runtime.actor, interrupted=True)
        tasks.set_status(connection, now, TaskStatus.INTERRUPTED, claim=claim, actor=runtime.actor)
        runtime.engine.wake_plan(connection, locked.id, locked.run)
