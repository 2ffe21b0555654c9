"""The command agent: runs one command under the shim, streams what it says, and tells how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from holdfast.agents import journal
from holdfast.agents.bell import follow_batches
from holdfast.agents.bell import stop as stop_run
from holdfast.agents.journal import Record
from holdfast.agents.launch import Launch, Lost, RunState, of_this_boot, start, state
from holdfast.agents.text import strip_control
from holdfast.errors import UsageError

BATCH_SECONDS = 0.2
LAST_OUTPUT_CHARACTERS = 4000
_OUR_PREFIX = "HOLDFAST_"

Reason = Literal["exit", "timeout", "stopped", "start_failed"]


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """How a command ended. `exit_code` is None where a signal ended it; 127 and 126 as in a shell.

    `cpu_seconds` is user + system of the whole process tree. `peak_memory_bytes` is the largest resident set of one of
    its processes (never below the shim's own, some 10 MB: Linux counts what the process was before exec).
    `dropped_bytes` of output exceeded the journal's limit. `survivors` are pids that not even SIGKILL ended.
    """

    reason: Reason
    exit_code: int | None
    signal: int | None
    message: str
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    dropped_bytes: int
    survivors: tuple[int, ...]
    last_output: str

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.reason == "exit" and self.exit_code == 0


def environment(allow: Iterable[str], context: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Gives a command's whole environment: allowed names of ours, `variables`, and `HOLDFAST_<NAME>` per context entry.

    What Holdfast itself is configured with (`HOLDFAST_*`: the database's password may be in it) is never passed on.
    Raises UsageError for a variable that cannot be one, or that claims a name of ours.
    """
    names = {name.strip() for name in allow}
    chosen = {name: os.environ[name] for name in names if name in os.environ and not name.startswith(_OUR_PREFIX)}
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name + value or name.startswith(_OUR_PREFIX):
            raise UsageError(
                f"{name!r} cannot be an environment variable of a command",
                hint=f"Names hold no '=', values no NUL, and {_OUR_PREFIX}* is reserved.",
            )
    return chosen | dict(variables) | {_OUR_PREFIX + name.upper(): value for name, value in context.items()}


async def run_command(
    folder: Path,
    launch: Launch,
    *,
    after: int = 0,
    on_records: Callable[[Sequence[Record]], Awaitable[None]],
    stop: asyncio.Event,
) -> CommandOutcome:
    """Starts the run in `folder`, or adopts it in whatever state it is, and gives its outcome.

    Records above `after` go to `on_records` in order, each once, in batches of at most 200 and some 5 a second.
    Setting `stop` ends the run (TERM, grace, KILL). Cancelling this, or an error of `on_records`, leaves it running,
    to be adopted. Raises `Lost` if nobody saw the end of the run: the caller resets and takes a new folder. A run that
    ended before the machine was restarted counts as lost too: its exit record is on the disk, its files may not be.
    """
    if not of_this_boot(folder):
        raise Lost(
            f"the run in {folder} was started before the machine was restarted",
            hint="Its work is begun again from the last commit.",
        )
    await asyncio.to_thread(start, folder, launch)
    stopper = asyncio.create_task(_obey(stop, folder, launch.grace_seconds))
    try:
        while True:
            try:
                ended = await _pass_on(folder, after, on_records)
                break
            except Lost:
                # The worker that was starting it died before anything ran.
                if state(folder) is not RunState.ABSENT:
                    raise
                await asyncio.to_thread(start, folder, launch)
    finally:
        stopper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopper
    return _outcome(ended, journal.last_output(folder / journal.FILE_NAME, LAST_OUTPUT_CHARACTERS))


async def _pass_on(folder: Path, after: int, on_records: Callable[[Sequence[Record]], Awaitable[None]]) -> Record:
    ended = journal.complete(folder / journal.FILE_NAME)
    if ended is not None and ended.n <= after:
        return ended
    last: Record | None = None
    async for records in follow_batches(folder, after, pace_seconds=BATCH_SECONDS):
        await on_records(records)
        last = records[-1]
    assert last is not None
    return last


async def _obey(stop: asyncio.Event, folder: Path, grace_seconds: float) -> None:
    await stop.wait()
    await stop_run(folder, grace_seconds)


def _outcome(ended: Record, output: str) -> CommandOutcome:
    fields = cast("Mapping[str, Any]", ended.fields)
    return CommandOutcome(
        reason=fields["reason"],
        exit_code=fields["exit_code"],
        signal=fields["signal"],
        message=fields["message"],
        seconds=fields["seconds"],
        cpu_seconds=fields["cpu_seconds"],
        peak_memory_bytes=fields["peak_memory_bytes"],
        dropped_bytes=fields["dropped_bytes"],
        survivors=tuple(fields["survivors"]),
        last_output=strip_control(output),
    )
