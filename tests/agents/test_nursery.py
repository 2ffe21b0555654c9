"""The process that starts shims: nobody depends on it after the start, and nobody is left without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
from tests.agents.runs import eventually

from holdfast.agents import RunState, read, state

WORKER = """
import os, sys
from pathlib import Path
from holdfast.agents import Launch, start

def go(name, shell):
    start(Path(sys.argv[1]) / name, Launch(cwd="/", env={}, token=f"{os.getpid()}-{name}", shell=shell))

go("first", "while [ ! -e '%s/go' ]; do /bin/sleep 0.05; done; exit 3" % sys.argv[1])
print("started", flush=True)
sys.stdin.readline()
go("second", "exit 4")
print("started", flush=True)
sys.stdin.readline()
"""


def exit_code(folder: Path) -> object:
    return list(read(folder / "journal.jsonl"))[-1].fields["exit_code"]


def test_a_killed_nursery_takes_no_run_along_the_next_start_makes_another_and_it_ends_with_its_worker(
    tmp_path: Path,
) -> None:
    # What the worker hands on in its environment tells its nursery from those of other tests.
    environment = {**os.environ, "HOLDFAST_FAILPOINT_LOG": str(tmp_path / "log")}
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == "started\n"
        eventually(lambda: len(mine(tmp_path)) == 1)  # a shim looks like one until it stands in its folder
        (nursery,) = mine(tmp_path)
        nursery.kill()
        eventually(lambda: not mine(tmp_path))
        worker.stdin.write("\n")
        worker.stdin.flush()
        assert worker.stdout.readline() == "started\n"
        eventually(lambda: len(mine(tmp_path)) == 1)
        worker.kill()
    eventually(lambda: not mine(tmp_path))
    assert state(tmp_path / "first") is RunState.RUNNING
    (tmp_path / "go").touch()
    eventually(lambda: state(tmp_path / "first") is RunState.ENDED and state(tmp_path / "second") is RunState.ENDED)
    assert (exit_code(tmp_path / "first"), exit_code(tmp_path / "second")) == (3, 4)


def mine(folder: Path) -> list[psutil.Process]:
    """The living nurseries whose environment names that folder; a shim stands in its run folder."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            ours = str(folder) in process.environ().get("HOLDFAST_FAILPOINT_LOG", "")
            if ours and "--nursery" in process.cmdline() and process.cwd() == "/":
                found.append(process)
        except psutil.Error:
            continue
    return found
