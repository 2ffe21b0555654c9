"""Commands that really run confined, under the shim, and what is left of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from tests.agents.runs import Run

from holdfast.agents import CommandOutcome, Launch
from holdfast.sandbox import Confinement, Mount, Sandbox

# The image has no programs: it is shown those of this machine.
IMAGE = "localhost/holdfast-test:1"
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_FOLDERS = ("usr", "etc", "tmp", "run", "proc", "dev", "sys", "var")


@dataclass
class Box:
    """A sandbox with a worktree and a home in it, beside things that it must not see."""

    sandbox: Sandbox
    run: Run
    confinement: Confinement

    @property
    def worktree(self) -> Path:
        return self.confinement.worktree.source

    @property
    def home(self) -> Path:
        return self.confinement.home.source

    def launch(
        self, shell: str, *, env: dict[str, str] | None = None, options: dict | None = None, **changes
    ) -> Launch:
        """Gives the launch of a shell command, with the confinement changed as said."""
        confinement = replace(self.confinement, **changes)
        given = {"PATH": os.environ["PATH"], **(env or {})}
        wrapped = self.sandbox.wrap(confinement, ("/bin/sh", "-c", shell), given)
        asked = "group" if wrapped.forwards else "tree"
        return self.run.launch(argv=wrapped.argv, env=wrapped.env, asked_to_end=asked, **(options or {}))

    async def go(self, shell: str, **given) -> CommandOutcome:
        launch = self.launch(shell, **given)
        options = {
            name: getattr(launch, name) for name in ("argv", "env", "grace_seconds", "timeout_seconds", "asked_to_end")
        }
        return await self.run.go(**options)

    def said(self) -> str:
        return self.run.output().decode()


def confinement_of(run: Run, beside: Path, programs: bool) -> Confinement:
    """Gives a confinement to the run's folder; `programs` shows those of this machine to an image that has none."""
    home = beside / "home"
    home.mkdir()
    run.folder.mkdir(parents=True, exist_ok=True)
    shown = (Mount.of(Path("/usr")), Mount.of(Path("/etc/alternatives"))) if programs else ()
    return Confinement(
        worktree=Mount.of(run.cwd), home=Mount.of(home), folder=run.folder, token=run.token, readable=shown
    )


def podman_problem(folder: Path) -> str:
    """Makes podman usable for tests and gives why it is not, empty if it runs a container."""
    if shutil.which("podman") is None:
        return "podman is not installed"
    # The machine's own limits may be lower than podman's defaults, and its control groups too old for crun.
    runtime = '[engine]\nruntime = "runc"\n' if shutil.which("runc") else ""
    limits = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
    (folder / "containers.conf").write_text(limits + runtime)
    os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
    made = subprocess.run(["podman", "import", "-", IMAGE], input=_image(), capture_output=True)
    if made.returncode == 0:
        shown = "--mount=type=bind,source=/usr,target=/usr,readonly"
        line = [
            "podman",
            "run",
            "--rm",
            "--init",
            "--network=none",
            "--read-only",
            "--pids-limit=50",
            shown,
            IMAGE,
            "true",
        ]
        made = subprocess.run(line, capture_output=True)
    return "" if made.returncode == 0 else f"podman runs no container here: {made.stderr.decode().strip()[-200:]}"


def _image() -> bytes:
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in _FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        for name, target in _LINKS.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return packed.getvalue()
