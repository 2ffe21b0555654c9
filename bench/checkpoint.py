"""The time of one durable checkpoint after k changed files, beside three ways of doing it with git alone.

    uv run python bench/checkpoint.py [--sizes 1000,20000,100000] [--rounds 7]

All methods work on the same worktree: a round changes k files, then runs each method once, in random order, after a
`sync` so that nobody pays for another's writes. Holdfast's figure includes its flush to the disk; the peers run with
git's defaults, which flush nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import trees

from holdfast.vcs import Vault, Worktree

OURS = "holdfast"
PEERS = ("git add -A && git commit", "shadow git: add && commit", "private index: add && write-tree")
CHANGES = (0, 1, 10, 100)
RESULTS = Path(__file__).parent / "results" / "checkpoint.json"
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
QUIET = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "bench@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class Contest:
    """One tree size: a worktree and the four ways to take a checkpoint of it."""

    def __init__(self, folder: Path, files: int) -> None:
        self.files = files
        self.chance = random.Random(files)
        repository = trees.make_repository(folder / "repository", files)
        self.vault = Vault.open_or_create(folder / "vault.git", repository)
        self.base = self.vault.fetch(repository, "main")
        self.vault.create_branch("bench", self.base)
        begun = time.perf_counter()
        self.worktree = Worktree.ensure(self.vault, folder / "worktrees" / "bench", "bench", self.base)
        self.checkout_ms = (time.perf_counter() - begun) * 1e3
        begun = time.perf_counter()
        self.worktree.snapshot()
        self.first_ms = (time.perf_counter() - begun) * 1e3
        self.count = 0
        self.shadow = self._make_shadow(folder / "shadow.git")
        # Not the worktree's own: what is committed there is taken into the vault, and that would be measured as ours.
        self.own = folder / "own.git"
        shutil.copytree(self.worktree.path / ".git", self.own)
        (self.own / "objects/info/alternates").write_text(f"{self.vault.path}/objects\n")
        self.index = folder / "private-index"
        shutil.copyfile(self.worktree.path / ".git" / "index", self.index)

    def _make_shadow(self, path: Path) -> Path:
        subprocess.run(["git", "init", "-q", "--bare", str(path)], check=True, env=QUIET)
        (path / "objects/info/alternates").write_text(f"{self.vault.path}/objects\n")
        self._shadow("read-tree", self.base, shadow=path)
        self._shadow("add", "-A", shadow=path)
        self._shadow("commit", "-q", "--allow-empty", "-m", "first", shadow=path)
        return path

    def _shadow(self, *args: str, shadow: Path) -> None:
        line = ["git", f"--git-dir={shadow}", f"--work-tree={self.worktree.path}", *args]
        subprocess.run(line, check=True, env=QUIET, cwd=self.worktree.path)

    def holdfast(self) -> None:
        self.count += 1
        snapshot = self.worktree.snapshot()
        if snapshot.via != "watch":
            raise RuntimeError("the watch was lost: this is not the case that is measured")
        self.vault.write_checkpoint(
            f"refs/holdfast/checkpoints/b/{self.count}", snapshot.tree, [self.base], "m", MOMENT
        )

    def commit(self) -> None:
        self._shadow("add", "-A", shadow=self.own)
        self._shadow("commit", "-q", "--allow-empty", "-m", "m", shadow=self.own)

    def shadow_commit(self) -> None:
        self._shadow("add", "-A", shadow=self.shadow)
        self._shadow("commit", "-q", "--allow-empty", "-m", "m", shadow=self.shadow)

    def private_index(self) -> None:
        environment = {**QUIET, "GIT_INDEX_FILE": str(self.index)}
        for args in (["add", "-A"], ["write-tree"]):
            subprocess.run(
                ["git", *args], check=True, env=environment, cwd=self.worktree.path, stdout=subprocess.DEVNULL
            )

    def round(self, changes: int) -> dict[str, float]:
        """Gives each method's milliseconds for one set of changes."""
        trees.change(self.worktree.path, self.files, changes, self.chance)
        methods: dict[str, Callable[[], None]] = {
            OURS: self.holdfast,
            PEERS[0]: self.commit,
            PEERS[1]: self.shadow_commit,
            PEERS[2]: self.private_index,
        }
        times: dict[str, float] = {}
        for method in self.chance.sample(list(methods), len(methods)):
            os.sync()
            begun = time.perf_counter()
            methods[method]()
            times[method] = (time.perf_counter() - begun) * 1e3
        return times

    def check(self) -> None:
        """The fast path must still give what a full look gives."""
        if self.worktree.snapshot().tree != self.worktree.snapshot(full=True).tree:
            raise RuntimeError("the watched snapshot is not the scanned one")

    def close(self) -> None:
        self.worktree.close()
        self.vault.close()


