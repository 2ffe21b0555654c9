"""Terminals for an agent: each a run of its own under its own shim, in `terminals/<number>` of the session's folder.

So a terminal lives on when the worker dies, is started at most once, and is met again by whoever comes next.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from acp import schema

from holdfast.agents import journal
from holdfast.agents.acp.dialogue import terminal_number
from holdfast.agents.acp.files import Files, Refused
from holdfast.agents.acp.terms import Limits
from holdfast.agents.acp.wire import INVALID_PARAMS, RESOURCE_NOT_FOUND, RpcError
from holdfast.agents.bell import follow_batches, stop
from holdfast.agents.journal import Record
from holdfast.agents.launch import Launch, Lost, RunState, start, state
from holdfast.failpoints import failpoint

FOLDER = "terminals"
# Between TERM and KILL: what stands between us and the command (a container engine) has to hear the TERM.
GRACE_SECONDS = 2.0
_ENTER = 'cd "$0" && exec "$@"'


class Terminals:
    """The terminals of one session. `wrap` makes a launch run in the sandbox; `launch` is the agent's, unwrapped."""

    def __init__(
        self, folder: Path, launch: Launch, files: Files, wrap: Callable[[Launch, Path], Launch], limits: Limits
    ) -> None:
        self._folder = folder / FOLDER
        self._launch = launch
        self._files = files
        self._wrap = wrap
        self._limits = limits
        self._waits: dict[int, asyncio.Task[Mapping[str, Any]]] = {}

    async def create(self, number: int, asked: schema.CreateTerminalRequest, open_now: set[int]) -> dict[str, Any]:
        """Starts a command, at most once for this number."""
        if len(open_now) >= self._limits.terminals:
            raise Refused(RpcError(INVALID_PARAMS, f"more than {self._limits.terminals} terminals at once"))
        env = {**self._launch.env, **{each.name: each.value for each in asked.env or ()}}
        for name, value in env.items():
            if not name or "=" in name or "\0" in name + value:
                raise Refused(RpcError(INVALID_PARAMS, f"{name!r} cannot be an environment variable"))
        # It starts in the worktree itself, as that is what a sandbox shows, and goes from there to its folder.
        below = self._files.folder(asked.cwd)
        launch = replace(
            self._launch,
            argv=_command(asked) if below == "." else ("/bin/sh", "-c", _ENTER, f"./{below}", *_command(asked)),
            shell=None,
            env=env,
            stdin="null",
            timeout_seconds=0.0,
            journal_max_bytes=self._limits.terminal_journal_bytes,
            line_max_bytes=0,
        )
        place = self._folder / str(number)
        await asyncio.to_thread(start, place, await asyncio.to_thread(self._wrap, launch, place))
        failpoint("session.terminal_started")
        return {"terminalId": f"t{number}"}

    async def output(self, asked: schema.TerminalOutputRequest) -> dict[str, Any]:
        """Gives the last of what it said, and how it ended if it has."""
        place = self._folder / str(terminal_number(asked.terminal_id))
        # The end first: what is said after this look is then only missing from an answer that says it still runs.
        ended = _exit_status(place)
        limit = self._limits.terminal_output_bytes
        text = await asyncio.to_thread(journal.last_output, place / journal.FILE_NAME, limit + 1)
        kept = {"output": text[-limit:], "truncated": len(text) > limit}
        return kept if ended is None else {**kept, "exitStatus": ended}

    async def wait(self, asked: schema.WaitForTerminalExitRequest) -> Mapping[str, Any]:
        """Gives how it ended, when it has."""
        number = terminal_number(asked.terminal_id)
        if number not in self._waits:
            self._waits[number] = asyncio.ensure_future(_end_of(self._folder / str(number)))
        return await asyncio.shield(self._waits[number])

    async def kill(self, asked: schema.KillTerminalRequest | schema.ReleaseTerminalRequest) -> dict[str, Any]:
        """Has it ended; one that has ended stays as it is."""
        await stop(self._folder / str(terminal_number(asked.terminal_id)), GRACE_SECONDS)
        return {}

    async def forget(self) -> None:
        """Stops waiting; the terminals go on."""
        for wait in self._waits.values():
            wait.cancel()
        await asyncio.gather(*self._waits.values(), return_exceptions=True)


def require_open(identity: str, open_now: set[int]) -> None:
    """Raises `Refused` unless the terminal is one of this session's and not yet released."""
    if terminal_number(identity) not in open_now:
        raise Refused(RpcError(RESOURCE_NOT_FOUND, f"there is no terminal {identity[:100]!r}"))


async def end_all(folder: Path) -> None:
    """Ends what still runs of a session's terminals; on return all have ended."""
    places = [*(folder / FOLDER).iterdir()] if (folder / FOLDER).is_dir() else []
    ending = [place for place in places if await stop(place, GRACE_SECONDS)]
    await asyncio.gather(*(_end_of(place) for place in ending))


def _command(asked: schema.CreateTerminalRequest) -> tuple[str, ...]:
    """Gives argv; agents that were made with Zed send a whole line for the shell as the command."""
    if asked.args or shlex.quote(asked.command) == asked.command or os.path.exists(asked.command):
        return (asked.command, *(asked.args or ()))
    return ("/bin/sh", "-c", asked.command)


async def _end_of(place: Path) -> Mapping[str, Any]:
    try:
        async for _ in follow_batches(place):
            pass
    except Lost:
        return _LOST
    return _exit_status(place) or _LOST


_LOST: Mapping[str, Any] = {"exitCode": None, "signal": "LOST"}


def _exit_status(place: Path) -> Mapping[str, Any] | None:
    ended: Record | None = journal.complete(place / journal.FILE_NAME)
    if ended is None:
        return _LOST if state(place) in (RunState.LOST, RunState.ABSENT) else None
    signal = ended.fields["signal"]
    return {"exitCode": ended.fields["exit_code"], "signal": None if signal is None else str(signal)}
