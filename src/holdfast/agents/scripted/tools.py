"""The scripted agent's end of an MCP server: starts it, calls its tools."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Mapping
from types import TracebackType
from typing import Any

_PROTOCOL = "2025-06-18"


class ToolServer:
    """An MCP server that a client named, while the block runs; `answer` is the one to the last call."""

    def __init__(self, server: Mapping[str, Any], cwd: str) -> None:
        variables = {each["name"]: each["value"] for each in server.get("env", ())}
        self._process = subprocess.Popen(
            [server["command"], *server.get("args", ())],
            cwd=cwd,
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._received = b""
        self._asked = 0
        self._call: Mapping[str, Any] = {}
        self.answer: dict[str, Any] = {}

    def __enter__(self) -> ToolServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def call(self, tool: str, arguments: Mapping[str, Any]) -> None:
        """Calls a tool; `answered` says when its `answer` is there."""
        self.answer = {}
        self._call = {"name": tool, "arguments": arguments}
        if self._asked:
            self._ask("tools/call", self._call)
            return
        client = {"protocolVersion": _PROTOCOL, "capabilities": {}, "clientInfo": {"name": "scripted", "version": "1"}}
        self._ask("initialize", client)

    def answered(self) -> bool:
        """Says whether the tool has answered; never waits, so it is to be asked until it has."""
        for message in self._heard():
            if message.get("id") == 1 and self._asked == 1 and "error" not in message:
                self._send({"method": "notifications/initialized"})
                self._ask("tools/call", self._call)
            elif message.get("id") == self._asked:
                self.answer = message
        return bool(self.answer)

    def _ask(self, method: str, params: Mapping[str, Any]) -> None:
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()

    def _heard(self) -> list[dict[str, Any]]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], 0)[0]:
            return []
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return [{"id": self._asked, "error": {"code": -32000, "message": "the MCP server has ended"}}]
        *lines, self._received = (self._received + chunk).split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]
