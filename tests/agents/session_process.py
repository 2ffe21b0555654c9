"""A worker as a process of its own: holds or adopts the session in a folder, and stores what it hears, each once.

    python session_process.py <json of: folder, cwd, store, script, home, session>

The store is one line per batch of updates with the position that it reaches to, appended in one write: what a database
transaction is to the real worker. While the file `hold` is in the worktree, questions wait.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from holdfast.agents import Launch
from holdfast.agents.acp import Limits, Opening, SessionWanted, run_session
from holdfast.domain.conversation import PermissionWanted, Update

asked = json.loads(sys.argv[1])
store = Path(asked["store"])


def write(line: dict[str, object]) -> None:
    file = os.open(store, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


def stored() -> int:
    lines = store.read_text().splitlines() if store.exists() else []
    return max([0, *(json.loads(line).get("position", 0) for line in lines)])


async def keep(updates: Sequence[Update], position: int) -> None:
    write({"position": position, "updates": [repr(update) for update in updates]})


async def ask(wanted: PermissionWanted) -> str | None:
    write({"question": wanted.request})
    await asyncio.to_thread(wait_for_release)
    return "allow"


def wait_for_release() -> None:
    while (Path(asked["cwd"]) / "hold").exists():
        time.sleep(0.01)


async def next_prompt(opening: Opening) -> str | None:
    return f"prompt {opening.turn}" if opening.turn < 2 else None


async def main() -> None:
    outcome = await run_session(
        Path(asked["folder"]),
        Launch(
            cwd=asked["cwd"],
            env={"PATH": os.environ["PATH"], "HOME": asked["home"]},
            token=Path(asked["folder"]).name,
            argv=(sys.executable, "-m", "holdfast.agents.scripted", asked["script"]),
            grace_seconds=5.0,
        ),
        SessionWanted(),
        next_prompt,
        after=stored(),
        on_updates=keep,
        ask=ask,
        stop=asyncio.Event(),
        limits=Limits(leave_seconds=120.0),
    )
    print(json.dumps({"reason": outcome.reason, "message": outcome.message, "session": outcome.session_id}))


asyncio.run(main())
