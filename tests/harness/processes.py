"""Finds and kills the processes of one run, and no others.

A process belongs to a run if it carries the run's token in its environment, or names the run's folder in its command
line, or works in that folder: a shim has a bare environment, git a built one.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from holdfast.agents.shim.tree import look


def of_run(root: Path, token: str) -> list[int]:
    """Gives the pids of the living processes of a run, without this one."""
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _belongs(int(name), root, token):
            found.append(int(name))
    return found


def kill_run(root: Path, token: str, *, seconds: float = 120.0) -> int:
    """Kills every process of a run and gives how many there were; all are dead on return."""
    killed: set[int] = set()
    deadline = time.monotonic() + seconds
    while pids := of_run(root, token):
        if time.monotonic() > deadline:
            raise AssertionError(f"processes {pids} of {root} do not die")
        killed.update(pid for pid in pids if _kill(pid, root, token))
        time.sleep(0.002)
    return len(killed)


def await_quiet(root: Path, token: str, *, seconds: float) -> list[int]:
    """Waits until no process of the run lives; gives those that still do after `seconds`."""
    deadline = time.monotonic() + seconds
    while (pids := of_run(root, token)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return pids


def tell(pid: int) -> str:
    """Gives a process's command line, for a report."""
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip() or f"process {pid}"


def _kill(pid: int, root: Path, token: str) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Looked at again through the descriptor: the pid may have become another process's meanwhile.
        if not _belongs(pid, root, token):
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _belongs(pid: int, root: Path, token: str) -> bool:
    carried = f"CRASH_TOKEN={token}".encode() in _read(pid, "environ").split(b"\0")
    if not (carried or os.fsencode(root) in _read(pid, "cmdline") or _works_in(pid, root)):
        return False
    process = look(pid)
    return process is not None and process.alive


def _works_in(pid: int, root: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(root)
    except OSError:
        return False


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
