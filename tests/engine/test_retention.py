"""What nobody needs goes, what anybody needs stays and can be restored, and a kill in between does no harm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.conftest import Bench, git, opened, settings
from tests.harness import forked

from holdfast import clock
from holdfast.app import database, plans, retention, rewinds, tasks, undo, wire
from holdfast.app.wire import House
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.plan import Project
from holdfast.domain.transitions import PlanStatus
from holdfast.errors import IllegalState
from holdfast.store import blobs, checkpoints
from holdfast.store import projects as project_rows
from holdfast.store.retention import forget
from holdfast.vcs import Vault

PLAN = """
title: Long ago
phases:
  - title: p
    tasks:
      - {key: a, title: A, run: "echo one > a; echo secret one > a.secret"}
      - {key: b, title: B, run: "echo $RANDOM$RANDOM > b; echo secret two > a.secret; test $HOLDFAST_ATTEMPT -ge 2"}
      - {key: c, title: C, run: "seq 20000 > c; date +%N >> c"}
"""
# More of the same kind: `just test-all` runs them.
CAMPAIGN = pytest.mark.campaign
POINTS = [
    pytest.param("engine.retention.rows_gone", marks=CAMPAIGN),
    "engine.retention.refs_gone",
    pytest.param("engine.retention.folder_gone", marks=CAMPAIGN),
    pytest.param("vcs.worktree.doomed", marks=CAMPAIGN),
    pytest.param("vcs.worktree.moved_away", marks=CAMPAIGN),
    "vcs.sweep.packed",
    pytest.param("vcs.sweep.pack_dropped", marks=CAMPAIGN),
    pytest.param("engine.retention.blobs_forgotten", marks=CAMPAIGN),
    "engine.retention.blob_gone",
]


def lived(bench: Bench) -> str:
    """Gives a finished plan that went back once and did its work again, and that a person named a point of."""
    with bench.house.database.transaction() as connection:
        chosen = {**bench.project.settings, "include_ignored": ["*.secret"]}
        project_rows.set_settings(connection, bench.project.id, chosen, actor="tester")
    view = bench.run(PLAN)
    first = next(task for task in view.tasks if task.key == "a")
    tasks.checkpoint(bench.house, view.tasks[2].id, "by hand")
    rewinds.rewind_task(bench.house, first.id, latest(bench.house, first.id))
    plans.resume(bench.house, view.plan.id)
    with bench.working() as worker:
        assert bench.until(worker, view.plan.id).plan.status is PlanStatus.COMPLETED
    tasks.checkpoint(bench.house, first.id, "after it all")
    return view.plan.id


def latest(house: House, task_id: str) -> Checkpoint:
    with house.database.read() as connection:
        found = checkpoints.latest(connection, task_id=task_id)
    assert found is not None
    return found


def all_of(house: House, plan_id: str) -> dict[str, Checkpoint]:
    with house.database.read() as connection:
        return {each.id: each for each in checkpoints.of_plan(connection, plan_id)}


def contents(house: House, project: Project, checkpoint: Checkpoint) -> dict[str, bytes]:
    """Gives what a checkpoint would restore: the files of its tree, and those kept with it."""
    with Vault.open(house.places.vault(project.id)) as vault:
        names = vault.git(["ls-tree", "-r", "-z", "--name-only", checkpoint.tree]).split(b"\0")
        found = {name.decode(): vault.git(["show", f"{checkpoint.tree}:{name.decode()}"]) for name in names if name}
    with house.database.read() as connection:
        kept = blobs.attached(connection, checkpoint.id)
    return found | {each.path: blobs.read(house.places.blobs, each.blob.digest) for each in kept}


def everything(house: House, project: Project, plan_id: str) -> dict[str, dict[str, bytes]]:
    return {id: contents(house, project, each) for id, each in all_of(house, plan_id).items()}


def freed(report: retention.Report) -> dict[str, int]:
    return {each.kind: each.count for each in report.freed if each.count}


def sound(house: House, project: Project) -> None:
    assert database.examine(house) == ()
    with Vault.open(house.places.vault(project.id)) as vault:
        vault.git(["gc", "-q", "--prune=now"])
    assert database.examine(house) == ()


@pytest.mark.parametrize("either", ["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)], indirect=True)
def test_what_nobody_needs_goes_and_the_rest_is_restored_byte_for_byte(either: Bench) -> None:
    house, project, plan_id = either.house, either.project, lived(either)
    before = everything(house, project, plan_id)
    rows = all_of(house, plan_id)
    looked = retention.gc(house, before=clock.now(), dry_run=True)
    assert everything(house, project, plan_id) == before, "a dry run changes nothing"
    nothing = retention.gc(house)
    assert freed(nothing) == {}, "all of it is younger than 30 days"

    report = retention.gc(house, before=clock.now())
    assert report.skipped == ()
    assert freed(report) == freed(looked)
    assert freed(report)["worktrees"] == 1
    assert freed(report)["checkpoints"] == freed(report)["refs"] >= 2
    assert freed(report)["runs"] >= 6
    after = everything(house, project, plan_id)
    assert after == {id: before[id] for id in after}
    gone = [rows[id] for id in before if id not in after]
    assert CheckpointKind.PRE_REWIND in {each.kind for each in gone}
    assert all(each.superseded or each.kind is CheckpointKind.PRE_REWIND for each in gone)
    stay = {CheckpointKind.MANUAL, CheckpointKind.STAGE}
    assert {each.id for each in rows.values() if each.kind in stay} <= set(after)
    sound(house, project)
    assert everything(house, project, plan_id) == after
    assert freed(retention.gc(house, before=clock.now())) == {}

    # The worktree is gone; who goes back gets it again.
    view = plans.show(house, plan_id)
    assert not house.places.plan_worktree(view.plan).exists()
    of_steps = [each for each in all_of(house, plan_id).values() if each.kind is CheckpointKind.STEP]
    target = next(each for each in of_steps if each.task_id == view.tasks[0].id)
    rewinds.rewind_task(house, view.tasks[0].id, target)
    assert (house.places.plan_worktree(view.plan) / "a").read_text() == "one\n"
    assert not (house.places.plan_worktree(view.plan) / "c").exists()
    sound(house, project)


def test_a_worktree_with_work_that_no_checkpoint_has_is_left_alone(bench: Bench) -> None:
    view = bench.run("title: T\nphases: [{title: p, tasks: [{title: a, run: 'echo a > a'}]}]")
    place = bench.house.places.plan_worktree(view.plan)
    (place / "mine").write_text("not committed\n")
    report = retention.gc(bench.house, before=clock.now())
    assert "worktrees" not in freed(report)
    assert [reason.split(": ")[1] for reason in report.skipped] == ["it has work that no checkpoint has"]
    assert (place / "mine").read_text() == "not committed\n"


def test_an_undo_whose_checkpoints_went_is_refused(bench: Bench) -> None:
    house = bench.house
    view = bench.run(
        "title: T\nphases: [{title: p, tasks: [{title: a, run: 'echo a > a'}, {title: b, run: 'date > b'}]}]"
    )
    first, second = view.tasks
    rewinds.rewind_task(house, first.id, latest(house, first.id))
    with house.database.transaction() as connection:
        forget(connection, view.plan, [latest(house, second.id)], actor="tester")
    assert database.examine(house) == ()
    with pytest.raises(IllegalState, match="no longer kept"):
        undo.undo(house)
    assert database.examine(house) == ()


def test_what_somebody_works_with_is_left_alone_and_said(bench: Bench) -> None:
    plan = bench.start("title: T\nphases: [{title: p, tasks: [{title: a, run: 'sleep 60'}]}]")
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: bool(view.steps))
        with wire.open_house(bench.house.settings, actor="other") as other:
            report = retention.gc(other, before=clock.now())
        assert freed(report) == {}
        assert len(report.skipped) == 2
        assert all("another process works with" in reason for reason in report.skipped)
        plans.cancel(bench.house, plan.id)
        bench.until(worker, plan.id)


# -- kills -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, str]]:
    """A data folder with a finished plan in it, its repository, and the plan's id."""
    folder = tmp_path_factory.mktemp("past")
    repository = folder / "repository"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    (repository / ".gitignore").write_text("*.secret\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "first")
    for bench in opened(settings(folder), repository):
        plan_id = lived(bench)
        project = bench.project
        # A blob that nothing refers to, as a checkpoint leaves one that goes.
        with bench.house.database.transaction() as connection:
            blobs.record(connection, blobs.write(bench.house.places.blobs, b"needless"))
    yield folder, repository, plan_id
    assert project.slug


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_leaves_a_sound_store(past: tuple[Path, Path, str], tmp_path: Path, point: str) -> None:
    folder, repository, plan_id = past
    shutil.copytree(folder / "data", tmp_path / "data", symlinks=True)
    chosen = replace(settings(tmp_path), data=tmp_path / "data")
    environment = os.environ | {"HOLDFAST_DATA": str(chosen.data), "HOLDFAST_FAILPOINT": point}
    killed = forked.run(["gc", "--older-than", "0s", "--yes"], cwd=repository, env=environment)
    assert killed.returncode == -9, f"it never came to {point}: {killed.stdout} {killed.stderr}"
    with wire.open_house(chosen, actor="tester") as house:
        (project,) = retention._projects(house)  # pyright: ignore[reportPrivateUsage]
        left = everything(house, project, plan_id)
        assert database.examine(house) == ()
        report = retention.gc(house, before=clock.now())
        assert report.skipped == ()
        assert everything(house, project, plan_id) == {id: left[id] for id in everything(house, project, plan_id)}
        sound(house, project)
        assert not house.places.plan_worktree(plans.show(house, plan_id).plan).exists()
        assert freed(retention.gc(house, before=clock.now())) == {}
