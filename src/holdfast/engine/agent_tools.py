"""Gives an agent the tools of Holdfast (`holdfast mcp`) for its task or plan, also where it cannot see the database.

    agent ── relay.py ── socket ── holdfast mcp, outside the sandbox, with a token for it
              inside      in the run's folder, shown to the sandbox

The worker only opens the door: whoever connects becomes the standard streams of a server of his own, a process that
outlives this worker. So a worker that dies takes no call with it, and its successor opens the same door again. The
agent never sees a token, nor does its journal; one is made per connection and dies with the agent's work.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast import clock
from holdfast.agents import relay
from holdfast.domain.step import Step
from holdfast.domain.task import Task
from holdfast.domain.token import TokenScope
from holdfast.engine import confine
from holdfast.engine.parts import Parts
from holdfast.engine.runtime import in_thread
from holdfast.errors import InfraError
from holdfast.failpoints import failpoint
from holdfast.sandbox import SandboxName
from holdfast.store import Connection, tokens

SOCKET = "socket"
SERVER_NAME = "holdfast"
# So many connections at once; then one each so often: an agent shall not flood the machine with servers.
CONNECTIONS = 8
PAUSE_SECONDS = 5.0

# Its streams are the connection; it is nobody's child, so that nobody has to wait for it. The shell gives a command in
# the background an empty input, even before its `<`: so the connection is kept at 3 for it.
_DETACHED = ("/bin/sh", "-c", 'exec 3<&0; "$@" <&3 3<&- &', "holdfast", sys.executable, "-m", "holdfast", "mcp")


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom the tools are for: the agent of a step, or (`step_id` None) the plan's supervisor.

    `name` is that of the tokens, the supervisor's own for each thing that it is asked.
    """

    name: str
    plan_id: str
    task_id: str | None = None
    step_id: str | None = None

    @classmethod
    def of_step(cls, task: Task, step: Step) -> Bearer:
        return cls(f"step {step.number}", task.plan_id, task.id, step.id)

    @property
    def scope(self) -> TokenScope:
        return TokenScope.PLAN if self.task_id is None else TokenScope.TASK


@asynccontextmanager
async def offered(
    parts: Parts, bearer: Bearer, folder: Path, sandbox: SandboxName
) -> AsyncGenerator[tuple[Mapping[str, Any], ...]]:
    """Offers the tools while the block runs and gives the servers to name to the agent, in ACP's form.

    Leaving it by an error leaves all as it is, for who goes on; leaving it normally, no token of the bearer is good.
    """
    if not parts.settings.agent_tools:
        yield ()
        return
    place = place_of(folder)
    listener = await in_thread(_open, place)
    door = asyncio.create_task(_welcome(parts, bearer, folder, listener))
    try:
        yield (_server(place, sandbox),)
    finally:
        door.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await door
        listener.close()
    await in_thread(_revoke, parts, bearer)


def place_of(folder: Path) -> Path:
    """Gives the folder, in that of a run, which a sandbox has to show to the agent."""
    return folder / confine.TOOLS_FOLDER


def _server(place: Path, sandbox: SandboxName) -> Mapping[str, Any]:
    contained = sandbox in (SandboxName.PODMAN, SandboxName.DOCKER)
    python = "python3" if contained else os.path.realpath(sys.executable)
    words = ["-I", "-S", str(place / "relay.py"), str(place / SOCKET)]
    return {"name": SERVER_NAME, "command": python, "args": words, "env": []}


def _open(place: Path) -> socket.socket:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = place / "relay.new"
        shutil.copyfile(Path(relay.__file__), draft)
        draft.replace(place / "relay.py")
        (place / SOCKET).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # By the folder's descriptor, since a socket's path has at most 107 bytes.
            listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET}")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InfraError(f"the folder {place} cannot be used: {error.strerror}", hint="check the disk") from error
    listener.listen(CONNECTIONS)
    listener.setblocking(False)
    return listener


async def _welcome(parts: Parts, bearer: Bearer, folder: Path, listener: socket.socket) -> None:
    """Gives each connection of this user a server."""
    loop = asyncio.get_running_loop()
    for number in itertools.count():
        if number >= CONNECTIONS:
            await asyncio.sleep(PAUSE_SECONDS)
        connection, _ = await loop.sock_accept(listener)
        with connection:
            if _user(connection) == os.getuid():
                await in_thread(_serve, parts, bearer, folder, connection)


def _user(connection: socket.socket) -> int:
    return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]


def _serve(parts: Parts, bearer: Bearer, folder: Path, connection: socket.socket) -> None:
    secret = clock.new_secret()
    with parts.database.transaction() as database:
        tokens.add(
            database,
            id=clock.new_id(),
            secret=secret,
            name=bearer.name,
            scope=bearer.scope,
            plan_id=bearer.plan_id,
            task_id=bearer.task_id,
            step_id=bearer.step_id,
            actor=parts.actor,
        )
    failpoint("engine.tools.token_made")
    ours = {
        "HOLDFAST_DATA": str(parts.places.data),
        "HOLDFAST_DB": parts.settings.db,
        "HOLDFAST_TOKEN": secret,
        "HOLDFAST_RUN": str(folder),
    }
    connection.setblocking(True)
    subprocess.run(
        _DETACHED,
        stdin=connection.fileno(),
        stdout=connection.fileno(),
        stderr=subprocess.DEVNULL,
        env=os.environ | ours,
        cwd=parts.places.data,
        start_new_session=True,
        check=True,
    )


def _revoke(parts: Parts, bearer: Bearer) -> None:
    with parts.database.transaction() as connection:
        revoke(connection, bearer, actor=parts.actor)


def revoke(connection: Connection, bearer: Bearer, *, actor: str) -> None:
    """Makes all tokens of the bearer useless."""
    if bearer.step_id is not None:
        tokens.revoke_of_step(connection, bearer.step_id, actor=actor)
    else:
        tokens.revoke_of_plan(connection, bearer.plan_id, bearer.name, actor=actor)
