"""Takes away what nobody needs any more: rows first, then refs, then folders, objects and blobs.

All of it happens while nobody else has the project's vault open, so nothing is looked up, written or restored
meanwhile. A kill anywhere leaves a sound store with a little too much in it, which the next call takes away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from holdfast import clock
from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.own_git import OWN_GIT, OwnGit, own_git_of
from holdfast.domain.plan import Plan, Project
from holdfast.domain.retention import Holdings, is_emptied, is_over, needs
from holdfast.engine.places import Places
from holdfast.errors import HoldfastError, IllegalState
from holdfast.failpoints import failpoint
from holdfast.settings import Settings
from holdfast.store import Database, plans, retention
from holdfast.vcs import Limits, Vault, Worktree, remove_folder
from holdfast.vcs.vault import CHECKPOINT_REFS, OWN_REFS, own_prefix

# A blob's file comes before its row: one that nobody noted for so long was left by a kill.
_UNNOTED = timedelta(hours=1)


class Parts(Protocol):
    """What it works with: a house's, or a worker's."""

    @property
    def database(self) -> Database: ...
    @property
    def places(self) -> Places: ...
    @property
    def settings(self) -> Settings: ...


@dataclass(slots=True)
class Tally:
    """What was taken away (or would be): how many of each kind, their bytes, and what was left alone and why."""

    counts: Counter[str] = field(default_factory=Counter[str])
    sizes: Counter[str] = field(default_factory=Counter[str])
    skipped: list[str] = field(default_factory=list[str])

    def add(self, kind: str, count: int, size: int = 0) -> None:
        self.counts[kind] += count
        self.sizes[kind] += size


@dataclass(frozen=True, slots=True)
class Sweep:
    """One call: what it works with, from when on all is kept, and whether it only looks."""

    parts: Parts
    before: datetime
    actor: str
    dry_run: bool
    tally: Tally

    # -- one project ---------------------------------------------------------------------------------------------------

    def project(self, project: Project) -> None:
        """Takes away what nobody needs of a project; one that somebody works with is left alone, and named."""
        path = self.parts.places.vault(project.id)
        if not path.exists():
            return
        with Vault.open(path) as vault:
            try:
                with vault.alone(wait_seconds=1.0):
                    self._project(project, vault)
            except IllegalState as error:
                self.tally.skipped.append(f"{project.slug}: {error.message}")

    def _project(self, project: Project, vault: Vault) -> None:
        with self.parts.database.read() as connection:
            all_plans = retention.plans_of(connection, project.id)
        kept = [self._checkpoints(plan) for plan in all_plans]
        failpoint("engine.retention.rows_gone")
        self._refs(all_plans, kept, vault)
        failpoint("engine.retention.refs_gone")
        for held in kept:
            self._folders(project, held, vault)
        if not self.dry_run:
            self.tally.add("objects", 0, vault.sweep(_roots(kept) | vault.worktree_roots()))

    def _checkpoints(self, plan: Plan) -> Holdings:
        """Gives what the plan has still, once the rows of what nobody needs are gone."""
        look = self.parts.database.read if self.dry_run else self.parts.database.transaction
        with look() as connection:
            if not self.dry_run:
                plans.lock(connection, plan.id, deleted=True)
            held = retention.holdings(connection, plan.id, self.before)
            needed = needs(held, self.before)
            gone = [each for each in held.checkpoints if each.id not in needed]
            emptied = is_emptied(held.plan, self.before) and held.plan.emptied_at is None
            if not self.dry_run:
                retention.forget(connection, plan, gone, actor=self.actor)
                if emptied:
                    plans.empty(connection, held.plan, actor=self.actor)
        self.tally.add("checkpoints", len(gone))
        self.tally.add("plans", int(emptied))
        kept: list[Checkpoint] = [each for each in held.checkpoints if each.id in needed]
        return Holdings(held.plan, held.tasks, held.steps, kept, held.mentioned, held.open)

    def _refs(self, all_plans: Sequence[Plan], kept: Iterable[Holdings], vault: Vault) -> None:
        """Takes the refs away that no row names: those of the rows that went, and what a kill left."""
        named = {each.ref for held in kept for each in held.checkpoints}
        loose = [ref for ref in vault.refs(CHECKPOINT_REFS) if ref not in named]
        owned = {own_prefix(ref) for ref in named}
        loose += [ref for ref in vault.refs(OWN_REFS) if ref.rpartition("/")[0] not in owned]
        self.tally.add("refs", len(loose))
        if not self.dry_run:
            vault.delete_refs(loose)

    # -- folders -------------------------------------------------------------------------------------------------------

    def _folders(self, project: Project, held: Holdings, vault: Vault) -> None:
        places, plan = self.parts.places, held.plan
        for step in held.steps:
            if step.ended_at is not None and step.ended_at < self.before and not held.busy:
                self._folder("runs", places.data / "runs" / step.id)
        if held.busy or not is_over(plan, self.before):
            return
        self._folder("runs", places.data / "runs" / plan.id)
        for task in (None, *held.tasks):
            path = places.plan_worktree(plan) if task is None else places.task_worktree(plan, task)
            branch = plan.branch if task is None or not task.branch else task.branch
            if path.is_dir():
                try:
                    self._worktree(held, vault, path, branch)
                except HoldfastError as error:
                    self.tally.skipped.append(f"{path}: {error.message}")
            self._folder("homes", places.task_home(plan, task))
        if is_emptied(plan, self.before):
            self._folder("homes", places.supervisor(plan.id))

    def _folder(self, kind: str, folder: Path) -> None:
        if not folder.is_dir():
            return
        size = _size(folder)
        try:
            if not self.dry_run:
                remove_folder(folder)
        except OSError as error:
            self.tally.skipped.append(f"{folder}: {error.strerror}")
        else:
            self.tally.add(kind, 1, size)
            failpoint("engine.retention.folder_gone")

    def _worktree(self, held: Holdings, vault: Vault, path: Path, branch: str) -> None:
        """Removes a worktree if all that is in it is committed or in a checkpoint; it can be made again from there.

        That of a plan in the trash goes as it is, once its time is over.
        """
        head = vault.head(branch)
        if head is None:
            return
        limits = Limits(max_file_bytes=self.parts.settings.max_file_bytes)
        worktree = Worktree.ensure(vault, path, branch, head, watch=False, limits=limits)
        if not is_emptied(held.plan, self.before) and not self._is_known(held, vault, worktree, head):
            worktree.close()
            self.tally.skipped.append(f"{path}: it has work that no checkpoint has")
            return
        size = _size(path)
        if self.dry_run:
            worktree.close()
        else:
            worktree.remove()
        self.tally.add("worktrees", 1, size)

    def _is_known(self, held: Holdings, vault: Vault, worktree: Worktree, head: str) -> bool:
        found = worktree.snapshot(full=True)
        known = {vault.tree_of(head), *(each.tree for each in held.checkpoints)}
        return found.tree in known and not found.skipped and not found.busy and _is_kept(found.own, held)

    # -- blobs ---------------------------------------------------------------------------------------------------------

    def blobs(self) -> None:
        """Takes the blobs away that nothing refers to; only while nobody has any vault open: who writes one has."""
        folder = self.parts.places.blobs
        with ExitStack() as stack:
            for path in sorted((self.parts.places.data / "projects").glob("*/vault.git")):
                vault = stack.enter_context(Vault.open(path))
                try:
                    stack.enter_context(vault.alone(wait_seconds=1.0))
                except IllegalState as error:
                    self.tally.skipped.append(f"blobs: {error.message}")
                    return
            with self.parts.database.read() as connection:
                idle = retention.idle_blobs(connection)
                noted = retention.known_blobs(connection)
            if not self.dry_run:
                with self.parts.database.transaction() as connection:
                    retention.forget_blobs(connection, [blob.digest for blob in idle])
                    noted = retention.known_blobs(connection)
                failpoint("engine.retention.blobs_forgotten")
            gone = {blob.digest for blob in idle}
            for path in (*folder.glob("??/*"), *folder.glob(".*.part")):
                digest = path.parent.name + path.name
                if (digest in gone and (self.dry_run or digest not in noted)) or (
                    digest not in noted and _is_left(path)
                ):
                    self._blob(path)

    def _blob(self, path: Path) -> None:
        self.tally.add("blobs", 1, path.stat().st_size)
        if not self.dry_run:
            path.unlink()
            failpoint("engine.retention.blob_gone")


def _is_kept(own: OwnGit | None, held: Holdings) -> bool:
    """Tells whether all that the own git of a worktree names is a commit of ours, or kept with a checkpoint."""
    kept = {held.plan.base_commit}
    for step in held.steps:
        kept |= {step.commit_before, step.commit_after or ""}
    for each in held.checkpoints:
        kept |= {each.head_commit, *(noted.tips if (noted := own_git_of(each.details.get(OWN_GIT))) else ())}
    return own is None or (not own.problem and own.tips <= kept)


def _is_left(path: Path) -> bool:
    """Tells whether a blob's file that nobody noted was left by a kill."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) < clock.now() - _UNNOTED


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _roots(kept: Iterable[Holdings]) -> set[str]:
    """Gives the commits and trees that are needed, whether a ref leads to them or not."""
    found: set[str] = set()
    for held in kept:
        found |= held.mentioned | {held.plan.base_commit}
        for step in held.steps:
            if step.active or held.busy:
                found |= {step.commit_before, step.commit_after or ""}
    return found
