"""A plan that is killed anywhere and goes on leaves what an undisturbed one leaves. The long run: `just crash`."""

from __future__ import annotations

import random
import shutil

import pytest
from tests.crash.conftest import MakeScene, Undisturbed
from tests.harness import crash
from tests.harness.crash import Kill, Mode, Story, parse_kill
from tests.harness.postgres import PostgresServer
from tests.harness.sample import SMALL, Scene

# Points between two durable effects each; passes of a sequential task, of a parallel one, and of the plan's driver.
STORIES = [
    ("worker", "vcs.vault.renamed:1 launch.recorded:1 engine.seal.snapshot:1 engine.commit.written:1"),
    ("worker", "engine.prepare.worktree_ready:4 engine.merge.commit_written:1 engine.checkpoint.written:3"),
    (
        "all",
        "engine.plan.stage_entered:3 @begin:left engine.restart.worktree_reset:1 engine.commit.branch_moved:1",
    ),
    ("all", "@begin:left engine.restart.strays_killed:1 vcs.checkpoint.ref_written:2 engine.seal.before_commit:1"),
    ("all", "shim.command_ended:5 engine.merge.merged:1 vcs.pack.without_index:1 engine.seal.committed:1"),
    ("worker", "shim.exit_written:2"),
    pytest.param(
        "worker",
        "engine.seal.snapshot:2 engine.worker.recovered:1 engine.worker.launched:1",
        marks=pytest.mark.campaign,
    ),
]


@pytest.mark.parametrize(("mode", "kills"), STORIES)
def test_a_plan_killed_at_named_points_goes_on_as_if_nothing_had_been(
    make: MakeScene, undisturbed: Undisturbed, mode: Mode, kills: str
) -> None:
    reference, passes, _ = undisturbed
    story = Story(mode, tuple(map(parse_kill, kills.split())))
    report = crash.play(make(), story, reference)
    assert report.problems == (), str(story)
    assert report.kills == len(story.kills), f"some points were not reached: {report.lives}, all points: {passes}"


def delete_worktrees(scene: Scene) -> None:
    worktrees = list(scene.data.glob("projects/*/worktrees/*"))
    assert worktrees
    for worktree in worktrees:
        shutil.rmtree(worktree)


@pytest.mark.campaign
def test_a_worktree_deleted_after_it_was_put_back_is_put_back_again(make: MakeScene) -> None:
    story = Story("all", (Kill("@begin:build"), Kill("engine.restart.worktree_reset:1")))
    report = crash.play(make(SMALL), story, None, after_kill=delete_worktrees)
    assert report.problems == (), str(story)
    assert report.kills == len(story.kills), str(report.lives)


@pytest.mark.parametrize("mode", [pytest.param("worker", marks=pytest.mark.campaign), "all"])
def test_a_plan_killed_at_random_times_goes_on_as_if_nothing_had_been(
    make: MakeScene, undisturbed: Undisturbed, mode: Mode
) -> None:
    reference, _, seconds = undisturbed
    chance = random.Random(f"crash {mode}")
    story = Story(mode, tuple(Kill(after=round(chance.uniform(0.01, seconds / 2), 3)) for _ in range(3)))
    assert crash.play(make(), story, reference).problems == (), str(story)


@pytest.mark.parametrize(
    ("mode", "kills"),
    [
        pytest.param(
            "worker",
            "@begin:right engine.merge.commit_written:1 engine.seal.before_commit:2",
            marks=pytest.mark.campaign,
        ),
        ("all", "engine.seal.committed:1 @begin:after engine.restart.worktree_reset:1"),
    ],
)
def test_a_plan_on_postgresql_goes_on_after_kills(
    make: MakeScene, undisturbed: Undisturbed, postgres: PostgresServer, mode: Mode, kills: str
) -> None:
    with postgres.database() as url:
        story = Story(mode, tuple(map(parse_kill, kills.split())))
        report = crash.play(make(database_url=url), story, undisturbed[0])
    assert report.problems == (), str(story)
    # Where the command ends before it can be killed, nothing is left that a later kill could meet.
    assert report.kills >= len(story.kills) - 1, str(report.lives)
