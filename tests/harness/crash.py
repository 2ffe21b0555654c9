"""Runs the sample plan, kills it as it is told, lets it go on to its end, and judges what it left.

story = Story(mode="all", kills=(Kill(at="engine.seal.snapshot:2"), Kill(after=0.4)))
report = play(scene, story, reference)        # report.problems is empty if every promise was kept
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.harness import observe
from tests.harness.observe import Observed
from tests.harness.processes import kill_run
from tests.harness.sample import Scene

Mode = Literal["worker", "all"]

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("driver.py")
LIFE_SECONDS = 240.0
_LOOK_SECONDS = 0.004


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL: at the n-th pass of a failpoint (`name:n`), or so many seconds after the worker began to work.

    `shim.…:n` kills the n-th shim that the worker starts; `@begin:left` kills when the command of the task `left` says
    outside that it begins, where it is held until then (or `@end:…`). A kill whose moment never comes does nothing.
    """

    at: str = ""
    after: float = 0.0

    @property
    def of_shim(self) -> bool:
        return self.at.startswith("shim.")

    @property
    def told_outside(self) -> bytes:
        """The text that is the moment, empty if it is another."""
        return self.at[1:].replace(":", " ").encode() + b" " if self.at.startswith("@") else b""

    @property
    def held(self) -> str:
        """The task whose command waits at its beginning for this kill, empty if none does."""
        return self.at.removeprefix("@begin:") if self.at.startswith("@begin:") else ""

    def __str__(self) -> str:
        return self.at or f"+{self.after:.3f}"


@dataclass(frozen=True, slots=True)
class Story:
    """One run: which processes a kill takes (`worker`: commands and shims live on), and its kills in their order.

    `cli`: the workers are `holdfast run` and `holdfast resume`, not the driver; shims cannot be killed alone then.
    """

    mode: Mode
    kills: tuple[Kill, ...] = ()
    bug: str = ""
    cli: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.mode} {' '.join(map(str, self.kills))}"

    @property
    def commands_survive(self) -> bool:
        return self.mode == "worker" and not any(kill.of_shim for kill in self.kills)


def parse_kill(text: str) -> Kill:
    """Gives the kill that `str` of it says."""
    return Kill(after=float(text[1:])) if text.startswith("+") else Kill(at=text)


