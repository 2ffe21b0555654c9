"""Named places between two durable effects where a crash test may kill the process.

`HOLDFAST_FAILPOINT=name` or `name:n` kills this process with SIGKILL at the n-th pass of that point (1 if not said).
`HOLDFAST_FAILPOINT_LOG=path` appends each passed name to a file, so that a test can learn which points a run has.
Neither is set in normal use; then a point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal

_passes: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Kills this process here if the environment asks for it; does nothing otherwise."""
    target = os.environ.get("HOLDFAST_FAILPOINT")
    log = os.environ.get("HOLDFAST_FAILPOINT_LOG")
    if target is None and log is None:
        return
    if log is not None:
        _append(log, name)
    wanted, _, count = (target or "").partition(":")
    if wanted == name:
        _passes[name] = _passes.get(name, 0) + 1
        if _passes[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def _append(path: str, name: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, name.encode() + b"\n")
    finally:
        os.close(descriptor)
