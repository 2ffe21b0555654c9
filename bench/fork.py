"""The time of a fork's worktree, beside `git worktree add` and `cp -a --reflink=auto`, in small and large trees.

    uv run python bench/fork.py [--sizes 1000,20000,100000] [--rounds 5] [--folder PLACE]

A fork is a row, a branch and a checkpoint: what `holdfast task fork` does is timed, but for the start of its
Python. Its worktree is made when it first runs. For that, a worktree is there and known, as that of the task that is
forked, and another one is made at the same commit: timed until its files are there, with the file cache that spares the
next look, and until they are durable. git works in a clone with its defaults, and is timed both as it is and with a
sync of what it wrote; `cp` copies the worktree. On a filesystem with reflinks (`--folder`: XFS, btrfs) large files are
shared; `--large` makes a tree of such, of 1 MiB each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import trees

from holdfast.app import forks, tasks
from holdfast.app.wire import open_house
from holdfast.settings import settings
from holdfast.vcs import Vault, Worktree, reflink
from holdfast.vcs.objects import sync_filesystem

RESULTS = Path(__file__).parent / "results"
BRANCH = "holdfast/bench"
FORK, OURS, OURS_SYNC = "a fork", "its worktree", "its worktree, sync"
ADD, ADD_SYNC, COPY = "git worktree add", "git worktree add, sync", "cp -a --reflink=auto"
METHODS = (FORK, OURS, OURS_SYNC, ADD, ADD_SYNC, COPY)
PLAN = "title: forked\nphases: [{title: only, tasks: [{title: Work, run: 'true'}]}]\n"
QUIET = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


class Contest:
    """One tree size: a vault with a known worktree, and a clone of the same repository for git."""

    def __init__(self, folder: Path, files: int, large: bool) -> None:
        self.files, self.folder = files, folder
        repository = (large_files if large else trees.make_repository)(folder / "repository", files)
        self.vault = Vault.open_or_create(folder / "data/vault.git", repository)
        self.base = self.vault.fetch(repository, "main")
        self.vault.create_branch(BRANCH, self.base)
        self.source = folder / "data/worktrees/source"
        with Worktree.ensure(self.vault, self.source, BRANCH, self.base, watch=False) as worktree:
            time.sleep(0.1)  # its last files settle
            worktree.snapshot(full=True)
        self.clone = folder / "clone"
        subprocess.run(["git", "clone", "-q", "--no-checkout", str(repository), str(self.clone)], check=True, env=QUIET)
        self.target = folder / "data/worktrees/fork"
        plan = folder / "plan.yaml"
        plan.write_text(PLAN)
        self.settings = replace(settings(), data=folder / "home", sandbox="none")
        environment = {**os.environ, "HOLDFAST_DATA": str(self.settings.data), "HOLDFAST_SANDBOX": "none"}
        for line in (["init", str(repository), "--slug", "bench"], ["run", str(plan), "--project", "bench"]):
            subprocess.run([sys.executable, "-m", "holdfast", *line], check=True, env=environment, capture_output=True)

    def fork(self) -> Callable[[], object]:
        with open_house(self.settings) as house:
            task = tasks.find(house, "T1")
            forks.fork(house, task, forks.point_at(house, task, "latest"))
        return lambda: None

    def worktree(self, *, sync: bool) -> Callable[[], object]:
        made = Worktree.ensure(self.vault, self.target, BRANCH, self.base, watch=False)
        if sync:
            made.settle()
        return made.remove

    def git(self, *, sync: bool) -> Callable[[], object]:
        line = ["git", "worktree", "add", "-q", "--detach", str(self.target), "origin/main"]
        subprocess.run(line, check=True, env=QUIET, cwd=self.clone)
        if sync:
            sync_filesystem(self.target)
        line = ["git", "worktree", "remove", "--force", str(self.target)]
        return lambda: subprocess.run(line, check=True, env=QUIET, cwd=self.clone)

    def copy(self) -> Callable[[], object]:
        subprocess.run(["cp", "-a", "--reflink=auto", str(self.source), str(self.target)], check=True)
        return lambda: shutil.rmtree(self.target)

    def round(self, chance: random.Random) -> dict[str, float]:
        methods = {
            FORK: self.fork,
            OURS: lambda: self.worktree(sync=False),
            OURS_SYNC: lambda: self.worktree(sync=True),
            ADD: lambda: self.git(sync=False),
            ADD_SYNC: lambda: self.git(sync=True),
            COPY: self.copy,
        }
        return {name: self._timed(methods[name]) for name in chance.sample(list(methods), len(methods))}

    def _timed(self, method: Callable[[], Callable[[], object]]) -> float:
        sync_filesystem(self.folder)
        begun = time.perf_counter()
        remove = method()
        took = (time.perf_counter() - begun) * 1e3
        remove()
        return took


def large_files(path: Path, files: int) -> Path:
    """Makes a repository with one commit of `files` files of 1 MiB; nothing is checked out."""
    path.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "-b", "main", str(path)], check=True, env=QUIET)
    with subprocess.Popen(["git", "-C", str(path), "fast-import", "--quiet"], stdin=subprocess.PIPE) as importer:
        assert importer.stdin is not None
        importer.stdin.write(b"commit refs/heads/main\ncommitter bench <bench@localhost> 0 +0000\ndata 5\nfiles\n")
        for number in range(files):
            importer.stdin.write(b"M 100644 inline large%d\ndata %d\n%s\n" % (number, 1 << 20, os.urandom(1 << 20)))
    return path


def measure(sizes: list[int], rounds: int, folder: Path, large: bool) -> list[dict[str, object]]:
    times: dict[tuple[int, str], list[float]] = {}
    for files in sizes:
        contest = Contest(folder / str(files), files, large)
        for number in range(rounds):
            for name, took in contest.round(random.Random(number)).items():
                times.setdefault((files, name), []).append(took)
            print(f"{files} files: round {number + 1} of {rounds}", flush=True)
        contest.vault.close()
        shutil.rmtree(contest.folder)
    return [
        {"files": files, "method": name, "median_ms": statistics.median(all_ms), "all_ms": all_ms}
        for (files, name), all_ms in times.items()
    ]


def report(rows: list[dict[str, object]], sizes: list[int]) -> None:
    median = {(row["files"], row["method"]): float(str(row["median_ms"])) for row in rows}
    print(f"\n{'files':>8}" + "".join(f"{name:>24}" for name in METHODS) + "   add / fork   add / its worktree")
    for files in sizes:
        times = "".join(f"{median[files, name]:>21.0f} ms" for name in METHODS)
        ratios = [median[files, ADD] / median[files, each] for each in (FORK, OURS)]
        print(f"{files:>8}{times}   {ratios[0]:>9.1f}x   {ratios[1]:>17.2f}x")
    print(f"wanted at {sizes[-1]} files: a fork at least 5x with reflinks; elsewhere nothing below 1x")


def filesystem(folder: Path) -> str:
    return subprocess.run(["stat", "-fc", "%T", str(folder)], capture_output=True, text=True).stdout.strip()


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--sizes", default="1000,20000,100000")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--folder", type=Path, help="a folder on the filesystem to measure")
    arguments.add_argument("--large", action="store_true", help="files of 1 MiB each, rather than of some KiB")
    given = arguments.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=given.folder) as folder:
        shared, kind = reflink.can_share(Path(folder)), filesystem(Path(folder))
        rows = measure(sizes, given.rounds, Path(folder), given.large)
    report(rows, sizes)
    kept = {"filesystem": kind, "reflinks": shared, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    name = f"fork-{'large-' if given.large else ''}{kind.replace('/', '-')}.json"
    (RESULTS / name).write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
