"""Git: the user's repository (read), the vault (written) and the worktrees that agents work in.

Contract: only this folder runs git, and only through `git.py`, which no repository can make run a program. What the
user has in their checkout, index, refs, stash, hooks and configuration is never written, but for `export_branch` and
`export_commit`, and a folder that is no repository but for `PlainFolder.merge` and `take_back`.
`Snapshot.tree` is every file that is not ignored, byte for byte; `Worktree.set_tree` gives exactly it back and destroys
nothing that no snapshot has. Whatever `Vault` returns as written has reached the disk. A kill at any instant leaves
either the old state or the new one, or something that the same call finishes. All calls block; run them in threads.

Errors: `UserError` kinds for what the user can put right, `GitError` (a `StepError`) for a failing git, `GitDiskError`
(an `InfraError`) for the disk or system, `Corruption` for stored data that is not what was written.
"""

from __future__ import annotations

from holdfast.vcs.checkout import write_files
from holdfast.vcs.checkpoint import Snapshot
from holdfast.vcs.diff import Diff, DiffLimits, FileDiff, Hunk, diff
from holdfast.vcs.folder import remove_folder
from holdfast.vcs.git import GitDiskError, GitError
from holdfast.vcs.ignored import Kept, Wanted
from holdfast.vcs.listing import contents_at, files_at, mentions
from holdfast.vcs.measure import Change, measure
from holdfast.vcs.own_git import new_commits
from holdfast.vcs.plain import PlainFolder, PlainLimits, Survey, Written, not_in_snapshot, survey
from holdfast.vcs.refs import RefMoved
from holdfast.vcs.repository import RepositoryState, branch_at, has_repository, inspect, published, resolve
from holdfast.vcs.vault import MergeResult, Vault, check_branch, may_export, own_prefix
from holdfast.vcs.worktree import Limits, Worktree, locked

__all__ = [
    "Change",
    "Diff",
    "DiffLimits",
    "FileDiff",
    "GitDiskError",
    "GitError",
    "Hunk",
    "Kept",
    "Limits",
    "MergeResult",
    "PlainFolder",
    "PlainLimits",
    "RefMoved",
    "RepositoryState",
    "Snapshot",
    "Survey",
    "Vault",
    "Wanted",
    "Worktree",
    "Written",
    "branch_at",
    "check_branch",
    "contents_at",
    "diff",
    "files_at",
    "has_repository",
    "inspect",
    "locked",
    "may_export",
    "measure",
    "mentions",
    "new_commits",
    "not_in_snapshot",
    "own_prefix",
    "published",
    "remove_folder",
    "resolve",
    "survey",
    "write_files",
]
