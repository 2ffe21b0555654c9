"""Kills the sample plan thousands of times, at named points and at random times, and reports every broken promise.

    python -m tests.crash.campaign --kills 1000 --database sqlite --mode both --jobs 2 --seed 1
    python -m tests.crash.campaign --story "all engine.seal.snapshot:2 +0.310"        # one story again, by its name

Every failure is printed with the story that shows it, and its folder is kept. Exit code 1 if there was one.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

from tests.harness import crash
from tests.harness.crash import Kill, Mode, Report, Story, parse_kill
from tests.harness.observe import Observed
from tests.harness.sample import Scene, make_scene

# What a worker does only when it takes over: killed there, after any kill before.
RECOVERY = (
    "engine.recovery.handed_back",
    "engine.worker.recovered",
    "engine.worker.launched",
    "engine.restart.strays_killed",
    "engine.restart.worktree_reset",
    "engine.agent.strays_killed",
    "engine.agent.started_again",
)

INTERVALS = {"HOLDFAST_CHECKPOINT_INTERVAL_SECONDS": "0.05"}

Databases: TypeAlias = "Callable[[], AbstractContextManager[str]]"


@dataclass(slots=True)
class Tally:
    """What happened so far."""

    stories: int = 0
    kills: int = 0
    by_point: Counter[str] = field(default_factory=Counter[str])
    failed: list[tuple[Story, Path, tuple[str, ...]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Campaign:
    """What stories are made of: the reference run, the points that it passed, and how long it took."""

    database: Databases
    folder: Path
    reference: Observed
    passes: Counter[str]
    seconds: float


@contextmanager
def databases(kind: str) -> Iterator[Databases]:
    """Gives a way to lend each run a database of its own; empty = SQLite in the run's data folder."""
    if kind == "sqlite":
        yield lambda: nullcontext("")
        return
    from tests.harness.postgres import postgres_server

    with postgres_server() as server:
        yield server.database


def prepare(database: Databases, folder: Path) -> Campaign:
    """Runs the plan undisturbed and takes what it left as the reference."""
    with database() as url:
        scene = make_scene(folder / "reference", uuid.uuid4().hex, url)
        report, passes = crash.learn(scene)
    if report.problems or report.seen is None:
        raise SystemExit(f"the undisturbed run in {scene.root} is wrong already:\n" + "\n".join(report.problems))
    return Campaign(database, folder, report.seen, passes, report.lives[0].seconds)


def story_of(campaign: Campaign, seed: int, mode: str) -> Story:
    """Makes up the story of a seed: kills at points that runs pass or at random times, one to four anywhere in the run
    or a dozen of which each comes soon after the one before.
    """
    chance = random.Random(seed)
    chosen = cast("Mode", mode if mode != "both" else chance.choice(("worker", "all")))
    settings = INTERVALS if chance.random() < 0.2 else {}
    soon = chance.random() < 0.5
    number = chance.randint(8, 16) if soon else chance.choices((1, 2, 3, 4), (5, 3, 2, 1))[0]
    kills = tuple(_kill(campaign, chance, first=position == 0, soon=soon) for position in range(number))
    return Story(chosen, kills, settings=settings)


def _kill(campaign: Campaign, chance: random.Random, *, first: bool, soon: bool) -> Kill:
    choice = chance.random()
    if choice < 0.35:
        return Kill(after=round(chance.uniform(0.001, campaign.seconds / (10 if soon else 1)), 3))
    if choice < (0.45 if soon else 0.55) and not first:
        return Kill(at=f"{chance.choice(RECOVERY)}:1")
    name = chance.choice(sorted(campaign.passes))
    passes = campaign.passes[name]
    return Kill(at=f"{name}:{chance.randint(1, min(passes, 2) if soon else passes)}")


def play(campaign: Campaign, story: Story, name: str) -> tuple[Report, Path]:
    """Plays one story in a folder of its own; it is removed if all is well."""
    root = campaign.folder / name
    with campaign.database() as url:
        scene = make_scene(root, uuid.uuid4().hex, url)
        report = _judged(scene, story, campaign.reference)
    if not report.problems:
        shutil.rmtree(root)
    return report, root


