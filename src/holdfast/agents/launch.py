"""Starts runs under the shim and tells what state they are in: the worker's side of the run folder.

What is true of a run follows from two things only, its lock and its journal, so every process reads the same state:

    lock     journal          state
    held     no `started`     starting    the shim, or the worker that is about to start it, lives
    held     `started`        running
    any      `exit`           ended
    free     none             absent      nothing has run: starting is safe
    free     without `exit`   lost        it may have run, nobody saw the end: never started again here

The lock is an open file description lock: taken by the worker, passed to the shim by inheritance, so there is no
instant in which a living run looks dead; and it can be asked for without being taken, so looking disturbs nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from holdfast import clock
from holdfast.agents import journal
from holdfast.agents.nursery import Nursery
from holdfast.agents.shim import tree
from holdfast.agents.shim.redact import Redactor
from holdfast.errors import HoldfastError, InfraError, UsageError
from holdfast.failpoints import failpoint

_NURSERY = Nursery()
SECRET_NAMES = ("*_API_KEY", "*_TOKEN", "*_SECRET", "*_PASSWORD")
_FLOCK = "hhqqi"
# The token is there when this worker itself runs inside a run: what it starts belongs to that run too.
_SHIM_ENVIRONMENT = ("HOLDFAST_FAILPOINT", "HOLDFAST_FAILPOINT_LOG", tree.TOKEN_VARIABLE)
_KILL_SECONDS = 10.0


class Lost(HoldfastError):
    """The run's shim died without recording an end: the command may have done anything up to all of its work."""

    default_code = "run_lost"


class RunState(StrEnum):
    """What the run folder says of the run; the table is at the head of this module."""

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run: either `argv`, or `shell` for /bin/sh. `env` is the whole environment, `token` names the run.

    The values of the variables that `secrets` name (with `*`) are redacted in all that is kept of the run.
    `timeout_seconds` 0 = no limit; it stands still where `suspend_limit` says so. `grace_seconds` lie between SIGTERM
    and SIGKILL, for the whole process tree.
    `asked_to_end` says who gets that SIGTERM: all processes, or the command's group, which passes it on itself.
    `line_max_bytes` cuts longer lines of standard output with a marker; 0 = no limit, else at least 64 KiB.
    """

    cwd: str
    env: Mapping[str, str]
    token: str
    argv: tuple[str, ...] | None = None
    shell: str | None = None
    timeout_seconds: float = 0.0
    grace_seconds: float = 10.0
    asked_to_end: Literal["tree", "group"] = "tree"
    journal_max_bytes: int = 64 << 20
    secrets: tuple[str, ...] = SECRET_NAMES
    line_max_bytes: int = 0
    stdin: Literal["null", "pipe"] = "null"

    def __post_init__(self) -> None:
        if (self.argv is None) == (self.shell is None) or self.argv == ():
            raise UsageError("a launch has either argv or shell", hint="Give exactly one of them, not empty.")
        if 0 < self.line_max_bytes < 1 << 16:
            raise UsageError("a limit of lines below 64 KiB cannot be kept", hint="Give more, or 0 for none.")
        if not os.path.isabs(self.cwd):
            raise UsageError(f"a command cannot run in the relative folder {self.cwd!r}", hint="Give an absolute path.")


def start(folder: Path, launch: Launch) -> None:
    """Starts the run if nothing of it has ever run in `folder`; otherwise does nothing (ask `state`).

    On return the shim lives, independent of this process, or the run had been started before. Raises InfraError if
    the shim could not be started; then nothing has run. Blocks for some 20 ms.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "shim.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _take(lock) or (folder / journal.FILE_NAME).exists():
                return
            _record(folder, launch)
            failpoint("launch.recorded")
            _start_shim(folder, lock, launch)
            failpoint("launch.started")
        finally:
            os.close(lock)
    except OSError as error:
        raise InfraError(
            f"the run folder {folder} cannot be used: {error.strerror or error}",
            hint="Check the disk and the permissions of Holdfast's data folder.",
        ) from error


def state(folder: Path) -> RunState:
    """Gives the state of the run; never waits, never guesses by time."""
    held = is_held(folder)
    # The lock first: a shim that ends between the two looks has written its exit record by the second.
    path = folder / journal.FILE_NAME
    if journal.complete(path) is not None:
        return RunState.ENDED
    if not held:
        return RunState.LOST if path.exists() else RunState.ABSENT
    return RunState.RUNNING if journal.Reader(path).read(1) else RunState.STARTING


