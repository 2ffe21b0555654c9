"""Going back: a task to a checkpoint, a plan to a checkpoint, a project's steps to a step; and what that would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from holdfast import clock
from holdfast.app.wire import House
from holdfast.domain import conversation
from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.conversation import Conversation
from holdfast.domain.plan import Plan, Project, refuse_deleted
from holdfast.domain.restore import (
    BranchMove,
    Cut,
    FilesMove,
    Picture,
    Preserve,
    Restoration,
    began_at,
    cut_at,
    cut_at_step,
    decide,
    ended_at,
    going_on,
    merged,
    of_tasks,
    origin,
    own_branch,
    own_worktree,
)
from holdfast.domain.step import Step
from holdfast.domain.task import Task
from holdfast.engine import inquiries, restoring
from holdfast.engine.restoring import Continued, Intent
from holdfast.engine.workspace import AUTHOR
from holdfast.errors import IllegalState, StepError, UsageError
from holdfast.store import (
    Connection,
    Operation,
    checkpoints,
    conversations,
    events,
    messages,
    operations,
    plans,
    projects,
    steps,
    tasks,
)
from holdfast.vcs import Diff, DiffLimits, Vault, diff, may_export, published

REWIND = "rewind"
ROLLBACK = "rollback"
STEP_ROLLBACK = "step_rollback"
# So much of what a person adds is told where the operation is listed.
TOLD_CHARACTERS = 80
CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class How:
    """What a person chose about going back. `files`: only these paths, and nothing but files.

    Of a whole plan: `talk` takes the conversation with its supervisor back too, and `context` is added to it then, for
    the agents to come as well.
    """

    preserve: Preserve = Preserve.CREATE_BRANCH
    branch_name: str = ""
    files: tuple[str, ...] = ()
    talk: bool = False
    context: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What going back would do: nothing of it is done.

    `left` are the commits that the branches would leave behind, `files` what would differ from what is committed now,
    a worktree each, and `messages` how many messages the conversations would.
    """

    restoration: Restoration
    rolled_back: tuple[Step, ...]
    restored: tuple[Step, ...]
    tasks: tuple[Task, ...]
    left: tuple[str, ...]
    files: tuple[Diff, ...]
    messages: int


@dataclass(frozen=True, slots=True)
class Decided:
    """Where to go back to, and all that follows from it."""

    kind: str
    seen: Picture
    project: Project
    task: Task | None
    intent: Intent


# -- verbs -------------------------------------------------------------------------------------------------------------


def rewind_task(
    house: House, task_id: str, checkpoint: Checkpoint, how: How | None = None, *, continued: Continued | None = None
) -> Operation:
    """Puts a task back to one of its checkpoints: files, branch, conversation and state; gives the operation, ended.

    On a branch that tasks share, what came after the checkpoint goes back with it. With `continued` it is ready to run
    again then. Raises `IllegalState` while the plan runs, or if somebody else was quicker.
    """

    return _carry_out(
        house, lambda connection: _rewind(house, connection, task_id, checkpoint, how or How(), continued)
    )


def rollback_plan(
    house: House, plan_id: str, checkpoint: Checkpoint, how: How | None = None, only: Sequence[str] = ()
) -> Operation:
    """Puts a whole plan back to a checkpoint of it or of one of its tasks, or (`only`, ids) just some of its tasks."""
    return _carry_out(house, lambda connection: _rollback(house, connection, plan_id, checkpoint, how or How(), only))


def rollback_step(house: House, project: Project, number: int, how: How | None = None, *, keep: bool) -> Operation:
    """Puts a branch back to before step `number` (`keep`: to after it); that step and the later ones are rolled back.

    Commits that a remote has already are taken back by a commit of their own.
    """
    return _carry_out(house, lambda connection: _unstep(house, connection, project, number, how or How(), keep))


