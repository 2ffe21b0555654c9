"""The user's repository, read only: what it is, and whether work can start from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import NotFound, UserError
from holdfast.vcs import git

_OPERATIONS = (
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("BISECT_LOG", "bisect"),
)


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """What a repository is in at one moment.

    `head_commit` is None in a repository without commits, `branch` None where HEAD is detached. `dirty` means tracked
    or untracked files that no commit has. `operation` is `merge`, `rebase`, `cherry-pick`, `revert` or `bisect` where
    one is not finished. `git_dir` is where its objects are (of all its worktrees). `partial` means that git would have
    to ask a server for some of the objects.
    """

    root: Path
    git_dir: Path
    head_commit: str | None
    branch: str | None
    default_branch: str
    dirty: bool
    operation: str | None
    object_format: str
    partial: bool = False
    bare: bool = False


def inspect(path: Path) -> RepositoryState:
    """Gives the state of the repository that `path` lies in; raises `UserError` if there is none with a worktree."""
    root = _root(path)
    asked = ["rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir", "--show-object-format"]
    git_dir, common_dir, object_format = git.text(asked, cwd=root).split("\n")
    head = git.text(["rev-parse", "-q", "--verify", "HEAD^{commit}"], cwd=root, ok=(0, 1))
    branch = git.text(["symbolic-ref", "-q", "--short", "HEAD"], cwd=root, ok=(0, 1))
    own = Path(git_dir)
    return RepositoryState(
        root=root,
        git_dir=Path(common_dir),
        head_commit=head or None,
        branch=branch or None,
        default_branch=_default_branch(root) or branch or "main",
        dirty=_dirty(root),
        operation=next((name for marker, name in _OPERATIONS if (own / marker).exists()), None),
        object_format=object_format,
        partial=bool(git.run(["config", "--get-regexp", r"^remote\..*\.promisor$"], cwd=root, ok=(0, 1))),
    )


def _root(path: Path) -> Path:
    if not path.is_dir():
        raise NotFound(f"there is no folder {path}", hint="give the path of a git repository")
    try:
        bare = git.text(["rev-parse", "--is-bare-repository"], cwd=path)
    except git.GitError as error:
        raise UserError(
            f"{path} is not in a git repository: {_last_line(error.message)}",
            hint="run `git init` and commit something, or register the folder as it is: holdfast init --no-git",
            code="not_a_repository",
        ) from error
    if bare == "true":
        raise UserError(
            f"{path} is a bare repository",
            hint="clone it and use the clone: Holdfast needs files",
            code="bare_repository",
        )
    try:
        return Path(git.text(["rev-parse", "--path-format=absolute", "--show-toplevel"], cwd=path))
    except git.GitError as error:
        raise UserError(
            f"{path} is inside a .git folder", hint="go to the folder that contains it", code="not_a_repository"
        ) from error


def _last_line(message: str) -> str:
    return message.rsplit("\n", 1)[-1]


def _default_branch(root: Path) -> str:
    """Gives the branch that the remote `origin` calls its default, else `main` or `master` where it exists."""
    remote = git.text(["symbolic-ref", "-q", "--short", "refs/remotes/origin/HEAD"], cwd=root, ok=(0, 1))
    if remote:
        return remote.partition("/")[2]
    found = git.text(["for-each-ref", "--format=%(refname:short)", "refs/heads/main", "refs/heads/master"], cwd=root)
    return found.split("\n")[0]


def _dirty(root: Path) -> bool:
    """Asks git, with every filter that the repository's configuration names made void: none of them is run."""
    listed = git.run(["config", "-z", "--name-only", "--get-regexp", r"^filter\."], cwd=root, ok=(0, 1))
    names = sorted({name.decode("utf-8", "surrogateescape").rpartition(".")[0] for name in listed.split(b"\0") if name})
    void = [f"{name}.{key}={value}" for name in names for key, value in _NO_FILTER]
    options = [part for setting in void for part in ("-c", setting)]
    return bool(git.run([*options, "status", "--porcelain", "-z", "--untracked-files=normal"], cwd=root))


_NO_FILTER = (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false"))


def has_repository(path: Path) -> bool:
    """Says whether a folder is, or lies in, a git repository of any sort."""
    return bool(git.run(["rev-parse", "--git-dir"], cwd=path, ok=(0, 128)))


def branch_at(root: Path, name: str) -> tuple[str, str] | None:
    """Gives the commit of a branch and the folder where it is checked out (empty: nowhere), None if there is none."""
    asked = ["for-each-ref", "--format=%(refname) %(objectname) %(worktreepath)", f"refs/heads/{name}"]
    lines = (line.split(" ", 2) for line in git.text(asked, cwd=root, ok=(0, 128)).splitlines())
    return next(((commit, folder) for ref, commit, folder in lines if ref == f"refs/heads/{name}"), None)


def published(root: Path, commit: str) -> bool:
    """Tells whether a branch of a remote, as the repository last saw it, has the commit."""
    asked = ["for-each-ref", "--count=1", f"--contains={commit}", "refs/remotes"]
    try:
        return bool(git.run(asked, cwd=root))
    except git.GitError:
        return False  # the repository has no such commit, or is no longer there


def resolve(root: Path, name: str) -> str:
    """Gives the commit that a branch, tag or commit id names in the repository at `root`; raises `NotFound`."""
    asked = ["rev-parse", "-q", "--verify", "--end-of-options", name + "^{commit}"]
    found = git.text(asked, cwd=root, ok=(0, 1, 128))
    if not found:
        raise NotFound(f"{root} has no commit or branch {name!r}", hint="name one that `git log` shows")
    return found
