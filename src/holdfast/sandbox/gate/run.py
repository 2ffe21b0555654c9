"""Runs the command with its gate, from the first connection to the exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time

from .proxy import Proxy
from .rules import Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SOCKET = "gate"
DENIED = "denied.jsonl"
DENIED_MAX = 1000
DOORS_MAX = 250


def main(folder: str, hosts: list[str], command: list[str]) -> NoReturn:
    """Ends with the command's exit code; 125 if it could not be started."""
    # The command decides when it ends; the gate must be there until then. The sandbox's program inherits this.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = listen(folder)
    try:
        child = subprocess.Popen(command, env=given_environment())
    except OSError as error:
        os.write(2, f"holdfast: the sandbox cannot be started: {error}\n".encode(errors="replace"))
        os._exit(125)
    code = asyncio.run(stand(folder, Rules(hosts), listener, child))
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


async def stand(folder: str, rules: Rules, listener: socket.socket, child: subprocess.Popen[bytes]) -> int:
    """Serves the command until it ends; gives its exit code, negative for a signal."""
    proxy = Proxy(rules, Denials(os.path.join(folder, DENIED)).note)
    ended = asyncio.Event()
    descriptor = os.pidfd_open(child.pid)
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    serving = asyncio.create_task(serve(proxy, rules, listener))
    await ended.wait()
    serving.cancel()
    return child.wait()


async def serve(proxy: Proxy, rules: Rules, listener: socket.socket) -> None:
    """Takes the doors of the first who comes, which is `enter.py`: the command does not run yet. Then it closes."""
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    listener.close()
    connection.setblocking(True)
    _, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, connection, 1, DOORS_MAX)
    connection.close()
    doors = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    servers = [await proxy.answer(doors[0])]
    for port, door in zip(rules.local_ports, doors[1:], strict=True):
        servers.append(await proxy.pass_on(door, port))
    await asyncio.gather(*(server.serve_forever() for server in servers))


class Denials:
    """Writes each host that was refused into a file, once, and at most `DENIED_MAX` of them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: set[tuple[str, int]] = set()

    def note(self, host: str, port: int, why: str) -> None:
        if (host, port) in self._seen or len(self._seen) >= DENIED_MAX:
            return
        self._seen.add((host, port))
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"at": round(time.time(), 3), "host": host, "port": port, "why": why}) + "\n")