def rollback_phase(house: House, plan_id: str, phase_id: str, how: How | None = None) -> Operation | None:
    """Puts a plan back to before a phase of it began; None, and nothing is done, where nothing of it has run."""
    with house.database.read() as connection:
        if _first_step(picture(house, connection, plan_id), phase_id) is None:
            return None
    return _carry_out(house, lambda connection: _unphase(house, connection, plan_id, phase_id, how or How()))


def preview_rewind(
    house: House, task_id: str, checkpoint: Checkpoint, how: How | None = None, *, continued: Continued | None = None
) -> Preview:
    return _preview(house, lambda connection: _rewind(house, connection, task_id, checkpoint, how or How(), continued))


def preview_rollback(
    house: House, plan_id: str, checkpoint: Checkpoint, how: How | None = None, only: Sequence[str] = ()
) -> Preview:
    return _preview(house, lambda connection: _rollback(house, connection, plan_id, checkpoint, how or How(), only))


def preview_phase(house: House, plan_id: str, phase_id: str, how: How | None = None) -> Preview | None:
    with house.database.read() as connection:
        if _first_step(picture(house, connection, plan_id), phase_id) is None:
            return None
    return _preview(house, lambda connection: _unphase(house, connection, plan_id, phase_id, how or How()))


def preview_step(house: House, project: Project, number: int, how: How | None = None, *, keep: bool) -> Preview:
    return _preview(house, lambda connection: _unstep(house, connection, project, number, how or How(), keep))


def _carry_out(house: House, deciding: Callable[[Connection], Decided]) -> Operation:
    """Decides, begins and finishes. It is decided outside the writing transaction, since git is asked a lot.

    Every change of a plan is an event: where one came between, it is decided anew. Where somebody else went back
    meanwhile, it is refused: whoever asked for it has not seen that.
    """
    first: Operation | None = None
    while True:
        # Of one moment: an event that came while it was decided would else be counted as seen.
        with house.database.read(snapshot=True) as connection:
            decided = deciding(connection)
            plan = decided.seen.plan
            seen = events.count(connection, plan.id)
            first = first or operations.newest_restoration(connection, plan.id)
        restoring.refuse_running(plan)
        restoring.finish_open(house, plan.id)
        if decided.intent.branch_name:
            restoring.check_name(house.workspaces.vault(decided.project), decided.intent.branch_name)
        with house.database.transaction() as connection:
            plan = plans.lock(connection, plan.id)
            restoring.refuse_restoring(connection, plan)
            _refuse_other(connection, plan, first)
            if events.count(connection, plan.id) != seen:
                continue
            begun = restoring.begin(
                connection,
                plan,
                decided.intent,
                kind=decided.kind,
                actor=house.actor,
                task_id=decided.task.id if decided.task else None,
            )
        return restoring.finish(house, begun.id)


def _refuse_other(connection: Connection, plan: Plan, before: Operation | None) -> None:
    """Raises `IllegalState` if somebody went back with the plan after `before`, or just carried that through."""
    last = operations.newest_restoration(connection, plan.id)
    if last is None or (before is not None and (last.id, last.status) == (before.id, before.status)):
        return
    all_tasks = plans.tasks_of(connection, plan.id)
    heads = [f"T{task.number}@{task.head_checkpoint}" for task in all_tasks if task.head_checkpoint]
    raise IllegalState(
        f"a {last.kind} of P{plan.number} by {last.actor} came first; its tasks are at {', '.join(heads)} now",
        hint=f"look: holdfast status P{plan.number}; repeat it only if that is not what you wanted",
        code="changed_meanwhile",
    )


# -- deciding ----------------------------------------------------------------------------------------------------------


