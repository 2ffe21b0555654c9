"""Starts the command within its gate, and ends with the command's exit code."""

from __future__ import annotations

import os
import signal
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SOCKET = "gate"


def main(folder: str, hosts: list[str], command: list[str]) -> NoReturn:
    """Ends with the command's exit code; 125 if it could not be started."""
    # The command decides when it ends; the gate must be there until then. The sandbox's program inherits this.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = listen(folder)
    try:
        child = os.posix_spawnp(command[0], command, given_environment())
    except OSError as error:
        os.write(2, f"holdfast: the sandbox cannot be started: {error}\n".encode(errors="replace"))
        os._exit(125)
    # Loaded while the sandbox is being made: the rest of Python takes longer than that.
    from .serving import serve_until_end

    serve_until_end(folder, hosts, listener, child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def given_environment() -> dict[bytes, bytes]:
    """Gives the environment as it was handed to us: Python adds an LC_CTYPE of its own to the one it shows."""
    with open("/proc/self/environ", "rb") as file:
        pairs = (entry.partition(b"=") for entry in file.read().split(b"\0") if entry)
        return {name: value for name, _, value in pairs}


def listen(folder: str) -> socket.socket:
    """Opens the socket that `enter.py` comes to; the folder's path may be longer than a socket's."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    path = f"/proc/self/fd/{place}/{SOCKET}"
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    listener.bind(path)
    os.umask(mask)
    listener.listen(1)
    os.close(place)
    return listener
