"""Linux namespaces by `bwrap`: no daemon, no image, a few milliseconds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path

from holdfast.errors import Unavailable
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
from holdfast.sandbox.limits import can_scope, scope

PROGRAM = "bwrap"
_PROBE_SECONDS = 20.0
_NO_NESTING_SINCE = (0, 8)

# Where systems keep their programs. What a distribution has as a link to another of them stays that link.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/gnu")

# What programs read to work at all: names, certificates, libraries, time, types. Nothing with a password in it.
# fmt: off
ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts", "group", "host.conf",
    "hostname", "hosts", "inputrc", "java-11-openjdk", "java-17-openjdk", "java-21-openjdk", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "lsb-release", "magic", "mime.types",
    "networks", "nsswitch.conf", "os-release", "passwd", "perl", "pki/ca-trust", "pki/tls/cert.pem", "pki/tls/certs",
    "protocols", "python3", "resolv.conf", "rpc", "services", "shells", "ssl/cert.pem", "ssl/certs",
    "ssl/openssl.cnf", "static", "terminfo", "timezone", "xml",
)
# fmt: on

# What of /proc speaks to the whole machine. For root's files no capability is needed: without this, a command of root
# writes the machine's core_pattern, which the kernel then runs as root (seen with bwrap 0.8, which covers only some).
_OF_THE_MACHINE = ("sys", "sysrq-trigger", "fs", "irq", "bus", "acpi", "scsi", "mtrr")

# bwrap dies by TERM and takes its namespace along, so it ignores it; `enter.py` puts that right for the command.
_DEAF = ["/bin/sh", "-c", 'trap "" TERM; exec "$@"', "holdfast"]

_NAMESPACES = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
_BOUNDS = ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "holdfast"]


class Bubblewrap:
    """Shows the command an almost empty machine: the system's programs, its worktree, its home."""

    name = SandboxName.BUBBLEWRAP

    def refusal(self) -> str:
        return refusal_of(_prove, os.environ.get("PATH", ""))

    def wrap(self, confinement: Confinement, argv: Sequence[str], env: Mapping[str, str]) -> Wrapped:
        program = shutil.which(PROGRAM) or PROGRAM
        limited = scope(confinement)
        python = os.path.realpath(sys.executable)
        inside = [*entrance(confinement, python, limits=not limited), *argv]
        sandboxed = [program, *options(confinement, _version(program)), "--", *inside]
        started = gated(confinement, sandboxed) if confinement.network is Network.ALLOW_LIST else [*_DEAF, *sandboxed]
        return Wrapped((*limited, *started), _environment(confinement, env))

    def holds(self) -> Holds:
        if can_scope():
            return Holds(files=True, network=True, memory=Hold.WHOLE, processes=Hold.WHOLE, cpus=Hold.WHOLE)
        # Linux counts no processes for root.
        counted = Hold.NOT if os.getuid() == 0 else Hold.WHOLE
        return Holds(files=True, network=True, memory=Hold.EACH, processes=counted, cpus=Hold.NOT)

    def end(self, token: str) -> int:
        return 0  # all of it is below the process that was started


def options(confinement: Confinement, version: tuple[int, ...]) -> list[str]:
    """Gives the options of bwrap; later mounts lie over earlier ones."""
    chosen = [*_NAMESPACES, *_BOUNDS]
    if version >= _NO_NESTING_SINCE:
        chosen.append("--disable-userns")
    if confinement.network is not Network.FULL:
        chosen.append("--unshare-net")
    chosen += [*_system(SYSTEM), "--dir", "/etc", *_configuration()]
    chosen += ["--proc", "/proc", *_machine(), "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp"]
    chosen += _over(confinement.hidden)
    interpreter = [] if sys.base_prefix in ("/usr", "/usr/local") else [Mount.of(Path(sys.base_prefix))]
    entry = Mount(ENTER, INSIDE / ENTER.name)
    homely = [mount for mount in confinement.readable if mount.target.is_relative_to(confinement.home.target)]
    chosen += _shown(
        "--ro-bind-try", interpreter, [entry], [each for each in confinement.readable if each not in homely]
    )
    chosen += _shown("--bind", [confinement.home])
    chosen += _shown("--ro-bind-try", homely)
    chosen += _shown("--bind", confinement.writable)
    bind = "--ro-bind" if confinement.read_only else "--bind"
    chosen += [bind, str(confinement.worktree.source), str(confinement.worktree.target)]
    if confinement.network is Network.ALLOW_LIST:
        chosen += ["--bind", str(confinement.folder / GATE_SOCKET), str(INSIDE / GATE_SOCKET)]
    # What is written beside the mounts fails, instead of going into memory and being lost.
    return [*chosen, "--remount-ro", "/", "--chdir", str(confinement.worktree.target)]


def _shown(how: str, *mounts: Iterable[Mount]) -> Iterator[str]:
    for mount in chain(*mounts):
        yield from (how, str(mount.source), str(mount.target))


def _system(folders: Iterable[str]) -> Iterator[str]:
    for folder in folders:
        if os.path.islink(folder):
            yield from ("--symlink", os.readlink(folder), folder)
        elif os.path.isdir(folder):
            yield from ("--ro-bind", folder, folder)


def _configuration() -> Iterator[str]:
    for name in ETC:
        path = f"/etc/{name}"
        if os.path.exists(path):
            # A link such as resolv.conf's leads to where nothing is inside; so what it leads to is shown in its place.
            yield from ("--ro-bind", os.path.realpath(path), path)


def _machine() -> Iterator[str]:
    for name in _OF_THE_MACHINE:
        yield from ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")


def _over(hidden: Iterable[Path]) -> Iterator[str]:
    """Gives an empty folder over each hidden one that a system folder would show."""
    for path in hidden:
        real = Path(os.path.realpath(path))
        if any(real.is_relative_to(folder) for folder in SYSTEM) and real.is_dir():
            yield from ("--tmpfs", str(real))


def _environment(confinement: Confinement, env: Mapping[str, str]) -> dict[str, str]:
    """Gives the command's environment; bwrap passes its own on, so nothing of it is on a command line."""
    kept = {name: value for name, value in env.items() if name != "TMPDIR"}
    return {**kept, "HOME": str(confinement.home.target)}


@cache
def _version(program: str) -> tuple[int, ...]:
    try:
        told = subprocess.run(
            [program, "--version"], check=True, capture_output=True, text=True, timeout=_PROBE_SECONDS
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()  # it cannot be started either, and that is told then
    return tuple(int(number) for number in re.findall(r"\d+", told)[:3])


@cache
def _prove(path: str) -> None:
    """Runs a command in all the namespaces that are used; raises `Unavailable` if that fails."""
    program = shutil.which(PROGRAM, path=path)
    if program is None:
        raise Unavailable("bwrap is not installed")
    nesting = ["--disable-userns"] if _version(program) >= _NO_NESTING_SINCE else []
    probe = [
        program,
        *_NAMESPACES,
        *_BOUNDS,
        *nesting,
        "--unshare-net",
        *_system(SYSTEM),
        "--proc",
        "/proc",
        *_machine(),
    ]
    try:
        done = subprocess.run(
            [*probe, "--dev", "/dev", "--", "true"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"bwrap cannot run here: {error}") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Unavailable(f"bwrap cannot make namespaces here ({said.removeprefix('bwrap: ')})")
