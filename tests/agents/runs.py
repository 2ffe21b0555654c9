"""Real runs: a run folder, what came out of it, and what still lives of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from holdfast.agents import CommandOutcome, Launch, Record, read, run_command
from holdfast.agents.shim.tree import carries


@dataclass
class Run:
    """One run folder and what came out of it."""

    folder: Path
    cwd: Path
    token: str
    records: list[Record] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    said: asyncio.Event = field(default_factory=asyncio.Event)

    def launch(self, shell: str | None = None, **options) -> Launch:
        options = {"grace_seconds": 5.0, "cwd": str(self.cwd), "env": {"PATH": os.environ["PATH"]}} | options
        return Launch(token=self.token, shell=shell, **options)

    async def keep(self, records: Sequence[Record]) -> None:
        self.records.extend(records)
        if self.output():
            self.said.set()

    async def go(self, shell: str | None = None, *, after: int = 0, **options) -> CommandOutcome:
        launch = self.launch(shell, **options)
        return await run_command(self.folder, launch, after=after, on_records=self.keep, stop=self.stop)

    def shim(self) -> int:
        """The pid of the shim, from the journal."""
        pid = next(read(self.folder / "journal.jsonl")).fields["shim"]
        assert isinstance(pid, int)
        return pid

    def output(self, kind: str = "stdout") -> bytes:
        return b"".join(record.content for record in self.records if record.kind == kind)

    def kinds(self) -> list[str]:
        return [record.kind for record in self.records]

    def processes(self) -> list[int]:
        """The pids of living processes of the command, wherever they went."""
        return [p.pid for p in psutil.process_iter() if carries(p.pid, self.token) and _alive(p)]

    def is_stopped(self) -> bool:
        """Tells whether the command stands still by SIGSTOP."""
        return [psutil.Process(pid).status() for pid in self.processes()] == [psutil.STATUS_STOPPED]


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], object], seconds: float = 240.0) -> None:
    """Waits until the condition holds; the deadline is for a machine under load, not a claim."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0.005)