@dataclass(frozen=True, slots=True)
class Life:
    """How one worker process ended: its exit code (-9 = killed), whether the kill came, how long it took."""

    code: int
    killed: bool
    seconds: float
    output: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a story."""

    story: Story
    problems: tuple[str, ...]
    lives: tuple[Life, ...]
    seen: Observed | None

    @property
    def kills(self) -> int:
        return sum(life.killed for life in self.lives)


def play(
    scene: Scene, story: Story, reference: Observed | None, *, after_kill: Callable[[Scene], None] = lambda _: None
) -> Report:
    """Plays a story to the end of the plan and compares; nothing of it lives on return."""
    lives: list[Life] = []
    try:
        for number, kill in enumerate(story.kills):
            lives.append(live(scene, story, kill, number))
            after_kill(scene)
        if any(is_broken(life) for life in lives):
            return Report(story, _broken(lives), tuple(lives), None)
        lives.append(live(scene, story, None, len(lives)))
        if lives[-1].code != 0:
            return Report(story, _broken(lives), tuple(lives), None)
        return judge(scene, story, tuple(lives), reference)
    finally:
        kill_run(scene.root, scene.token)


def judge(scene: Scene, story: Story, lives: tuple[Life, ...], reference: Observed | None) -> Report:
    """Says what is wrong with a run whose plan has ended."""
    evidence = observe.gather(scene)
    problems = observe.violations(scene, evidence, once=story.commands_survive)
    seen = observe.observed(evidence)
    if reference is not None:
        problems += observe.differences(reference, seen)
    return Report(story, tuple(problems), lives, seen)


def is_broken(life: Life) -> bool:
    """Tells whether a worker ended in another way than with its plan, by its kill, or because its shim was killed.

    A shim that dies before it stands is a failure of the machine: the worker ends, and the work stays claimable.
    """
    if life.code == 1 and life.killed:
        return "InfraError: the shim could not be started" not in life.output
    return life.code != 0 and not (life.code == -9 and life.killed)


def _broken(lives: list[Life]) -> tuple[str, ...]:
    bad = next(life for life in lives if is_broken(life))
    what = "did not end" if bad.code == -9 else f"ended with {bad.code}"
    return (f"a worker {what} after {bad.seconds:.1f} s, saying: {bad.output[-1500:]}",)


def learn(scene: Scene) -> tuple[Report, Counter[str]]:
    """Runs the plan undisturbed; gives what it left, and how often it passed each failpoint."""
    log = scene.root / "passes"
    story = Story("worker", settings={"HOLDFAST_FAILPOINT_LOG": str(log)})
    report = play(scene, story, None)
    return report, Counter(log.read_text().split())


def start(scene: Scene, story: Story, kill: Kill | None, number: int, *options: str) -> subprocess.Popen[bytes]:
    """Starts a worker in a session of its own; what it says goes to `life-<number>.log`."""
    environment = scene.environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"} | dict(story.settings)
    arguments = _cli(scene, environment, number) if story.cli else _driver(scene, story, kill, number)
    if kill is not None and kill.at and not kill.told_outside and not kill.of_shim:
        environment["HOLDFAST_FAILPOINT"] = kill.at
    with _log(scene, number).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *arguments, *options],
            cwd=scene.repository,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _driver(scene: Scene, story: Story, kill: Kill | None, number: int) -> list[str]:
    arguments = [str(DRIVER), str(scene.repository), str(scene.plan_file)]
    if story.bug:
        arguments += ["--bug", story.bug]
    if kill is not None and kill.of_shim:
        failpoint, _, launch = kill.at.partition(":")
        arguments += ["--shim", f"{failpoint}:{launch or 1}:{_hit_file(scene, number)}"]
    return arguments


def _cli(scene: Scene, environment: dict[str, str], number: int) -> list[str]:
    """Gives what a person types: `init` (done here) and `run`, after a kill `resume`."""
    if number:
        return ["-m", "holdfast", "resume"]
    init = [sys.executable, "-m", "holdfast", "init"]
    subprocess.run(init, cwd=scene.repository, env=environment, check=True, capture_output=True)
    return ["-m", "holdfast", "run", str(scene.plan_file)]


def live(scene: Scene, story: Story, kill: Kill | None, number: int, *options: str) -> Life:
    """Lets a worker work until its kill comes, or until it ends by itself (a worker that hangs is killed, too)."""
    began = time.monotonic()
    if kill is not None and kill.held:
        scene.hold(kill.held).touch()
    process = start(scene, story, kill, number, *options)
    killed = _await_kill(scene, story, kill, number, process, began + LIFE_SECONDS)
    if killed and story.mode == "worker" and not (kill is not None and kill.of_shim):
        process.kill()
    if process.poll() is None and not killed:
        process.kill()  # it hangs
    if killed and story.mode == "all":
        kill_run(scene.root, scene.token)
    code = process.wait(timeout=LIFE_SECONDS)
    if kill is not None and kill.held:
        scene.hold(kill.held).unlink()
    output = _log(scene, number).read_text(errors="replace")
    return Life(code, killed, time.monotonic() - began, output)


def _await_kill(
    scene: Scene, story: Story, kill: Kill | None, number: int, process: subprocess.Popen[bytes], deadline: float
) -> bool:
    """Waits for the moment of the kill; False if the worker ended by itself before, or hangs."""
    working_since: float | None = None
    shim_died = False
    while (now := time.monotonic()) < deadline:
        code = process.poll()
        if kill is not None and kill.of_shim and not shim_died and _was_hit(scene, number, kill):
            shim_died = True
            if story.mode == "all":
                return True
        if code is not None:
            return shim_died or (code == -9 and kill is not None and bool(kill.at))
        if kill is not None and kill.told_outside and kill.told_outside in _outside(scene):
            return True
        if kill is not None and kill.after:
            if working_since is None and _log(scene, number).read_bytes().startswith(b"working"):
                working_since = now
            if working_since is not None and now - working_since >= kill.after:
                return True
        time.sleep(_LOOK_SECONDS)
    return False


def _was_hit(scene: Scene, number: int, kill: Kill) -> bool:
    try:
        passed = _hit_file(scene, number).read_text().split()
    except FileNotFoundError:
        return False
    return kill.at.partition(":")[0] in passed


def _outside(scene: Scene) -> bytes:
    return scene.outside.read_bytes() if scene.outside.exists() else b""


def _hit_file(scene: Scene, number: int) -> Path:
    return scene.root / f"hit-{number}"


def _log(scene: Scene, number: int) -> Path:
    return scene.root / f"life-{number}.log"
