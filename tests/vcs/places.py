"""Real repositories, vaults and worktrees for the tests of `vcs/`, and a walker that shares no code with them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from holdfast.vcs import Limits, Vault, Worktree

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BRANCH = "holdfast/plan"
OPENED: list[Vault] = []
"""Vaults that the present test opened; a fixture closes them."""


def sh(*args: str | bytes, cwd: Path, stdin: bytes = b"") -> str:
    """Runs a program as a user would; gives what it printed."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(args, cwd=cwd, input=stdin, capture_output=True, env=environment)
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def make_repository(path: Path, files: dict[str, str] | None = None, *, object_format: str = "sha1") -> Path:
    """Makes a repository of a user with one commit of `files`."""
    path.mkdir(parents=True)
    sh("git", "init", "-q", "-b", "main", f"--object-format={object_format}", ".", cwd=path)
    sh("git", "config", "user.name", "User", cwd=path)
    sh("git", "config", "user.email", "user@example.org", cwd=path)
    for name, content in (files or {"README.md": "hello\n", "src/app.py": "print(1)\n"}).items():
        write(path / name, content)
    commit_all(path, "first")
    return path


def commit_all(path: Path, message: str) -> str:
    sh("git", "add", "-A", cwd=path)
    sh("git", "commit", "-q", "--allow-empty", "-m", message, cwd=path)
    return sh("git", "rev-parse", "HEAD", cwd=path)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@dataclass
class Place:
    """A repository, its vault, and where its worktrees go."""

    repository: Path
    vault: Vault
    base: str
    folder: Path

    def worktree(self, name: str = "w", *, watch: bool = True, limits: Limits | None = None) -> Worktree:
        return Worktree.ensure(
            self.vault, self.folder / "worktrees" / name, BRANCH, self.base, watch=watch, limits=limits
        )


def make_place(folder: Path, files: dict[str, str] | None = None, *, object_format: str = "sha1") -> Place:
    repository = make_repository(folder / "repository", files, object_format=object_format)
    return open_place(folder, repository)


def open_place(folder: Path, repository: Path) -> Place:
    vault = Vault.open_or_create(folder / "data" / "vault.git", repository)
    base = vault.fetch(repository, "HEAD")
    OPENED.append(vault)
    vault.create_branch(BRANCH, base)
    return Place(repository, vault, base, folder / "data")


Files = dict[bytes, tuple[str, bytes]]


def walk(root: Path, ignored: Callable[[bytes], bool] = lambda path: False) -> Files:
    """Gives kind (`f`, `x`, `l`) and exact content of every file that is not ignored, by os.walk alone."""
    top = os.fsencode(root)
    found: Files = {}
    for place, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != b".git"]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*names, *links):
            full = os.path.join(place, name)
            path = os.path.relpath(full, top)
            if name == b".git" or ignored(path):
                continue
            if os.path.islink(full):
                found[path] = ("l", os.readlink(full))
            elif os.path.isfile(full):
                with open(full, "rb") as source:
                    found[path] = ("x" if os.lstat(full).st_mode & 0o100 else "f", source.read())
    return found
