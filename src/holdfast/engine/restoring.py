"""Goes back: carries a restoration out, once and whole, whoever is killed meanwhile.

The intent is written first, with all that will be moved. Then come, each looked for before it is done: the `pre_rewind`
checkpoints, what preserves the work that is left behind, the files, the branches, and last the rows, in the transaction
that ends the operation. Cut off anywhere, `finish` carries it through; it holds the worktrees, so two do not. What
makes going back impossible (a branch of that name, a corrupt object) puts the files back and ends the operation failed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast import clock
from holdfast.domain.checkpoint import CheckpointKind
from holdfast.domain.conversation import Conversation
from holdfast.domain.history import EventType
from holdfast.domain.own_git import OWN_GIT, fresh, own_git_of
from holdfast.domain.plan import Plan, Project
from holdfast.domain.restore import BranchMove, FilesMove, Preserve, Restoration
from holdfast.domain.task import Task
from holdfast.domain.transitions import PLAN_EXECUTING, TASK_DONE, PhaseStatus, TaskStatus
from holdfast.engine import handover, inquiries
from holdfast.engine.kept import keep, noted, restore_kept, verify_kept
from holdfast.engine.parts import Parts
from holdfast.engine.workspace import AUTHOR, Place, make_checkpoint
from holdfast.errors import Corruption, IllegalState, StepError, UserError
from holdfast.failpoints import failpoint
from holdfast.store import (
    Connection,
    Operation,
    OperationStatus,
    approvals,
    blobs,
    checkpoints,
    conversations,
    events,
    operations,
    plans,
    projects,
    restorations,
    steps,
    tasks,
)
from holdfast.vcs import Vault, Worktree, check_branch

if TYPE_CHECKING:
    from pydantic import TypeAdapter

KEPT = "holdfast-kept"
STASHES = "refs/holdfast/stash"


@dataclass(frozen=True, slots=True)
class Saved:
    """One worktree as it was: its tree, and the checkpoint that has it."""

    tree: str
    checkpoint: int
    checkpoint_id: str
    head: str


@dataclass(frozen=True, slots=True)
class Continued:
    """How a task goes on from where it was put back to, and what its agent is told."""

    mode: str
    context: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What an operation that goes back has set out to do, and what it has saved so far (by branch).

    `context` is what a person says to the plan's supervisor, at the end of its conversation as that is then. With
    `continued` its task goes on from there.
    """

    restoration: Restoration
    preserve: Preserve = Preserve.CREATE_BRANCH
    branch_name: str = ""
    told: Mapping[str, object] | None = None
    saved: Mapping[str, Saved] | None = None
    undoes: str = ""
    context: str = ""
    continued: Continued | None = None

    def row(self) -> dict[str, object]:
        return asdict(self)


@cache
def _intents() -> TypeAdapter[Intent]:
    from pydantic import TypeAdapter

    return TypeAdapter(Intent)


def intent_of(operation: Operation) -> Intent:
    """Gives what an operation that goes back has set out to do."""
    return intent_from(operation.intent)


def intent_from(row: Mapping[str, object]) -> Intent:
    """Gives the intent that was stored as `row`."""
    return _intents().validate_python(dict(row))


# -- beginning ---------------------------------------------------------------------------------------------------------


def begin(
    connection: Connection, plan: Plan, intent: Intent, *, kind: str, actor: str, task_id: str | None = None
) -> Operation:
    """Writes the intent. The caller holds the plan's lock; nothing else of the plan has been moved or may be, then.

    Raises `IllegalState` while the plan runs or somebody else goes back with it, or if the work has moved on since the
    restoration was decided.
    """
    refuse_running(plan)
    refuse_restoring(connection, plan)
    restorations.refuse_changed(connection, intent.restoration)
    return operations.begin(
        connection,
        id=clock.new_id(),
        kind=kind,
        actor=actor,
        intent=intent.row(),
        plan_id=plan.id,
        task_id=task_id,
    )


def refuse_running(plan: Plan) -> None:
    if plan.status in PLAN_EXECUTING:
        raise IllegalState(
            f"P{plan.number} is running", hint=f"pause it first: holdfast plan pause P{plan.number}", code="running"
        )


def refuse_over(connection: Connection, back: Restoration) -> None:
    """Raises `IllegalState` if a task that was left out would be open in a phase that is over by now."""
    opened = {each.phase_id for each in back.phases}
    for move in back.tasks:
        if move.before.status is not TaskStatus.SKIPPED or move.after.status in TASK_DONE:
            continue
        task = tasks.get(connection, move.task_id)
        phase = plans.phase(connection, task.phase_id)
        if phase.id not in opened and phase.status in (PhaseStatus.COMPLETED, PhaseStatus.SKIPPED):
            raise IllegalState(
                f"the phase '{phase.title}' of T{task.number} is {phase.status} by now",
                hint=f"open it again: holdfast task continue T{task.number}",
                code="changed_meanwhile",
            )


