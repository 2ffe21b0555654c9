"""A worker as a process of its own: runs or adopts the run in a folder, and stores what it hears, each record once.

    python worker_process.py <run folder> <store file> <shell command> [timeout] [grace]

The store is one line per record, appended in one write: what a database transaction is to the real worker.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from holdfast.agents import Launch, Lost, Record, run_command
from holdfast.failpoints import failpoint


def stored(store: Path) -> int:
    lines = store.read_text().splitlines() if store.exists() else []
    return json.loads(lines[-1])["n"] if lines else 0


def keep_in(store: Path, records: Sequence[Record]) -> None:
    lines = "".join(json.dumps({"n": r.n, "kind": r.kind, "text": r.text}) + "\n" for r in records)
    file = os.open(store, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, lines.encode())
    os.close(file)


async def main() -> None:
    folder, store = Path(sys.argv[1]), Path(sys.argv[2])
    launch = Launch(
        cwd=str(store.parent),
        env={"PATH": os.environ["PATH"]},
        token=folder.name,
        shell=sys.argv[3],
        timeout_seconds=float(sys.argv[4]) if len(sys.argv) > 4 else 0.0,
        grace_seconds=float(sys.argv[5]) if len(sys.argv) > 5 else 5.0,
    )
    after = stored(store)

    async def keep(records: Sequence[Record]) -> None:
        failpoint("worker.received")
        keep_in(store, records)
        failpoint("worker.stored")

    try:
        outcome = await run_command(folder, launch, after=after, on_records=keep, stop=asyncio.Event())
    except Lost as error:
        print(json.dumps({"lost": error.code}))
        return
    print(json.dumps({"reason": outcome.reason, "exit_code": outcome.exit_code, "last_output": outcome.last_output}))


asyncio.run(main())
