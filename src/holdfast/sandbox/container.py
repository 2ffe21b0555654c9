"""Containers by the command line of podman or docker."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from holdfast.errors import InfraError, Unavailable, UsageError
from holdfast.sandbox.confinement import (
    ENTER,
    GATE_SOCKET,
    INSIDE,
    Confinement,
    Hold,
    Holds,
    Mount,
    Network,
    SandboxName,
    Wrapped,
    entrance,
    gated,
    refusal_of,
)

LABEL = "holdfast.run"
_SECONDS = 60.0
_NO_SUCH_PROGRAM = 127
_BOUNDS = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt", "label=disable", "--read-only")
# What the engine's program itself works with. The image has its own of these, so they are not the command's.
# fmt: off
_CLIENT_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY", "CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF",
)
# fmt: on
_OF_THE_HOST = ("PATH", "HOME", "SHELL", "TMPDIR")


class Container:
    """Runs the command in a new container of `image`, which must have the programs that the command uses."""

    def __init__(self, engine: Literal[SandboxName.PODMAN, SandboxName.DOCKER], image: str) -> None:
        self.name = engine
        self._image = image

    def refusal(self) -> str:
        path = os.environ.get("PATH", "")
        if why := refusal_of(_prove, self.name, path):
            return why
        if not self._image:
            return f"{self.name} has no image to run"
        return refusal_of(_prove_image, self.name, path, self._image, *_user(self.name))

    def wrap(self, confinement: Confinement, argv: Sequence[str], env: Mapping[str, str]) -> Wrapped:
        program = shutil.which(self.name) or str(self.name)
        client = {name: os.environ[name] for name in _CLIENT_VARIABLES if name in os.environ}
        shown = {name: value for name, value in env.items() if name not in _OF_THE_HOST}
        gate = confinement.network is Network.ALLOW_LIST
        inside = [*entrance(confinement, "python3", limits=False), *argv] if gate else [*argv]
        run = [program, *self._options(confinement), *_variables(shown, client), self._image, *inside]
        return Wrapped(tuple(gated(confinement, run) if gate else run), {**shown, **client}, forwards=True)

    def holds(self) -> Holds:
        return Holds(files=True, network=True, memory=Hold.WHOLE, processes=Hold.WHOLE, cpus=Hold.WHOLE)

    def end(self, token: str) -> int:
        ids = _ask(self.name, "ps", "--all", "--quiet", "--filter", f"label={LABEL}={token}").split()
        if ids:
            _ask(self.name, "rm", "--force", *ids)
        return len(ids)

    def _options(self, confinement: Confinement) -> list[str]:
        gate = confinement.network is Network.ALLOW_LIST
        readable = [*confinement.readable]
        writable = [confinement.home, *confinement.writable]
        (readable if confinement.read_only else writable).append(confinement.worktree)
        if gate:
            readable.append(Mount(ENTER, INSIDE / ENTER.name))
            writable.append(Mount(confinement.folder / GATE_SOCKET, INSIDE / GATE_SOCKET))
        chosen = ["run", "--rm", "--init", "--interactive", "--label", f"{LABEL}={confinement.token}"]
        chosen += [*_BOUNDS, "--tmpfs", "/tmp:rw,exec,nosuid,nodev", "--hostname", "holdfast"]
        chosen += ["--network", "bridge" if confinement.network is Network.FULL else "none"]
        chosen += _user(self.name)
        # A place has one mount, as engines refuse a second: the last, so what may be written goes before what is read.
        places = {mount.target: _mount(mount, ",readonly") for mount in readable}
        places |= {mount.target: _mount(mount, "") for mount in writable}
        chosen += [option for mount in places.values() for option in mount]
        chosen += ["--workdir", str(confinement.worktree.target), "--env", f"HOME={confinement.home.target}"]
        if confinement.memory_bytes:
            chosen += ["--memory", str(confinement.memory_bytes), "--memory-swap", str(confinement.memory_bytes)]
        if confinement.max_processes:
            chosen += ["--pids-limit", str(confinement.max_processes)]
        if confinement.cpus:
            chosen += ["--cpus", f"{confinement.cpus:g}"]
        return chosen


def _user(name: SandboxName) -> list[str]:
    """Lets the user's files be the user's inside: podman without root would show them as root's."""
    rootless = name is SandboxName.PODMAN and os.getuid() != 0
    return ["--user", f"{os.getuid()}:{os.getgid()}", *(["--userns", "keep-id"] if rootless else [])]


def _mount(mount: Mount, how: str) -> list[str]:
    for path in (mount.source, mount.target):
        if set(str(path)) & set(',"\n'):
            raise UsageError(
                f"a container cannot be shown the path {str(path)!r}", hint="Use one without comma, quote and newline."
            )
    return ["--mount", f"type=bind,source={mount.source},target={mount.target}{how}"]


def _variables(shown: Mapping[str, str], client: Mapping[str, str]) -> list[str]:
    """Gives the options that pass the environment on: by name, so that no value is on the command line.

    Only one that the engine's program has another value of, which is the less likely to be a secret, is written out.
    """
    words: list[str] = []
    for name, value in shown.items():
        words += ["--env", name if client.get(name, value) == value else f"{name}={value}"]
    return words


@cache
def _prove(name: str, path: str) -> None:
    """Asks the engine for itself: a program without a daemon, or without rights, fails at that."""
    if shutil.which(name, path=path) is None:
        raise Unavailable(f"{name} is not installed")
    _ask(name, "info")


@cache
def _prove_image(name: str, path: str, image: str, *user: str) -> None:
    """Runs a container of the image: what asks the engine for itself only does not meet its limits and its runtime.

    An image without the program that is asked for has run as far as to look for it. Nothing is fetched.
    """
    run = ["run", "--rm", "--pull", "never", *_BOUNDS, "--pids-limit", "100", "--network", "none", *user, image, "true"]
    done = _done(name, *run)
    if done.returncode not in (0, _NO_SUCH_PROGRAM):
        raise Unavailable(f"{name} runs no container of the image {image} ({_said(done)})")


def _ask(name: str, *words: str) -> str:
    done = _done(name, *words)
    if done.returncode != 0:
        raise InfraError(f"{name} cannot be used ({_said(done)})", hint=f"See whether `{name} info` works.")
    return done.stdout


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _done(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [name, *words],
            stdin=subprocess.DEVNULL,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfraError(f"{name} does not answer: {error}", hint=f"See whether `{name} info` works.") from error
