"""Moves a plan from stage to stage, each move with its checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from holdfast.domain.checkpoint import Checkpoint, CheckpointKind, StageName
from holdfast.domain.plan import Plan
from holdfast.domain.readiness import current_phase
from holdfast.domain.stages import Enter
from holdfast.domain.transitions import PlanStage, PlanStatus
from holdfast.engine import plan_review
from holdfast.engine.kept import KeptFiles, keep, noted, patterns_of
from holdfast.engine.runtime import Runtime
from holdfast.engine.work import plan_state
from holdfast.engine.workspace import Place, make_checkpoint
from holdfast.failpoints import failpoint
from holdfast.store import Connection, blobs, checkpoints, plans, projects, steps


def enter(runtime: Runtime, plan: Plan, move: Enter, *, also: Callable[[Connection], None] = lambda _: None) -> None:
    """Writes the stage's checkpoint and moves the plan on to the next stage; `also` is written with that."""
    checkpoint, kept = None, KeptFiles()
    if move.checkpoint is not None:
        checkpoint = stage_checkpoint(runtime, plan, move.checkpoint)
        kept = keep_ignored(runtime, plan)
    with runtime.database.transaction() as connection:
        locked = plans.lock(connection, plan.id)
        if (locked.stage, locked.run) != (plan.stage, plan.run) or was_edited(connection, plan, locked):
            return
        if checkpoint is not None:
            added = checkpoints.add(connection, noted(checkpoint, kept), actor=runtime.actor)
            blobs.attach(connection, added.id, kept.files)
        also(connection)
        if locked.status is PlanStatus.WAITING:
            locked = plans.set_status(connection, locked, PlanStatus.RUNNING, actor=runtime.actor)
        plans.set_stage(connection, locked, move.stage, actor=runtime.actor)
        if move.stage is PlanStage.REVIEWING and locked.review:
            plan_review.add_round(connection, locked, actor=runtime.actor)
    failpoint("engine.plan.stage_entered")


def was_edited(connection: Connection, seen: Plan, locked: Plan) -> bool:
    """Tells whether an edit came after the look that the move was decided from: then it is decided again."""
    decides = ("gates", "gate_order", "review", "review_agent", "review_rounds", "verify", "variables")
    if any(getattr(seen, name) != getattr(locked, name) for name in decides):
        return True
    implemented = current_phase(plans.phases_of(connection, locked.id)) is None
    return locked.stage is PlanStage.IMPLEMENTING and not implemented


def keep_ignored(runtime: Runtime, plan: Plan) -> KeptFiles:
    """Stores the ignored files of the plan's worktree that the project wants kept; without one there are none."""
    with runtime.database.read() as connection:
        project = projects.get(connection, plan.project_id)
    place = Place(project, plan, plan.branch, None)
    patterns = patterns_of(project)
    if not patterns or not Path(runtime.workspaces.path(place)).is_dir():
        return KeptFiles(patterns=patterns)
    with runtime.workspaces.worktree(place) as worktree:
        return keep(runtime.places.blobs, project, worktree)


def stage_checkpoint(runtime: Runtime, plan: Plan, name: StageName) -> Checkpoint:
    """Writes objects and ref of the plan's next stage checkpoint; the caller records it."""
    with runtime.database.read() as connection:
        project = projects.get(connection, plan.project_id)
        state = plan_state(connection, plan)
        number = checkpoints.next_number(connection, plan_id=plan.id)
        newest = steps.newest(connection, plan.project_id, plan.branch)
    vault = runtime.workspaces.vault(project)
    head = vault.head(plan.branch) or plan.base_commit
    return make_checkpoint(
        vault,
        number,
        plan=plan,
        task=None,
        step_id=None,
        kind=CheckpointKind.STAGE,
        name=name,
        tree=vault.tree_of(head),
        head_commit=head,
        state=state,
        after_step=newest,
    )
