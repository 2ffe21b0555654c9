"""Serves a confined command at the doors that `enter.py` hands over, until the command has ended."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time

from .proxy import Proxy
from .rules import Rules

DENIED = "denied.jsonl"
DENIED_MAX = 1000
DOORS_MAX = 250


def serve_until_end(folder: str, hosts: list[str], listener: socket.socket, child: int) -> None:
    """Returns when the process `child` has ended; it is not reaped yet. `denied.jsonl` tells what was refused."""
    # Not `asyncio.run`: that would wait for the names that are still being resolved, and this process ends next.
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_stand(Rules(hosts), Denials(os.path.join(folder, DENIED)), listener, child))


async def _stand(rules: Rules, denials: Denials, listener: socket.socket, child: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(os.pidfd_open(child), ended.set)
    serving = asyncio.create_task(_serve(Proxy(rules, denials.note), rules, listener))
    await ended.wait()
    serving.cancel()


async def _serve(proxy: Proxy, rules: Rules, listener: socket.socket) -> None:
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
