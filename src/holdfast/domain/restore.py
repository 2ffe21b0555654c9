"""What going back moves: from which state to which, for a task, a step or a whole plan. Pure; `engine/restoring` acts.

A `Restoration` holds both sides of everything that it moves, so that turned round it is its own undo. It never removes
anything: steps are rolled back for good and, when an undo wants their work again, followed by steps that restore it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.plan import Phase, PhaseMode, Plan
from holdfast.domain.step import BEGAN_AT, Step, StepState, state
from holdfast.domain.task import FailureKind, Task
from holdfast.domain.transitions import TASK_DONE, PauseReason, PhaseStatus, PlanStage, PlanStatus, TaskStatus

# What a step says of which step's work it brought back.
RESTORES = "restores"
# What a checkpoint that is not of a step says of the newest step of its branch then.
AFTER_STEP = "after_step"
_IMPLEMENTED = frozenset(
    {PlanStage.IMPLEMENTATION_AWAITING_APPROVAL, PlanStage.REVIEWING, PlanStage.VERIFYING, PlanStage.COMPLETED}
)
_OVER = TASK_DONE | {TaskStatus.FAILED}
_WITHIN_A_STEP = frozenset({CheckpointKind.INTERVAL, CheckpointKind.MANUAL})


class Preserve(StrEnum):
    """What keeps the work that is left behind, beside its `pre_rewind` checkpoint."""

    CREATE_BRANCH = "create_branch"
    STASH = "stash"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class BranchMove:
    """A branch of the vault and the commits that it goes from and to."""

    branch: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FilesMove:
    """The files of a worktree: the plan's, or that of the task `task_id`. With `paths` only those, else all.

    `before` is the tree that was found there; it is known once the `pre_rewind` checkpoint is made. Ignored files that
    are kept become those of the checkpoint `kept`, empty = they stay; `kept_before` has those that were found. The own
    git of the worktree becomes that of the checkpoint `own_git`, empty = a fresh one.
    """

    task_id: str | None
    branch: str
    after: str
    paths: tuple[str, ...] = ()
    before: str = ""
    kept: str = ""
    kept_before: str = ""
    own_git: str = ""


@dataclass(frozen=True, slots=True)
class TaskPoint:
    """What of a task goes back and forth. `context` is what its agent is told there, beside the task."""

    status: TaskStatus
    attempt: int = 0
    branch: str = ""
    head_checkpoint: int = 0
    head_message_id: str | None = None
    approved: bool = False
    failure: FailureKind | None = None
    error: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    context: str = ""


@dataclass(frozen=True, slots=True)
class TaskMove:
    task_id: str
    before: TaskPoint
    after: TaskPoint


@dataclass(frozen=True, slots=True)
class PhaseMove:
    phase_id: str
    before: PhaseStatus
    after: PhaseStatus


@dataclass(frozen=True, slots=True)
class PlanPoint:
    status: PlanStatus
    reason: PauseReason | None
    stage: PlanStage
    variables: Mapping[str, str]
    head_message_id: str | None = None
    context: str = ""
    error: str = ""
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PlanMove:
    before: PlanPoint
    after: PlanPoint


@dataclass(frozen=True, slots=True)
class StepCopy:
    """A step to come (`id`) that brings back what the rolled-back step `of` had done."""

    id: str
    of: str


@dataclass(frozen=True, slots=True)
class Restoration:
    """Everything that one going back moves. Ids are those of the rows; what is not named stays."""

    plan_id: str
    branches: tuple[BranchMove, ...] = ()
    files: tuple[FilesMove, ...] = ()
    tasks: tuple[TaskMove, ...] = ()
    phases: tuple[PhaseMove, ...] = ()
    plan: PlanMove | None = None
    rolled_back: tuple[str, ...] = ()
    restored: tuple[StepCopy, ...] = ()
    superseded: tuple[str, ...] = ()
    reinstated: tuple[str, ...] = ()

    @property
    def moves_work(self) -> bool:
        """Whether it moves more than conversations: then nothing of the plan may run."""
        return bool(self.branches or self.files or self.plan or self.rolled_back or self.restored)


def turned_round(done: Restoration, new_id: Callable[[], str]) -> Restoration:
    """Gives the restoration that takes `done` back. What it had restored is rolled back, and the other way round."""
    return replace(
        done,
        branches=tuple(BranchMove(each.branch, each.after, each.before) for each in done.branches),
        files=tuple(_files_back(each) for each in done.files),
        tasks=tuple(TaskMove(each.task_id, each.after, each.before) for each in done.tasks),
        phases=tuple(PhaseMove(each.phase_id, each.after, each.before) for each in done.phases),
        plan=PlanMove(done.plan.after, done.plan.before) if done.plan else None,
        rolled_back=tuple(copy.id for copy in done.restored),
        restored=tuple(StepCopy(new_id(), of) for of in done.rolled_back),
        superseded=done.reinstated,
        reinstated=done.superseded,
    )


def _files_back(done: FilesMove) -> FilesMove:
    kept = done.kept_before if done.kept else ""
    return replace(done, after=done.before, before="", kept=kept, kept_before="", own_git=done.kept_before)


def as_steps_stand(back: Restoration, steps: Sequence[Step]) -> Restoration:
    """Gives it with what it rolls back as that stands among the plan's steps now.

    A step that was rolled back since, and whose work was then brought back, is the step that brought it.
    """
    names = {step.id: origin(step) for step in steps}
    active = {origin(step): step.id for step in steps if step.active}
    return replace(back, rolled_back=tuple(active.get(names[each], each) for each in back.rolled_back))


@dataclass(frozen=True, slots=True)
class Cut:
    """A point on a branch: its commit, the files, and the newest step that is part of it (None: before all of them).

    `kept` is the checkpoint that has the ignored files of then, empty if none has.
    """

    branch: str
    commit: str
    tree: str
    step_id: str | None
    at: datetime
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A plan as it stands: what is decided from.

    `heads` are the commits of its branches, `messages` the ids of the messages that its tasks' conversations end at.
    `steps` and `checkpoints` are all that the plan has, oldest first. `apart` are tasks that are never merged (of races
    and forks): they go back alone.
    """

    plan: Plan
    phases: Sequence[Phase]
    tasks: Sequence[Task]
    steps: Sequence[Step]
    checkpoints: Sequence[Checkpoint]
    heads: Mapping[str, str]
    messages: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    head_message_id: str | None = None
    apart: Collection[str] = ()

    def task(self, task_id: str) -> Task:
        return next(task for task in self.tasks if task.id == task_id)

    def phase(self, task: Task) -> Phase:
        return next(phase for phase in self.phases if phase.id == task.phase_id)

    def step(self, step_id: str | None) -> Step | None:
        return next((step for step in self.steps if step.id == step_id), None)