def refuse_restoring(connection: Connection, plan: Plan) -> None:
    going = operations.restoring(connection, plan.id)
    if going is not None:
        raise IllegalState(
            f"a {going.kind} of P{plan.number} by {going.actor} is under way",
            hint="wait for it; if it was cut off, the next `holdfast resume` or going back carries it through",
            code="restoring",
        )


# -- carrying it out ---------------------------------------------------------------------------------------------------


def cut_off(parts: Parts, plan_id: str | None = None) -> tuple[Operation, ...]:
    """Gives what was begun and has not ended with a plan, or in this data folder: going back, and handing over."""
    with parts.database.read() as connection:
        begun = operations.open_ones(connection, plan_id=plan_id)
        found = [each for each in begun if operations.RESTORATION in each.intent or handover.handover_of(each)]
        return tuple(each for each in found if plans.home(connection, each.plan_id or "") == parts.places.home)


def finish_open(parts: Parts, plan_id: str) -> None:
    """Carries through what was cut off when somebody went back with a plan or handed its result over."""
    for operation in cut_off(parts, plan_id):
        finish(parts, operation.id)


def finish(parts: Parts, operation_id: str) -> Operation:
    """Carries an operation through and gives it ended; one that has ended is given back as it is.

    Raises what made it impossible, after everything was put back. An infrastructure error leaves it open: what is left
    is done by the next call.
    """
    with parts.database.read() as connection:
        operation = operations.get(connection, operation_id)
        plan = plans.get(connection, operation.plan_id or "")
    if handover.handover_of(operation) is not None:
        return handover.finish(parts, operation_id)
    with parts.database.read() as connection:
        project = projects.get(connection, plan.project_id)
    move = Move(parts, operation, intent_of(operation), plan, project)
    with move.worktrees() as worktrees:
        with parts.database.read() as connection:
            operation = operations.get(connection, operation_id)
        if operation.status is not OperationStatus.OPEN:
            return operation
        move = replace(move, operation=operation, intent=intent_of(operation))
        try:
            move = move.save(worktrees)
            move.verify_kept()
            preserved = move.preserve()
            move.set_files(worktrees)
        except (UserError, StepError, Corruption) as error:
            move.put_back(worktrees)
            move.give_up(str(error))
            raise
        move.set_branches()
        failpoint("engine.restore.branches_moved")
        return move.record(preserved)


