"""What somebody does by hand, and a kill right after it: nothing is lost, and nothing is left out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.crash.conftest import MakeScene
from tests.harness import crash, observe
from tests.harness.crash import Story, parse_kill
from tests.harness.observe import opened
from tests.harness.sample import Scene

from holdfast.app import execution, plans, tasks
from holdfast.domain.transitions import PlanStatus

PLAN = """\
title: By hand
variables:
  OUTSIDE: "{outside}"
phases:
  - title: only
    mode: MODE
    tasks:
      - {{key: broken, title: Broken, run: "false", max_attempts: 1}}
"""
PAUSED = """\
title: Paused
variables:
  OUTSIDE: "{outside}"
phases:
  - {{title: one, pause_after: true, tasks: [{{title: First, run: "true"}}]}}
  - {{title: two, tasks: [{{title: Second, run: "true"}}]}}
"""
COMPLETE = "import sys\nfrom holdfast.app import tasks, wire\nwith wire.open_house() as house:\n"
COMPLETE += "    tasks.complete(house, sys.argv[1])\n"


def complete(scene: Scene, task_id: str, failpoint: str = "") -> int:
    environment = scene.environment() | ({"HOLDFAST_FAILPOINT": failpoint} if failpoint else {})
    process = subprocess.run(
        [sys.executable, "-c", COMPLETE, task_id],
        env=environment | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        timeout=240,
    )
    return process.returncode


@pytest.mark.parametrize("mode", [pytest.param("sequential", marks=pytest.mark.campaign), "parallel"])
def test_a_completion_killed_after_its_commit_is_merged_once(make: MakeScene, mode: str) -> None:
    scene = make(PLAN.replace("MODE", mode))
    assert crash.live(scene, Story("worker"), None, 0).code == execution.EXIT_PLAN_FAILED
    with opened(scene) as house:
        view = plans.show(house, plans.find(house, ""))
        own = tasks.show(house, view.tasks[0].id).place.own
        places = house.places
        folder = places.task_worktree(view.plan, own) if own else places.plan_worktree(view.plan)
    (folder / "by-hand").write_text("done\n")
    for failpoint in ("app.complete.begun", "app.complete.committed"):
        assert complete(scene, view.tasks[0].id, failpoint) == -9
    assert complete(scene, view.tasks[0].id) == 0
    with opened(scene) as house:
        view = plans.show(house, view.plan.id)
        assert len(view.steps) == 2, "the step that was begun is the one that ends"
        vault = house.workspaces.vault(view.project)
        subjects = vault.git(["log", "--format=%s", view.plan.branch]).decode().splitlines()
        assert subjects.count("Broken") == 1
        assert vault.git(["show", f"{view.plan.branch}:by-hand"]) == b"done\n"
        plans.resume(house, view.plan.id)
    assert crash.live(scene, Story("worker"), None, 1).code == 0
    evidence = observe.gather(scene)
    assert evidence.view.plan.status is PlanStatus.COMPLETED


def test_a_task_killed_after_an_edit_by_hand_was_kept_has_its_initial_checkpoint_too(make: MakeScene) -> None:
    scene = make(PAUSED)
    crash.live(scene, Story("worker"), None, 0)
    with opened(scene) as house:
        view = plans.show(house, plans.find(house, ""))
        assert view.plan.status is PlanStatus.PAUSED
        (house.places.plan_worktree(view.plan) / "by-hand").write_text("mine\n")
        plans.resume(house, view.plan.id)
    assert crash.live(scene, Story("worker"), parse_kill("engine.prepare.worktree_ready:1"), 1).killed
    assert crash.live(scene, Story("worker"), None, 2).code == 0
    with opened(scene) as house:
        found = tasks.show(house, view.tasks[1].id).checkpoints
        assert [str(each.kind) for each in found] == ["step", "initial", "pre_rewind"]
