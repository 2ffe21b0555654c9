"""Runs a plan's own checks on its branch, in the plan's worktree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from holdfast.agents import CommandOutcome, Launch, Lost, Record, environment, kill_strays, run_command
from holdfast.domain.checkpoint import StageName
from holdfast.domain.history import EventType
from holdfast.domain.plan import Plan, Project
from holdfast.domain.stages import Enter
from holdfast.domain.task import FailureKind
from holdfast.domain.transitions import PlanStage, PlanStatus
from holdfast.domain.variables import fill
from holdfast.engine.plan_stages import enter
from holdfast.engine.runtime import Runtime, in_thread
from holdfast.engine.task_command import MAX_RESTARTS, judge
from holdfast.engine.workspace import Place
from holdfast.errors import StepError
from holdfast.store import events, plans, projects


async def verify(runtime: Runtime, plan_id: str, run: int) -> None:
    """Runs the checks in order; the first that fails makes the plan failed, a stop leaves it where it is."""
    plan, project = await in_thread(load_plan, runtime, plan_id)
    if plan.run != run or plan.stage is not PlanStage.VERIFYING:
        return
    await in_thread(check_out, runtime, plan, project)
    with runtime.execution(plan.id, plan.id) as stop:
        for number, command in enumerate(plan.verify, 1):
            shell = fill(command, plan.variables)
            outcome = judge(
                await run_check(runtime, plan, project, number, shell, stop), FailureKind.VERIFY, f"the check `{shell}`"
            )
            if outcome["interrupted"]:
                return
            if outcome["failure"] is not None:
                await in_thread(record, runtime, plan, outcome["error"])
                return
    await in_thread(record, runtime, plan, "")
    await in_thread(enter, runtime, plan, Enter(PlanStage.COMPLETED, StageName.AFTER_VERIFICATION))


def load_plan(runtime: Runtime, plan_id: str) -> tuple[Plan, Project]:
    with runtime.database.read() as connection:
        plan = plans.get(connection, plan_id)
        return plan, projects.get(connection, plan.project_id)


def check_out(runtime: Runtime, plan: Plan, project: Project) -> None:
    vault = runtime.workspaces.vault(project)
    head = vault.head(plan.branch) or plan.base_commit
    with runtime.workspaces.worktree(Place(project, plan, plan.branch, None)) as worktree:
        worktree.set_tree(vault.tree_of(head))


async def run_check(
    runtime: Runtime, plan: Plan, project: Project, number: int, shell: str, stop: asyncio.Event
) -> CommandOutcome:
    context = {"project": project.slug, "plan": f"P{plan.number}", "branch": plan.branch}
    for restart in range(MAX_RESTARTS):
        token = f"{plan.id}-{plan.run}-{number}"
        launch = Launch(
            shell=shell,
            cwd=runtime.workspaces.path(Place(project, plan, plan.branch, None)),
            env=environment(runtime.settings.command_environment.split(","), context, plan.variables),
            timeout_seconds=runtime.settings.default_timeout_seconds,
            grace_seconds=runtime.settings.stop_grace_seconds,
            journal_max_bytes=runtime.settings.journal_max_bytes,
            token=token,
        )
        folder = runtime.places.run(plan.id, f"verify-{plan.run}-{number}-{restart}")
        try:
            return await run_command(folder, launch, on_records=_drop, stop=stop)
        except Lost:
            await in_thread(kill_strays, token)
    raise StepError(f"the check `{shell}` was lost {MAX_RESTARTS} times", code="lost")


async def _drop(records: Sequence[Record]) -> None:
    """Leaves the output in the journal; a failed check's last lines go to the plan's error."""


def record(runtime: Runtime, plan: Plan, error: str) -> None:
    """Records what the checks said: the plan goes on, or has failed and says why."""
    with runtime.database.transaction() as connection:
        locked = plans.lock(connection, plan.id)
        if locked.run != plan.run or locked.stage is not PlanStage.VERIFYING:
            return
        events.add(
            connection,
            EventType.PLAN,
            "verify_failed" if error else "verified",
            runtime.actor,
            project_id=plan.project_id,
            plan_id=plan.id,
            data={"error": error[:2000], "checks": len(plan.verify)},
        )
        if error:
            plans.set_status(connection, locked, PlanStatus.FAILED, actor=runtime.actor, error=error, stop=None)