def _judged(scene: Scene, story: Story, reference: Observed) -> Report:
    try:
        return crash.play(scene, story, reference)
    except Exception:  # noqa: BLE001 - whatever a broken run raises is what is wrong with it
        return Report(story, (f"the run cannot be looked at: {traceback.format_exc()}",), (), None)


def run(campaign: Campaign, options: argparse.Namespace) -> Tally:
    """Plays stories, some at a time, until there were as many kills as asked for."""
    tally = Tally()
    seed = options.seed
    began = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting: set[Future[tuple[Report, Path]]] = set()
        while tally.kills < options.kills or waiting:
            while tally.kills < options.kills and len(waiting) < options.jobs:
                story = story_of(campaign, seed, options.mode)
                waiting.add(pool.submit(play, campaign, story, f"seed-{seed}"))
                seed += 1
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for each in done:
                note(tally, *each.result())
            show(tally, options.kills, time.monotonic() - began)
    return tally


def note(tally: Tally, report: Report, root: Path) -> None:
    tally.stories += 1
    tally.kills += report.kills
    for kill, life in zip(report.story.kills, report.lives, strict=False):
        if life.killed:
            tally.by_point[kill.at.partition(":")[0] or "(random time)"] += 1
    if report.problems:
        tally.failed.append((report.story, root, report.problems))
        tell_failure(report.story, root, report.problems)


def tell_failure(story: Story, root: Path, problems: tuple[str, ...]) -> None:
    print(f"\nFAILED {root.name}: {story}\n  kept: {root}")
    for problem in problems[:12]:
        print(f"  - {problem}")
    if len(problems) > 12:
        print(f"  - and {len(problems) - 12} more")
    interval = " --interval" if story.settings else ""
    print(f'  again: python -m tests.crash.campaign{interval} --story "{story}"', flush=True)


def show(tally: Tally, wanted: int, seconds: float) -> None:
    line = f"{tally.kills}/{wanted} kills in {tally.stories} runs, {len(tally.failed)} failed, {seconds:.0f} s"
    print(line, end="\r" if sys.stdout.isatty() else "\n", flush=True)


def summary(tally: Tally) -> None:
    print("\nkills by point:")
    for name, times in sorted(tally.by_point.items()):
        print(f"  {times:6}  {name}")
    print(f"{tally.kills} kills in {tally.stories} runs: {len(tally.failed)} failed")
    for story, root, problems in tally.failed:
        print(f"  {root.name}: {story}: {problems[0][:160]}")


def main() -> int:
    options = argparse.ArgumentParser(description="Kills the sample plan many times and looks for broken promises.")
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    options.add_argument("--mode", choices=("worker", "all", "both"), default="both")
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--folder", type=Path, help="where runs lie; failed ones are kept")
    options.add_argument("--story", default="", help='one story: "<mode> <kill> <kill> …"')
    options.add_argument("--interval", action="store_true", help="with --story: interval checkpoints every 0.05 s")
    options.add_argument("--bug", default="", help="with --story: a seeded bug of tests/harness/bugs.py")
    chosen = options.parse_args()
    if chosen.folder:
        chosen.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="holdfast-crash-", dir=chosen.folder))
    with databases(chosen.database) as database:
        tally = wage(prepare(database, folder), chosen)
    summary(tally)
    if not tally.failed:
        shutil.rmtree(folder)
    return 1 if tally.failed else 0


def wage(campaign: Campaign, chosen: argparse.Namespace) -> Tally:
    passes = campaign.passes.total()
    print(f"undisturbed: {campaign.seconds:.1f} s, {passes} passes; runs lie in {campaign.folder}", flush=True)
    if not chosen.story:
        return run(campaign, chosen)
    mode, *kills = chosen.story.split()
    settings = INTERVALS if chosen.interval else {}
    tally = Tally()
    note(
        tally,
        *play(
            campaign, Story(cast("Mode", mode), tuple(map(parse_kill, kills)), chosen.bug, settings=settings), "story"
        ),
    )
    return tally


if __name__ == "__main__":
    sys.exit(main())