def kill_strays(token: str) -> int:
    """Kills every process that was started with the run's token, and gives their number; they are dead on return.

    To be called before the work of a lost run is begun again. Raises InfraError if one cannot be killed.
    """
    killed: set[int] = set()
    while True:
        processes = tree.everyone()
        carriers = {process.pid for process in processes if tree.carries(process.pid, token)}
        strays = [process for process in processes if process.pid in carriers and process.alive]
        strays += tree.below(carriers, processes)
        descriptors = [_kill(process) for process in strays]
        if not (found := [descriptor for descriptor in descriptors if descriptor is not None]):
            return len(killed)
        killed.update(process.pid for process in strays)
        _await_deaths(found)


# -- start -----------------------------------------------------------------------------------------------------------


def of_this_boot(folder: Path) -> bool:
    """Tells whether the run began after the machine did. What an older one wrote may not have reached the disk."""
    try:
        written = json.loads((folder / "launch.json").read_bytes())
    except (OSError, ValueError):  # `start` says what is wrong with the folder
        return True
    return written.get("boot", clock.boot_id()) == clock.boot_id()


def _record(folder: Path, launch: Launch) -> None:
    """Writes launch.json durably, its folder too: a record for people, and the intent; without any secret.

    The shim gets the launch itself in memory. Nobody else needs it: a run is started once, and adopted by its journal.
    """
    redactor = Redactor(secret_values(launch.env, launch.secrets))
    kept = _plain(launch) | {
        "argv": [redactor.text(word) for word in launch.argv] if launch.argv else None,
        "shell": redactor.text(launch.shell) if launch.shell else None,
        "env": sorted(launch.env),
        "boot": clock.boot_id(),
    }
    draft = folder / "launch.json.new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(json.dumps(kept).encode())
        file.flush()
        os.fsync(file.fileno())
    draft.rename(folder / "launch.json")
    for changed in (folder, folder.parent):
        descriptor = os.open(changed, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _plain(launch: Launch) -> dict[str, object]:
    return {field.name: getattr(launch, field.name) for field in fields(launch)}


def secret_values(variables: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Gives those of the variables whose values are secrets, by names in which `*` stands for anything."""
    patterns = [name.strip() for name in names]
    return {name: value for name, value in variables.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _start_shim(folder: Path, lock: int, launch: Launch) -> None:
    # The first process prepares, forks the lasting one and ends: its end tells that the shim stands.
    environment = {name: os.environ[name] for name in _SHIM_ENVIRONMENT if name in os.environ}
    told = {**_plain(launch), "env": dict(launch.env), "secrets": secret_values(launch.env, launch.secrets)}
    with (folder / "shim.log").open("wb") as log, open(os.memfd_create("launch"), "w+b") as file:
        file.write(json.dumps(told).encode())
        file.seek(0)
        code = _NURSERY.start(folder, lock, log.fileno(), file.fileno(), environment)
    if code != 0:
        lines = (folder / "shim.log").read_text(errors="replace").strip().splitlines()
        said = lines[-1] if lines else f"it ended with {code}"
        raise InfraError(f"the shim could not be started: {said}", hint=f"See {folder / 'shim.log'}.")


# -- the lock --------------------------------------------------------------------------------------------------------


def _take(lock: int) -> bool:
    try:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


def is_held(folder: Path) -> bool:
    """Says whether a shim (or a worker about to start it) holds the run's lock, without touching it."""
    try:
        lock = os.open(folder / "shim.lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(lock, fcntl.F_OFD_GETLK, question)
        return struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK
    finally:
        os.close(lock)


# -- strays ----------------------------------------------------------------------------------------------------------


def _kill(process: tree.Process) -> int | None:
    try:
        return tree.send(process, 9)
    except PermissionError as error:
        raise _unkillable(process.pid) from error


def _await_deaths(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        dead = poll.poll(_KILL_SECONDS * 1000)
        os.close(descriptor)
        if not dead:
            raise InfraError("a process of a lost run does not die under SIGKILL", hint="Look for one in state D.")


def _unkillable(pid: int) -> InfraError:
    return InfraError(
        f"process {pid} of a lost run belongs to another user and cannot be killed",
        hint=f"End it by hand (as root: kill -9 {pid}), then resume.",
    )
