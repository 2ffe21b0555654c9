"""Limits of memory, processes and CPU for a whole process tree, where the machine lets its users have them."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache

from holdfast.sandbox.confinement import Confinement

_PROBE_SECONDS = 20.0
# systemd-run finds the user's own systemd by them; the command inside has no use for them.
_BUS_VARIABLES = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


def scope(confinement: Confinement) -> list[str]:
    """Gives the beginning of a command line that runs the rest in a control group of its own; empty if there is none.

    `systemd-run --scope` asks systemd for the group, enters it and becomes the rest: no process is added.
    """
    asked = _properties(confinement)
    if not asked or not can_scope():
        return []
    return _systemd_run(asked)


@cache
def can_scope() -> bool:
    """Says whether systemd gives this user control groups: looked at once, by asking for one."""
    if shutil.which("systemd-run") is None or not os.path.isdir("/run/systemd/system"):
        return False
    probe = [*_systemd_run(["-p", "TasksMax=16", "-p", "MemoryMax=64M"]), "true"]
    try:
        done = subprocess.run(
            probe,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _properties(confinement: Confinement) -> list[str]:
    chosen: list[str] = []
    if confinement.memory_bytes:
        # Without a bound on swap, the memory limit only makes it slow.
        chosen += ["-p", f"MemoryMax={confinement.memory_bytes}", "-p", "MemorySwapMax=0"]
    if confinement.max_processes:
        chosen += ["-p", f"TasksMax={confinement.max_processes}"]
    if confinement.cpus:
        chosen += ["-p", f"CPUQuota={round(confinement.cpus * 100)}%"]
    return chosen


def _systemd_run(properties: list[str]) -> list[str]:
    bus = {name: os.environ[name] for name in _BUS_VARIABLES if name in os.environ}
    whose = [] if os.getuid() == 0 else ["--user"]
    return [
        "/usr/bin/env",
        *(f"{name}={value}" for name, value in bus.items()),
        "systemd-run",
        *whose,
        "--scope",
        "--quiet",
        "--collect",
        *properties,
        "--",
        "/usr/bin/env",
        *(f"--unset={name}" for name in bus),
    ]
