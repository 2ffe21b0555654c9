"""Which paths of a worktree its `.gitignore` files leave out, by git's own rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from holdfast.vcs.git import Coprocess, GitError

_ARGS = ["check-ignore", "--stdin", "-z", "--verbose", "--non-matching", "--no-index"]
_BATCH_BYTES = 30_000
_ROOT_QUESTION = b"./holdfast"
"""Asking about a name in the root makes git forget the rules of the folders below, which may since have changed."""


class IgnoreRules:
    """Answers from the worktree's `.gitignore` files and the vault's copy of the user's exclude file."""

    def __init__(self, git_dir: Path, work_tree: Path) -> None:
        self._git_dir = git_dir
        self._work_tree = work_tree
        self._process: Coprocess | None = None

    def ignored(self, paths: Sequence[bytes]) -> set[bytes]:
        """Gives those of `paths` (relative, below real folders) that are ignored or lie in an ignored folder."""
        found: set[bytes] = set()
        batch: list[bytes] = []
        size = 0
        for path in paths:
            batch.append(path)
            size += len(path) + 3
            if size > _BATCH_BYTES:
                found |= self._ask(batch)
                batch, size = [], 0
        return found | self._ask(batch) if batch else found

    def _ask(self, paths: Sequence[bytes]) -> set[bytes]:
        try:
            return self._ask_process(paths)
        except GitError:
            self.forget()
            if len(paths) == 1:
                # a parent became a symlink under us: git refuses the path, and below a symlink there is nothing to keep
                return set(paths)
            return {path for single in paths for path in self._ask([single])}

    def _ask_process(self, paths: Sequence[bytes]) -> set[bytes]:
        if self._process is None:
            self._process = Coprocess(_ARGS, git_dir=self._git_dir, work_tree=self._work_tree)
        # "./" keeps a leading ":" from being read as pathspec magic
        self._process.send(b"".join(b"./" + path + b"\0" for path in paths) + _ROOT_QUESTION + b"\0")
        fields = self._process.until_nul(4 * (len(paths) + 1))
        patterns = zip(paths, fields[0::4], fields[2::4], strict=False)
        return {path for path, source, pattern in patterns if source and not pattern.startswith(b"!")}

    def forget(self) -> None:
        """Makes the next question read all rules anew; to be called when a `.gitignore` changed, and at the end."""
        if self._process is not None:
            self._process.close()
        self._process = None
