"""Vaults and worktrees of plans and tasks, and the commits and checkpoints made of them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from holdfast import clock
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind, checkpoint_ref
from holdfast.domain.own_git import OWN_GIT, OwnGit, bound
from holdfast.domain.plan import Phase, PhaseMode, Plan, Project
from holdfast.domain.restore import AFTER_STEP
from holdfast.domain.step import Step
from holdfast.domain.task import Task
from holdfast.engine.places import Places
from holdfast.errors import StepError
from holdfast.failpoints import failpoint
from holdfast.settings import Settings
from holdfast.vcs import Limits, PlainFolder, PlainLimits, Snapshot, Vault, Worktree, resolve

AUTHOR = "Holdfast <holdfast@localhost>"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task works: its plan's worktree and branch, or its own."""

    project: Project
    plan: Plan
    branch: str
    own: Task | None


def place_of(project: Project, plan: Plan, phase: Phase, task: Task) -> Place:
    """Gives where a task works: in a parallel phase on its own, else in its plan's worktree."""
    own = task if phase.mode is PhaseMode.PARALLEL else None
    return Place(project, plan, task.branch or plan.branch, own)


# A worker waits until nothing that a killed one left writes to a vault. A command hardly does: while a worker has the
# vault it would wait in vain, and what there is to tidy up the next one tidies that has it alone.
WORKER_PATIENCE_SECONDS = 5.0
COMMAND_PATIENCE_SECONDS = 0.1


class Workspaces:
    """The vaults and worktrees that this process has open, each worktree used by one thread at a time.

    With `watch` a worktree stays open and watched from one use to the next, which makes looking at it cheap; without,
    it is given back after each use, so that another process may have it.
    """

    def __init__(self, places: Places, settings: Settings, *, watch: bool = True) -> None:
        self._places = places
        self._settings = settings
        self._watch = watch
        self._vaults: dict[str, Vault] = {}
        self._worktrees: dict[str, Worktree] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def vault(self, project: Project) -> Vault:
        """Gives the project's vault, made from the user's repository the first time; durable on return."""
        with self._guard:
            vault = self._vaults.get(project.id)
            if vault is None:
                source = Path(project.path) if project.git else None
                vault = Vault.open_or_create(self._places.vault(project.id), source)
                vault.recover(WORKER_PATIENCE_SECONDS if self._watch else COMMAND_PATIENCE_SECONDS)
                self._vaults[project.id] = vault
            return vault

    def bring(self, project: Project, commit: str) -> str:
        """Gives the id of a commit of the project, which the vault has from here on."""
        if project.git:
            return self.vault(project).fetch(Path(project.path), commit)
        return resolve(self.vault(project).path, commit)

    @contextmanager
    def folder(self, project: Project) -> Generator[PlainFolder]:
        """Lends the user's folder of a project without git; one user at a time, among all processes."""
        with PlainFolder(self.vault(project), Path(project.path), plain_limits(self._settings)) as folder:
            yield folder

    @contextmanager
    def worktree(self, place: Place, *, recreate: bool = False, watch: bool = False) -> Generator[Worktree]:
        """Lends the worktree of `place`, checked out at its branch the first time; one user at a time.

        With `recreate` one that somebody deleted is made again from its branch; else that is an `IllegalState`. With
        `watch` it is watched while it is lent: who looks at it several times looks at all files only once. What was set
        in it is on the disk when it has been given back.
        """
        path = self._path(place)
        with self._lock(str(path)):
            worktree = self._worktrees.get(str(path)) or self._open(place, path, recreate, watch)
            self._worktrees[str(path)] = worktree
            try:
                yield worktree
                worktree.settle()
            except BaseException:
                # Whatever went wrong, the next user looks at the folder afresh.
                del self._worktrees[str(path)]
                worktree.close()
                raise
            if not self._watch:
                del self._worktrees[str(path)]
                worktree.close()

    def _open(self, place: Place, path: Path, recreate: bool, watch: bool) -> Worktree:
        vault = self.vault(place.project)
        commit = vault.head(place.branch)
        if commit is None:
            raise StepError(f"the branch {place.branch} is not in the vault", code="branch_missing")
        return Worktree.ensure(
            vault,
            path,
            place.branch,
            commit,
            watch=self._watch or watch,
            limits=Limits(self._settings.max_file_bytes, self._settings.max_ignored_files),
            recreate_at=vault.tree_of(commit) if recreate else None,
        )

    def path(self, place: Place) -> str:
        return str(self._path(place))

    def forget_missing(self, place: Place) -> None:
        """Closes the worktree of `place` if its folder is gone, so that it can be made again."""
        path = self._path(place)
        with self._lock(str(path)):
            if not path.exists() and (worktree := self._worktrees.pop(str(path), None)) is not None:
                worktree.close()

    def release(self, plan: Plan) -> None:
        """Closes the worktrees of a plan and its tasks (their files stay), so that other processes may open them."""
        own = self._places.plan_worktree(plan)
        with self._guard:
            paths = [each for each in self._worktrees if each == str(own) or each.startswith(f"{own}--")]
        for path in paths:
            self._close(path)

    def close(self) -> None:
        """Closes everything, each worktree once the thread that uses it has given it back."""
        with self._guard:
            paths = list(self._worktrees)
        for path in paths:
            self._close(path)
        with self._guard:
            for vault in self._vaults.values():
                vault.close()
            self._vaults.clear()

    def _close(self, path: str) -> None:
        with self._lock(path):
            worktree = self._worktrees.pop(path, None)
            if worktree is not None:
                worktree.close()

    def _path(self, place: Place) -> Path:
        if place.own is not None:
            return self._places.task_worktree(place.plan, place.own)
        return self._places.plan_worktree(place.plan)

    def _lock(self, path: str) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(path, threading.Lock())


