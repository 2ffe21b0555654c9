"""The time of one rewind across 10 changed files, beside `git stash -u && git reset --hard`, in small and large trees.

    uv run python bench/rewind.py [--sizes 1000,100000] [--rounds 7]

A plan with two tasks runs for real; then its second task is rewound to before it ran, with work that was not committed
in ten files, and brought back. What is timed is the whole verb, durable: the checkpoint of what is left behind, the
branch that keeps it, files, branch, rows and events. `watched` is a process that has the worktree open, as a worker
has; `command` opens it anew, as a command does, and has to look at every file once. git works on a clone, with its
defaults, and keeps neither rows nor a branch.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import trees

from holdfast.app import execution, plans, projects, rewinds, undo, wire
from holdfast.app.rewinds import How
from holdfast.app.targets import find_checkpoint
from holdfast.app.wire import House
from holdfast.domain.planfile import parse
from holdfast.domain.restore import Preserve
from holdfast.engine.workspace import Workspaces
from holdfast.settings import Settings

RESULTS = Path(__file__).parent / "results" / "rewind.json"
CHANGED = 10
PEER = "git stash -u && git reset --hard"
PLAN = """
title: Two
phases:
  - title: work
    tasks:
      - {{key: one, title: One, run: "for n in 1 2 3 4 5 6 7 8 9 10; do echo one > new-$n; done"}}
      - {{key: two, title: Two, run: "for n in 1 2 3 4 5 6 7 8 9 10; do echo two > new-$n; done"}}
"""
QUIET = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "bench@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class Contest:
    """One tree size: a plan that has run, and a clone of the same repository for git."""

    def __init__(self, folder: Path, files: int, house: House) -> None:
        self.files, self.house = files, house
        self.chance = random.Random(files)
        repository = trees.make_repository(folder / "repository", files)
        project = projects.init(house, repository).project
        plan = plans.create(house, project, parse(PLAN.format(), source="plan"))
        plans.execute(house, plan.id)
        with execution.working(house, "run") as worker:
            view = execution.follow(house, worker, plan.id, lambda _: None, stop_waiting=lambda _: False)
        assert view.plan.status == "completed", view.plan
        self.task = view.tasks[1]
        with house.database.read() as connection:
            self.start = find_checkpoint(connection, "1", task=self.task, plan=view.plan)
        self.worktree = house.places.plan_worktree(view.plan)
        self.clone = folder / "clone"
        subprocess.run(["git", "clone", "-q", str(repository), str(self.clone)], check=True, env=QUIET)

    def _change(self, folder: Path) -> None:
        for number in range(1, CHANGED + 1):
            (folder / f"new-{number}").write_text(f"{self.chance.random()}\n")

    def rewind(self, *, watched: bool) -> float:
        """Gives the milliseconds of one rewind; `watched`: in a process that has looked at the worktree before."""
        workspaces = Workspaces(self.house.places, self.house.settings, watch=watched)
        self.house._workspaces = workspaces
        took = 0.0
        for _ in range(2 if watched else 1):
            self._change(self.worktree)
            os.sync()
            begun = time.perf_counter()
            rewinds.rewind_task(self.house, self.task.id, self.start, How(Preserve.STASH))
            took = (time.perf_counter() - begun) * 1e3
            undo.undo(self.house)
        workspaces.close()
        return took

    def _git(self, *words: str) -> None:
        subprocess.run(["git", *words], check=True, env=QUIET, cwd=self.clone)

    def git(self) -> float:
        self._change(self.clone)
        self._git("add", "-A")
        self._git("commit", "-q", "-m", "work")
        self._change(self.clone)
        os.sync()
        begun = time.perf_counter()
        self._git("stash", "-u", "-q")
        self._git("reset", "-q", "--hard", "HEAD~1")
        return (time.perf_counter() - begun) * 1e3

    def round(self) -> dict[str, float]:
        methods = {
            "watched": lambda: self.rewind(watched=True),
            "command": lambda: self.rewind(watched=False),
            PEER: self.git,
        }
        return {name: methods[name]() for name in self.chance.sample(list(methods), len(methods))}


def measure(sizes: list[int], rounds: int, folder: Path) -> list[dict[str, object]]:
    chosen = Settings(data=folder / "data", sandbox="none", checkpoint_interval_seconds=0)
    times: dict[tuple[int, str], list[float]] = {}
    with wire.open_house(chosen, actor="bench") as house:
        contests = [Contest(folder / str(files), files, house) for files in sizes]
        for number in range(rounds):
            for contest in contests:
                for name, took in contest.round().items():
                    times.setdefault((contest.files, name), []).append(took)
            print(f"round {number + 1} of {rounds}", flush=True)
    return [
        {"files": files, "method": name, "median_ms": statistics.median(all_ms), "all_ms": all_ms}
        for (files, name), all_ms in times.items()
    ]


def report(rows: list[dict[str, object]], sizes: list[int]) -> None:
    median = {(row["files"], row["method"]): float(str(row["median_ms"])) for row in rows}
    print(f"\n{'files':>8}  {'watched':>10}  {'command':>10}  {'git':>10}   git / watched   git / command")
    for files in sizes:
        ours, command, git = (median[files, name] for name in ("watched", "command", PEER))
        times = f"{files:>8}  {ours:>7.0f} ms  {command:>7.0f} ms  {git:>7.0f} ms"
        print(f"{times}   {git / ours:>12.1f}x  {git / command:>12.1f}x")
    ratio = median[sizes[-1], "watched"] / median[sizes[0], "watched"]
    print(f"watched, {sizes[-1]} against {sizes[0]} files: {ratio:.2f}x (limit 2)")


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--sizes", default="1000,100000")
    arguments.add_argument("--rounds", type=int, default=7)
    given = arguments.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        rows = measure(sizes, given.rounds, Path(folder))
        report(rows, sizes)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"changed": CHANGED, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
