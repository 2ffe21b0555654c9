"""A worker as a process of its own: holds a session with an agent, and stores what it hears.

    python -m tests.real.worker_process <file that says what is wanted>

The store is one line per batch, appended in one write: what a database transaction is to the real worker.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from holdfast.agents import Launch
from holdfast.agents.acp import Opening, SessionWanted, run_session
from holdfast.domain.conversation import PermissionWanted, Update


def stored_position(store: Path) -> int:
    lines = store.read_text(encoding="utf-8").splitlines() if store.exists() else []
    return max((json.loads(line).get("position", 0) for line in lines), default=0)


def keep_in(store: Path, line: dict[str, Any]) -> None:
    file = os.open(store, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, (json.dumps(line, default=str) + "\n").encode())
    os.close(file)


async def main(wanted: dict[str, Any]) -> None:
    store = Path(wanted["store"])
    launch = Launch(cwd=wanted["cwd"], env=wanted["env"], token=wanted["token"], argv=tuple(wanted["argv"]))

    async def next_prompt(opening: Opening) -> str | None:
        return wanted["prompts"][opening.turn] if opening.turn < len(wanted["prompts"]) else None

    async def on_updates(updates: Sequence[Update], position: int) -> None:
        told = [{"type": type(update).__name__, **asdict(update)} for update in updates]
        keep_in(store, {"position": position, "updates": told})

    async def ask(question: PermissionWanted) -> str | None:
        keep_in(store, {"asked": question.request})
        if wanted["answer"] == "never":
            await asyncio.Event().wait()
        return next(identity for identity, _, kind in question.options if kind == wanted["answer"])

    outcome = await run_session(
        Path(wanted["folder"]),
        launch,
        SessionWanted(**wanted["session"]),
        next_prompt,
        after=stored_position(store),
        on_updates=on_updates,
        ask=ask,
        stop=asyncio.Event(),
    )
    print(json.dumps(asdict(outcome), default=str))


asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
