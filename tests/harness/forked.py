"""Runs the program in a process of its own that is forked off one which has it imported: as real, and sooner there.

A process that waits for requests imports everything and starts no thread. For each request it forks one that waits for
the program, which is forked off that one; so several may run at once, and each may be killed.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

_LARGEST_REQUEST = 1 << 17
# What these say is settled before the program is forked off.
_OF_THE_INTERPRETER = ("PYTHON", "LC_", "LANG")


@dataclass(frozen=True)
class Ended:
    """What a process left: its exit code as `subprocess` tells it, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def can_run(variables: Mapping[str, str]) -> bool:
    """Tells whether the program means the same with this environment when it is forked off."""
    return all(
        variables.get(name) == os.environ.get(name)
        for name in {*variables, *os.environ}
        if name.startswith(_OF_THE_INTERPRETER)
    )


def run(words: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: str = "", timeout: float = 240.0) -> Ended:
    """Runs `holdfast` with these arguments to its end; raises `TimeoutExpired` (and kills it) when it takes longer."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            request = json.dumps({"words": list(words), "cwd": str(cwd), "env": dict(env)}).encode()
            with theirs:
                files = [theirs.fileno(), given.fileno(), out.fileno(), err.fileno()]
                socket.send_fds(_server().channel, [request], files)
            ours.settimeout(timeout)
            pid = int(ours.recv(64))
            try:
                code = int(ours.recv(64))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(words), timeout) from None
        return Ended(code, _written(out), _written(err))


def _written(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


@dataclass(frozen=True)
class _Server:
    process: subprocess.Popen[bytes]
    channel: socket.socket


@cache
def _server() -> _Server:
    """Starts the process that waits for requests; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.forked", str(theirs.fileno())],
            cwd=Path(__file__).parents[2],
            env={name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return _Server(process, ours)


def close() -> None:
    """Ends the process that waits, if there is one."""
    if _server.cache_info().currsize:
        _server().channel.close()
        _server().process.wait()
        _server.cache_clear()


# -- in the process that waits -----------------------------------------------------------------------------------------


def serve(channel: socket.socket) -> int:
    """Forks a process for each request until the other side is gone; in that process it gives the exit code."""
    _import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    while True:
        request, files, _, _ = socket.recv_fds(channel, _LARGEST_REQUEST, 4)
        if not request:
            return 0
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel.close()
            return _wait_for_program(json.loads(request), *files)
        for file in files:
            os.close(file)


def _wait_for_program(request: dict[str, object], answer: int, *files: int) -> int:
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        return _program(request, files)
    os.write(answer, str(pid).encode())
    os.write(answer, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
    os._exit(0)


def _program(request: dict[str, object], files: Sequence[int]) -> int:
    for descriptor, file in enumerate(files):
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[arg-type]
    sys.argv = ["holdfast", *request["words"]]  # type: ignore[misc]
    from holdfast.cli.main import main

    main()


def _import_everything() -> None:
    import importlib
    import pkgutil

    import holdfast

    for found in pkgutil.walk_packages(holdfast.__path__, "holdfast."):
        if "migrations" not in found.name and not found.name.endswith(("__main__", ".shim", ".enter")):
            importlib.import_module(found.name)
    for loaded_when_first_used in ("acp", "pydantic_ai.direct", "pydantic_ai.models.openai"):
        importlib.import_module(loaded_when_first_used)
    gc.freeze()


if __name__ == "__main__":
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