def own_worktree(picture: Picture, task: Task | None) -> str | None:
    """Gives the id of the task whose worktree is meant, None for the plan's."""
    return task.id if task is not None and own_branch(picture, task) else None


def own_branch(picture: Picture, task: Task) -> bool:
    """Tells whether a task works on a branch of its own."""
    return picture.phase(task).mode is PhaseMode.PARALLEL


# -- cuts ------------------------------------------------------------------------------------------------------------


def cut_at(picture: Picture, checkpoint: Checkpoint, branch: str) -> Cut:
    """Gives the point of `branch` that a checkpoint is of.

    A checkpoint made within a step is a point before that step, with the files of then: the step is not part of it.
    """
    step = picture.step(checkpoint.step_id)
    if step is None:
        last = last_at(picture, checkpoint, branch)
    elif checkpoint.kind in _WITHIN_A_STEP and not _ended_before(step, checkpoint.created_at):
        last = _before(picture, step)
    else:
        last = step.id
    return Cut(branch, checkpoint.head_commit, checkpoint.tree, last, checkpoint.created_at, checkpoint.id)


def last_at(picture: Picture, checkpoint: Checkpoint, branch: str) -> str | None:
    """Gives the newest step of a branch that was done when a checkpoint that is not of a step was made.

    The checkpoint says it; of one that does not, it is the newest that is still active.
    """
    if AFTER_STEP in checkpoint.details:
        return str(checkpoint.details[AFTER_STEP] or "") or None
    done = [
        step
        for step in picture.steps
        if step.branch == branch and step.active and _ended_before(step, checkpoint.created_at)
    ]
    return done[-1].id if done else None


