"""Follows a living run from its journal, woken by its shim, and gives it orders.

The records come from the file alone; the socket only tells when to look again. So what was written before, during and
after the connection is read by one piece of code, and the end of the connection loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from holdfast.agents import journal
from holdfast.agents.journal import Record
from holdfast.agents.launch import Lost, is_held
from holdfast.errors import ClaimLost, InfraError, StepError

_RECORDS_AT_ONCE = 200
_POLL_SECONDS = 0.005
_FREE_SPACE = "Free space on the disk of Holdfast's data folder; the work is run again from its last commit."


async def follow(folder: Path, after: int = 0) -> AsyncIterator[Record]:
    """Gives the records above `after` as they come, up to the exit record. Raises as `follow_batches` does."""
    async for records in follow_batches(folder, after):
        for record in records:
            yield record


async def follow_batches(
    folder: Path, after: int = 0, *, pace_seconds: float = 0.0, name: str = ""
) -> AsyncIterator[list[Record]]:
    """Gives the records above `after` in lists of at most 200, not more often than the pace unless there are more.

    The `client` record with this `name` tells that all before it has been read and that this process follows now.
    Ends after the exit record. Raises `Lost` if the shim died without one (or the run is absent), ClaimLost if
    another process follows the run now, InfraError if the journal could not be written (told once), Corruption.
    Leaving it, by cancellation too, does not touch the command.
    """
    reader = journal.Reader(folder / journal.FILE_NAME, after)
    bell: _Bell | None = None
    dead = False
    try:
        while True:
            records = reader.read(_RECORDS_AT_ONCE)
            if records:
                yield records
                if records[-1].kind == "exit":
                    return
            elif dead:
                _raise_unrecorded(folder)
                raise _lost(folder)
            if dead or len(records) == _RECORDS_AT_ONCE:
                continue
            if bell is not None and not bell.closed:
                await bell.rings(pace_seconds)
                continue
            if bell is not None:
                bell.raise_reason(folder)
            bell = await _connect(folder)
            if bell is not None:
                bell.send({"attach": after, "name": name})
            # What the shim wrote before it died is read once more before the run is called lost.
            dead = bell is None
    finally:
        if bell is not None:
            bell.close()


async def stop(folder: Path, grace_seconds: float) -> bool:
    """Asks the shim to end the run: TERM to the whole tree, KILL after the grace. False if no shim lives.

    On return the shim has taken the order and will carry it out by itself; the end is in the journal.
    """
    return await _order(folder, {"stop": grace_seconds}) is not None


async def kill(folder: Path) -> bool:
    """Asks the shim to kill the whole tree at once. False if no shim lives."""
    return await _order(folder, {"kill": True}) is not None


async def send(folder: Path, text: str, name: str) -> bool:
    """Writes to the command's standard input, once per `name`, whoever sends it how often. False if nobody can read it.

    On return it is in the journal, and the shim delivers it by itself. Waits while the command leaves more than a MiB
    unread. Raises StepError if the journal has no room for it.
    """
    answer = await _order(folder, {"stdin": text, "id": name})
    refusal = str((answer or {}).get("error", ""))
    if refusal and "no open standard input" not in refusal:
        raise StepError(f"the agent could not be told more: {refusal.removeprefix('bad request: ')}")
    return answer is not None and not refusal


async def suspend_limit(folder: Path, until: str) -> bool:
    """Lets the run's time limit stand still until `send` has sent what has the name `until`. False if no shim lives.

    May be asked again, also by another worker, and after it was sent: then it does nothing.
    """
    return await _order(folder, {"suspend_limit": until}) is not None


@asynccontextmanager
async def limit_suspended(folder: Path) -> AsyncGenerator[None]:
    """Lets the run's time limit stand still during the block, and no longer than this process lives."""
    bell = await _connect(folder)
    if bell is not None:
        bell.send({"suspend_limit": True})
        await bell.answer()
    try:
        yield
    finally:
        if bell is not None:
            bell.close()


