"""Forks: a new task whose files, branch and conversation begin at a checkpoint of another one (decision 0014).

Like a contestant of a race, a fork is a task in a plan of its own and ends on a branch of its own, unmerged: so it can
be made whatever the original does, runs beside it, and is paused, killed, resumed and rewound like any task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from holdfast import clock
from holdfast.app import plans as plan_verbs
from holdfast.app import races
from holdfast.app import tasks as task_verbs
from holdfast.app.checkpoints import label_of, owner_of
from holdfast.app.conversation_rewinds import checkpoint_by, to_message
from holdfast.app.targets import find_checkpoint
from holdfast.app.tasks import TaskView
from holdfast.app.wire import House
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.conversation import Conversation, Head
from holdfast.domain.history import EventType
from holdfast.domain.plan import Phase, Plan, Project, refuse_deleted
from holdfast.domain.restore import began_at, origin
from holdfast.domain.step import Step, as_asked
from holdfast.domain.task import Executor, Task
from holdfast.domain.words import slug
from holdfast.engine.kept import like, verify_kept
from holdfast.engine.workspace import make_checkpoint
from holdfast.errors import IllegalState, NotFound, UsageError
from holdfast.failpoints import failpoint
from holdfast.store import (
    Connection,
    blobs,
    checkpoints,
    conversations,
    events,
    operations,
    plans,
    snapshots,
    steps,
)
from holdfast.vcs import check_branch

FORK = "fork"


@dataclass(frozen=True, slots=True)
class Point:
    """Where a fork starts: the files of a checkpoint, and the message that its conversation goes on from."""

    checkpoint: Checkpoint
    label: str
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a fork is to be; what is empty is as in the original. Without `conversation` it begins a new one."""

    name: str = ""
    instructions: str = ""
    agent: str = ""
    branch: str = ""
    conversation: bool = True


# -- where it starts -------------------------------------------------------------------------------------------------


def point_at(house: House, task_id: str, named: str) -> Point:
    """Gives the point of the checkpoint that `named` means."""
    with house.database.read() as connection:
        owner = owner_of(connection, task_id)
        found = find_checkpoint(connection, named, task=owner.task, plan=owner.plan)
        # A stage of the plan is bound to the conversation of its supervisor, which is not the task's.
        return Point(found, label_of(owner, found), found.message_id if found.task_id else None)


def point_at_time(house: House, task_id: str, at: datetime) -> Point:
    """Gives the point of the newest checkpoint that was there at a time; raises `NotFound` if none was."""
    with house.database.read() as connection:
        owner = owner_of(connection, task_id)
        found = checkpoints.newest_at(connection, task_id, at)
        if found is None:
            raise NotFound(
                f"T{owner.task.number} had no checkpoint at {at.isoformat(timespec='seconds')}",
                hint=f"look: holdfast task checkpoints T{owner.task.number}",
            )
        return Point(found, label_of(owner, found), found.message_id)


def point_at_message(house: House, task_id: str, message: str) -> Point:
    """Gives the point of a message: the conversation up to it, and the files of the newest checkpoint by then.

    A tool call is not cut from its result: then the conversation goes up to the message before the call.
    """
    with house.database.read() as connection:
        owner = owner_of(connection, task_id)
        of = Conversation(owner.plan.id, task_id)
        kept = to_message(message)(connection, of, conversations.head(connection, of)).kept
        found = checkpoint_by(connection, task_id, kept)
        if found is None:
            raise NotFound(f"T{owner.task.number} had no checkpoint by that message", hint="fork it --at a checkpoint")
        return Point(found, label_of(owner, found), kept.id if kept else None)


def point_before(house: House, project: Project, number: int) -> tuple[Step, Point]:
    """Gives a step, or the one whose work it restores, and the point where that began."""
    vault = house.workspaces.vault(project)
    with house.database.read() as connection:
        step = steps.get(connection, project.id, number)
        step = steps.get_by_id(connection, origin(step))
        owner = owner_of(connection, step.task_id)
        own = [each for each in checkpoints.of_plan(connection, step.plan_id) if each.task_id == step.task_id]
    found = began_at(own, step, vault.tree_of(step.commit_before))
    if found is None:
        hint = f"see what is there to start from: holdfast task checkpoints T{owner.task.number}"
        raise NotFound(f"the checkpoint where step {number} began is gone", hint=hint)
    return step, Point(found, label_of(owner, found), found.message_id)


# -- making it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """The rows of a fork to come, and what it is made of."""

    view: TaskView
    plan: Plan
    phase: Phase
    task: Task
    context: str


def ready(house: House, task_id: str, point: Point, wanted: Wanted, *, again: Step | None = None) -> Ready:
    """Gives the fork that `fork` would make; raises what it would, and writes nothing."""
    view = task_verbs.show(house, task_id)
    refuse_deleted(view.plan)
    context = ""
    if again is not None:
        original, context = as_asked(view.task, again)
        view, wanted = replace(view, task=original), replace(wanted, name=original.title)
    plan_verbs.refuse_foreign(house, view.project)
    plan, phase, task = rows_of(view, point, wanted)
    if again is not None:
        plan = replace(plan, title=f"Step {again.number} again: {task.title}")
    plan_verbs.refuse_missing_agents(house, view.project, (task,))
    verify_kept(house.database, house.places.blobs, point.checkpoint)
    if wanted.branch:
        check_branch(wanted.branch)
        if house.workspaces.vault(view.project).head(wanted.branch) is not None:
            raise IllegalState(
                f"there is a branch {wanted.branch} already", hint="choose another name", code="branch_exists"
            )
    return Ready(view, plan, phase, task, context)