def _ended_before(step: Step, at: datetime) -> bool:
    return step.ended_at is not None and step.ended_at <= at


def cut_at_step(picture: Picture, step: Step, tree: str, *, keep: bool) -> Cut:
    """Gives the point just before a step began (`keep`: just after it ended); `tree` is that of the commit there."""
    if keep:
        return Cut(
            step.branch, step.commit_after or step.commit_before, tree, step.id, step.ended_at or step.started_at
        )
    return Cut(step.branch, step.commit_before, tree, _before(picture, step), step.started_at)


def began_at(own: Sequence[Checkpoint], step: Step, tree: str) -> Checkpoint | None:
    """Gives the checkpoint that a step began at, of all that its task has (`own`, oldest first); None if it is gone.

    The step says it. One that began with what its branch had, the files `tree`, began at the newest that has just that.
    """
    if number := step.details.get(BEGAN_AT):
        return next((each for each in own if each.number == number), None)
    by_then = [each for each in own if each.created_at <= step.started_at]
    found = [each for each in by_then if (each.tree, each.head_commit) == (tree, step.commit_before)]
    return found[-1] if found else None


def ended_at(own: Sequence[Checkpoint], step: Step) -> Checkpoint | None:
    """Gives the checkpoint that a step ended with, None if it is gone."""
    found = [each for each in own if each.step_id in (step.id, origin(step)) and each.kind is CheckpointKind.STEP]
    return found[-1] if found else None


def _before(picture: Picture, step: Step) -> str | None:
    parent = picture.step(step.parent_step_id)
    return parent.id if parent is not None and parent.branch == step.branch else None


# -- what follows from a cut -------------------------------------------------------------------------------------------


def origin(step: Step) -> str:
    """Gives the id of the step whose work this is: its own, or of the step that it restores."""
    return str(step.details.get(RESTORES) or step.id)


def line(picture: Picture, cut: Cut) -> set[str]:
    """Gives the origins of the steps that make up the branch up to the cut: its last step and those before it."""
    found: set[str] = set()
    step = picture.step(cut.step_id)
    while step is not None and step.branch == cut.branch:
        found.add(origin(step))
        step = picture.step(step.parent_step_id)
    return found


@dataclass(frozen=True, slots=True)
class Steps:
    """Which steps a cut rolls back, and which it wants back."""

    off: frozenset[str]
    on: tuple[Step, ...]


def steps_at(picture: Picture, cut: Cut, task: Task | None, contained: Callable[[str], bool]) -> Steps:
    """Gives the steps that the plan has too many and too few to stand at the cut.

    On the cut's branch those of its line belong to it. On branches of their own belong to a cut of the plan's branch:
    what began before it, and what was rolled back and is `contained` in its commit; to a cut of a parallel task's
    branch all that is no later phase's.
    """
    wanted = line(picture, cut)
    there = {origin(step) for step in picture.steps if step.active}
    apart = set(picture.apart) - ({task.id} if task else set())
    off: set[str] = set()
    on: list[Step] = []
    for step in picture.steps:
        if step.task_id in apart:
            continue
        belongs = _belongs(picture, cut, task, step, wanted, contained)
        if step.active and not belongs:
            off.add(step.id)
        elif not step.active and belongs and origin(step) == step.id and step.id not in there:
            on.append(step)
    return Steps(frozenset(off), tuple(on))


def _belongs(
    picture: Picture, cut: Cut, task: Task | None, step: Step, wanted: set[str], contained: Callable[[str], bool]
) -> bool:
    if step.branch == cut.branch:
        return origin(step) in wanted
    if cut.branch != picture.plan.branch:
        assert task is not None
        later = picture.phase(picture.task(step.task_id)).position > picture.phase(task).position
        return step.active and not (later and merged(picture, task))
    if step.active and step.started_at < cut.at:
        return True
    changed = step.commit_after not in (None, step.commit_before)
    there = changed and step.exit_code == 0 and contained(str(step.commit_after))
    # One that restores another's work came later than that.
    first = picture.step(origin(step))
    return there and (not step.active or (first is not None and first.started_at < cut.at))


