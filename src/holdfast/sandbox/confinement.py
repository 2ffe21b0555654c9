"""What a confined command may see, reach and use up, and what every sandbox can do with that."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from holdfast.errors import HoldfastError, UsageError
from holdfast.sandbox.gate.rules import Rules

# Where a confined process finds what is ours; these two and nothing else.
INSIDE = Path("/run/holdfast")
ENTER = Path(__file__).parent / "enter.py"
GATE = Path(__file__).parent / "gate" / "__main__.py"
GATE_SOCKET = "gate"


class SandboxName(StrEnum):
    """What a person may ask for: `auto` is the first that works of bubblewrap, podman and docker."""

    AUTO = "auto"
    NONE = "none"
    BUBBLEWRAP = "bubblewrap"
    PODMAN = "podman"
    DOCKER = "docker"


class Network(StrEnum):
    """What a confined command reaches: nothing, the hosts of a list through our proxy, or all that the user does."""

    NONE = "none"
    ALLOW_LIST = "allow-list"
    FULL = "full"


class Hold(StrEnum):
    """Whether a limit holds: for the whole tree of processes, for each process by itself, or not at all."""

    WHOLE = "whole"
    EACH = "each"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host and the path at which the command sees it."""

    source: Path
    target: Path

    @classmethod
    def of(cls, path: Path) -> Mount:
        """Gives a mount that is seen at its own path."""
        return cls(path, path)


@dataclass(frozen=True, slots=True)
class Confinement:
    """What one run may do. All paths are absolute; a limit of 0 is none.

    `worktree` and `home` are read and written, and so are `writable`; `readable` only read, and with `read_only` the
    worktree too. The programs of the system are readable everywhere. `hidden` names what must not be seen even if it
    lies in a folder that is: Holdfast's data folder and the user's home. The command starts in `worktree`, and `home`
    is its HOME.
    `folder` is the run's folder on the host: the gate's socket and `denied.jsonl` (what was refused) lie there.
    `token` names the run, as in `Launch`. `hosts` are the entries of the allow-list (`gate/rules.py`).
    """

    worktree: Mount
    home: Mount
    folder: Path
    token: str
    readable: tuple[Mount, ...] = ()
    writable: tuple[Mount, ...] = ()
    hidden: tuple[Path, ...] = ()
    network: Network = Network.NONE
    hosts: tuple[str, ...] = ()
    memory_bytes: int = 0
    max_processes: int = 0
    cpus: float = 0.0
    read_only: bool = False

    def __post_init__(self) -> None:
        for mount in (self.worktree, self.home, *self.readable, *self.writable):
            for path in (mount.source, mount.target):
                if not path.is_absolute():
                    raise UsageError(f"a sandbox cannot show the relative path {str(path)!r}", hint="Make it absolute.")
        try:
            Rules(self.hosts)
        except ValueError as error:
            raise UsageError(str(error), hint="See HOLDFAST_SANDBOX_HOSTS in docs/sandbox.md.") from error


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What is started instead: a command line and its whole environment.

    If it `forwards` signals to the command, the command must not get them from somebody else too.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    forwards: bool = False


@dataclass(frozen=True, slots=True)
class Holds:
    """What a sandbox really keeps of a confinement, on this machine."""

    files: bool
    network: bool
    memory: Hold
    processes: Hold
    cpus: Hold


class Sandbox(Protocol):
    """One kind of sandbox. Calls may come from any thread, in any order, any number of times."""

    @property
    def name(self) -> SandboxName: ...

    def refusal(self) -> str:
        """Gives why it cannot run here, empty if it was seen to work; success is remembered."""
        ...

    def wrap(self, confinement: Confinement, argv: Sequence[str], env: Mapping[str, str]) -> Wrapped:
        """Gives the command line that runs `argv` confined; the folders of `confinement` exist when it is started.

        Values of `env` never appear on a command line, where every user of the machine could read them.
        Raises UserError for what this sandbox cannot do.
        """
        ...

    def holds(self) -> Holds:
        """Says how far what a confinement asks for is kept on this machine."""
        ...

    def end(self, token: str) -> int:
        """Ends what still runs of a run outside of its process tree and gives their number; gone on return."""
        ...


def refusal_of(proof: Callable[..., None], *arguments: str) -> str:
    """Gives why `proof` failed, empty if it did not. A cached proof keeps its success; what failed is tried again."""
    try:
        proof(*arguments)
    except HoldfastError as error:
        return error.message
    return ""


def entrance(confinement: Confinement, python: str, *, limits: bool) -> list[str]:
    """Gives the beginning of a command line inside: `enter.py`, with what it has to do before it is the command."""
    gated = confinement.network is Network.ALLOW_LIST
    memory, processes = (confinement.memory_bytes, confinement.max_processes) if limits else (0, 0)
    ports = ",".join(str(port) for port in Rules(confinement.hosts).local_ports) if gated else ""
    socket = str(INSIDE / GATE_SOCKET) if gated else ""
    return [python, "-I", "-S", str(INSIDE / ENTER.name), str(memory), str(processes), socket, ports]


def gated(confinement: Confinement, argv: Sequence[str]) -> list[str]:
    """Gives `argv` with the gate of the allow-list around it."""
    return [sys.executable, "-I", "-S", str(GATE), str(confinement.folder), *confinement.hosts, "--", *argv]
