"""The ignored files that a project lists in `include_ignored`: kept with every checkpoint, and put back with it."""

from __future__ import annotations

import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from holdfast.domain.checkpoint import Checkpoint
from holdfast.domain.conversation import Conversation
from holdfast.domain.plan import Project
from holdfast.domain.task import Executor, Task
from holdfast.store import Blob, Connection, Database, KeptFile, blobs, checkpoints, snapshots
from holdfast.vcs import Wanted, Worktree

SETTING = "include_ignored"
"""The project's setting, and the name in a checkpoint's details of what it was when the checkpoint was made."""


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """What was kept of a worktree at one moment, for which `patterns`; the contents are on the disk already.

    `skipped`, `busy` and `cut` are those of `vcs.Kept`.
    """

    files: tuple[KeptFile, ...] = ()
    patterns: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    cut: int = 0


class BlobFolder:
    """The blob store as `vcs` wants it: contents by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written: dict[str, Blob] = {}

    def put(self, content: BinaryIO) -> bytes:
        blob = blobs.write(self._folder, content)
        self.written[blob.digest] = blob
        return bytes.fromhex(blob.digest)

    def has(self, oid: bytes) -> bool:
        return blobs.path_of(self._folder, oid.hex()).exists()

    def blob(self, digest: str, size: int) -> Blob:
        """Gives the blob of a content that was written, or was there and had that size."""
        return self.written.get(digest) or blobs.found(self._folder, digest, size)

    def verify(self, oid: bytes) -> None:
        blobs.verify(self._folder, oid.hex())

    def copy_blob(self, oid: bytes, target: BinaryIO) -> None:
        blobs.copy_to(self._folder, oid.hex(), target)


def patterns_of(project: Project) -> tuple[str, ...]:
    """Gives the globs of ignored files that the project wants kept."""
    found = project.settings.get(SETTING)
    return tuple(map(str, cast("list[object]", found))) if isinstance(found, list) else ()


def keep(folder: Path, project: Project, worktree: Worktree) -> KeptFiles:
    """Stores the ignored files that the project wants kept in the blobs in `folder`; durable on return."""
    patterns = patterns_of(project)
    if not patterns:
        return KeptFiles()
    place = BlobFolder(folder)
    found = worktree.keep_ignored(patterns, place)
    files = tuple(KeptFile(each.path, _bits(each.mode), place.blob(each.oid.hex(), each.size)) for each in found.files)
    return KeptFiles(files, patterns, found.skipped, found.busy, found.cut)


def noted(checkpoint: Checkpoint, kept: KeptFiles) -> Checkpoint:
    """Gives the checkpoint with what it has to say of the ignored files."""
    if not kept.patterns:
        return checkpoint
    told = {"patterns": list(kept.patterns), "skipped": list(kept.skipped), "cut": kept.cut}
    return replace(
        checkpoint,
        skipped=(*checkpoint.skipped, *kept.skipped),
        busy=(*checkpoint.busy, *kept.busy),
        details={**checkpoint.details, SETTING: told},
    )


def record_checkpoint(
    connection: Connection, task: Task, checkpoint: Checkpoint, kept: KeptFiles, *, actor: str, claim: int | None = None
) -> None:
    """Records a checkpoint of a task, with the ignored files that are kept with it, and makes it the task's head.

    What the conversation ends at is bound in the same transaction, so that code and conversation are of one moment.
    """
    if task.executor is Executor.AGENT:
        conversation = Conversation(task.plan_id, task.id)
        name = f"T{task.number}@{checkpoint.number}"
        checkpoint = replace(checkpoint, message_id=snapshots.bind(connection, conversation, name=name, actor=actor))
    added = checkpoints.add(connection, noted(checkpoint, kept), claim=claim, actor=actor)
    blobs.attach(connection, added.id, kept.files)
    checkpoints.set_head(connection, task.id, checkpoint.number, claim=claim)


def like(checkpoint: Checkpoint, other: Checkpoint) -> Checkpoint:
    """Gives the checkpoint with what `other` has to say of the ignored files, of which it gets the same."""
    told = {SETTING: other.details[SETTING]} if SETTING in other.details else {}
    return replace(checkpoint, details={**checkpoint.details, **told})


def verify_kept(database: Database, folder: Path, checkpoint: Checkpoint) -> None:
    """Raises `Corruption` for a missing or damaged file of the checkpoint; to be called before a rewind begins."""
    with database.read() as connection:
        digests = {file.blob.digest for file in blobs.attached(connection, checkpoint.id)}
    for digest in sorted(digests):
        blobs.verify(folder, digest)


def restore_kept(
    database: Database,
    folder: Path,
    worktree: Worktree,
    checkpoint: Checkpoint,
    backup: Checkpoint | None,
    *,
    within: Collection[str] = (),
    dry_run: bool = False,
) -> tuple[str, ...]:
    """Makes the kept ignored files of a worktree what they were at `checkpoint`; gives the paths that this changes.

    To be called after the files of its tree are set. `backup` is the checkpoint of the present state: only what it has
    is overwritten or deleted, anything else in the way is moved aside into the vault. Files that came after
    `checkpoint` and match what it kept go. Where it kept none, nothing is changed. `within` limits it to files and
    folders. Raises `Corruption`, before anything is touched, if a content is missing or damaged, and after it if the
    files are not what they should be. Done again after a kill it finishes; done a second time it does nothing.
    """
    then = cast("Mapping[str, Any] | None", checkpoint.details.get(SETTING))
    if then is None:
        return ()
    with database.read() as connection:
        wanted = _entries(blobs.attached(connection, checkpoint.id))
        present = _entries(blobs.attached(connection, backup.id)) if backup else {}
    # Of more files than were kept nobody knows which came later.
    patterns = () if then["cut"] else tuple(then["patterns"])
    aim = Wanted(wanted, patterns, spared=tuple(then["skipped"]), within=tuple(within))
    return worktree.set_ignored(aim, present, BlobFolder(folder), dry_run=dry_run)


def _entries(files: Collection[KeptFile]) -> dict[str, tuple[int, bytes]]:
    return {file.path: (_mode(file.mode), bytes.fromhex(file.blob.digest)) for file in files}


def _bits(mode: int) -> int:
    """Gives the mode of a `KeptFile` for that of an entry."""
    return mode if stat.S_ISLNK(mode) else stat.S_IMODE(mode)


def _mode(bits: int) -> int:
    return bits if stat.S_ISLNK(bits) else stat.S_IFREG | bits