@dataclass(frozen=True, slots=True)
class Move:
    """One operation while it is carried out."""

    parts: Parts
    operation: Operation
    intent: Intent
    plan: Plan
    project: Project

    @property
    def restoration(self) -> Restoration:
        return self.intent.restoration

    @property
    def vault(self) -> Vault:
        return self.parts.workspaces.vault(self.project)

    def saved(self, files: FilesMove) -> Saved:
        return (self.intent.saved or {})[files.branch]

    @contextmanager
    def worktrees(self) -> Generator[dict[str, Worktree]]:
        """Lends the worktrees that it sets, by branch; one that was deleted by hand is made again."""
        found: dict[str, Worktree] = {}
        with ExitStack() as stack:
            for files in self.restoration.files:
                place = self._place(files)
                self.parts.workspaces.forget_missing(place)
                found[files.branch] = stack.enter_context(
                    self.parts.workspaces.worktree(place, recreate=True, watch=True)
                )
            yield found

    def _place(self, files: FilesMove) -> Place:
        if files.task_id is None:
            return Place(self.project, self.plan, files.branch, None)
        with self.parts.database.read() as connection:
            return Place(self.project, self.plan, files.branch, tasks.get(connection, files.task_id))

    # -- before anything moves -----------------------------------------------------------------------------------------

    def save(self, worktrees: Mapping[str, Worktree]) -> Move:
        """Makes the `pre_rewind` checkpoint of each worktree, once, and notes what was there."""
        move = self
        for files in self.restoration.files:
            if files.branch not in (move.intent.saved or {}):
                move = move._save(files, worktrees[files.branch])
        return move

    def _save(self, files: FilesMove, worktree: Worktree) -> Move:
        own = any(each.task_id == self.operation.task_id for each in self.restoration.files)
        owner = files.task_id if own else self.operation.task_id
        head = self._move_of(files.branch).before
        snapshot = worktree.snapshot()
        with self.parts.database.read() as connection:
            task = tasks.get(connection, owner) if owner else None
            number = checkpoints.next_number(connection, task_id=owner, plan_id=self.plan.id)
            newest = steps.newest(connection, self.project.id, files.branch)
            talk = conversations.head(connection, Conversation(self.plan.id, owner))
        made = make_checkpoint(
            self.vault,
            number,
            plan=self.plan,
            task=task,
            step_id=None,
            kind=CheckpointKind.PRE_REWIND,
            name=f"before {self.operation.kind}",
            tree=snapshot.tree,
            snapshot=snapshot,
            head_commit=head,
            state={"variables": dict(self.plan.variables), "stage": str(self.plan.stage)},
            after_step=newest,
        )
        kept = keep(self.parts.places.blobs, self.project, worktree)
        made = replace(noted(made, kept), message_id=talk.message_id)
        saved = Saved(snapshot.tree, number, made.id, head)
        intent = replace(self.intent, saved={**(self.intent.saved or {}), files.branch: saved})
        with self.parts.database.transaction() as connection:
            checkpoints.add(connection, made, actor=self.operation.actor)
            blobs.attach(connection, made.id, kept.files)
            written = operations.note(connection, self.operation.id, intent.row())
        failpoint("engine.restore.saved")
        return replace(self, operation=written, intent=intent)

    def _move_of(self, branch: str) -> BranchMove:
        """Gives from where to where a branch moves, which may be the same."""
        head = self.vault.head(branch) or self.plan.base_commit
        stays = BranchMove(branch, head, head)
        return next((each for each in self.restoration.branches if each.branch == branch), stays)

    def verify_kept(self) -> None:
        """Raises `Corruption` if a kept file that is to be put back is missing or damaged."""
        for files in self.restoration.files:
            if files.kept:
                with self.parts.database.read() as connection:
                    wanted = checkpoints.get_by_id(connection, files.kept)
                verify_kept(self.parts.database, self.parts.places.blobs, wanted)

    def preserve(self) -> dict[str, object] | None:
        """Keeps what is left behind as it was asked for; gives how, None if nothing is left behind."""
        left = [files for files in self.restoration.files if self._leaves_work(files)]
        if not left or self.intent.preserve is Preserve.DISCARD:
            return None
        files, saved = left[0], self.saved(left[0])
        if self.intent.preserve is Preserve.STASH:
            ref = f"{STASHES}/{self._label(saved)}"
            commit = stash(self.vault, saved, self.operation.started_at, f"On {files.branch}: {self._told()}")
            self.vault.keep(ref, commit)
            return {"type": "stash", "reference": ref, "commit": commit}
        name = self.intent.branch_name or f"{KEPT}/{self._label(saved)}-{self.operation.id[-6:]}"
        commit = saved.head
        if self.vault.tree_of(commit) != saved.tree:
            message = f"Work that was not committed, {self._told()}\n"
            commit = self.vault.put_commit(
                saved.tree, (commit,), message, author=AUTHOR, time=self.operation.started_at
            )
        self.vault.create_branch(name, commit)
        failpoint("engine.restore.branch_kept")
        exported = (Path(self.project.path) / ".git").exists()
        if exported:
            self.vault.export_branch(Path(self.project.path), name)
        kept: dict[str, object] = {"type": "branch", "reference": name, "commit": commit}
        return kept if exported else {**kept, "exported": False}

    def _leaves_work(self, files: FilesMove) -> bool:
        moved = self._move_of(files.branch)
        if not self.vault.is_ancestor(moved.before, moved.after):
            return True
        saved = self.saved(files)
        return saved.tree not in (self.target(files), self.vault.tree_of(saved.head))

    def _label(self, saved: Saved) -> str:
        with self.parts.database.read() as connection:
            made = checkpoints.get_by_id(connection, saved.checkpoint_id)
            number = tasks.get(connection, made.task_id).number if made.task_id else self.plan.number
        return f"{'T' if made.task_id else 'P'}{number}@{made.number}"

    def _told(self) -> str:
        return f"before {self.operation.kind}"

    # -- what moves ----------------------------------------------------------------------------------------------------

    def target(self, files: FilesMove) -> str:
        """Gives the tree that a worktree becomes."""
        if not files.paths:
            return files.after
        return self.vault.graft(self.saved(files).tree, files.after, files.paths)

    def set_files(self, worktrees: Mapping[str, Worktree]) -> None:
        for files in self.restoration.files:
            worktrees[files.branch].set_tree(self.target(files))
            self._set_kept(worktrees[files.branch], files.kept, self.saved(files).checkpoint_id, files.paths)
            if not files.paths:
                head = self._move_of(files.branch).after
                self._set_own_git(worktrees[files.branch], files.branch, head, files.own_git)
            worktrees[files.branch].settle()
            failpoint("engine.restore.files_set")

    def put_back(self, worktrees: Mapping[str, Worktree]) -> None:
        """Gives the worktrees back the files that they had."""
        for branch, saved in (self.intent.saved or {}).items():
            worktrees[branch].set_tree(saved.tree)
            self._set_kept(worktrees[branch], saved.checkpoint_id, "")
            self._set_own_git(worktrees[branch], branch, saved.head, saved.checkpoint_id)
            worktrees[branch].settle()

    def _set_kept(self, worktree: Worktree, checkpoint_id: str, backup_id: str, paths: tuple[str, ...] = ()) -> None:
        """Makes the ignored files that the project keeps what a checkpoint has; without one they stay."""
        if not checkpoint_id:
            return
        with self.parts.database.read() as connection:
            wanted = checkpoints.get_by_id(connection, checkpoint_id)
            backup = checkpoints.get_by_id(connection, backup_id) if backup_id else None
        restore_kept(self.parts.database, self.parts.places.blobs, worktree, wanted, backup, within=paths)

    def _set_own_git(self, worktree: Worktree, branch: str, head: str, checkpoint_id: str) -> None:
        """Makes the worktree's own git what a checkpoint noted; where none noted anything, a fresh one at `head`."""
        own = None
        if checkpoint_id:
            with self.parts.database.read() as connection:
                own = own_git_of(checkpoints.get_by_id(connection, checkpoint_id).details.get(OWN_GIT))
        worktree.set_own_git(own if own and own.head else fresh(branch, head))

    def give_up(self, error: str) -> None:
        with self.parts.database.transaction() as connection:
            failed = OperationStatus.FAILED
            operations.finish(connection, self.operation.id, status=failed, outcome={"error": error})

    def set_branches(self) -> None:
        for branch in self.restoration.branches:
            self.vault.move_branch(branch.branch, branch.after, branch.before)

    def record(self, preserved: dict[str, object] | None) -> Operation:
        """Writes all rows, the events and the end of the operation, all or none."""
        done = replace(
            self.restoration,
            files=tuple(
                replace(files, before=saved.tree, kept_before=saved.checkpoint_id)
                for files in self.restoration.files
                for saved in [self.saved(files)]
            ),
        )
        outcome = {
            **(self.intent.told or {}),
            "preserved": preserved,
            "saved": [self._label(self.saved(files)) for files in done.files],
        }
        with self.parts.database.transaction() as connection:
            plan = plans.lock(connection, self.plan.id)
            operation = operations.get(connection, self.operation.id)
            if operation.status is not OperationStatus.OPEN:
                return operation
            restorations.apply(connection, done, plan, actor=operation.actor)
            done = self._said(connection, plan, done)
            approvals.cancel_open(connection, plan_id=plan.id, actor=operation.actor)
            operations.note(connection, operation.id, replace(self.intent, restoration=done).row())
            told = {**(self.intent.told or {}), "operation": operation.id, "preserved": preserved}
            plans.tell(connection, plan, operation.kind, operation.actor, told)
            if self.intent.continued is not None and operation.task_id is not None:
                task = tasks.get(connection, operation.task_id)
                message = next(move.after.head_message_id for move in done.tasks if move.task_id == task.id)
                tell_continued(connection, plan, task, self.intent.continued, message, actor=operation.actor)
            ended = operations.finish(connection, operation.id, outcome=outcome)
            failpoint("engine.restore.before_commit")
        return ended

    def _said(self, connection: Connection, plan: Plan, done: Restoration) -> Restoration:
        """Gives the restoration with what a person adds said in the supervisor's conversation."""
        if not self.intent.context or done.plan is None:
            return done
        head = inquiries.add_context(connection, self.parts, plan, self.operation.id, self.intent.context)
        return replace(done, plan=replace(done.plan, after=replace(done.plan.after, head_message_id=head)))


def tell_continued(
    connection: Connection, plan: Plan, task: Task, continued: Continued, message_id: str | None, *, actor: str
) -> None:
    """Writes the event of a task that goes on from a message of its conversation."""
    events.add(
        connection,
        EventType.TASK,
        "continued",
        actor,
        project_id=plan.project_id,
        plan_id=plan.id,
        phase_id=task.phase_id,
        task_id=task.id,
        data={"mode": continued.mode, "context": continued.context, "message": message_id},
    )


def stash(vault: Vault, saved: Saved, time: datetime, message: str) -> str:
    """Gives a commit that `git stash apply` takes: the work on its base, with the index of that base."""
    index = vault.put_commit(vault.tree_of(saved.head), (saved.head,), f"index {message}\n", author=AUTHOR, time=time)
    return vault.put_commit(saved.tree, (saved.head, index), f"{message}\n", author=AUTHOR, time=time)


def check_name(vault: Vault, name: str) -> None:
    """Raises `UsageError` or `IllegalState` if the work cannot be kept on a branch of that name."""
    check_branch(name)
    if vault.head(name) is not None:
        raise IllegalState(f"there is a branch {name} already", hint="choose another name", code="branch_exists")
