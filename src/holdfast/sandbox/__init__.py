"""Sandboxes: where the processes of commands and agents run, and what they can see, reach and use up.

The contract:

- A sandbox turns a command line into another one (`wrap`) that is started in its place, under the shim. It starts
  nothing itself and holds nothing in memory: killing the worker changes nothing for what runs, and the next worker
  adopts it as it would any other run.
- What a confined process needs while it runs (the gate of the allow-list) is part of that command line, and ends with
  it. Where it fails, the confined process is cut off or ends: never the other way round.
- TERM to the process tree reaches the command, KILL ends all of it at once, and its exit code is passed through; a
  command that was ended by signal n gives 128 + n, as in a shell.
- `end(token)` ends what a container engine still runs of a run whose processes here are gone. It may be called at any
  time, for any token, by any worker of the machine.
- What does not hold on this machine is said (`holds`), never assumed. `choose` gives a sandbox that was seen to work
  here, or raises `Unavailable`: nothing runs unconfined unless somebody said `none`.

    confinement.py   what is asked for: folders, network, limits; and what the sandboxes have in common
    none.py          no sandbox
    bubblewrap.py    Linux namespaces, made by `bwrap`
    container.py     podman or docker, by their command line
    choice.py        which of them works here
    limits.py        memory and processes: a systemd scope where there is one, else limits of the process
    enter.py         runs inside, just before the command: takes limits, opens the door of the gate, becomes the command
    gate/            runs outside, around the command: the proxy of the allow-list

This module and `confinement` are free to import; the rest loads on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.sandbox.choice import choose, made, named
    from holdfast.sandbox.confinement import Confinement, Hold, Holds, Mount, Network, Sandbox, SandboxName, Wrapped

__all__ = [
    "Confinement",
    "Hold",
    "Holds",
    "Mount",
    "Network",
    "Sandbox",
    "SandboxName",
    "Wrapped",
    "choose",
    "made",
    "named",
]

_PLACES = {
    "choice": ("choose", "made", "named"),
    "confinement": ("Confinement", "Hold", "Holds", "Mount", "Network", "Sandbox", "SandboxName", "Wrapped"),
}


def __getattr__(name: str) -> object:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
