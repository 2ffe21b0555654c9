"""How long a killed plan waits for `holdfast resume`: from the start of the process to the next running task.

A project gets a history of 10,000 steps (rows through the store, a checkpoint ref each in the vault). A plan is killed
with its command, and resumed by the real program; the clock stops when the command of its task says that it runs.
Beside it: the same with no history, and the start of a Python that imports the program. Writes results/resume.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIMIT_SECONDS = 2.0
TASKS = 100
PLAN = """\
title: interrupted
phases:
  - title: only
    tasks:
      - {{title: Work, run: 'echo >> {said}; exec sleep 600'}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    result: dict[str, object] = {"steps": chosen.steps, "limit_seconds": LIMIT_SECONDS}
    for name, steps in (("no history", 0), (f"{chosen.steps} steps", chosen.steps)):
        with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
            seconds = resumed(Path(folder), steps, chosen.rounds)
        wall, cpu = (statistics.median(column) for column in zip(*seconds, strict=True))
        result[name] = {"median_seconds": wall, "median_cpu_seconds": cpu, "rounds": seconds}
        print(f"{name:14} {wall:6.2f} s to the next running task   (limit {LIMIT_SECONDS}), of them {cpu:.2f} s CPU")
    result["import_seconds"] = statistics.median(imported() for _ in range(chosen.rounds))
    print(f"{'import alone':14} {result['import_seconds']:6.2f} s")
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "resume.json").write_text(json.dumps(result, indent=1))


def imported() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import holdfast.app.execution, holdfast.engine.worker"], check=True)
    return time.monotonic() - began


def resumed(folder: Path, steps: int, rounds: int) -> list[tuple[float, float]]:
    """Gives the wall and CPU seconds that each of some resumes took; the plan is killed anew before each."""
    repository, said = folder / "repository", folder / "said"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    git(repository, "-c", "user.name=b", "-c", "user.email=b@b", "commit", "-q", "--allow-empty", "-m", "start")
    plan = folder / "plan.yaml"
    plan.write_text(PLAN.format(said=said))
    environment = os.environ | {"HOLDFAST_DATA": str(folder / "data"), "HOLDFAST_DB": ""}
    holdfast(repository, environment, "init").wait()
    kill_all(holdfast(repository, environment, "run", str(plan)), said, folder, lines=1)
    if steps:
        fabricate(folder / "data", steps)
    found: list[tuple[float, float]] = []
    for number in range(rounds):
        began = time.monotonic()
        process = holdfast(repository, environment, "resume")
        await_lines(process, said, number + 2)
        wall = time.monotonic() - began
        found.append((wall, kill_all(process, said, folder, lines=number + 2)))
    return found


def holdfast(repository: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "holdfast", *arguments], cwd=repository, env=environment, stdout=subprocess.DEVNULL
    )


def await_lines(process: subprocess.Popen[bytes], said: Path, lines: int) -> None:
    while not said.exists() or said.stat().st_size < lines:
        if process.poll() is not None:
            raise SystemExit(f"holdfast ended with {process.returncode}")
        time.sleep(0.001)


def kill_all(process: subprocess.Popen[bytes], said: Path, folder: Path, *, lines: int) -> float:
    """Kills the worker, then the shims and commands that work in the run's folder: the machine was restarted.

    Gives the CPU seconds of the worker.
    """
    await_lines(process, said, lines)
    process.kill()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = -signal.SIGKILL
    while pids := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if works_in(pid, folder)]:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
    return usage.ru_utime + usage.ru_stime


def works_in(pid: int, folder: Path) -> bool:
    try:
        return pid != os.getpid() and Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(folder)
    except OSError:
        return False


def git(repository: Path, *arguments: str, given: bytes = b"") -> str:
    return subprocess.run(
        ["git", *arguments], cwd=repository, input=given, check=True, capture_output=True
    ).stdout.decode()