def measure(sizes: list[int], rounds: int, folder: Path) -> dict[str, object]:
    contests = []
    for files in sizes:
        contests.append(Contest(folder / str(files), files))
        print(
            f"{files:>7} files: checkout {contests[-1].checkout_ms:.0f} ms, first look {contests[-1].first_ms:.0f} ms",
            flush=True,
        )
    times: dict[tuple[int, int, str], list[float]] = {}
    for _ in range(rounds):
        for changes in CHANGES:
            for contest in contests:
                for method, milliseconds in contest.round(changes).items():
                    times.setdefault((contest.files, changes, method), []).append(milliseconds)
    for contest in contests:
        contest.check()
        contest.close()
    rows = [
        {"files": files, "changed": changes, "method": method, "median_ms": statistics.median(found), "all_ms": found}
        for (files, changes, method), found in times.items()
    ]
    first = {str(contest.files): {"checkout": contest.checkout_ms, "first": contest.first_ms} for contest in contests}
    return {"rounds": rounds, "machine": machine(), "setup_ms": first, "rows": rows, "summary": summary(rows, sizes)}


def machine() -> dict[str, object]:
    git = subprocess.run(["git", "version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"cpus": os.cpu_count(), "load": os.getloadavg(), "kernel": platform.release().partition("-")[0], "git": git}


def summary(rows: list[dict[str, object]], sizes: list[int]) -> dict[str, float]:
    """Gives the two figures that must be reached: growth with the tree, and the lead over the fastest peer."""
    median = {(row["files"], row["changed"], row["method"]): float(str(row["median_ms"])) for row in rows}
    small, large = min(sizes), max(sizes)
    fastest = min(median[large, 10, peer] for peer in PEERS)
    return {
        "ours_large_over_small_10_changed": median[large, 10, OURS] / median[small, 10, OURS],
        "fastest_peer_over_ours_10_changed": fastest / median[large, 10, OURS],
    }


def show(result: dict[str, object], sizes: list[int]) -> None:
    rows = result["rows"]
    assert isinstance(rows, list)
    median = {(row["files"], row["changed"], row["method"]): row["median_ms"] for row in rows}
    print(f"\nmilliseconds (median), files changed {' / '.join(map(str, CHANGES))}; × = times ours")
    print(f"{'':34}" + "".join(f"{files:>28} files" for files in sizes))
    for method in (OURS, *PEERS):
        cells = []
        for files in sizes:
            values = [median[files, changes, method] for changes in CHANGES]
            cells.append(" / ".join(f"{value:.1f}" if value < 100 else f"{value:.0f}" for value in values))
        print(f"{method:34}" + "".join(f"{cell:>34}" for cell in cells))
    for peer in PEERS:
        cells = [
            " / ".join(f"{median[files, changes, peer] / median[files, changes, OURS]:.1f}×" for changes in CHANGES)
            for files in sizes
        ]
        print(f"× {peer:32}" + "".join(f"{cell:>34}" for cell in cells))
    for name, value in summary(rows, sizes).items():
        print(f"{name}: {value:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000,20000,100000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the trees are made (default: a temporary folder)"
    )
    chosen = parser.parse_args()
    sizes = [int(size) for size in chosen.sizes.split(",")]
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        result = measure(sizes, chosen.rounds, Path(folder))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    show(result, sizes)


if __name__ == "__main__":
    main()
