"""What an agent does with git inside its worktree: the state of the worktree's own `.git`, and what changed in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

# Where a checkpoint and a step keep it in their `details`.
OWN_GIT = "git"
_HEADS = "refs/heads/"


@dataclass(frozen=True, slots=True)
class OwnGit:
    """The `.git` of a worktree: `head` is a branch's full name or a commit, `refs` are branches, tags and the stash.

    `under_way` names a merge, rebase or the like that was not ended. `problem` says why not all of it is known or kept.
    """

    head: str
    refs: Mapping[str, str] = field(default_factory=dict[str, str])
    under_way: str = ""
    problem: str = ""

    @property
    def tips(self) -> set[str]:
        """The ids of the objects that it names."""
        return {*self.refs.values(), *([] if self.head.startswith("refs/") else [self.head])} - {""}

    def row(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value}


def own_git_of(row: object) -> OwnGit | None:
    """Gives back what `OwnGit.row` wrote, None for nothing."""
    return OwnGit(**cast("dict[str, Any]", {"head": "", **row})) if isinstance(row, Mapping) and row else None


def fresh(branch: str, commit: str) -> OwnGit:
    """Gives the state that Holdfast makes: one branch, checked out."""
    return OwnGit(_HEADS + branch, {_HEADS + branch: commit})


def begun(found: OwnGit, branch: str, commit: str) -> OwnGit:
    """Gives what a task finds when it begins at `commit`: its branch checked out there, all else as it was."""
    return OwnGit(_HEADS + branch, {**found.refs, _HEADS + branch: commit})


def bound(found: OwnGit, branch: str, head: str, parents: Collection[str]) -> OwnGit | None:
    """Gives what a checkpoint at the commit `head` of a branch notes; None where it is what `fresh` gives.

    Where the agent made no commit on the branch itself, Holdfast's commit of its work is where the branch stands.
    """
    here = found.refs.get(_HEADS + branch)
    if here in parents:
        found = replace(found, refs={**found.refs, _HEADS + branch: head})
    return None if found == fresh(branch, head) else found


class ChangeKind(StrEnum):
    """What became of a ref, or of HEAD."""

    MADE = "made"
    MOVED = "moved"
    DELETED = "deleted"
    SWITCHED = "switched"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class OwnCommit:
    """A commit of the agent's own; with two or more parents it is a merge."""

    id: str
    parents: tuple[str, ...]
    subject: str


@dataclass(frozen=True, slots=True)
class OwnChange:
    """One thing that an agent did with git: to the ref `name`, or to HEAD (`switched`), or an operation `left` open.

    `commits` are those that are new on the ref, newest first.
    """

    kind: ChangeKind
    name: str
    before: str = ""
    after: str = ""
    commits: tuple[OwnCommit, ...] = ()


def changes(
    before: OwnGit, after: OwnGit, new_commits: Callable[[str, Collection[str]], Sequence[OwnCommit]]
) -> tuple[OwnChange, ...]:
    """Gives what was done between two states; `new_commits` gives those of a tip that are not in any of some others.

    A commit is told of once, with the first ref that has it.
    """
    found: list[OwnChange] = []
    known = set(before.tips)
    for name in sorted({*before.refs, *after.refs}):
        old, new = before.refs.get(name, ""), after.refs.get(name, "")
        if old == new:
            continue
        kind = ChangeKind.MADE if not old else ChangeKind.MOVED if new else ChangeKind.DELETED
        commits = tuple(new_commits(new, known)) if new else ()
        known |= {new}
        found.append(OwnChange(kind, short(name), old, new, commits))
    if before.head != after.head:
        found.append(OwnChange(ChangeKind.SWITCHED, "HEAD", short(before.head), short(after.head)))
    if after.under_way and after.under_way != before.under_way:
        found.append(OwnChange(ChangeKind.LEFT, after.under_way))
    return tuple(found)


def short(name: str) -> str:
    """Gives a ref's name as people say it."""
    return name.removeprefix(_HEADS).removeprefix("refs/")
