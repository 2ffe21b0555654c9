"""The scripted agent's end of the wire: one JSON-RPC message per line, in one thread."""

from __future__ import annotations

import json
import os
import select
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

Message = dict[str, Any]


class Gone(Exception):
    """The client has closed the line."""


class Line:
    """Reads and writes messages; what comes while an answer is awaited is kept for later."""

    def __init__(self) -> None:
        self._received = b""
        self._waiting: deque[Message] = deque()
        self._next_id = 0

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends one message, all of it."""
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def write(self, content: bytes) -> None:
        """Sends bytes as they are. Raises `Gone`."""
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(1, rest) :]
        except BrokenPipeError:
            raise Gone from None

    def next(self) -> Message:
        """Gives the next message. Raises `Gone`."""
        while not self._waiting:
            self._read(None)
        return self._waiting.popleft()

    def call(self, method: str, params: Mapping[str, Any], interrupted: Callable[[Message], bool]) -> Message:
        """Asks the client and gives its answer; messages that `interrupted` does not take are kept."""
        self._next_id += 1
        identity = self._next_id
        self.send({"id": identity, "method": method, "params": params})
        while True:
            found: Message | None = None
            for message in self._taken(interrupted):
                if message.get("id") == identity and "method" not in message:
                    found = message
                else:
                    self._waiting.append(message)
            if found is not None:
                return found
            self._read(None)

    def idle(self, seconds: float | None, interrupted: Callable[[Message], bool], over: Callable[[], bool]) -> None:
        """Waits (None: for ever), taking messages as they come, until `over` holds."""
        end = None if seconds is None else time.monotonic() + seconds
        while not over():
            self._waiting.extend(self._taken(interrupted))
            left = None if end is None else end - time.monotonic()
            if over() or (left is not None and left <= 0):
                return
            self._read(left)

    def _taken(self, interrupted: Callable[[Message], bool]) -> list[Message]:
        messages = list(self._waiting)
        self._waiting.clear()
        return [message for message in messages if not interrupted(message)]

    def _read(self, seconds: float | None) -> None:
        if seconds is not None and not select.select([0], [], [], seconds)[0]:
            return
        chunk = os.read(0, 1 << 16)
        if not chunk:
            raise Gone
        *lines, self._received = (self._received + chunk).split(b"\n")
        self._waiting.extend(json.loads(line) for line in lines if line.strip())