async def close_input(folder: Path) -> bool:
    """Ends the command's standard input once all that was sent is delivered. False if no shim lives."""
    return await _order(folder, {"close_stdin": True}) is not None


async def sync(folder: Path) -> bool:
    """Makes the journal durable up to now. False if no shim lives (then the exit record has made it so)."""
    return await _order(folder, {"sync": True}) is not None


class _Bell(asyncio.Protocol):
    """Hears the shim say that the journal has grown; what it says beyond that, it says while it hangs up."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._over = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None
        self._line = b""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # Bells may come in thousands: only the last line can say anything that matters.
        self._line = (self._line.rpartition(b"\n")[2] + data)[-4096:]
        if b'"ended"' in data or b'"error"' in data or b'"displaced"' in data:
            self._over.set()
        self._rung.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._over.set()
        self._rung.set()

    async def rings(self, pace_seconds: float) -> None:
        """Waits for the next bell, and from there for the pace unless the shim is at its end."""
        await self._rung.wait()
        if pace_seconds:
            try:
                async with asyncio.timeout(pace_seconds):
                    await self._over.wait()
            except TimeoutError:
                pass
        self._rung.clear()
        if self._over.is_set() and not self.closed:
            self.close()

    def raise_reason(self, folder: Path) -> None:
        """Raises what the shim said when it hung up; nothing if it just ended."""
        last = self._line.strip().rpartition(b"\n")[2]
        said = json.loads(last) if last.endswith(b"}") else {}
        if said.get("displaced"):
            raise ClaimLost(f"another process follows the run in {folder} now")
        if "error" in said:
            raise InfraError(f"output of the command in {folder} was lost: {said['error']}", hint=_FREE_SPACE)

    def send(self, request: dict[str, object]) -> None:
        assert isinstance(self._transport, asyncio.WriteTransport)
        self._transport.write(json.dumps(request).encode() + b"\n")

    async def answer(self) -> dict[str, object] | None:
        """Waits for the first line from the shim; None if it ended without one."""
        while b"\n" not in self._line and not self.closed:
            self._rung.clear()
            await self._rung.wait()
        return json.loads(self._line.splitlines()[0]) if b"\n" in self._line else None

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()


async def _order(folder: Path, request: dict[str, object]) -> dict[str, object] | None:
    """Gives the shim's answer, None if no shim lives. Asked again where it hung up, so orders can be given twice."""
    while (bell := await _connect(folder)) is not None:
        try:
            bell.send(request)
            answer = await bell.answer()
            if answer is not None:
                return answer
        finally:
            bell.close()
    return None


async def _connect(folder: Path) -> _Bell | None:
    """Connects to the shim, waiting for one that is starting; None if no shim lives."""
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            _reach(connection, folder)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            connection.close()
            if not is_held(folder):
                return None
            await asyncio.sleep(_POLL_SECONDS)
            continue
        except BaseException:
            connection.close()
            raise
        _, bell = await asyncio.get_running_loop().create_unix_connection(_Bell, sock=connection)
        return bell


def _reach(connection: socket.socket, folder: Path) -> None:
    """Connects by way of the folder's descriptor, as a socket's path may have 107 bytes only."""
    place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{place}/socket")
    finally:
        os.close(place)


def _raise_unrecorded(folder: Path) -> None:
    """Raises what a shim could tell nobody as it gave up, once: then its run is a lost one."""
    with contextlib.suppress(FileNotFoundError):
        (folder / "unrecorded").unlink()
        raise InfraError(f"the journal of the command in {folder} could not be written", hint=_FREE_SPACE)


def _lost(folder: Path) -> Lost:
    return Lost(
        f"the run in {folder} was lost: its shim died before the command's end was recorded",
        hint="Its strays are killed and its work is begun again from the last commit.",
    )
