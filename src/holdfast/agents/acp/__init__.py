"""Agents that speak ACP (the Agent Client Protocol: JSON-RPC over stdio), each held in one session by `run_session`.

The contract, on top of that of `agents`:

- The session is a fold over the journal of its run, both directions (`dialogue`). A worker that dies in mid-turn is
  replaced by one that folds the same records and goes on; the agent notices nothing. Nothing is remembered elsewhere.
- What is sent has a name that follows from the dialogue, and the shim delivers a name once; an answer that two workers
  give is given once. A worker acts only after it has read all that the one before it did.
- Updates are handed on in order with the journal position that they end at; from `after` = the position that was last
  stored, none comes twice and none is lost. All updates of one record are handed on together.
- A permission question is asked again after a restart, under the same name (`PermissionWanted.request`).
- Terminals are runs of their own (`terminals`): started at most once, ended with the session at the latest.
- The agent is not trusted: lines, requests and updates are bounded and checked against ACP's schema, files are reached
  without ever leaving the worktree (`files`), and what breaks the protocol ends the session with a clear reason.

    terms       what is asked for, the limits, the outcome       wire, flood    messages, one per line; too many of them
    dialogue    the fold                                         updates        ACP's updates to the domain's
    opening     what to send next                                ending         why it ended
    session     the acting part                                  answers, files, terminals    what an agent may ask for

ACP's schema takes more than a second of CPU to import: that is done while the agent starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from holdfast.agents.acp.terms import Capabilities, Choice, Fault, Limits, Opening, Reason, SessionWanted, TurnOutcome
from holdfast.agents.launch import Launch, of_this_boot, start
from holdfast.domain.conversation import PermissionWanted, Update

__all__ = [
    "Capabilities",
    "Choice",
    "Fault",
    "Limits",
    "Opening",
    "Reason",
    "SessionWanted",
    "TurnOutcome",
    "run_session",
]


async def run_session(
    folder: Path,
    launch: Launch,
    session: SessionWanted,
    next_prompt: Callable[[Opening], Awaitable[str | None]],
    *,
    after: int = 0,
    on_updates: Callable[[Sequence[Update], int], Awaitable[None]],
    ask: Callable[[PermissionWanted], Awaitable[str | None]],
    stop: asyncio.Event,
    wrap: Callable[[Launch, Path], Launch] = lambda launch, folder: launch,
    limits: Limits | None = None,
) -> TurnOutcome:
    """Starts the agent in `folder`, or adopts it in whatever state it is, and gives the outcome once it has ended.

    `next_prompt` gives the next prompt of this run, None if it was the last; it is asked when the session is ready for
    one, and again by the next worker if it was not yet sent. `on_updates` gets the updates of records above `after`
    and the record number that they reach to, in batches, at once where the agent waits, else five a second. `ask` gives
    the id of the chosen option, None to cancel. Setting `stop` cancels the turn and ends the agent. `launch.cwd` is the
    worktree, where files are read and written; `wrap` puts a launch into the sandbox, the agent's own and each
    terminal's, given the folder of its run.

    Cancelling this, or an error of a callback, leaves the agent running, to be adopted. With the outcome `lost` nobody
    saw the end: the caller kills the strays, and may load the session in a new folder.
    """
    limits = limits or Limits()
    launch = replace(launch, stdin="pipe", line_max_bytes=limits.line_bytes)
    if of_this_boot(folder):
        await asyncio.to_thread(start, folder, await asyncio.to_thread(wrap, launch, folder))
    module = await asyncio.to_thread(import_module, f"{__name__}.session")
    return await module.run(
        folder,
        launch,
        session,
        next_prompt,
        after=after,
        on_updates=on_updates,
        ask=ask,
        stop=stop,
        wrap=wrap,
        limits=limits,
    )
