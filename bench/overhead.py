"""What one no-op task costs: CPU of Holdfast's own (worker, git, shim) for `run: "true"`, done durably.

Runs two plans that differ only in the number of tasks and divides the difference, so that starting up does not count.
Beside it: the same number of bare `sh -c true`. Prints a table and writes bench/results/overhead.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.app.wire import House

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=40, help="tasks of the longer plan")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    few, many = 2, chosen.tasks
    rounds = [(measured(few), measured(many)) for _ in range(chosen.rounds)]
    per_task = [
        {key: (long[key] - short[key]) / (many - few) for key in ("cpu_seconds", "wall_seconds")}
        for short, long in rounds
    ]
    bare = statistics.median(bare_command() for _ in range(20))
    result = {
        "cpu_ms_per_task": 1000 * statistics.median(each["cpu_seconds"] for each in per_task),
        "least_cpu_ms_per_task": 1000 * min(each["cpu_seconds"] for each in per_task),
        "wall_ms_per_task": 1000 * statistics.median(each["wall_seconds"] for each in per_task),
        "bare_command_cpu_ms": 1000 * bare,
        "rounds": per_task,
    }
    least = f"{result['least_cpu_ms_per_task']:.1f} in the round that was disturbed least"
    print(f"CPU per no-op task   {result['cpu_ms_per_task']:8.1f} ms   (limit 60; {least})")
    print(f"wall per no-op task  {result['wall_ms_per_task']:8.1f} ms")
    print(f"bare `sh -c true`    {result['bare_command_cpu_ms']:8.1f} ms CPU")
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    (folder / "overhead.json").write_text(json.dumps(result, indent=1))


def measured(tasks: int) -> dict[str, float]:
    """Runs a plan of that many no-op tasks in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--inside", folder, str(tasks)], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def inside(folder: Path, count: int) -> None:
    """The measured process: a repository, a plan, a worker, until the plan is complete."""
    os.environ["HOLDFAST_DATA"] = str(folder / "data")
    # What a sandbox adds is measured beside this one, in bench/sandbox.py.
    os.environ["HOLDFAST_SANDBOX"] = "none"
    repository = folder / "repository"
    repository.mkdir()
    for command in (
        ["init", "-q"],
        ["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-q", "--allow-empty", "-m", "start"],
    ):
        subprocess.run(["git", *command], cwd=repository, check=True)
    from holdfast.app import execution, plans, projects, wire
    from holdfast.domain.planfile import parse

    lines = "\n".join(f'      - {{title: t{number}, run: "true"}}' for number in range(count))
    text = f"title: no-op\nphases:\n  - title: all\n    tasks:\n{lines}\n"
    # Every process that this one starts and loses (the shims) comes back to it, so that its CPU is counted.
    subreaper()
    with wire.open_house() as house:
        plan = plans.create(house, projects.init(house, repository).project, parse(text, source="bench"))
        plans.execute(house, plan.id)
        started = time.monotonic()
        with execution.working(house, "run") as worker:
            assert worker is not None
            # One row a look, and few looks: what is measured is the engine, not a picture of it.
            while (status := status_of(house, plan.id)) == "running":
                worker.runtime.ended.wait(0.5)
        wall = time.monotonic() - started
        assert status == "completed", status
    reap()
    cpu = sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )
    print(json.dumps({"cpu_seconds": cpu, "wall_seconds": wall}))


def status_of(house: House, plan_id: str) -> str:
    from holdfast.store import plans

    with house.database.read() as connection:
        return str(plans.get(connection, plan_id).status)


def subreaper() -> None:
    import ctypes

    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def reap() -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return


def bare_command() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["/bin/sh", "-c", "true"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