def picture(house: House, connection: Connection, plan_id: str) -> Picture:
    """Gives a plan as it stands, with the commits of its branches."""
    plan = plans.get(connection, plan_id)
    vault = house.workspaces.vault(projects.get(connection, plan.project_id))
    all_tasks = plans.tasks_of(connection, plan_id)
    branches = {plan.branch, *(task.branch for task in all_tasks if task.branch)}
    heads = {branch: head for branch in branches if (head := vault.head(branch)) is not None}
    ends = {task.id: conversations.head(connection, Conversation(plan_id, task.id)).message_id for task in all_tasks}
    return Picture(
        plan=plan,
        phases=plans.phases_of(connection, plan_id),
        tasks=all_tasks,
        steps=steps.of_plan(connection, plan_id),
        checkpoints=checkpoints.of_plan(connection, plan_id),
        heads=heads,
        messages=ends,
        head_message_id=conversations.head(connection, Conversation(plan_id, None)).message_id,
        apart=frozenset(task.id for task in all_tasks if task.contestant_of is not None),
    )


def _rewind(
    house: House,
    connection: Connection,
    task_id: str,
    checkpoint: Checkpoint,
    how: How,
    continued: Continued | None = None,
) -> Decided:
    task = tasks.get(connection, task_id)
    checkpoints.get_by_id(connection, checkpoint.id)  # it may have been taken away since it was looked up
    if checkpoint.task_id != task.id:
        raise UsageError(
            f"the checkpoint {checkpoint.name or checkpoint.number} is not one of T{task.number}",
            hint="go back with its plan: holdfast plan rollback",
        )
    seen = picture(house, connection, task.plan_id)
    branch = task.branch or seen.plan.branch
    _refuse_unborn(seen, f"T{task.number}", branch)
    told: dict[str, object] = {"task": task.key, "checkpoint": checkpoint.number, "was": task.head_checkpoint}
    cut = cut_at(seen, checkpoint, branch)
    decided = _decided(house, connection, REWIND, seen, cut, how, told, task=task, checkpoint=checkpoint)
    return decided if continued is None else _going_on(decided, continued)


def _going_on(decided: Decided, continued: Continued) -> Decided:
    assert decided.task is not None
    restoration = going_on(decided.seen, decided.intent.restoration, decided.task, continued.context)
    told = {**(decided.intent.told or {}), "mode": continued.mode}
    intent = replace(decided.intent, restoration=restoration, told=told, continued=continued)
    return replace(decided, kind=CONTINUE, intent=intent)


def _refuse_unborn(seen: Picture, who: str, branch: str) -> None:
    if branch in seen.heads:
        return
    if any(step.branch == branch and step.commit_after for step in seen.steps):
        raise StepError(
            f"the branch {branch} is not in the vault: somebody deleted it there",
            hint="see what else is gone: holdfast db check",
            code="branch_missing",
        )
    raise IllegalState(f"{who} has not run yet: there is nothing to go back to")


def _rollback(
    house: House, connection: Connection, plan_id: str, checkpoint: Checkpoint, how: How, only: Sequence[str]
) -> Decided:
    if only and how.files:
        raise UsageError("files and tasks are taken back one after the other", hint="leave out --files or --tasks")
    seen = picture(house, connection, plan_id)
    plan = seen.plan
    checkpoints.get_by_id(connection, checkpoint.id)
    owner = seen.task(checkpoint.task_id) if checkpoint.task_id else None
    label = f"T{owner.number}@{checkpoint.number}" if owner else f"P{plan.number}@{checkpoint.number}"
    if owner is not None and own_branch(seen, owner):
        raise UsageError(
            f"{label} is on the branch of a parallel task, which is not the plan's",
            hint=f"go back with that task: holdfast task rewind T{owner.number} --to {checkpoint.number}",
        )
    _refuse_unborn(seen, f"P{plan.number}", plan.branch)
    variables = cast("dict[str, str] | None", checkpoint.state.get("variables"))
    told: dict[str, object] = {"checkpoint": label}
    cut = cut_at(seen, checkpoint, plan.branch)
    decided = _decided(house, connection, ROLLBACK, seen, cut, how, told, variables=variables)
    if not only:
        return decided
    told = {**told, "tasks": [f"T{seen.task(each).number}" for each in only]}
    restoration = _only(seen, decided.intent.restoration, only)
    return replace(decided, intent=replace(decided.intent, restoration=restoration, told=told))


