"""`demo`: the main job on a small real repository, its worker killed half-way, and the proof that nothing was lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli.grammar import verb
from holdfast.cli.session import Session

if TYPE_CHECKING:
    from holdfast.app.plans import PlanView

PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.1
PLAN = "P1"


class Failed(Exception):
    """The demonstration did not show what it promises."""


@verb(
    "demo",
    example="""
    holdfast demo
    holdfast demo --keep --folder /tmp/till
    """,
)
@click.option("--keep", is_flag=True, help="Leave the folder, to look around in.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="DIR",
    help="Where to work; must be new or empty (default: a temporary folder).",
)
def demo(session: Session, keep: bool, folder: Path | None) -> int:
    """Show the whole job on a small real repository, with a kill half-way.

    It makes a git repository and a plan, runs the plan in a child process, kills that with SIGKILL while tasks run,
    goes on with `holdfast resume`, and proves that each task's effect happened exactly once. It has a data folder of
    its own and touches nothing of yours.
    """
    place = _place(folder)
    shown = Demo(session, place)
    try:
        shown.perform()
    except Failed as failure:
        shown.end()
        session.err.print(f"the demo failed: {failure}", style="red", soft_wrap=True)
        session.note(f"its folder is kept: {place}")
        return 1
    except KeyboardInterrupt:
        shown.end()
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
        raise
    except BaseException:
        shown.end()
        raise
    if not keep:
        shutil.rmtree(place)
    shown.conclude(kept=keep)
    return 0


def _place(folder: Path | None) -> Path:
    from holdfast.errors import UsageError

    if folder is None:
        return Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty", hint="name a new folder")
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror}", hint="name another folder") from error
    return folder.absolute()


@dataclass(slots=True)
class Demo:
    """One demonstration in the folder `place`."""

    session: Session
    place: Path
    child: subprocess.Popen[bytes] | None = None
    acts: int = 0
    view: PlanView | None = None
    adopted: int = 0

    @property
    def repository(self) -> Path:
        return self.place / "till"

    @property
    def effects(self) -> Path:
        return self.place / "effects.log"

    def perform(self) -> None:
        """Shows it all; raises `Failed` at the first thing that is not as promised."""
        os.environ["HOLDFAST_DATA"] = str(self.place / "data")
        os.environ.pop("HOLDFAST_DB", None)
        os.environ.pop("HOLDFAST_SANDBOX", None)
        self.make_repository()
        self.run_and_kill()
        self.go_on()
        self.look()
        self.prove()

    def tell(self, text: str) -> None:
        """Begins the next act."""
        if not self.session.json:
            self.acts += 1
            self.session.out.print(f"\n{self.acts}. {text}", style="bold", soft_wrap=True)

    def aside(self, text: str) -> None:
        if not self.session.json:
            self.session.out.print(f"   {text}", style="dim", soft_wrap=True)

    def make_repository(self) -> None:
        from holdfast.cli import demo_files

        self.tell("A small git repository: a Python project with tests, and a plan with three phases")
        for name, content in demo_files.FILES.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        (self.place / "plan.yaml").write_text(demo_files.PLAN, encoding="utf-8")
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", "--all")
        self.git("-c", "user.name=Demo", "-c", "user.email=demo@localhost", "commit", "--quiet", "-m", "A till")
        self.aside(f"{self.repository}, {len(demo_files.FILES)} files, one commit")
        # Its commands write their effects outside of the worktree, to be counted.
        self.command("init", str(self.repository), "--sandbox", "none")

    def run_and_kill(self) -> None:
        self.tell(f"holdfast run plan.yaml, in a process of its own (data folder: {self.place / 'data'})")
        variables = ("--var", f"PYTHON={sys.executable}", "--var", f"EFFECTS={self.effects}")
        self.child = self.start("run", str(self.place / "plan.yaml"), *variables)
        self.wait_for_parallel_work(self.child)
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        self.restore_terminal()
        self.tell(f"kill -9 {self.child.pid}: the worker is gone in the middle of the parallel phase")
        found = self.commands_alive()
        if not found:
            raise Failed("no command outlived the worker")
        self.adopted = len(found)
        for pid, task in found:
            self.aside(f"still at work without it: pid {pid}, the command of {task}")

    def wait_for_parallel_work(self, child: subprocess.Popen[bytes]) -> None:
        """Waits until a task of the parallel phase has said something."""
        from holdfast.app import plans, steps
        from holdfast.domain.plan import PhaseMode
        from holdfast.errors import UsageError

        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.session.house() as house:
            while time.monotonic() < deadline:
                if child.poll() is not None:
                    raise Failed(f"the run ended before it could be killed (exit code {child.returncode})")
                try:
                    view = plans.show(house, plans.find(house, ""))
                except UsageError:
                    time.sleep(LOOK_SECONDS)
                    continue
                parallel = {phase.id for phase in view.phases if phase.mode is PhaseMode.PARALLEL}
                side_by_side = {task.id for task in view.tasks if task.phase_id in parallel}
                said = steps.last_lines(house, view.steps)
                if sum(bool(said.get(task_id)) for task_id in side_by_side) >= 2:
                    return
                time.sleep(LOOK_SECONDS)
        raise Failed(f"nothing ran in parallel within {PATIENCE_SECONDS:.0f} s")

    def go_on(self) -> None:
        self.tell("holdfast resume: it takes the running commands up again and goes on to the end")
        self.child = self.start("resume")
        code = self.child.wait()
        if code != 0:
            raise Failed(f"resume ended with exit code {code}")

    def look(self) -> None:
        from holdfast.app import plans
        from holdfast.domain.transitions import PlanStatus

        with self.session.house() as house:
            self.view = plans.show(house, plans.find(house, PLAN))
        if self.view.plan.status is not PlanStatus.COMPLETED:
            raise Failed(f"the plan is {self.view.plan.status}")
        by_key = {task.key: task for task in self.view.tasks}
        numbers = {step.task_id: step.number for step in self.view.steps}
        tax, receipts = by_key["tax"], by_key["receipts"]
        self.tell("holdfast steps: each run of a task is a numbered step with its commit")
        self.command("steps", "--plan", PLAN)
        self.tell(f"holdfast task checkpoints T{tax.number}: the states that a task passed through")
        self.command("task", "checkpoints", f"T{tax.number}")
        self.tell(f"holdfast step diff {numbers[receipts.id]}: what one step changed")
        self.command("step", "diff", str(numbers[receipts.id]), "--project", self.view.project.slug)
        self.tell("holdfast plan merge: the result becomes a branch of the repository; the checkout stays as it was")
        self.command("plan", "merge", PLAN)
        for line in self.git("log", "--graph", "--oneline", self.view.plan.branch).splitlines():
            self.aside(line)

    def prove(self) -> None:
        """Checks what was promised, and says so."""
        assert self.view is not None
        self.tell("The proof")
        happened = Counter(self.effects.read_text(encoding="utf-8").split())
        wanted = Counter(task.key for task in self.view.tasks)
        if happened != wanted:
            raise Failed(f"effects happened {dict(happened)}, wanted once each: {dict(wanted)}")
        self.aside(f"each of the {len(wanted)} tasks wrote its line to {self.effects.name} exactly once")
        if len(self.view.steps) != len(self.view.tasks):
            raise Failed(f"{len(self.view.steps)} steps for {len(self.view.tasks)} tasks")
        self.aside(f"{len(self.view.steps)} steps for {len(self.view.tasks)} tasks: none lost, none run again")
        if self.git("status", "--porcelain"):
            raise Failed("the checkout was changed")
        self.aside("the checkout is clean and where it was")
        self.command("db", "check")

    def conclude(self, *, kept: bool) -> None:
        assert self.view is not None
        if self.session.json:
            where = str(self.place) if kept else None
            self.session.document(
                {"ok": True, "adopted_commands": self.adopted, "plan": self.view, "folder": where},
            )
            return
        self.tell("That was it: killed in the middle, nothing lost, nothing done twice")
        if kept:
            data = self.place / "data"
            self.aside(f"look around:  cd {self.repository}; export HOLDFAST_DATA={data}; holdfast timeline")
        else:
            self.aside("its folder is removed (--keep leaves it); now in a repository of yours:  holdfast init")

    def commands_alive(self) -> list[tuple[int, str]]:
        """Gives the shells that work in the plan's worktrees and their tasks, as `/proc` shows them."""
        found: list[tuple[int, str]] = []
        for pid in self.processes_alive():
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            named = {name: value for name, _, value in (each.partition(b"=") for each in environment)}
            if command[0].endswith(b"sh"):
                task = b" ".join(named.get(name, b"?") for name in (b"HOLDFAST_TASK", b"HOLDFAST_TASK_KEY"))
                found.append((pid, task.decode(errors="replace")))
        return found

    def processes_alive(self) -> list[int]:
        """Gives the processes whose folder is one of the plan's worktrees."""
        worktrees = str(self.place / "data" / "projects")
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and os.readlink(entry / "cwd").startswith(worktrees):
                    found.append(int(entry.name))
            except OSError:
                continue
        return sorted(found)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Starts holdfast as a process of its own, which shows its progress on our output."""
        return subprocess.Popen(
            [sys.executable, "-m", "holdfast", *words],
            cwd=self.repository,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if self.session.json else None,
            process_group=0,
        )

    def command(self, *words: str) -> None:
        """Runs one of our commands here; it prints what it prints for everybody."""
        from holdfast.cli.main import run

        if self.session.json:
            return
        if (code := run(words)) != 0:
            raise Failed(f"holdfast {' '.join(words)} ended with exit code {code}")

    def git(self, *words: str) -> str:
        from holdfast.vcs import git

        return git.text(words, cwd=self.repository)

    def restore_terminal(self) -> None:
        """Shows the cursor again, which the killed process had hidden."""
        if self.session.live:
            self.session.out.show_cursor(True)
            self.session.out.print()

    def end(self) -> None:
        """Ends what this demonstration has started: its worker, and the commands in its worktrees."""
        if self.child is not None and self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()
        for pid in self.processes_alive():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
