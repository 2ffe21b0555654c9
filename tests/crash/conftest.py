"""Every test has a scene of its own; what a failed test started is killed all the same."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.harness import crash
from tests.harness.observe import Observed
from tests.harness.postgres import PostgresServer, postgres_server
from tests.harness.processes import kill_run
from tests.harness.sample import PLAN, Scene, make_scene

MakeScene = Callable[..., Scene]
Undisturbed = tuple[Observed, Counter[str], float]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What the plan leaves when nobody kills it, how often it passes each failpoint, and how long it takes."""
    scene = make_scene(tmp_path_factory.mktemp("undisturbed") / "run", uuid.uuid4().hex, "")
    report, passes = crash.learn(scene)
    assert report.problems == ()
    assert report.seen is not None
    return report.seen, passes, report.lives[0].seconds


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeScene]:
    scenes: list[Scene] = []

    def make_one(plan: str = PLAN, database_url: str = "") -> Scene:
        scenes.append(make_scene(tmp_path / f"run{len(scenes)}", uuid.uuid4().hex, database_url, plan=plan))
        return scenes[-1]

    yield make_one
    for scene in scenes:
        kill_run(scene.root, scene.token)