def fabricate(data: Path, count: int) -> None:
    """Adds a finished plan with `count` steps, each with its checkpoint and ref, its events, its metric and its log.

    Rows go in by the thousand, as the store's own functions would take minutes for them; `db check` finds them sound.
    """
    from holdfast import clock
    from holdfast.app import wire
    from holdfast.domain.checkpoint import checkpoint_ref
    from holdfast.domain.planfile import parse, to_domain
    from holdfast.domain.transitions import PlanStage
    from holdfast.settings import Settings
    from holdfast.store import plans, projects, tables

    lines = "\n".join(f'      - {{title: t{number}, run: "true"}}' for number in range(TASKS))
    text = f"title: history\nphases:\n  - title: all\n    tasks:\n{lines}\n"
    with wire.open_house(Settings(data=data, db="")) as house:
        with house.database.read() as connection:
            project = projects.list_(connection).items[0]
        vault = house.places.vault(project.id)
        plan, phases, tasks = to_domain(
            parse(text, source="bench"), ids=clock.new_id, project_id=project.id, created_at=clock.now()
        )
        refs = [checkpoint_ref(tasks[n % TASKS].id, n // TASKS + 1) for n in range(count)]
        commits = write_refs(vault, refs)
        tree = git(vault, "rev-parse", f"{commits[0]}^{{tree}}").strip()
        with house.database.transaction() as connection:
            plans.add(connection, replace(plan, stage=PlanStage.IMPLEMENTING, base_commit=commits[0]), phases, tasks)
            first = connection.execute(tables.projects.select()).one().last_step + 1
            history = [
                Made(clock.new_id(), tasks[n % TASKS].id, n // TASKS + 1, first + n, refs[n], commits[n], tree)
                for n in range(count)
            ]
            insert(connection, project.id, plan.id, history)


@dataclass(frozen=True)
class Made:
    """One step of the history and its checkpoint."""

    id: str
    task_id: str
    run: int
    number: int
    ref: str
    commit: str
    tree: str


def insert(connection: Any, project_id: str, plan_id: str, history: list[Made]) -> None:
    """Writes the rows of the history: what a real run leaves of each step."""
    from holdfast import clock
    from holdfast.store import tables

    now = clock.now()
    where = {"project_id": project_id, "plan_id": plan_id}
    steps = [
        where
        | {"id": each.id, "task_id": each.task_id, "run": each.run, "number": each.number, "attempt": 1}
        | {"branch": "holdfast/history", "commit_before": each.commit, "commit_after": each.commit, "exit_code": 0}
        | {"agent_config": {}, "details": {}, "started_at": now, "ended_at": now}
        for each in history
    ]
    checkpoints = [
        {"id": clock.new_id(), "plan_id": plan_id, "task_id": each.task_id, "step_id": each.id, "number": each.run}
        | {"kind": "step", "name": "", "ref": each.ref, "commit": each.commit, "tree": each.tree}
        | {"head_commit": each.commit, "state": {}, "skipped": (), "busy": (), "created_at": now, "details": {}}
        for each in history
    ]
    events = [
        where
        | {"owner_id": tables.LOCAL_OWNER, "at": now, "task_id": each.task_id, "step_id": each.id}
        | {"type": type_, "subtype": subtype, "actor": "bench", "data": {"number": each.number}}
        for each in history
        for type_, subtype in (("step", "started"), ("checkpoint", "step"), ("step", "completed"))
    ]
    logs = [
        {"step_id": each.id, "stream": "stdout", "at": now, "text": f"line {n}\n"} for each in history for n in range(5)
    ]
    metrics = [
        {"plan_id": plan_id, "step_id": each.id, "name": "duration", "value": 1.0, "unit": "s", "at": now}
        for each in history
    ]
    every = (
        (tables.steps, steps),
        (tables.checkpoints, checkpoints),
        (tables.events, events),
        (tables.logs, logs),
        (tables.metrics, metrics),
    )
    for table, rows in every:
        connection.execute(table.insert(), rows)
    connection.execute(tables.projects.update().values(last_step=history[-1].number))


def write_refs(vault: Path, refs: list[str]) -> list[str]:
    """Writes a commit of its own for each ref, in one go; gives their ids."""
    who = "Bench <bench@localhost>"
    marks = vault / "holdfast" / "bench-marks"
    stream = "".join(
        f"commit {ref}\nmark :{number}\nauthor {who} {number} +0000\ncommitter {who} {number} +0000\ndata 0\n\n"
        for number, ref in enumerate(refs, 1)
    )
    git(vault, "fast-import", "--quiet", f"--export-marks={marks}", given=stream.encode())
    found = dict(line.split(" ") for line in marks.read_text().splitlines())
    marks.unlink()
    return [found[f":{number}"] for number in range(1, len(refs) + 1)]


if __name__ == "__main__":
    main()
