"""Starts the command: in a session of its own, with only what it shall have, and bound to the shim's life."""

from __future__ import annotations

import errno
import os

from .lean import prctl, signal
from .tree import TOKEN_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# What the shim ignores, Python ignores, and what a shell ignores for what it starts in the background.
_RESTORED_SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGPIPE", "SIGXFSZ")


class Failure:
    """Why the command could not be started, with the exit code that a shell would give."""

    def __init__(self, exit_code: int, message: str) -> None:
        self.exit_code = exit_code
        self.message = message


class Child:
    """The started command and the shim's ends of its pipes (`stdin` is -1 where it reads /dev/null)."""

    def __init__(self, pid: int, stdin: int, stdout: int, stderr: int, failure: Failure | None) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.failure = failure


def adopt_orphans() -> None:
    """Makes every descendant whose parent dies a child of this process, so that none can leave unseen."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def spawn(launch: dict) -> Child:
    """Starts the command of `launch.json`; returns when it runs or has failed to start."""
    stdout, stdout_end = os.pipe()
    stderr, stderr_end = os.pipe()
    stdin, stdin_end = -1, -1
    if launch["stdin"] == "pipe":
        stdin_end, stdin = os.pipe()
    news, news_end = os.pipe()
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become_command(launch, shim, (stdin_end, stdout_end, stderr_end), news_end)
    for descriptor in (stdin_end, stdout_end, stderr_end, news_end):
        if descriptor >= 0:
            os.close(descriptor)
    with open(news, encoding="utf-8", errors="replace") as file:
        text = file.read()
    code, _, message = text.partition(" ")
    failure = Failure(int(code), message) if text else None
    for descriptor in (stdin, stdout, stderr):
        if descriptor >= 0:
            os.set_blocking(descriptor, False)
    return Child(pid, stdin, stdout, stderr, failure)


def _become_command(launch: dict, shim: int, ends: tuple[int, int, int], news: int) -> NoReturn:
    try:
        os.setsid()
        prctl(_PR_SET_PDEATHSIG, 9)
        if os.getppid() != shim:
            os._exit(1)
        for name in _RESTORED_SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        stdin, stdout, stderr = ends
        os.dup2(stdin if stdin >= 0 else os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        failure = _enter(launch["cwd"]) or _execute(launch)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear it: nobody else can
        failure = Failure(126, f"the command could not be started: {error}")
    os.write(news, f"{failure.exit_code} {failure.message}".encode(errors="replace")[:4000])
    os._exit(failure.exit_code)


def _enter(folder: str) -> Failure | None:
    try:
        os.chdir(folder)
    except OSError as error:
        return Failure(126, f"cannot enter the folder {folder}: {error.strerror}")
    return None


def _execute(launch: dict) -> Failure:
    argv = launch["argv"] or ["/bin/sh", "-c", launch["shell"]]
    try:
        os.execvpe(argv[0], argv, {**launch["env"], TOKEN_VARIABLE: launch["token"]})
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return Failure(127, f"command not found: {argv[0]}")
        return Failure(126, f"cannot execute {argv[0]}: {error.strerror}")