def _only(seen: Picture, whole: Restoration, only: Sequence[str]) -> Restoration:
    """Gives the part of a rollback that concerns some tasks' states; the code and the plan's variables stay."""
    found = of_tasks(seen, whole, only)
    still = [seen.task(each) for each in only if each not in {move.task_id for move in found.tasks}]
    if still:
        names = ", ".join(f"T{task.number}" for task in still)
        raise IllegalState(
            f"nothing of {names} is to be taken back: it has not been done since then",
            hint="name tasks that have run after that checkpoint: holdfast steps",
        )
    return found


def _unstep(house: House, connection: Connection, project: Project, number: int, how: How, keep: bool) -> Decided:
    step = steps.get(connection, project.id, number)
    if not step.active:
        raise IllegalState(f"step {number} is rolled back already", hint="look: holdfast steps")
    if step.ended_at is None:
        raise IllegalState(f"step {number} still runs", hint="pause the plan first: holdfast plan pause")
    seen = picture(house, connection, step.plan_id)
    vault = house.workspaces.vault(project)
    commit = (step.commit_after if keep else step.commit_before) or step.commit_before
    cut = cut_at_step(seen, step, vault.tree_of(commit), keep=keep)
    task = seen.task(step.task_id)
    told: dict[str, object] = {"step": number, "keep": keep}
    own = [each for each in seen.checkpoints if each.task_id == task.id]
    head = ended_at(own, step) if keep else began_at(own, seen.step(origin(step)) or step, cut.tree)
    if head is not None:
        cut = replace(cut, tree=head.tree, kept=head.id)
    return _decided(house, connection, STEP_ROLLBACK, seen, cut, how, told, task=task, checkpoint=head)


def _first_step(seen: Picture, phase_id: str) -> Step | None:
    """Gives the first active step of a phase or of a later one."""
    position = next(phase.position for phase in seen.phases if phase.id == phase_id)
    later = {task.id for task in seen.tasks if seen.phase(task).position >= position and task.id not in seen.apart}
    return next((step for step in seen.steps if step.active and step.task_id in later), None)


def _unphase(house: House, connection: Connection, plan_id: str, phase_id: str, how: How) -> Decided:
    seen = picture(house, connection, plan_id)
    first = _first_step(seen, phase_id)
    if first is None:
        raise IllegalState("nothing of that phase has run")
    project = projects.get(connection, seen.plan.project_id)
    on_branch = [step for step in seen.steps if step.branch == seen.plan.branch and step.active]
    before = [step.id for step in on_branch if step.number < first.number]
    tree = house.workspaces.vault(project).tree_of(first.commit_before)
    cut = Cut(seen.plan.branch, first.commit_before, tree, before[-1] if before else None, first.started_at)
    title = next(phase.title for phase in seen.phases if phase.id == phase_id)
    return _decided(house, connection, ROLLBACK, seen, cut, how, {"before the phase": title})


def _decided(
    house: House,
    connection: Connection,
    kind: str,
    seen: Picture,
    cut: Cut,
    how: How,
    told: dict[str, object],
    *,
    task: Task | None = None,
    checkpoint: Checkpoint | None = None,
    variables: dict[str, str] | None = None,
) -> Decided:
    refuse_deleted(seen.plan)
    project = projects.get(connection, seen.plan.project_id)
    vault = house.workspaces.vault(project)
    if how.branch_name and how.preserve is not Preserve.CREATE_BRANCH:
        hint = f"leave out --branch-name, or say --preserve {Preserve.CREATE_BRANCH}"
        raise UsageError(f"with {how.preserve} there is no branch that could have a name", hint=hint)
    if how.files:
        told = {**told, "files": list(how.files)}
        restoration = _files_only(vault, seen, cut, task, how.files)
    else:
        restoration = decide(
            seen,
            cut,
            heads=_heads(vault, project, seen, cut, task),
            contained=lambda commit: vault.is_ancestor(commit, cut.commit),
            new_id=clock.new_id,
            task=task,
            checkpoint=checkpoint,
            variables=variables,
        )
        restoration = _with_plan_files(vault, seen, cut, restoration)
    if how.talk or how.context:
        inquiries.refuse_asked(connection, seen.plan)
        restoration = _with_talk(connection, restoration, cut, how)
        told = {**told, "context": in_short(how.context)}
    intent = Intent(restoration, how.preserve, how.branch_name, told, context=how.context)
    return Decided(kind, seen, project, task, intent)