def merged(picture: Picture, task: Task) -> bool:
    """Tells whether a task of a parallel phase is part of the plan's branch."""
    return own_branch(picture, task) and task.status is TaskStatus.COMPLETED and task.id not in picture.apart


def decide(
    picture: Picture,
    cut: Cut,
    *,
    heads: Mapping[str, str],
    contained: Callable[[str], bool],
    new_id: Callable[[], str],
    task: Task | None = None,
    checkpoint: Checkpoint | None = None,
    variables: Mapping[str, str] | None = None,
) -> Restoration:
    """Gives all that goes back with a cut: of `task`, whose head becomes `checkpoint`, or of the whole plan.

    `heads` are the commits that branches get; `contained` tells whether a commit is part of the cut's.
    """
    steps = steps_at(picture, cut, task, contained)
    copies = tuple(StepCopy(new_id(), step.id) for step in steps.on)
    after = _steps_after(picture, steps)
    touched = {step.task_id for step in picture.steps if step.id in steps.off} | {step.task_id for step in steps.on}
    moved = [*touched, *([task.id] if task else [])]
    first = min((picture.phase(picture.task(each)).position for each in moved), default=len(picture.phases))
    # A plan of nothing but forks, or contestants, is theirs: it goes back with them, to be run again.
    alone = task is not None and task.id in picture.apart and len(picture.apart) < len(picture.tasks)
    moves = [
        TaskMove(each.id, before, then)
        for each in picture.tasks
        if (before := point(picture, each))
        != (then := _task_at(picture, each, cut, steps, after, task, checkpoint, touched, first))
    ]
    states = {each.id: each.status for each in picture.tasks} | {each.task_id: each.after.status for each in moves}
    off_checkpoints = _superseded(picture, cut, steps, task, checkpoint)
    return Restoration(
        plan_id=picture.plan.id,
        branches=tuple(
            BranchMove(branch, picture.heads[branch], commit)
            for branch, commit in heads.items()
            if picture.heads[branch] != commit
        ),
        files=(FilesMove(own_worktree(picture, task), cut.branch, cut.tree, kept=cut.kept, own_git=cut.kept),),
        tasks=tuple(moves),
        phases=() if alone else tuple(_phases(picture, states, touched, first)),
        plan=_plan_at(picture, bool(touched) and not alone, variables, stays=alone),
        rolled_back=tuple(step.id for step in picture.steps if step.id in steps.off),
        restored=copies,
        superseded=off_checkpoints,
        reinstated=_reinstated(picture, steps, checkpoint),
    )


def of_tasks(picture: Picture, whole: Restoration, only: Collection[str]) -> Restoration:
    """Gives the part of a rollback that takes some tasks' states back, so that they run again; the code stays.

    Their steps stay too, whose work is still on the branch, and so does whatever else was done.
    """
    moves = tuple(each for each in whole.tasks if each.task_id in only and each.after.status not in _OVER)
    moved = {each.task_id for each in moves}
    owners = {each.id: each.task_id for each in picture.checkpoints}
    phases: tuple[PhaseMove, ...] = ()
    for each in moves:
        phases = _phase_open(picture.phase(picture.task(each.task_id)), phases)
    plan = whole.plan
    if plan is not None:
        kept = replace(plan.after, variables=plan.before.variables)
        plan = replace(plan, after=kept)
    return Restoration(
        whole.plan_id,
        tasks=moves,
        phases=phases,
        plan=plan,
        superseded=tuple(each for each in whole.superseded if owners[each] in moved),
    )


