"""Finds processes in /proc and signals them by pidfd, so that a reused pid is never hit."""

from __future__ import annotations

import os

from .lean import signal

TOKEN_VARIABLE = "HOLDFAST_RUN_TOKEN"


class Process:
    """One process; `born` (clock ticks since boot) tells it from a later one with the same pid."""

    __slots__ = ("alive", "born", "parent", "pid")

    def __init__(self, pid: int, parent: int, born: int, alive: bool) -> None:
        self.pid = pid
        self.parent = parent
        self.born = born
        self.alive = alive


def look(pid: int) -> Process | None:
    """Gives what /proc says of a process, None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            stat = file.read(4096)
    except OSError:
        return None
    if b")" not in stat:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[19]), fields[0] not in (b"Z", b"X"))


def everyone() -> list[Process]:
    """Gives every process that this one can see."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def below(roots: set[int], processes: list[Process]) -> list[Process]:
    """Gives the living descendants of `roots`, without the roots."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    seen = set(roots)
    waiting = list(roots)
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child.pid not in seen:
                seen.add(child.pid)
                found.append(child)
                waiting.append(child.pid)
    return [process for process in found if process.alive]


def carries(pid: int, token: str) -> bool:
    """Says whether the process was started with the run's token in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = file.read()
    except OSError:
        return False
    return f"{TOKEN_VARIABLE}={token}".encode() in environ.split(b"\0")


def send(process: Process, number: int) -> int | None:
    """Sends a signal to exactly this process and gives its pidfd (to wait on), None if it is gone.

    Raises PermissionError where the process belongs to somebody else.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    current = look(process.pid)
    try:
        if current is None or current.born != process.born or not current.alive:
            raise ProcessLookupError
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def send_again(descriptor: int, number: int) -> None:
    """Sends one more signal through a pidfd of `send`; nothing if the process has ended meanwhile."""
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
