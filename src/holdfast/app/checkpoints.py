"""Views of a task's checkpoints, and a git branch made of one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holdfast.app import plans as plan_verbs
from holdfast.app.targets import find_checkpoint
from holdfast.app.tasks import compare
from holdfast.app.wire import House
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.history import EventType
from holdfast.domain.own_git import OWN_GIT, own_git_of, short
from holdfast.domain.plan import Plan, Project
from holdfast.domain.references import label
from holdfast.domain.task import Task
from holdfast.errors import NotFound
from holdfast.store import Connection, Page, checkpoints, events, plans, projects, tasks
from holdfast.vcs import Diff, may_export, own_prefix


@dataclass(frozen=True, slots=True)
class Listed:
    """One checkpoint of a list. `change` is what it differs in from the one before it, where that was asked for."""

    checkpoint: Checkpoint
    label: str
    head: bool
    change: Diff | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """The task that checkpoints belong to, and what surrounds it."""

    task: Task
    plan: Plan
    project: Project


@dataclass(frozen=True, slots=True)
class Compared:
    """What differs between two checkpoints; `before` is empty where the first one is compared with its commit."""

    before: str
    after: str
    code: Diff


def owner_of(connection: Connection, task_id: str) -> Owner:
    task = tasks.get(connection, task_id)
    plan = plans.get(connection, task.plan_id)
    return Owner(task, plan, projects.get(connection, plan.project_id))


def list_(
    house: House, task_id: str, *, limit: int = 50, cursor: str = "", with_diff: bool = False
) -> tuple[Task, Page[Listed]]:
    """Gives a page of a task's checkpoints, newest first; with `with_diff` each with what it changed."""
    with house.database.read() as connection:
        owner = owner_of(connection, task_id)
        page = checkpoints.list_(connection, task_id=task_id, limit=limit, cursor=cursor or None)
        starts = {each.id: _start_of(connection, each) for each in page.items} if with_diff else {}
    listed = tuple(
        Listed(
            checkpoint=each,
            label=label(f"T{owner.task.number}", each),
            head=each.number == owner.task.head_checkpoint,
            change=compare(house, owner.project, starts[each.id][1], each.commit) if with_diff else None,
        )
        for each in page.items
    )
    return owner.task, Page(listed, page.next_cursor)


def of_plan(house: House, plan_id: str, *, limit: int = 50, cursor: str = "") -> tuple[Plan, Page[Listed]]:
    """Gives a page of the checkpoints of a plan, its stages among them, and of its tasks, newest first."""
    with house.database.read() as connection:
        plan = plans.get(connection, plan_id)
        own = {task.id: task for task in plans.tasks_of(connection, plan_id)}
        page = checkpoints.list_(connection, plan_id=plan_id, limit=limit, cursor=cursor or None)
    listed: list[Listed] = []
    for each in page.items:
        task = own.get(each.task_id or "")
        head = task is not None and each.number == task.head_checkpoint
        name = f"T{task.number}" if task else f"P{plan.number}"
        listed.append(Listed(each, f"{name}@{each.number}", head))
    return plan, Page(tuple(listed), page.next_cursor)


def find(house: House, task_id: str, named: str) -> Listed:
    """Gives the checkpoint that `named` means to a task; raises as `find_checkpoint` does."""
    with house.database.read() as connection:
        owner = owner_of(connection, task_id)
        found = find_checkpoint(connection, named, task=owner.task, plan=owner.plan)
    head = found.task_id == task_id and found.number == owner.task.head_checkpoint
    return Listed(found, label_of(owner, found), head)


def compared(house: House, task_id: str, named: str, against: str = "") -> Compared:
    """Gives what changed from checkpoint `against` (default: the one before it) to the checkpoint `named`."""
    with house.database.read() as connection:
        owner = owner_of(connection, task_id)
        after = find_checkpoint(connection, named, task=owner.task, plan=owner.plan)
        if against:
            found = find_checkpoint(connection, against, task=owner.task, plan=owner.plan)
            before, commit = label_of(owner, found), found.commit
        else:
            earlier, commit = _start_of(connection, after)
            before = label_of(owner, earlier) if earlier else ""
    return Compared(before, label_of(owner, after), compare(house, owner.project, commit, after.commit))


def beginning_of(connection: Connection, task: Task) -> Checkpoint | None:
    """Gives the checkpoint at which a task began, None for one that has not; of several that which counts now."""
    own = [each for each in checkpoints.of_plan(connection, task.plan_id) if each.task_id == task.id]
    began = [each for each in own if each.kind is CheckpointKind.INITIAL and not each.superseded]
    return began[-1] if began else None


def label_of(owner: Owner, checkpoint: Checkpoint) -> str:
    return label(f"P{owner.plan.number}" if checkpoint.task_id is None else f"T{owner.task.number}", checkpoint)


def _start_of(connection: Connection, checkpoint: Checkpoint) -> tuple[Checkpoint | None, str]:
    """Gives the checkpoint before one and its commit; before the first one there is only the branch's own commit."""
    earlier = checkpoints.before_it(connection, checkpoint)
    return earlier, earlier.commit if earlier else checkpoint.head_commit


def own_branches(checkpoint: Checkpoint) -> dict[str, str]:
    """Gives what the agent's own git named at a checkpoint, where it was not as Holdfast made it: names and commits."""
    noted = own_git_of(checkpoint.details.get(OWN_GIT))
    return {short(name): commit for name, commit in noted.refs.items()} if noted else {}


def may_branch(house: House, task_id: str, checkpoint: Checkpoint, name: str, own: str = "") -> str:
    """Gives the commit that `branch` would make a branch of, or raises what it would; nothing is written."""
    with house.database.read() as connection:
        owner = owner_of(connection, task_id)
    plan_verbs.refuse_foreign(house, owner.project)
    commit = _own_commit(checkpoint, own) if own else checkpoint.commit
    may_export(Path(owner.project.path), name, commit)
    return commit


def _own_commit(checkpoint: Checkpoint, own: str) -> str:
    there = own_branches(checkpoint)
    if own not in there:
        told = f"its own git had {', '.join(sorted(there)) or 'nothing of its own'} then"
        raise NotFound(f"the agent had no branch {own}", hint=told)
    return there[own]


def branch(house: House, task_id: str, named: str, name: str, own: str = "") -> str:
    """Makes branch `name` of the user's repository at a checkpoint's commit, and nothing else there; gives the commit.

    With `own` it is the commit that the agent's own branch of that name had then. Raises `NotFound` if there was none,
    `UsageError` for a name that no branch can have, and `IllegalState` where another branch has it.
    """
    with house.database.read() as connection:
        owner = owner_of(connection, task_id)
        checkpoint = find_checkpoint(connection, named, task=owner.task, plan=owner.plan)
    plan_verbs.refuse_foreign(house, owner.project)
    ref = f"{own_prefix(checkpoint.ref)}/{_own_commit(checkpoint, own)}" if own else checkpoint.ref
    commit = house.workspaces.vault(owner.project).export_commit(Path(owner.project.path), ref, name)
    with house.database.transaction() as connection:
        events.add(
            connection,
            EventType.CHECKPOINT,
            "branch",
            house.actor,
            project_id=owner.project.id,
            plan_id=owner.plan.id,
            task_id=task_id,
            data={"number": checkpoint.number, "name": name, "commit": commit},
        )
    return commit
