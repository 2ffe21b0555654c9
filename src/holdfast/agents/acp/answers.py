"""Answers what an agent asks of its client: permission, files, terminals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from acp import schema

from holdfast.agents.acp.dialogue import Asked
from holdfast.agents.acp.files import Files, Refused
from holdfast.agents.acp.terminals import Terminals, require_open
from holdfast.agents.acp.terms import SessionWanted
from holdfast.agents.acp.wire import METHOD_NOT_FOUND, RpcError
from holdfast.domain.conversation import PermissionWanted
from holdfast.failpoints import failpoint

Ask = Callable[[PermissionWanted], Awaitable[str | None]]
_CANCELLED = {"outcome": {"outcome": "cancelled"}}


class Answers:
    """Carries out what may be carried out, each in a way that may be done again after a crash."""

    def __init__(
        self, wanted: SessionWanted, files: Files, terminals: Terminals, ask: Ask, stopping: asyncio.Event
    ) -> None:
        self._wanted = wanted
        self._files = files
        self._terminals = terminals
        self._ask = ask
        self._stopping = stopping

    async def to(self, asked: Asked, terminals: set[int]) -> Mapping[str, Any] | RpcError:
        """Gives the answer to a request; `terminals` are those that are open now."""
        if asked.problem is not None:
            return asked.problem
        try:
            match asked.params:
                case schema.RequestPermissionRequest() if asked.permission is not None:
                    return await self._permission(asked.permission)
                case schema.ReadTextFileRequest(path=path, line=line, limit=limit) if self._wanted.reads_files:
                    return {"content": await asyncio.to_thread(self._files.read, path, line, limit)}
                case schema.WriteTextFileRequest(path=path, content=content) if self._wanted.writes_files:
                    await asyncio.to_thread(self._files.write, path, content)
                    failpoint("session.file_written")
                    return {}
                case _ if self._wanted.terminals and asked.method.startswith("terminal/"):
                    return await self._terminal(asked, terminals)
                case _:
                    return RpcError(METHOD_NOT_FOUND, f"{asked.method} is not offered")
        except Refused as refused:
            return refused.error

    async def _permission(self, wanted: PermissionWanted) -> Mapping[str, Any]:
        """Gives the person's choice, however long it takes; a stop answers for them, as ACP demands."""
        asking = asyncio.ensure_future(self._ask(wanted))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({asking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            choice = asking.result() if asking.done() else None
        finally:
            asking.cancel()
            stopping.cancel()
            await asyncio.gather(asking, stopping, return_exceptions=True)
        if choice is None:
            return _CANCELLED
        if choice not in [identity for identity, _, _ in wanted.options]:
            raise ValueError(f"{choice!r} is not among the options of the agent's question")
        return {"outcome": {"outcome": "selected", "optionId": choice}}

    async def _terminal(self, asked: Asked, terminals: set[int]) -> Mapping[str, Any]:
        params = asked.params
        if isinstance(params, schema.CreateTerminalRequest):
            return await self._terminals.create(asked.number, params, terminals)
        require_open(getattr(params, "terminal_id", ""), terminals)
        match params:
            case schema.TerminalOutputRequest():
                return await self._terminals.output(params)
            case schema.WaitForTerminalExitRequest():
                return await self._terminals.wait(params)
            case schema.KillTerminalRequest() | schema.ReleaseTerminalRequest():
                return await self._terminals.kill(params)
            case _:
                raise AssertionError(f"no terminal method: {asked.method}")
