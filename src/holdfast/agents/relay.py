"""Connects an agent that speaks MCP on standard streams with Holdfast's server, through a unix socket.

`python3 -I -S relay.py SOCKET`, inside the agent's sandbox, where neither the database nor a token is to be seen. Only
the standard library, in one file: a copy of it is all that the sandbox has to be shown.

When the connection is lost (its worker or its server died) it connects again, as soon as somebody listens: what the
client said first is said again, and then what has had no answer. So a call may reach Holdfast twice; its tools allow
that (`holdfast/mcp.py`). The agent notices a long call at most.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from typing import Any

_READ_BYTES = 1 << 16
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Relay:
    """One client. `greeting` is what a new server has to be told; `unanswered` are requests by their ids."""

    def __init__(self, place: str) -> None:
        # Relative, so that no path is too long for a socket.
        os.chdir(os.path.dirname(place) or ".")
        self._name = os.path.basename(place)
        self._greeting: list[bytes] = []
        self._unanswered: dict[str, bytes] = {}
        self._from_client = b""
        self._from_server = b""
        self._server: socket.socket | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    def serve(self) -> None:
        """Passes messages on until the client closes its end."""
        connect_at = time.monotonic()
        while True:
            if self._server is None and time.monotonic() >= connect_at:
                self._connect()
                connect_at = time.monotonic() + self._pause
            listened = [0] if self._server is None else [0, self._server.fileno()]
            wait = max(0.0, connect_at - time.monotonic()) if self._server is None else None
            ready = select.select(listened, [], [], wait)[0]
            if self._server is not None and self._server.fileno() in ready and not self._hear_server():
                self._drop()
                connect_at = time.monotonic() + self._pause
                self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
            if 0 in ready and not self._hear_client():
                return

    def _connect(self) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(self._name)
        except OSError:
            server.close()
            return
        self._server = server
        for line in (*self._greeting, *(each for each in self._unanswered.values() if each not in self._greeting)):
            self._say(line)

    def _drop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server, self._from_server = None, b""

    def _say(self, line: bytes) -> None:
        """Tells the server; what a server that is gone does not get, the next one is told."""
        if self._server is None:
            return
        try:
            self._server.sendall(line + b"\n")
        except OSError:
            self._drop()

    def _hear_client(self) -> bool:
        chunk = os.read(0, _READ_BYTES)
        *lines, self._from_client = (self._from_client + chunk).split(b"\n")
        for line in lines:
            message = _message(line)
            method = message.get("method")
            if method == "initialize":
                self._greeting = [line]
            elif method == "notifications/initialized":
                self._greeting.append(line)
            elif method == "notifications/cancelled":
                self._unanswered.pop(_key((message.get("params") or {}).get("requestId")), None)
            if method is not None and "id" in message:
                self._unanswered[_key(message["id"])] = line
            self._say(line)
        return chunk != b""

    def _hear_server(self) -> bool:
        assert self._server is not None
        try:
            chunk = self._server.recv(_READ_BYTES)
        except OSError:
            return False
        *lines, self._from_server = (self._from_server + chunk).split(b"\n")
        for line in lines:
            message = _message(line)
            if "id" in message and "method" not in message:
                self._pause = _FIRST_PAUSE_SECONDS
                if self._unanswered.pop(_key(message["id"]), None) is None:
                    continue  # the answer to a greeting that was said again
            _write(line + b"\n")
        return chunk != b""


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _key(identity: object) -> str:
    return json.dumps(identity)


def _write(content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(1, rest) :]


if __name__ == "__main__":
    try:
        Relay(sys.argv[1]).serve()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(0)
