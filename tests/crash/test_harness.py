"""The harness finds what it is for: each seeded bug is reported, a story without a bug is not (as in test_kills)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.crash.conftest import MakeScene
from tests.harness import crash
from tests.harness.crash import Kill, Mode, Story
from tests.harness.sample import SMALL, Scene


def leave_lock(scene: Scene) -> None:
    """Leaves what a git that was killed while it moved the plan's branch leaves."""
    for vault in scene.data.glob("projects/*/vault.git"):
        (vault / "refs" / "heads" / "holdfast").mkdir(exist_ok=True)
        (vault / "refs" / "heads" / "holdfast" / "crash-sample.lock").touch()


def nothing(_: Scene) -> None:
    pass


SEEDED: list[tuple[str, Mode, str, Callable[[Scene], None], str]] = [
    ("record-before-commit", "worker", "engine.seal.committed:1", nothing, "commits"),
    ("no-reset-on-resume", "all", "@begin:build", nothing, "marks/build.txt"),
    ("stale-lock-left", "worker", "@begin:build", leave_lock, "a worker"),
    ("log-without-position", "worker", "bug.stored:1", nothing, "the log of step 1"),
]


@pytest.mark.parametrize(("bug", "mode", "kill", "after_kill", "said"), SEEDED)
def test_a_seeded_bug_is_reported(
    make: MakeScene, bug: str, mode: Mode, kill: str, after_kill: Callable[[Scene], None], said: str
) -> None:
    report = crash.play(make(SMALL), Story(mode, (Kill(kill),), bug), None, after_kill=after_kill)
    assert report.kills == 1
    assert any(said in problem for problem in report.problems), report.problems


@pytest.mark.parametrize(("mode", "after_kill"), [("all", nothing), ("worker", leave_lock)])
def test_the_same_story_without_the_bug_is_not_reported(
    make: MakeScene, mode: Mode, after_kill: Callable[[Scene], None]
) -> None:
    report = crash.play(make(SMALL), Story(mode, (Kill("@begin:build"),)), None, after_kill=after_kill)
    assert report.kills == 1
    assert report.problems == ()
