"""Kills with SIGKILL, and what the next worker finds: nothing lost, nothing twice, nothing left running."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.agents.runs import Run, eventually

from holdfast.agents import Lost, RunState, kill_strays, read, start, state

WORKER = Path(__file__).with_name("worker_process.py")
# Says 40 lines over some time, and has one effect outside of its output, which is there wholly or not at all.
WORK = """
mkdir ran-$$
for i in $(seq 1 40); do echo "line $i"; sleep 0.01; done
exit 7
"""
HELD_WORK = WORK.replace("exit 7", "while [ ! -e go ]; do sleep 0.02; done; exit 7")
ALL_LINES = [f"line {i}" for i in range(1, 41)]


class Worker:
    """One worker process on a run, and what it stored."""

    def __init__(self, run: Run, failpoint: str = "", shell: str = WORK) -> None:
        self.run = run
        self.store = run.cwd / "store"
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(run.folder), str(self.store), shell],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOLDFAST_FAILPOINT": failpoint} if failpoint else dict(os.environ),
        )

    def ends(self) -> dict[str, object]:
        out, err = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, err
        return json.loads(out)

    def dies(self) -> int:
        self.process.communicate(timeout=240)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stored(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.store.read_text().splitlines()] if self.store.exists() else []


def effects(run: Run) -> int:
    """Tells how often the command had its effect."""
    return len(list(run.cwd.glob("ran-*")))


def assert_whole(run: Run, worker: Worker) -> None:
    """The store holds every record once and in order, the effect is there once, and no process is left."""
    stored = worker.stored()
    assert [record["n"] for record in stored] == list(range(1, len(stored) + 1))
    assert [record["kind"] for record in stored][-1] == "exit"
    text = "".join(str(record["text"]) for record in stored if record["kind"] == "stdout")
    assert text.splitlines() == ALL_LINES
    assert effects(run) == 1
    assert run.processes() == []


@pytest.mark.parametrize(
    "point",
    ["launch.recorded", "launch.started", "worker.received", "worker.received:2", "worker.stored", "worker.stored:2"],
)
def test_a_worker_killed_between_any_two_effects_is_taken_over(run: Run, point: str) -> None:
    assert Worker(run, point).dies() == -signal.SIGKILL
    assert (state(run.folder) is RunState.ABSENT) == (point == "launch.recorded")
    second = Worker(run)
    assert second.ends()["exit_code"] == 7
    assert_whole(run, second)


def test_workers_killed_again_and_again_lose_and_double_nothing(run: Run) -> None:
    chance = random.Random(7)
    for _ in range(5):
        worker = Worker(run)
        time.sleep(chance.uniform(0.15, 0.5))
        worker.kill()
    last = Worker(run)
    assert last.ends() == {"reason": "exit", "exit_code": 7, "last_output": "\n".join(ALL_LINES) + "\n"}
    assert_whole(run, last)


def test_a_command_that_ended_without_any_worker_is_read_to_its_end(run: Run) -> None:
    assert Worker(run, "launch.started").dies() == -signal.SIGKILL
    eventually(lambda: state(run.folder) is RunState.ENDED)
    second = Worker(run)
    assert second.ends()["exit_code"] == 7
    assert_whole(run, second)


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("shim.listening", RunState.ABSENT),
        ("shim.journal_made", RunState.LOST),
        ("shim.spawned", RunState.LOST),
        ("shim.started", RunState.LOST),
        ("shim.command_ended", RunState.LOST),
        ("shim.drained", RunState.LOST),
        ("shim.exit_written", RunState.ENDED),
        ("shim.sealed", RunState.ENDED),
    ],
)
def test_a_shim_killed_anywhere_leaves_a_state_that_is_true(run: Run, point: str, left: RunState) -> None:
    first = Worker(run, point)
    first.dies()
    eventually(lambda: state(run.folder) in (RunState.ABSENT, RunState.LOST, RunState.ENDED))
    assert state(run.folder) is left
    if left is RunState.LOST:
        assert Worker(run).ends() == {"lost": "run_lost"}
        kill_strays(run.token)
        assert run.processes() == []
        assert effects(run) <= 1
    else:
        second = Worker(run)
        assert second.ends()["exit_code"] == 7
        kill_strays(run.token)
        assert_whole(run, second)


async def test_the_follower_of_a_killed_shim_hears_that_the_run_is_lost(run: Run) -> None:
    going = asyncio.create_task(run.go("(setsid sleep 1000 >/dev/null 2>&1 &); echo up; sleep 1000"))
    await run.said.wait()
    os.kill(run.shim(), signal.SIGKILL)
    with pytest.raises(Lost):
        await going
    assert state(run.folder) is RunState.LOST
    assert run.output() == b"up\n"
    assert kill_strays(run.token) >= 1
    assert run.processes() == []
    with pytest.raises(Lost):
        await run.go("touch again")
    assert not (run.cwd / "again").exists()


def test_a_command_dies_with_its_shim(run: Run) -> None:
    start(run.folder, run.launch(argv=("sleep", "1000")))
    eventually(lambda: state(run.folder) is RunState.RUNNING and run.processes())
    os.kill(run.shim(), signal.SIGKILL)
    eventually(lambda: not run.processes())
    assert state(run.folder) is RunState.LOST


def test_worker_and_shim_killed_together_leave_a_lost_run(run: Run) -> None:
    worker = Worker(run, shell=HELD_WORK)
    eventually(worker.stored)
    os.kill(run.shim(), signal.SIGKILL)
    worker.kill()
    eventually(lambda: state(run.folder) is RunState.LOST)
    assert Worker(run).ends() == {"lost": "run_lost"}
    kill_strays(run.token)
    assert run.processes() == []


def test_strays_of_another_run_are_left_alone(make_run: Callable[[], Run]) -> None:
    mine, other = make_run(), make_run()
    for run in (mine, other):
        start(run.folder, run.launch("sleep 1000 & sleep 1000"))
        eventually(lambda run=run: len(run.processes()) >= 3)
    os.kill(mine.shim(), signal.SIGKILL)
    eventually(lambda: state(mine.folder) is RunState.LOST)
    kill_strays(mine.token)
    assert mine.processes() == []
    assert len(other.processes()) == 3
    assert state(other.folder) is RunState.RUNNING
    assert kill_strays("no-such-token") == 0


def test_starting_twice_starts_once(run: Run) -> None:
    for _ in range(3):
        start(run.folder, run.launch("echo ran >> effects"))
    eventually(lambda: state(run.folder) is RunState.ENDED)
    start(run.folder, run.launch("echo ran >> effects"))
    assert (run.cwd / "effects").read_text() == "ran\n"


def test_starting_from_many_sides_at_once_starts_once(run: Run) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: start(run.folder, run.launch("echo ran >> effects; sleep 0.3")), range(16)))
    eventually(lambda: state(run.folder) is RunState.ENDED)
    assert (run.cwd / "effects").read_text() == "ran\n"


def test_many_workers_at_once_run_it_once_and_the_last_one_ends_it(run: Run) -> None:
    workers = [Worker(run) for _ in range(3)]
    codes = [worker.dies() for worker in workers]
    # The displaced ones stop with ClaimLost: their work has gone over to the one that came last.
    assert codes.count(0) >= 1
    assert effects(run) == 1
    assert "".join(r.text for r in read(run.folder / "journal.jsonl") if r.kind == "stdout").splitlines() == ALL_LINES


def test_the_end_of_the_workers_session_does_not_end_the_run(run: Run) -> None:
    worker = Worker(run, shell=HELD_WORK)
    eventually(worker.stored)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(run.shim(), number)
    assert os.getsid(run.shim()) != os.getsid(worker.process.pid)
    worker.kill()
    (run.cwd / "go").touch()
    second = Worker(run)
    assert second.ends()["exit_code"] == 7
    assert_whole(run, second)


def test_a_run_inside_a_lost_run_is_a_stray_too(make_run: Callable[[], Run]) -> None:
    outer, inner = make_run(), make_run()
    nested = f"exec {sys.executable} {WORKER} {inner.folder} {inner.cwd / 'store'} 'setsid sleep 1000'"
    start(outer.folder, outer.launch(nested))
    eventually(lambda: state(inner.folder) is RunState.RUNNING and len(inner.processes()) >= 1)
    os.kill(outer.shim(), signal.SIGKILL)
    eventually(lambda: state(outer.folder) is RunState.LOST)
    kill_strays(outer.token)
    eventually(lambda: not outer.processes() and not inner.processes())
    assert state(inner.folder) is RunState.LOST