def _with_plan_files(vault: Vault, seen: Picture, cut: Cut, restoration: Restoration) -> Restoration:
    """Gives the restoration with the files of the plan's worktree, where its branch moves with that of a task."""
    moved = [each.after for each in restoration.branches if each.branch == seen.plan.branch != cut.branch]
    files = tuple(FilesMove(None, seen.plan.branch, vault.tree_of(commit)) for commit in moved)
    return replace(restoration, files=(*restoration.files, *files))


def in_short(context: str) -> str:
    """Gives what a list of operations says of what a person added."""
    line = " ".join(context.split())
    return line if len(line) <= TOLD_CHARACTERS else f"{line[:TOLD_CHARACTERS]}…"


def _with_talk(connection: Connection, restoration: Restoration, cut: Cut, how: How) -> Restoration:
    """Gives the restoration with the supervisor's conversation as it was then, and with what a person adds."""
    if restoration.plan is None:
        return restoration
    after = restoration.plan.after
    if how.talk:
        path = messages.path(connection, after.head_message_id)
        made = conversation.cut(path, lambda message, _: message.at <= cut.at)
        head = made.kept.id if made and made.kept else None
        # What was added since then is left behind with it.
        after = replace(after, head_message_id=head, context="" if head != after.head_message_id else after.context)
    after = replace(after, context=how.context or after.context)
    return replace(restoration, plan=replace(restoration.plan, after=after))


def _heads(vault: Vault, project: Project, seen: Picture, cut: Cut, task: Task | None) -> dict[str, str]:
    """Gives the commits that branches get: the cut's, and the plan's without a parallel task that was merged into it.

    Where a remote has what would be left behind, it is taken back by a commit: what others have is not rewritten.
    """
    heads = {cut.branch: cut.commit}
    if task is not None and merged(seen, task) and cut.branch != seen.plan.branch:
        heads[seen.plan.branch] = _unmerged(vault, seen, task)
    return {branch: _unpublished(vault, project, seen.heads[branch], commit) for branch, commit in heads.items()}


def _unpublished(vault: Vault, project: Project, head: str, target: str) -> str:
    left = vault.commits_between(target, head)
    # Who has a later one has the first one too.
    if not left or not published(Path(project.path), left[-1]):
        return target
    message = f"Go back to {target[:12]}\n\nTakes back {len(left)} commits that a remote has already.\n"
    return vault.write_commit(vault.tree_of(target), (head,), message, author=AUTHOR, time=clock.now())


def _unmerged(vault: Vault, seen: Picture, task: Task) -> str:
    """Gives the plan's branch as it was before a task was merged, with the other tasks of its phase merged again."""
    head = seen.heads[seen.plan.branch]
    made = [
        str(step.commit_after)
        for step in seen.steps
        if step.task_id == task.id and step.commit_after not in (None, step.commit_before)
    ]
    merged_in = [commit for commit in made if vault.is_ancestor(commit, head)]
    if not merged_in:
        return head
    base = vault.before(head, merged_in[0]) or seen.plan.base_commit
    for other in seen.tasks:
        if other.phase_id != task.phase_id or other.id == task.id or not merged(seen, other):
            continue
        last = [step for step in seen.steps if step.task_id == other.id and step.active][-1]
        theirs = last.commit_after or last.commit_before
        message = f"Merge T{other.number} {other.title}\n\nHoldfast-Step: {last.number}\n"
        result = vault.merge(base, theirs, message, AUTHOR, last.ended_at or last.started_at)
        if result.commit is None:
            raise IllegalState(
                f"T{other.number} does not merge without T{task.number}: {', '.join(result.conflicts[:5])}",
                hint=f"go back with the whole plan: holdfast plan rollback P{seen.plan.number}",
                code="merge_conflict",
            )
        base = result.commit
    return base