def going_on(picture: Picture, back: Restoration, task: Task, context: str) -> Restoration:
    """Gives the restoration `back` with `task` ready to run again after it, and its agent told `context`.

    What is over around the task is open again: its phase, and the plan, which then is paused and being implemented.
    """
    move = next((each for each in back.tasks if each.task_id == task.id), None)
    before = move.before if move else point(picture, task)
    after = replace(move.after if move else before, context=context)
    others = tuple(each for each in back.tasks if each.task_id != task.id)
    if after.status not in _OVER:
        return replace(back, tasks=(*others, TaskMove(task.id, before, after)))
    after = replace(
        after,
        status=TaskStatus.PENDING,
        attempt=0,
        approved=False,
        failure=None,
        error="",
        started_at=None,
        ended_at=None,
    )
    return replace(
        back,
        tasks=(*others, TaskMove(task.id, before, after)),
        phases=_phase_open(picture.phase(task), back.phases),
        plan=_plan_open(picture, back.plan),
    )


def _phase_open(phase: Phase, moves: Sequence[PhaseMove]) -> tuple[PhaseMove, ...]:
    moved = next((each for each in moves if each.phase_id == phase.id), None)
    others = tuple(each for each in moves if each.phase_id != phase.id)
    if (moved.after if moved else phase.status) not in (PhaseStatus.COMPLETED, PhaseStatus.SKIPPED):
        return tuple(moves)
    if phase.status is PhaseStatus.PENDING:
        return others
    return (*others, PhaseMove(phase.id, phase.status, PhaseStatus.PENDING))


def _plan_open(picture: Picture, move: PlanMove | None) -> PlanMove | None:
    before = move.before if move else plan_point(picture.plan, picture.head_message_id)
    after = move.after if move else before
    if after.status is PlanStatus.COMPLETED:
        after = replace(after, status=PlanStatus.PAUSED, reason=PauseReason.USER, ended_at=None)
    if after.stage in _IMPLEMENTED:
        after = replace(after, stage=PlanStage.IMPLEMENTING)
    return PlanMove(before, after) if after != before else move


def _steps_after(picture: Picture, steps: Steps) -> dict[str, list[Step]]:
    """Gives the steps of each task that are active after the restoration, oldest first."""
    found: dict[str, list[Step]] = {}
    wanted = {step.id for step in steps.on}
    for step in picture.steps:
        if (step.active and step.id not in steps.off) or step.id in wanted:
            found.setdefault(step.task_id, []).append(step)
    return found


def point(picture: Picture, task: Task) -> TaskPoint:
    return task_point(task, picture.messages.get(task.id))


def task_point(task: Task, head_message_id: str | None) -> TaskPoint:
    """Gives what of a task goes back and forth, as it is; a task whose gate is open is asked about anew."""
    status = TaskStatus.PENDING if task.status is TaskStatus.AWAITING_APPROVAL else task.status
    return TaskPoint(
        status=status,
        attempt=task.attempt,
        branch=task.branch,
        head_checkpoint=task.head_checkpoint,
        head_message_id=head_message_id,
        approved=task.approved,
        failure=task.failure,
        error=task.error,
        started_at=task.started_at,
        ended_at=task.ended_at,
    )


def _task_at(
    picture: Picture,
    each: Task,
    cut: Cut,
    steps: Steps,
    after: Mapping[str, list[Step]],
    task: Task | None,
    checkpoint: Checkpoint | None,
    touched: Collection[str],
    first: int,
) -> TaskPoint:
    """Gives what a task becomes: done if its last step is still there and did it, else to be run."""
    now = point(picture, each)
    phase = picture.phase(each)
    own = task is not None and each.id == task.id
    if not own and each.id not in touched:
        skipped_with_phase = phase.status is PhaseStatus.SKIPPED and phase.position >= first
        return replace(now, status=TaskStatus.PENDING) if skipped_with_phase and not phase.review_round else now
    left = after.get(each.id, [])
    head = checkpoint if own else _head(picture, left)
    bound = TaskPoint(
        status=TaskStatus.PENDING,
        branch=each.branch if left or own else "",
        head_checkpoint=head.number if head else 0,
        head_message_id=head.message_id if head else None,
    )
    if not left and phase.review_round and not own:
        # A round of review that has not happened: another is made when the plan comes to it again.
        return replace(bound, status=TaskStatus.SKIPPED)
    last = left[-1] if left else None
    if last is None or state(replace(last, active=True)) is not StepState.COMPLETED:
        return bound
    if own and (cut.step_id is None or origin(last) not in line(picture, cut)):
        return bound
    unchanged = each.id not in touched
    if own_branch(picture, each) and unchanged and each.status is not TaskStatus.COMPLETED:
        return bound
    return replace(
        bound,
        status=TaskStatus.COMPLETED,
        attempt=last.attempt,
        approved=now.approved,
        started_at=left[0].started_at,
        ended_at=last.ended_at,
    )


