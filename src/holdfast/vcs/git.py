"""The one safe way to run git: no foreign configuration, no hooks, no filters of anybody's, no prompts, no network.

A repository that an agent can write to can make whoever runs git in it run programs (hooks, fsmonitor, filters, gpg,
external diff). So the environment is built from nothing, and every such switch is off on the command line, where it
wins over the repository's own configuration.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from holdfast.errors import InfraError, StepError, Unavailable

MINIMUM_VERSION = (2, 39)
TIMEOUT_SECONDS = 1800.0

_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.fsync=committed",
    "core.excludesFile=/dev/null",
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.untrackedCache=false",
    "core.protectNTFS=false",
    "core.protectHFS=false",
    "core.alternateRefsCommand=",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "diff.ignoreSubmodules=all",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "index.version=2",
    # Who waits for a worktree waits for its files, so several processes write them where there are many.
    f"checkout.workers={min(os.cpu_count() or 1, 4)}",
    "protocol.allow=never",
)
_OPTIONS = tuple(part for setting in _CONFIG for part in ("-c", setting))
_FILE_TRANSPORT = ("-c", "protocol.file.allow=always")
_SYSTEM_FAILURES = (
    "No space left on device",
    "Out of diskspace",
    "Disk quota exceeded",
    "Input/output error",
    "Read-only file system",
    "Permission denied",
    "Too many open files",
    "Cannot allocate memory",
)
_SYSTEM_ERRNOS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EFBIG,
    }
)


class GitError(StepError):
    """A git command failed for a reason that lies in the repository or the request."""

    default_code = "git_failed"


class GitDiskError(InfraError):
    """A git command, or a write beside it, failed because the disk or the operating system did."""

    default_code = "disk"


def disk_error(problem: str, place: str = "the data folder") -> GitDiskError:
    """Gives the error for a disk or system failure whose cause is told in `problem`."""
    return GitDiskError(
        f"{place} cannot be used: {problem}",
        hint="free some space or make the folder writable, then run the command again: nothing is lost",
    )


@contextmanager
def disk_failures(place: str = "the data folder") -> Generator[None]:
    """Turns a full disk, an I/O error, a read-only folder and the like inside the block into `GitDiskError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _SYSTEM_ERRNOS:
            raise disk_error(str(error), place) from error
        raise


@lru_cache(maxsize=1)
def program() -> str:
    """Gives the path of a git that is new enough; raises `Unavailable` if there is none."""
    path = shutil.which("git")
    if path is None:
        raise Unavailable("git is not installed", hint="install git 2.39 or newer and put it on the PATH")
    answer = subprocess.run([path, "version"], capture_output=True, env=environment(), check=False).stdout.decode()
    found = re.search(r"(\d+)\.(\d+)", answer)
    if found is None or (int(found[1]), int(found[2])) < MINIMUM_VERSION:
        raise Unavailable(
            f"git is too old: {answer.strip() or 'it does not tell its version'}",
            hint="install git 2.39 or newer (Holdfast needs `git merge-tree --write-tree`)",
        )
    return path


def environment(index: Path | None = None) -> dict[str, str]:
    """Gives the whole environment of a git process; nothing of ours is passed on but the PATH."""
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(Path(__file__).with_name("safe.gitconfig")),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_DEFAULT_REF_FORMAT": "files",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_PAGER": "cat",
    }
    if index is not None:
        variables["GIT_INDEX_FILE"] = str(index)
    return variables


def command(
    args: Sequence[str | bytes],
    *,
    cwd: Path | None = None,
    git_dir: Path | None = None,
    work_tree: Path | None = None,
    file_transport: bool = False,
) -> list[str | bytes]:
    """Gives the full command line of a safe git."""
    line: list[str | bytes] = [program(), *_OPTIONS]
    if file_transport:
        line += _FILE_TRANSPORT
    if cwd is not None:
        line += ["-C", str(cwd)]
    if git_dir is not None:
        line.append(f"--git-dir={git_dir}")
    if work_tree is not None:
        line.append(f"--work-tree={work_tree}")
    return [*line, *args]


def run(
    args: Sequence[str | bytes],
    *,
    cwd: Path | None = None,
    git_dir: Path | None = None,
    work_tree: Path | None = None,
    index: Path | None = None,
    stdin: bytes = b"",
    ok: tuple[int, ...] = (0,),
    timeout: float = TIMEOUT_SECONDS,
    file_transport: bool = False,
    pass_fds: tuple[int, ...] = (),
) -> bytes:
    """Gives the standard output of one git command.

    Any exit code that `ok` does not have raises `GitError`, or `GitDiskError` where the disk or the system is the
    cause; both carry the end of what git said. The child is in its own process group, so that a Ctrl-C does not cut it
    off half-way, and keeps `pass_fds` open as long as it lives.
    """
    line = command(args, cwd=cwd, git_dir=git_dir, work_tree=work_tree, file_transport=file_transport)
    try:
        done = subprocess.run(
            line,
            input=stdin,
            capture_output=True,
            env=environment(index),
            timeout=timeout,
            process_group=0,
            pass_fds=pass_fds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GitDiskError(f"git {shown(args)} did not end within {timeout:g} s", code="git_timeout") from error
    if done.returncode not in ok:
        raise failure(args, done.returncode, done.stderr)
    return done.stdout


def text(args: Sequence[str | bytes], **options: object) -> str:
    """Gives the standard output of one git command as text without the last line end; options are those of `run`."""
    return run(args, **options).rstrip(b"\n").decode("utf-8", "surrogateescape")  # type: ignore[arg-type]


def shown(args: Sequence[str | bytes]) -> str:
    """Gives the first words of a command, for messages."""
    words = [os.fsdecode(part) for part in args if os.fsdecode(part) != "-c"]
    return " ".join(words[:3])


def failure(args: Sequence[str | bytes], returncode: int, stderr: bytes) -> GitError | GitDiskError:
    """Gives the error for a git command that ended with `returncode` and said `stderr`."""
    said = stderr.decode("utf-8", "replace").strip()[-600:]
    if any(cause in said for cause in _SYSTEM_FAILURES):
        return disk_error(f"git {shown(args)}: {said}")
    return GitError(f"git {shown(args)} failed ({returncode}): {said or 'it said nothing'}")


class Coprocess:
    """A git command that stays and answers questions on its standard input; it ends with this process."""

    def __init__(
        self,
        args: Sequence[str],
        *,
        git_dir: Path,
        work_tree: Path | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self._args = args
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 closed in close()
        self._process = subprocess.Popen(
            command(args, cwd=work_tree, git_dir=git_dir, work_tree=work_tree),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(),
            process_group=0,
            pass_fds=pass_fds,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout

    def send(self, question: bytes) -> None:
        """Writes `question`, which must fit a pipe (64 KiB) unless the answers are read meanwhile."""
        try:
            self._input.write(question)
            self._input.flush()
        except BrokenPipeError as error:
            raise self.failure() from error

    def line(self) -> bytes:
        """Gives the next line of the answer without its end."""
        answer = self._output.readline()
        if not answer.endswith(b"\n"):
            raise self.failure()
        return answer[:-1]

    def read(self, size: int) -> bytes:
        """Gives exactly `size` bytes of the answer."""
        answer = self._output.read(size)
        if len(answer) != size:
            raise self.failure()
        return answer

    def until_nul(self, count: int) -> list[bytes]:
        """Gives the next `count` fields that end with NUL."""
        fields: list[bytes] = []
        pending = b""
        while len(fields) < count:
            chunk = self._output.read1(65536)  # type: ignore[attr-defined]
            if not chunk:
                raise self.failure()
            *whole, pending = (pending + chunk).split(b"\0")
            fields += whole
        return fields

    def failure(self) -> GitError | GitDiskError:
        """Gives the error that tells why the process is gone; ends it."""
        self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read()
        self.close()
        return failure(self._args, code, said)

    def close(self) -> None:
        """Ends the process; nothing is lost, it holds no state."""
        if self._process.poll() is None:
            self._process.kill()
        for stream in (self._input, self._output):
            try:
                stream.close()
            except BrokenPipeError:
                continue  # its last question was never read; it is gone, and so is the question
        self._process.wait()
        self._errors.close()