def plain_limits(settings: Settings) -> PlainLimits:
    """Gives what a snapshot of a folder without git takes at most."""
    return PlainLimits(settings.folder_max_files, settings.folder_max_bytes, settings.max_file_bytes)


def commit_work(vault: Vault, place: Place, task: Task, step: Step, tree: str, ended_at: datetime) -> str:
    """Commits `tree` on the step's branch and gives the branch's commit; no difference, no commit.

    Done again after a kill it finds its own commit by the `Holdfast-Step` trailer.
    """
    head = vault.head(place.branch)
    if head is None or head != step.commit_before:
        if head is not None and vault.trailers(head).get("Holdfast-Step") == str(step.number):
            return head
        raise StepError(
            f"the branch {place.branch} moved from {step.commit_before[:12]} to {str(head)[:12]} while step "
            f"{step.number} ran",
            code="branch_moved",
        )
    if vault.tree_of(head) == tree:
        return head
    commit = vault.write_commit(tree, (head,), commit_message(place.plan, task, step), author=AUTHOR, time=ended_at)
    failpoint("engine.commit.written")
    vault.move_branch(place.branch, commit, head)
    failpoint("engine.commit.branch_moved")
    return commit


def commit_message(plan: Plan, task: Task, step: Step) -> str:
    return (
        f"{task.title}\n\nHoldfast-Plan: P{plan.number} {plan.title}\n"
        f"Holdfast-Task: T{task.number} {task.key}\nHoldfast-Step: {step.number}\n"
    )


def make_checkpoint(
    vault: Vault,
    number: int,
    *,
    plan: Plan,
    task: Task | None,
    step_id: str | None,
    kind: CheckpointKind,
    name: str,
    tree: str,
    head_commit: str,
    state: Mapping[str, object],
    snapshot: Snapshot | None = None,
    after_step: str | None = None,
) -> Checkpoint:
    """Writes objects and ref of the next checkpoint (`number`), durable on return; the caller adds the row.

    Where the worktree is just what the branch's commit has, that commit is the checkpoint's, under a ref of its own.
    One that is not of a step says which was the newest active step of its branch (`after_step`).
    Done again after a kill it takes the same number, since no row has it, and the orphan ref is replaced.
    """
    owner_id = task.id if task else plan.id
    created_at = clock.now()
    ref = checkpoint_ref(owner_id, number)
    label = f"{'T' if task else 'P'}{task.number if task else plan.number}@{number}"
    if vault.tree_of(head_commit) == tree:
        commit = head_commit
        vault.keep(ref, commit)
    else:
        message = f"checkpoint {label} {kind} {name}\n"
        commit = vault.write_checkpoint(ref, tree, (head_commit,), message, time=created_at)
    own = _bound(vault, snapshot, task.branch if task and task.branch else plan.branch, head_commit)
    if own is not None:
        vault.keep_own(ref, own.tips)
    failpoint("engine.checkpoint.written")
    return Checkpoint(
        id=clock.new_id(),
        number=number,
        plan_id=plan.id,
        task_id=task.id if task else None,
        step_id=step_id,
        kind=kind,
        name=name,
        ref=ref,
        commit=commit,
        tree=tree,
        head_commit=head_commit,
        message_id=None,
        state=state,
        skipped=tuple(snapshot.skipped) if snapshot else (),
        busy=tuple(snapshot.busy) if snapshot else (),
        created_at=created_at,
        details=({"via": snapshot.via} if snapshot else {})
        | ({} if step_id else {AFTER_STEP: after_step})
        | ({OWN_GIT: own.row()} if own else {}),
    )


def _bound(vault: Vault, snapshot: Snapshot | None, branch: str, head: str) -> OwnGit | None:
    """Gives what a checkpoint notes of the worktree's own `.git`: what is not as Holdfast made it."""
    if snapshot is None or snapshot.own is None:
        return None
    return bound(snapshot.own, branch, head, vault.parents(head))