def _head(picture: Picture, left: Sequence[Step]) -> Checkpoint | None:
    """Gives the checkpoint that the last of a task's remaining steps ended with."""
    return ended_at(picture.checkpoints, left[-1]) if left else None


def _phases(
    picture: Picture, states: Mapping[str, TaskStatus], touched: Collection[str], first: int
) -> Sequence[PhaseMove]:
    """Gives the phases that are no longer what they were: open again, or over again."""
    moves: list[PhaseMove] = []
    open_before = False
    for phase in picture.phases:
        own = [task for task in picture.tasks if task.phase_id == phase.id]
        done = all(states[task.id] in TASK_DONE for task in own)
        if phase.position >= first and phase.status is not PhaseStatus.CANCELLED:
            then = _phase_at(phase, own, done, open_before, touched, states)
            if then is not phase.status:
                moves.append(PhaseMove(phase.id, phase.status, then))
        open_before = open_before or not done
    return moves


def _phase_at(
    phase: Phase,
    own: Sequence[Task],
    done: bool,
    open_before: bool,
    touched: Collection[str],
    states: Mapping[str, TaskStatus],
) -> PhaseStatus:
    skipped = bool(own) and all(states[task.id] is TaskStatus.SKIPPED for task in own)
    if phase.review_round and skipped:
        return PhaseStatus.SKIPPED
    if done and not open_before:
        changed = any(task.id in touched for task in own)
        return PhaseStatus.COMPLETED if changed else phase.status
    if phase.status is PhaseStatus.RUNNING and not open_before:
        return PhaseStatus.RUNNING
    return PhaseStatus.PENDING


def plan_point(plan: Plan, head_message_id: str | None) -> PlanPoint:
    """Gives what of a plan goes back and forth, as it is."""
    return PlanPoint(
        status=plan.status,
        reason=plan.pause_reason,
        stage=plan.stage,
        variables=dict(plan.variables),
        head_message_id=head_message_id,
        context=plan.context,
        error=plan.error,
        ended_at=plan.ended_at,
    )


def _plan_at(picture: Picture, touched: bool, variables: Mapping[str, str] | None, *, stays: bool) -> PlanMove | None:
    """Gives how the plan stands afterwards: paused, and being implemented if it had come further."""
    now = plan_point(picture.plan, picture.head_message_id)
    if stays:
        return None
    stage = PlanStage.IMPLEMENTING if touched and now.stage in _IMPLEMENTED else now.stage
    kept = dict(now.variables) if variables is None else dict(variables)
    paused = replace(now, status=PlanStatus.PAUSED, reason=PauseReason.ROLLBACK, error="", ended_at=None)
    return PlanMove(now, replace(paused, stage=stage, variables=kept))


def _superseded(
    picture: Picture, cut: Cut, steps: Steps, task: Task | None, checkpoint: Checkpoint | None
) -> tuple[str, ...]:
    """Gives the checkpoints that are left behind: of steps that are rolled back, and later ones of task and plan."""
    number = checkpoint.number if checkpoint else 0

    def left_behind(each: Checkpoint) -> bool:
        if each.superseded or (checkpoint is not None and each.id == checkpoint.id):
            return False
        if each.step_id in steps.off:
            return True
        if task is not None and each.task_id == task.id:
            return each.number > number if checkpoint else each.created_at > cut.at
        return each.task_id is None and each.created_at > cut.at and cut.branch == picture.plan.branch

    return tuple(each.id for each in picture.checkpoints if left_behind(each))


def _reinstated(picture: Picture, steps: Steps, checkpoint: Checkpoint | None) -> tuple[str, ...]:
    wanted = {step.id for step in steps.on}
    own = checkpoint.id if checkpoint else ""
    return tuple(
        each.id for each in picture.checkpoints if each.superseded and (each.id == own or each.step_id in wanted)
    )
