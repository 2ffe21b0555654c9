"""Cuts the power of a machine that runs the sample plan, at any moment; then the machine starts again and goes on.

    sudo python -m tests.crash.power --cuts 100 --on ext4 --folder <a folder on XFS or btrfs>

The run lies on a filesystem in a file. At a cut all that works on it is killed and the file is cloned as it is: what
the kernel had not written yet is gone, as without power. The clone is mounted in its place, and the machine has another
boot id. What is done outside lies elsewhere, and stays. Mounts are private to the campaign's namespace.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.crash.campaign import Campaign, Tally, databases, note, prepare, show, story_of, summary
from tests.harness import crash
from tests.harness.crash import Report, Story
from tests.harness.sample import Scene, make_scene

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

    def cut(self, _: Scene) -> None:
        """Takes what has reached the disk, and starts again with that; nobody works on it any more."""
        clone = self.folder / "clone"
        subprocess.run(["cp", "--reflink=always", str(self.image), str(clone)], check=True)
        self.stop()
        clone.rename(self.image)
        self.start()


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
        subprocess.run(["cp", "--reflink=always", str(machine.image), str(kept)], check=True)
    else:
        elsewhere.unlink()
    return report, kept


def main() -> int:
    options = argparse.ArgumentParser(description="Cuts the power of a machine that runs the sample plan.")
    options.add_argument("--cuts", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--on", choices=("ext4", "xfs", "btrfs"), default="ext4", help="the disk's filesystem")
    options.add_argument("--folder", type=Path, required=True, help="a folder on a filesystem with reflinks")
    chosen = options.parse_args()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        options.error(f"it mounts, and needs a namespace for that: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    machine = Machine(Path(tempfile.mkdtemp(prefix="holdfast-power-", dir=chosen.folder)), chosen.on)
    tally, began, seed = Tally(), time.monotonic(), chosen.seed
    with databases("sqlite") as database:
        campaign = prepare(database, machine.folder)
        while tally.kills < chosen.cuts:
            story = story_of(campaign, seed, "all")
            note(tally, *play(machine, campaign, story, f"seed-{seed}"))
            show(tally, chosen.cuts, time.monotonic() - began)
            seed += 1
    machine.stop()
    summary(tally)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
