"""Runs a plan's own checks on its branch, in the plan's worktree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from holdfast.agents import CommandOutcome, Launch, Lost, Record, RunState, environment, run_command, state
from holdfast.domain.checkpoint import CheckpointKind, StageName
from holdfast.domain.history import EventType
from holdfast.domain.plan import Plan, Project
from holdfast.domain.stages import Enter
from holdfast.domain.task import FailureKind
from holdfast.domain.transitions import PLAN_EXECUTING, PlanStage, PlanStatus
from holdfast.domain.variables import fill
from holdfast.engine import confine, plan_review
from holdfast.engine.plan_stages import enter
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.engine.task_command import MAX_RESTARTS, judge
from holdfast.engine.work import Outcome, plan_state
from holdfast.engine.workspace import Place, make_checkpoint
from holdfast.errors import StepError
from holdfast.store import Connection, checkpoints, events, plans, projects, steps
from holdfast.vcs import Snapshot, Vault


async def verify(runtime: Runtime, plan_id: str, run: int) -> None:
    """Runs the checks in order; the first that fails makes the plan failed, a stop leaves it where it is.

    Where a check was lost with its shim, all of them run again in a new round, on the branch's files as they are there.
    """
    plan, project = await in_thread(load_plan, runtime, plan_id)
    if plan.run != run or plan.stage is not PlanStage.VERIFYING:
        return
    with runtime.execution(plan.id, plan.id) as stop:
        for number in range(MAX_RESTARTS):
            try:
                outcome = await run_checks(runtime, plan, project, number, stop)
                break
            except Lost:
                await in_thread(kill_round, runtime, plan, project, number)
        else:
            raise StepError(f"the checks of P{plan.number} were lost {MAX_RESTARTS} times", code="lost")
    if outcome is None:
        await in_thread(passed, runtime, plan)
    elif not outcome["interrupted"]:
        await in_thread(failed, runtime, plan, outcome["error"])


async def run_checks(
    runtime: Runtime, plan: Plan, project: Project, number: int, stop: asyncio.Event
) -> Outcome | None:
    """Runs round `number` of the checks, or adopts it; gives the outcome that ended it, None if all passed."""
    if state(check_folder(runtime, plan, number, 0)) is RunState.ABSENT:
        await in_thread(check_out, runtime, plan, project)
    for position, command in enumerate(plan.verify):
        shell = fill(command, plan.variables)
        done = await run_check(runtime, plan, project, number, position, shell, stop)
        outcome = judge(done, FailureKind.VERIFY, f"the check `{shell}`")
        if outcome["interrupted"] and not stop.is_set():
            raise Lost(f"round {number} of the checks was stopped before", hint="They run again in another round.")
        if outcome["interrupted"] or outcome["failure"] is not None:
            return outcome
    return None


def token_of(plan: Plan, number: int) -> str:
    return f"{plan.id}-{plan.run}-{number}"


def kill_round(runtime: Runtime, plan: Plan, project: Project, number: int) -> None:
    confine.kill_run(confine.sandbox_of(runtime.settings, project), token_of(plan, number))


def check_folder(runtime: Runtime, plan: Plan, number: int, position: int) -> Path:
    return runtime.places.run(plan.id, f"verify-{plan.run}-{number}-{position + 1}")


def load_plan(runtime: Runtime, plan_id: str) -> tuple[Plan, Project]:
    with runtime.database.read() as connection:
        plan = plans.get(connection, plan_id)
        return plan, projects.get(connection, plan.project_id)


def check_out(runtime: Runtime, plan: Plan, project: Project) -> None:
    vault = runtime.workspaces.vault(project)
    head = vault.head(plan.branch) or plan.base_commit
    place = Place(project, plan, plan.branch, None)
    runtime.workspaces.forget_missing(place)
    with runtime.workspaces.worktree(place, recreate=True) as worktree:
        snapshot = worktree.snapshot()
        with runtime.database.read() as connection:
            known = checkpoints.has_tree(connection, plan.id, snapshot.tree)
        if not known and snapshot.tree != vault.tree_of(head):
            keep_edits(runtime, plan, vault, snapshot, head)
        worktree.set_tree(vault.tree_of(head))


def keep_edits(runtime: Runtime, plan: Plan, vault: Vault, snapshot: Snapshot, head: str) -> None:
    """Keeps what a person changed in the plan's worktree in a checkpoint of the plan, before it is set back."""
    with runtime.database.read() as connection:
        state = plan_state(connection, plan)
        number = checkpoints.next_number(connection, plan_id=plan.id)
        newest = steps.newest(connection, plan.project_id, plan.branch)
    checkpoint = make_checkpoint(
        vault,
        number,
        plan=plan,
        task=None,
        step_id=None,
        kind=CheckpointKind.PRE_REWIND,
        name="before the checks",
        tree=snapshot.tree,
        snapshot=snapshot,
        head_commit=head,
        state=state,
        after_step=newest,
    )
    with runtime.database.transaction() as connection:
        checkpoints.add(connection, checkpoint, actor=runtime.actor)


async def run_check(
    runtime: Runtime, plan: Plan, project: Project, number: int, position: int, shell: str, stop: asyncio.Event
) -> CommandOutcome:
    folder, token = check_folder(runtime, plan, number, position), token_of(plan, number)
    sandbox = await in_thread(confine.sandbox_of, runtime.settings, project)
    context = {"project": project.slug, "plan": f"P{plan.number}", "branch": plan.branch}
    launch = Launch(
        shell=shell,
        cwd=runtime.workspaces.path(Place(project, plan, plan.branch, None)),
        env=environment(runtime.settings.command_environment.split(","), context, plan.variables),
        timeout_seconds=runtime.settings.default_timeout_seconds,
        grace_seconds=runtime.settings.stop_grace_seconds,
        journal_max_bytes=runtime.settings.journal_max_bytes,
        token=token,
        secrets=runtime.settings.secret_names,
    )
    launch = await in_thread(confine.confined, launch, sandbox, runtime.settings, runtime.places, plan, None, folder)
    done = await run_command(folder, launch, on_records=_drop, stop=stop)
    await in_thread(sandbox.end, token)
    return done


async def _drop(records: Sequence[Record]) -> None:
    """Leaves the output in the journal; a failed check's last lines go to the plan's error."""


def passed(runtime: Runtime, plan: Plan) -> None:
    """Lets the plan go on; that its checks passed is told in the same transaction, so once."""
    move = Enter(PlanStage.COMPLETED, StageName.AFTER_VERIFICATION)
    enter(runtime, plan, move, also=lambda connection: tell(connection, runtime, plan, "verified", ""))


def failed(runtime: Runtime, plan: Plan, error: str) -> None:
    """Records that a check failed: the plan goes back to be put right, or it has failed and says why."""
    with runtime.database.transaction() as connection:
        locked = plans.lock(connection, plan.id)
        if locked.run != plan.run or locked.stage is not PlanStage.VERIFYING or locked.status not in PLAN_EXECUTING:
            return
        tell(connection, runtime, plan, "verify_failed", error)
        if plan_review.back_from_checks(connection, runtime, locked, error):
            return
        plans.set_status(connection, locked, PlanStatus.FAILED, actor=runtime.actor, error=error, stop=None)


def tell(connection: Connection, runtime: Runtime, plan: Plan, subtype: str, error: str) -> None:
    events.add(
        connection,
        EventType.PLAN,
        subtype,
        runtime.actor,
        project_id=plan.project_id,
        plan_id=plan.id,
        data={"error": error[:2000], "checks": len(plan.verify)},
    )
