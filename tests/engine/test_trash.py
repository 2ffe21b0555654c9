"""Plans in the trash, and what else an undo takes back: forks, retries, continuations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.conftest import Bench, opened, settings, statuses

from holdfast import clock
from holdfast.app import continuations, database, forks, plans, races, retention, rewinds, tasks, trash, undo
from holdfast.app.continuations import Mode
from holdfast.domain.transitions import PlanStage, PlanStatus, TaskStatus
from holdfast.errors import IllegalState

PLAN = """
title: Some work
phases:
  - title: p
    tasks:
      - {key: one, title: One, run: "echo 1 > one.txt"}
      - {key: two, title: Two, run: "test -e allowed && echo 2 > two.txt", max_attempts: 1}
"""
DONE = "title: Some work\nphases: [{title: p, tasks: [{key: one, title: One, run: 'echo 1 > one.txt'}]}]"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)])
def bench(request: pytest.FixtureRequest, tmp_path: Path, repository: Path) -> Iterator[Bench]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    yield from opened(settings(tmp_path, url), repository)


def listed(bench: Bench) -> list[int]:
    return [plan.number for plan in plans.list_(bench.house).items]


def test_a_deleted_plan_is_out_of_the_way_and_comes_back_as_it_was(bench: Bench) -> None:
    house, view = bench.house, bench.run(DONE)
    plan, task = view.plan, view.tasks[0]
    deleted = trash.delete(house, plan.id)
    (found,) = trash.list_(house)
    assert (found.plan.id, found.operation) == (plan.id, f"O{deleted.number}")
    assert listed(bench) == []
    for refused in (
        lambda: plans.find(house, "P1"),
        lambda: tasks.find(house, "T1"),
        lambda: plans.resume(house, plan.id),
        lambda: tasks.skip(house, task.id),
        lambda: forks.fork(house, task.id, forks.point_at(house, task.id, "1")),
        lambda: rewinds.preview_step(house, bench.project, 1, keep=False),
        lambda: trash.delete(house, plan.id),
    ):
        with pytest.raises(IllegalState, match="P1 is in the trash"):
            refused()
    again = bench.start(DONE)
    assert (again.slug, again.branch) == ("some-work-2", "holdfast/some-work-2"), "its slug stays taken"
    undo.undo(house)
    back = plans.show(house, plan.id)
    assert (back.plan, back.tasks, back.steps) == (view.plan, view.tasks, view.steps)
    undo.redo(house)
    assert listed(bench) == [2]
    with pytest.raises(
        IllegalState, match=r"P2 is running: only a draft, or a plan that is over, is deleted"
    ) as caught:
        trash.delete(house, again.id)
    assert caught.value.hint == "end it first: holdfast plan cancel P2"
    assert database.examine(house) == ()


def test_the_trash_is_emptied_when_its_time_is_over(bench: Bench) -> None:
    house, view = bench.house, bench.run(DONE)
    deed = trash.delete(house, view.plan.id)
    folder = house.places.plan_worktree(view.plan)
    (folder / "by hand").write_text("kept by nothing\n")
    assert [each.count for each in retention.gc(house).freed if each.kind == "plans"] == [0], "its time is not over"
    for dry_run in (True, False):
        freed = {each.kind: each.count for each in retention.gc(house, before=clock.now(), dry_run=dry_run).freed}
        assert (freed["plans"], freed["worktrees"], freed["checkpoints"] > 0) == (1, 1, True)
        assert folder.exists() is dry_run
    assert trash.list_(house) == ()
    with pytest.raises(IllegalState, match="for good"):
        undo.undo(house, f"O{deed.number}")
    with pytest.raises(IllegalState, match="P1 was deleted for good"):
        plans.find(house, "P1")
    assert database.examine(house) == ()
    assert retention.gc(house, before=clock.now()).freed[0].count == 0


def test_a_fork_is_taken_back_unless_it_ran(bench: Bench) -> None:
    house, view = bench.house, bench.run(DONE)
    task = view.tasks[0]
    made = forks.fork(house, task.id, forks.point_at(house, task.id, "1"))
    assert undo.chosen(house, plan_id=view.plan.id).kind == "fork"
    undo.undo(house)
    assert (listed(bench), races.show(house, task.id).contestants) == ([1], ())
    undo.redo(house)
    assert listed(bench) == [2, 1]
    plans.execute(house, made.plan_id)
    with bench.working() as worker:
        assert bench.until(worker, made.plan_id).plan.status is PlanStatus.COMPLETED
    with pytest.raises(IllegalState, match="P2 has run since then") as caught:
        undo.undo(house)
    assert caught.value.hint == "to be rid of it: holdfast plan delete P2"


def test_a_retry_a_task_left_out_and_a_continuation_are_taken_back_and_put_again(bench: Bench) -> None:
    house, failed = bench.house, bench.run(PLAN)
    one, two = failed.tasks
    assert two.status is TaskStatus.FAILED
    tasks.retry(house, two.id)
    undo.undo(house)
    assert (tasks.show(house, two.id).task.status, tasks.show(house, two.id).task.attempt) == (TaskStatus.FAILED, 1)
    undo.redo(house)
    assert tasks.show(house, two.id).task.status is TaskStatus.PENDING
    tasks.skip(house, two.id)
    undo.undo(house)
    assert tasks.show(house, two.id).task.status is TaskStatus.PENDING
    undo.redo(house)
    ended = bench.again(failed.plan.id)
    assert (ended.plan.status, ended.plan.stage) == (PlanStatus.COMPLETED, PlanStage.COMPLETED)
    with pytest.raises(IllegalState, match="of T2 is completed by now") as caught:
        undo.undo(house)
    assert caught.value.hint == "open it again: holdfast task continue T2"
    continuations.continue_task(house, one.id, Mode.WITH_CONTEXT)
    opened = plans.show(house, ended.plan.id)
    assert (opened.plan.status, opened.plan.stage) == (PlanStatus.PAUSED, PlanStage.IMPLEMENTING)
    undo.undo(house)
    closed = plans.show(house, ended.plan.id)
    assert (closed.plan.status, closed.plan.stage) == (PlanStatus.COMPLETED, PlanStage.COMPLETED)
    assert statuses(closed) == {"one": "completed", "two": "skipped"}
    assert database.examine(house) == ()


def test_going_on_from_a_checkpoint_is_one_deed(bench: Bench) -> None:
    house, view = bench.house, bench.run(DONE)
    one = view.tasks[0]
    file = house.places.plan_worktree(view.plan) / "one.txt"
    continuations.continue_task(house, one.id, Mode.CLEAN_RESTART)
    assert (statuses(plans.show(house, view.plan.id)), file.exists()) == ({"one": "pending"}, False)
    assert [deed.kind for deed in undo.deeds(house)] == ["continue"]
    undo.undo(house)
    back = plans.show(house, view.plan.id)
    assert (statuses(back), back.plan.stage, file.exists()) == ({"one": "completed"}, PlanStage.COMPLETED, True)
    continuations.continue_task(house, one.id, Mode.FROM_CHECKPOINT, at="2")
    assert (statuses(plans.show(house, view.plan.id)), file.exists()) == ({"one": "pending"}, True)
    assert bench.again(view.plan.id).plan.status is PlanStatus.COMPLETED
    assert database.examine(house) == ()
