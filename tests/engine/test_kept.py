"""The ignored files that a project lists: bound to its checkpoints, and put back with them."""

from __future__ import annotations

import pytest
from tests.engine.conftest import Bench

from holdfast.app import forks, plans, projects, rewinds, tasks, undo
from holdfast.domain.checkpoint import Checkpoint
from holdfast.engine.kept import restore_kept, verify_kept
from holdfast.engine.workspace import Place
from holdfast.errors import Corruption
from holdfast.store import blobs, checkpoints

ONE = "{title: one, run: 'echo 1 > old.secret'}"
PLAN = """
title: Keys
phases:
  - title: a
    tasks:
      - {title: one, run: "echo 1 > old.secret; chmod 600 old.secret; ln -s old.secret link.secret; echo 1 > one"}
      - {title: two, run: "echo 2 > old.secret; rm link.secret; mkdir d; echo 2 > d/new.secret; echo 2 > two"}
"""


def newest(bench: Bench, task_id: str) -> Checkpoint:
    return tasks.show(bench.house, task_id).checkpoints[0]


def test_kept_files_go_back_with_their_checkpoint_and_forth_again(bench: Bench) -> None:
    house = bench.house
    projects.init(house, bench.repository, include_ignored=["*.secret"])
    view = bench.run(PLAN)
    one, two = (newest(bench, task.id) for task in view.tasks)
    with house.workspaces.worktree(Place(view.project, view.plan, view.plan.branch, None)) as worktree:
        root, rest = worktree.path, (house.database, house.places.blobs, worktree)
        worktree.set_tree(one.tree)
        changed = ("d/new.secret", "link.secret", "old.secret")
        assert restore_kept(*rest, one, two, dry_run=True) == changed
        assert (root / "old.secret").read_text() == "2\n"
        assert restore_kept(*rest, one, two) == changed
        assert restore_kept(*rest, one, two) == ()
        assert (root / "link.secret").readlink().name == "old.secret"
        assert ((root / "old.secret").read_text(), (root / "old.secret").stat().st_mode & 0o777) == ("1\n", 0o600)
        assert not (root / "d").exists()
        worktree.set_tree(two.tree)
        assert restore_kept(*rest, two, one) == changed
        assert (root / "d/new.secret").read_text() == "2\n"


def test_what_was_not_listed_when_a_checkpoint_was_made_is_left_alone(bench: Bench) -> None:
    house = bench.house
    projects.init(house, bench.repository, include_ignored=["d/*.secret"])
    view = bench.run(PLAN)
    one, two = (newest(bench, task.id) for task in view.tasks)
    projects.init(house, bench.repository, include_ignored=["*.secret"])
    with house.workspaces.worktree(Place(view.project, view.plan, view.plan.branch, None)) as worktree:
        assert restore_kept(house.database, house.places.blobs, worktree, one, two) == ("d/new.secret",)
        assert (worktree.path / "old.secret").read_text() == "2\n"


def test_a_project_that_lists_none_has_none_put_back(bench: Bench) -> None:
    view = bench.run(PLAN)
    one, two = (newest(bench, task.id) for task in view.tasks)
    projects.init(bench.house, bench.repository, include_ignored=["*.secret"])
    with bench.house.workspaces.worktree(Place(view.project, view.plan, view.plan.branch, None)) as worktree:
        assert restore_kept(bench.house.database, bench.house.places.blobs, worktree, one, two) == ()


def test_stages_and_checkpoints_by_hand_keep_them_too(bench: Bench) -> None:
    house = bench.house
    projects.init(house, bench.repository, include_ignored=["*.secret"])
    view = bench.run(f"title: Keys\nphases: [{{title: a, tasks: [{ONE}]}}]")
    secret = house.places.plan_worktree(view.plan) / "old.secret"
    with house.database.read() as connection:
        stages = {each.name: each for each in checkpoints.of_plan(connection, view.plan.id) if each.task_id is None}
    secret.write_text("by hand\n")
    made = tasks.checkpoint(house, view.tasks[0].id, "mine")
    secret.write_text("later\n")
    rewinds.rewind_task(house, view.tasks[0].id, made)
    assert secret.read_text() == "by hand\n"
    rewinds.rollback_plan(house, view.plan.id, stages["after_implementation"])
    assert secret.read_text() == "1\n"
    rewinds.rollback_plan(house, view.plan.id, stages["workflow_start"])
    assert not secret.exists()
    undo.undo(house)
    assert secret.read_text() == "1\n"


def test_a_damaged_blob_is_named_before_a_rewind_begins(bench: Bench) -> None:
    house = bench.house
    projects.init(house, bench.repository, include_ignored=["*.secret"])
    view = bench.run(PLAN)
    one = newest(bench, view.tasks[0].id)
    verify_kept(house.database, house.places.blobs, one)
    with house.database.read() as connection:
        digest = blobs.attached(connection, one.id)[0].blob.digest
    blobs.path_of(house.places.blobs, digest).write_bytes(b"rotten")
    with pytest.raises(Corruption, match=digest):
        verify_kept(house.database, house.places.blobs, one)


def test_a_fork_begins_with_the_files_that_its_checkpoint_keeps(bench: Bench) -> None:
    house = bench.house
    projects.init(house, bench.repository, include_ignored=["*.secret"])
    task = "{title: two, run: 'cat old.secret >> seen; echo 2 > old.secret'}"
    view = bench.run(f"{PLAN.splitlines()[1]}\nphases: [{{title: a, tasks: [{ONE}, {task}]}}]")
    two = view.tasks[1].id
    made = forks.fork(house, two, forks.point_at(house, two, "1"))
    plans.execute(house, made.plan_id)
    with bench.working() as worker:
        forked = bench.until(worker, made.plan_id)
    assert forked.plan.status == "completed", forked.tasks[0].error
    assert bench.files(forked.tasks[0].branch)["seen"] == "1\n"
    with house.database.read() as connection:
        digest = blobs.attached(connection, newest(bench, two).id)[0].blob.digest
    blobs.path_of(house.places.blobs, digest).write_bytes(b"rotten")
    with pytest.raises(Corruption, match=digest):
        forks.fork(house, two, forks.point_at(house, two, "latest"))