def fork(house: House, task_id: str, point: Point, wanted: Wanted | None = None, *, again: Step | None = None) -> Task:
    """Makes the fork and gives its task, which has not begun; `plans.execute` of its plan begins it.

    With `again` it does what was asked of the task when that step of it ran.

    All its rows are one transaction, and what git holds of it is there before: a kill leaves no fork or a whole one.
    Raises `UsageError` for what an original cannot be forked to, `Unavailable` for a missing agent, and `Corruption` if
    an ignored file that the checkpoint keeps is damaged.
    """
    wanted = wanted or Wanted()
    made = ready(house, task_id, point, wanted, again=again)
    plan, task = made.plan, made.task
    first = make_checkpoint(
        house.workspaces.vault(made.view.project),
        1,
        plan=plan,
        task=task,
        step_id=None,
        kind=CheckpointKind.INITIAL,
        name=f"fork of {point.label}",
        tree=point.checkpoint.tree,
        # What was not committed is, on the fork's branch: the checkpoint's own commit has it.
        head_commit=point.checkpoint.commit,
        state=point.checkpoint.state,
    )
    first = like(first, point.checkpoint)
    failpoint("app.fork.kept")
    with house.database.transaction() as connection:
        plan, _, (task,) = plans.add(connection, plan, [made.phase], [task], actor=house.actor)
        begin_at(connection, house.actor, task, first, point, conversation=wanted.conversation, context=made.context)
        record(connection, house.actor, made.view, task, plan, point)
        failpoint("app.fork.before_commit")
    failpoint("app.fork.stored")
    return task


def replay(house: House, project: Project, number: int) -> Task:
    """Makes a fork that does again what a step did: from where it began, by the same agent, as it was asked then."""
    step, point = point_before(house, project, number)
    agent = str(step.agent_config.get("agent", ""))
    return fork(house, step.task_id, point, Wanted(agent=agent), again=step)


def rows_of(view: TaskView, point: Point, wanted: Wanted) -> tuple[Plan, Phase, Task]:
    """Gives the rows of a fork: its plan with its one phase and one task."""
    original = view.task
    if original.executor is Executor.COMMAND and (wanted.agent or wanted.instructions):
        raise UsageError(f"T{original.number} runs a command: it has neither an agent nor instructions to change")
    title = wanted.name.strip() or f"{original.title} (fork)"
    plan, phase = races.race_rows(view, point.checkpoint.commit)
    name = f"fork-{view.plan.slug[:40]}-t{original.number}"
    variables = cast("Mapping[str, str]", point.checkpoint.state.get("variables", view.plan.variables))
    plan = replace(
        plan,
        slug=name,
        branch=f"holdfast/{name}",
        title=f"Fork of {point.label}: {title}",
        variables=variables,
    )
    task = races.contestant(original, replace(phase, title="Fork"), 0, wanted.agent or original.agent)
    task = replace(
        task,
        key=slug(title, ascii_only=True) or FORK,
        title=title,
        instructions=wanted.instructions or original.instructions,
        branch=wanted.branch,
        head_checkpoint=1,
        fork_point=point.label,
    )
    return plan, replace(phase, title="Fork"), task


def begin_at(
    connection: Connection,
    actor: str,
    task: Task,
    first: Checkpoint,
    point: Point,
    *,
    conversation: bool,
    context: str = "",
) -> None:
    """Gives a fork its conversation, which shares the original's up to the point, and its first checkpoint."""
    of = Conversation(task.plan_id, task.id)
    if conversation and task.executor is Executor.AGENT:
        conversations.put(connection, of, Head(), point.message_id, context)
        snapshots.bind(connection, of, name=f"T{task.number}@1", actor=actor)
        first = replace(first, message_id=point.message_id)
    checkpoints.add(connection, first, actor=actor)
    blobs.attach(connection, first.id, blobs.attached(connection, point.checkpoint.id))


def record(connection: Connection, actor: str, view: TaskView, task: Task, plan: Plan, point: Point) -> None:
    """Writes the fork into the original's history and among the operations."""
    operation = operations.begin(
        connection,
        id=clock.new_id(),
        kind=FORK,
        actor=actor,
        intent={
            "checkpoint": point.checkpoint.id,
            "message": point.message_id,
            "fork_plan": plan.id,
            "fork_task": task.id,
        },
        plan_id=view.plan.id,
        task_id=view.task.id,
    )
    told: dict[str, object] = {"at": point.label, "fork": f"T{task.number}", "plan": f"P{plan.number}"}
    operations.finish(connection, operation.id, outcome=told)
    events.add(
        connection,
        EventType.TASK,
        "forked",
        actor,
        project_id=view.project.id,
        plan_id=view.plan.id,
        phase_id=view.phase.id,
        task_id=view.task.id,
        data={**told, "name": task.title, "operation": operation.id},
    )
