"""Cuts the power of a machine that runs the sample plan, at any moment; then the machine starts again and goes on.

    sudo python -m tests.crash.power --cuts 100 --on ext4 --folder FOLDER

The run lies on a filesystem in a file. At a cut all that works on it is killed and the file is cloned as it is: what
the kernel had not written yet is gone, as without power. The clone is mounted in its place, and the machine has another
boot id. What is done outside lies elsewhere, and stays. Mounts are private to the campaign's namespace.

With `--back` a plan that has run is rewound and undone, killed at some point of it or not at all; after each cut, and
once what was begun is carried through, its worktree has to be what its branch says.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.crash.campaign import Campaign, Tally, databases, note, prepare, show, story_of, summary
from tests.harness import crash, forked
from tests.harness.crash import Kill, Life, Report, Story
from tests.harness.observe import files_of, opened
from tests.harness.processes import kill_run
from tests.harness.sample import Scene, make_scene

from holdfast.app import database, plans
from holdfast.engine import restoring

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_IMAGE_BYTES = 400 << 20
_CLONE_NEWNS = 0x00020000


@dataclass(frozen=True, slots=True)
class Machine:
    """A disk (a filesystem in the file `image`, mounted at `disk`) and a boot id."""

    folder: Path
    kind: str

    @property
    def image(self) -> Path:
        return self.folder / "image"

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    def start(self) -> None:
        """Mounts the disk; this is another boot of the machine."""
        boot = self.folder / "boot_id"
        if not boot.exists():
            boot.write_text(f"{uuid.uuid4()}\n")
            subprocess.run(["mount", "--bind", str(boot), str(BOOT_ID)], check=True)
        boot.write_text(f"{uuid.uuid4()}\n")
        self.disk.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.disk)], check=True)

    def renew(self) -> None:
        """Gives it an empty disk."""
        self.stop()
        self.image.unlink(missing_ok=True)
        with self.image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        subprocess.run([f"mkfs.{self.kind}", "-q", str(self.image)], check=True)
        self.start()

    def stop(self) -> None:
        if os.path.ismount(self.disk):
            subprocess.run(["umount", str(self.disk)], check=True)

    def cut(self, scene: Scene) -> None:
        """Ends whoever works on it, takes what has reached the disk, and starts again with that."""
        kill_run(scene.root, scene.token)
        clone = self.folder / "clone"
        self.copy(clone)
        self.stop()
        clone.rename(self.image)
        self.start()

    def copy(self, to: Path) -> None:
        """Copies what has reached the disk, as it is at one moment."""
        subprocess.run(["cp", "--reflink=always", str(self.image), str(to)], check=True)


def play(machine: Machine, campaign: Campaign, story: Story, name: str) -> tuple[Report, Path]:
    """Plays one story on an empty disk; the image of one that failed is kept."""
    machine.renew()
    scene = make_scene(machine.disk / "run", uuid.uuid4().hex, "")
    elsewhere = machine.folder / f"outside-{name}"
    elsewhere.touch()
    scene.outside.symlink_to(elsewhere)
    os.sync()
    try:
        report = crash.play(scene, story, campaign.reference, after_kill=machine.cut)
    except Exception:  # noqa: BLE001 - whatever a broken run raises is what is wrong with it
        report = Report(story, (f"the run cannot be looked at: {traceback.format_exc()}",), (), None)
    kept = machine.folder / f"failed-{name}"
    if report.problems:
        os.sync()
        machine.copy(kept)
    else:
        elsewhere.unlink()
    return report, kept


# -- going back --------------------------------------------------------------------------------------------------------

POINTS = (
    "",
    "engine.restore.saved",
    "vcs.own.index_set",
    "vcs.restore.deleted",
    "vcs.restore.file_written",
    "vcs.restore.written",
    "engine.restore.files_set",
    "vcs.branch.moved",
    "engine.restore.branches_moved",
    "engine.restore.before_commit",
)


def go_back(machine: Machine, campaign: Campaign, seed: int) -> tuple[Report, Path]:
    """Rewinds a task of a plan that has run, and undoes that, each followed by a cut."""
    chance = random.Random(seed)
    machine.renew()
    scene = make_scene(machine.disk / "run", uuid.uuid4().hex, "")
    ran = crash.play(scene, Story("all"), campaign.reference)
    assert not ran.problems, ran.problems
    machine.cut(scene)
    problems: list[str] = []
    lives: list[Life] = []
    story = Story("all", tuple(Kill(at=chance.choice(POINTS)) for _ in range(6)))
    for kill in story.kills:
        words = chance.choice(
            (["task", "rewind", f"T{chance.choice((1, 3, 8, 9))}", "--to", "1", "--yes"], ["undo", "--yes"])
        )
        done = forked.run(words, env=scene.environment() | {"HOLDFAST_FAILPOINT": kill.at}, cwd=scene.repository)
        lives.append(Life(done.returncode, True, 0.0, done.stderr))
        machine.cut(scene)
        for lock in (scene.repository / ".git" / "refs").rglob("*.lock"):
            lock.unlink()  # a git that was cut off leaves it, and says so to whoever comes next
        problems += [f"after {' '.join(words)} {kill}: {each}" for each in wrong(scene)]
    kept = machine.folder / f"failed-back-{seed}"
    if problems:
        machine.copy(kept)
    return Report(story, tuple(problems), tuple(lives), None), kept


def wrong(scene: Scene) -> Iterator[str]:
    """Says what is not as the plan's branch says, once what was cut off has been carried through."""
    with opened(scene) as house:
        view = plans.show(house, plans.find(house, ""))
        restoring.finish_open(house, view.plan.id)
        vault, worktree = house.places.vault(view.project.id), house.places.plan_worktree(view.plan)
        said = {
            name: text.partition(" ")[2] if text.startswith("1") else text
            for name, text in files_of(vault, view.plan.branch).items()
        }
        for each in database.examine(house):
            yield f"db check: {each.message}"
    there = {
        str(path.relative_to(worktree)): path.read_text()
        for path in worktree.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    for name in sorted({*said, *there}):
        if said.get(name) != there.get(name):
            yield f"{name} is {there.get(name)!r}, the branch says {said.get(name)!r}"


def main() -> int:
    options = argparse.ArgumentParser(description="Cuts the power of a machine that runs the sample plan.")
    options.add_argument("--cuts", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--on", choices=("ext4", "xfs", "btrfs"), default="ext4", help="the disk's filesystem")
    options.add_argument("--folder", type=Path, required=True, help="a folder on a filesystem with reflinks")
    options.add_argument("--back", action="store_true", help="rewind and undo, rather than run")
    chosen = options.parse_args()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        options.error(f"it mounts, and needs a namespace for that: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    machine = Machine(Path(tempfile.mkdtemp(prefix="holdfast-power-", dir=chosen.folder)), chosen.on)
    tally, began, seed = Tally(), time.monotonic(), chosen.seed
    with databases("sqlite") as apart:
        campaign = prepare(apart, machine.folder)
        while tally.kills < chosen.cuts:
            if chosen.back:
                note(tally, *go_back(machine, campaign, seed))
            else:
                note(tally, *play(machine, campaign, story_of(campaign, seed, "all"), f"seed-{seed}"))
            show(tally, chosen.cuts, time.monotonic() - began)
            seed += 1
    machine.stop()
    summary(tally)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