def _files_only(vault: Vault, seen: Picture, cut: Cut, task: Task | None, paths: tuple[str, ...]) -> Restoration:
    """Gives the restoration of some files alone: committed on the branch, so that what runs next has them."""
    head = seen.heads[cut.branch]
    tree = vault.graft(vault.tree_of(head), cut.tree, paths)
    moves: tuple[BranchMove, ...] = ()
    if tree != vault.tree_of(head):
        message = f"Restore {', '.join(paths[:5])} from {cut.commit[:12]}\n"
        commit = vault.write_commit(tree, (head,), message, author=AUTHOR, time=clock.now())
        moves = (BranchMove(cut.branch, head, commit),)
    files = FilesMove(own_worktree(seen, task), cut.branch, cut.tree, paths, kept=cut.kept)
    return Restoration(seen.plan.id, moves, (files,))


def under_way(house: House, plan_id: str | None = None) -> tuple[str, ...]:
    """Says of everything that was begun and has not ended, going back or handing over, what carries it through."""
    begun = restoring.cut_off(house, plan_id)
    with house.database.read() as connection:
        named = [(each, f"P{plans.get(connection, each.plan_id or '').number}") for each in begun]
    return tuple(
        f"a {each.kind.replace('_', ' ')} of {name} by {each.actor} has begun and not ended; if it was cut off, the "
        f"next `holdfast undo`, going back or `holdfast resume {name}` carries it through"
        for each, name in named
    )


# -- looking -----------------------------------------------------------------------------------------------------------


def _preview(house: House, deciding: Callable[[Connection], Decided]) -> Preview:
    with house.database.read() as connection:
        decided = deciding(connection)
        restoring.refuse_running(decided.seen.plan)
        seen, restoration = decided.seen, decided.intent.restoration
        lengths = [
            conversations.length(connection, end)
            for move in restoration.tasks
            for end in (move.before.head_message_id, move.after.head_message_id)
        ]
        if restoration.plan is not None:
            ends = (restoration.plan.before.head_message_id, restoration.plan.after.head_message_id)
            lengths += [conversations.length(connection, end) for end in ends]
    vault = house.workspaces.vault(decided.project)
    if name := decided.intent.branch_name:
        restoring.check_name(vault, name)
        if decided.project.git:
            may_export(Path(decided.project.path), name)
    by_id = {step.id: step for step in seen.steps}
    limits = DiffLimits(house.settings.diff_max_files, house.settings.diff_max_lines)
    return Preview(
        restoration=restoration,
        rolled_back=tuple(by_id[each] for each in restoration.rolled_back),
        restored=tuple(by_id[copy.of] for copy in restoration.restored),
        tasks=tuple(seen.task(move.task_id) for move in restoration.tasks),
        left=tuple(
            dict.fromkeys(
                commit for move in restoration.branches for commit in vault.commits_between(move.after, move.before)
            )
        ),
        files=tuple(
            diff(vault, seen.heads[each.branch], _target(vault, seen, each), limits) for each in restoration.files
        ),
        messages=sum(lengths[::2]) - sum(lengths[1::2]),
    )


def _target(vault: Vault, seen: Picture, files: FilesMove) -> str:
    if not files.paths:
        return files.after
    return vault.graft(vault.tree_of(seen.heads[files.branch]), files.after, files.paths)
