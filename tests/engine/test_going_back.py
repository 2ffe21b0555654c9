"""Rewind, rollback, undo and redo on real repositories: files, branches, rows, and what a kill leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from tests.engine.conftest import Bench, git, opened, settings
from tests.harness import forked

from holdfast.app import database, plans, restarts, rewinds, steps, tasks, undo
from holdfast.app.plans import PlanView
from holdfast.app.restarts import From
from holdfast.app.rewinds import Decided, How, Preview, _carry_out, _rewind  # pyright: ignore[reportPrivateUsage]
from holdfast.app.targets import find_checkpoint
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.restore import Preserve
from holdfast.domain.step import StepState, state
from holdfast.domain.transitions import PauseReason, PlanStage, PlanStatus, TaskStatus
from holdfast.engine import restoring
from holdfast.errors import (
    Corruption,
    HoldfastError,
    IllegalState,
    InfraError,
    NotFound,
    StepError,
    UsageError,
    UserError,
)
from holdfast.store import Connection, Operation, OperationStatus, check, checkpoints, operations
from holdfast.store import plans as plan_rows

THREE = """
title: Three
verify: ["true"]
phases:
  - title: first
    tasks:
      - {key: one, title: One, run: "echo 1 > one.txt; chmod +x one.txt"}
      - {key: two, title: Two, run: "echo 2 > two.txt; mkdir -p deep; ln -s ../two.txt deep/link; echo 2 >> README"}
  - title: apart
    mode: parallel
    tasks:
      - {key: left, title: Left, run: "echo left > left.txt"}
      - {key: right, title: Right, run: "echo right > right.txt"}
  - title: last
    tasks:
      - {key: three, title: Three, run: "echo 3 > three.txt; rm one.txt"}
"""
PENDING, COMPLETED = TaskStatus.PENDING, TaskStatus.COMPLETED


def states(view: PlanView) -> dict[str, str]:
    return {task.key: str(task.status) for task in view.tasks}


def task_id(view: PlanView, key: str) -> str:
    return next(task.id for task in view.tasks if task.key == key)


def named(bench: Bench, view: PlanView, name: str, key: str = "") -> Checkpoint:
    task = next((each for each in view.tasks if each.key == key), None)
    with bench.house.database.read() as connection:
        return find_checkpoint(connection, name, task=task, plan=view.plan)


def worktree(bench: Bench, name: str = "three") -> Path:
    return bench.house.places.project(bench.project.id) / "worktrees" / name


def files(folder: Path) -> dict[str, tuple[str, object]]:
    """Gives every file of a folder with its kind and content, by a walk of its own."""
    found: dict[str, tuple[str, object]] = {}
    for above, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if each != ".git"]
        for name in (*names, *(each for each in folders if Path(above, each).is_symlink())):
            path = Path(above, name)
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = ("link", os.readlink(path))
            else:
                found[key] = ("x" if os.access(path, os.X_OK) else "file", path.read_bytes())
    return found


def active(view: PlanView) -> list[int]:
    return [step.number for step in view.steps if state(step) is not StepState.ROLLED_BACK]


def sound(bench: Bench) -> None:
    assert list(check.check(bench.house.database)) == []
    assert bench.vault().fsck() == []


def shown(bench: Bench, view: PlanView) -> PlanView:
    return plans.show(bench.house, view.plan.id)


def rewind(bench: Bench, view: PlanView, key: str, to: str, how: How | None = None) -> Operation:
    return rewinds.rewind_task(bench.house, task_id(view, key), named(bench, view, to, key), how)


def preview(bench: Bench, view: PlanView, key: str, to: str, how: How) -> Preview:
    return rewinds.preview_rewind(bench.house, task_id(view, key), named(bench, view, to, key), how)


# -- where it goes ---------------------------------------------------------------------------------------------------


def test_a_rewound_task_and_what_came_after_it_run_again(bench: Bench) -> None:
    view = bench.run(THREE)
    assert view.plan.status is PlanStatus.COMPLETED
    before = files(worktree(bench))
    head = bench.vault().head(view.plan.branch)
    done = rewind(bench, view, "two", "1")
    back = shown(bench, view)
    assert states(back) == {"one": "completed"} | dict.fromkeys(("two", "left", "right", "three"), "pending")
    assert (back.plan.status, back.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.ROLLBACK)
    assert back.plan.stage is PlanStage.IMPLEMENTING
    assert active(back) == [1]
    assert files(worktree(bench)) == {
        "README": ("file", b"hello\n"),
        ".gitignore": ("file", b"*.secret\n"),
        "one.txt": ("x", b"1\n"),
    }
    kept = done.outcome["preserved"]
    assert isinstance(kept, dict)
    assert git(bench.repository, "rev-parse", str(kept["reference"])).strip() == head
    again = bench.again(view.plan.id)
    assert set(states(again).values()) == {"completed"}
    assert files(worktree(bench)) == before
    sound(bench)


def test_undo_brings_all_back_and_redo_takes_it_again(either: Bench) -> None:
    bench = either
    view = bench.run(THREE)
    before, head = files(worktree(bench)), bench.vault().head(view.plan.branch)
    rewind(bench, view, "two", "1")
    rewound = files(worktree(bench))
    undo.undo(bench.house)
    there = shown(bench, view)
    assert (there.plan.status, there.plan.stage) == (PlanStatus.COMPLETED, PlanStage.COMPLETED)
    assert there.plan.ended_at == view.plan.ended_at
    assert set(states(there).values()) == {"completed"}
    assert (files(worktree(bench)), bench.vault().head(view.plan.branch)) == (before, head)
    assert len(active(there)) == 5
    assert [task.started_at for task in there.tasks] == [task.started_at for task in view.tasks]
    undo.redo(bench.house)
    assert files(worktree(bench)) == rewound
    assert active(shown(bench, view)) == [1]
    undo.undo(bench.house)
    assert files(worktree(bench)) == before
    with pytest.raises(IllegalState, match="nothing to undo"):
        undo.undo(bench.house)
    sound(bench)


def test_a_rewind_of_a_rewind_goes_forward_again(bench: Bench) -> None:
    view = bench.run(THREE)
    rewind(bench, view, "two", "1")
    rewind(bench, view, "two", "2")
    there = shown(bench, view)
    assert states(there) == {"one": "completed", "two": "completed"} | dict.fromkeys(
        ("left", "right", "three"), "pending"
    )
    assert "two.txt" in files(worktree(bench))
    assert "left.txt" not in files(worktree(bench))
    assert set(states(bench.again(view.plan.id)).values()) == {"completed"}
    sound(bench)


def test_what_was_brought_back_gone_and_brought_back_is_undone_in_turn(bench: Bench) -> None:
    view = bench.run(THREE)
    seen: list[tuple[object, int]] = []
    for to in ("1", "2", "1"):
        rewind(bench, view, "two", to)
        seen.append((files(worktree(bench)), len(active(shown(bench, view)))))
    for there in reversed(seen[:-1]):
        undo.undo(bench.house)
        assert (files(worktree(bench)), len(active(shown(bench, view)))) == there
    undo.undo(bench.house)
    assert len(active(shown(bench, view))) == 5
    sound(bench)


def test_a_parallel_task_goes_back_alone_and_its_neighbour_stays(bench: Bench) -> None:
    view = bench.run(THREE)
    rewind(bench, view, "left", "1")
    back = shown(bench, view)
    assert states(back) == dict.fromkeys(("one", "two", "right"), "completed") | {"left": "pending", "three": "pending"}
    names = set(bench.files(view.plan.branch))
    assert "right.txt" in names
    assert not {"left.txt", "three.txt"} & names
    done = bench.again(view.plan.id)
    assert set(states(done).values()) == {"completed"}
    assert {"left.txt", "right.txt", "three.txt"} <= set(bench.files(view.plan.branch))
    sound(bench)


def test_a_parallel_task_that_ran_again_from_the_beginning_goes_back_alone(bench: Bench) -> None:
    view = bench.run(THREE)
    rewind(bench, view, "one", "1")
    again = bench.again(view.plan.id)
    left = next(step for step in again.steps if step.task_id == task_id(view, "left") and step.active)
    rewinds.rollback_step(bench.house, bench.project, left.number, How(Preserve.DISCARD), keep=False)
    assert "left.txt" not in bench.files(view.plan.branch)
    assert "right.txt" in bench.files(view.plan.branch)


def test_a_step_is_rolled_back_and_kept(bench: Bench) -> None:
    view = bench.run(THREE)
    rewinds.rollback_step(bench.house, bench.project, 5, keep=True)
    assert active(shown(bench, view)) == [1, 2, 3, 4, 5]
    rewinds.rollback_step(bench.house, bench.project, 5, keep=False)
    back = shown(bench, view)
    assert active(back) == [1, 2, 3, 4]
    assert states(back)["three"] == "pending"
    assert {"one.txt", "left.txt"} <= set(files(worktree(bench)))
    assert "three.txt" not in files(worktree(bench))
    with pytest.raises(IllegalState, match="rolled back already"):
        rewinds.rollback_step(bench.house, bench.project, 5, keep=False)
    with pytest.raises(NotFound):
        rewinds.rollback_step(bench.house, bench.project, 99, keep=False)
    sound(bench)


def test_a_plan_is_rolled_back_to_a_stage_with_its_variables(bench: Bench) -> None:
    view = bench.run(THREE)
    rewinds.rollback_plan(bench.house, view.plan.id, named(bench, view, "start_implementation"))
    back = shown(bench, view)
    assert set(states(back).values()) == {"pending"}
    assert active(back) == []
    assert set(files(worktree(bench))) == {"README", ".gitignore"}
    assert set(states(bench.again(view.plan.id)).values()) == {"completed"}
    with pytest.raises(IllegalState, match=r"gone on|moved on"):
        undo.undo(bench.house)
    assert not named(bench, view, "after_implementation").superseded, "the one that was left behind is not meant"
    sound(bench)


def test_what_an_undo_brought_back_stays_where_a_later_stage_has_it(bench: Bench) -> None:
    view = bench.run(THREE)
    rewind(bench, view, "one", "1")
    undo.undo(bench.house)
    restored = active(shown(bench, view))
    listed = steps.list_(bench.house, bench.project, active_only=True).items
    assert [each.restores for each in listed] == [5, 4, 3, 2, 1]
    rewinds.rollback_plan(bench.house, view.plan.id, named(bench, view, "after_implementation"))
    back = shown(bench, view)
    assert set(states(back).values()) == {"completed"}
    assert active(back) == restored
    sound(bench)


def test_only_some_tasks_go_back_and_the_code_of_all_stays(bench: Bench) -> None:
    view = bench.run(THREE)
    head, was = bench.vault().head(view.plan.branch), files(worktree(bench))
    chosen = [task_id(view, key) for key in ("two", "left")]

    def rollback(only: list[str], how: How | None = None) -> None:
        rewinds.rollback_plan(bench.house, view.plan.id, named(bench, view, "start_implementation"), how, only)

    with pytest.raises(UsageError, match="one after the other"):
        rollback(chosen, How(files=("one.txt",)))
    rollback(chosen)
    back = shown(bench, view)
    assert states(back) == {**states(view), "two": "pending", "left": "pending"}
    assert [str(phase.status) for phase in back.phases[:3]] == ["pending", "pending", "completed"]
    assert (back.plan.status, back.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.ROLLBACK)
    assert (bench.vault().head(view.plan.branch), files(worktree(bench))) == (head, was)
    assert active(back) == active(view)
    with bench.house.database.read() as connection:
        every = checkpoints.of_plan(connection, view.plan.id)
    assert {each.task_id for each in every if each.superseded} == set(chosen)
    sound(bench)
    with pytest.raises(IllegalState, match="nothing of T2"):
        rollback(chosen[:1])
    undo.undo(bench.house)
    assert states(shown(bench, view)) == states(view)
    undo.redo(bench.house)
    again = bench.again(view.plan.id)
    assert again.plan.status is PlanStatus.COMPLETED
    assert [step.task_id for step in again.steps if step.number not in active(view)] == chosen
    assert files(worktree(bench))["three.txt"] == was["three.txt"]
    sound(bench)
    with pytest.raises(IllegalState):
        undo.undo(bench.house)


def test_only_some_files_come_back_and_nothing_else_moves(bench: Bench) -> None:
    view = bench.run(THREE)
    rewind(bench, view, "three", "1", How(files=("one.txt",)))
    there = shown(bench, view)
    assert states(there) == states(view)
    assert active(there) == active(view)
    assert files(worktree(bench))["one.txt"] == ("x", b"1\n")
    assert "three.txt" in files(worktree(bench))
    assert "one.txt" in bench.files(view.plan.branch)
    undo.undo(bench.house)
    assert "one.txt" not in files(worktree(bench))
    assert "one.txt" not in bench.files(view.plan.branch)


# -- what is left behind ---------------------------------------------------------------------------------------------


def dirty(bench: Bench) -> None:
    (worktree(bench) / "two.txt").write_text("by hand\n")
    (worktree(bench) / "new.txt").write_text("new\n")


def test_work_that_was_not_committed_is_kept_on_a_branch(bench: Bench) -> None:
    view = bench.run(THREE)
    dirty(bench)
    done = rewind(bench, view, "two", "1", How(branch_name="mine/kept"))
    assert done.outcome["preserved"] == {
        "type": "branch",
        "reference": "mine/kept",
        "commit": git(bench.repository, "rev-parse", "mine/kept").strip(),
    }
    assert undo.deeds(bench.house)[0].kept == "branch mine/kept"
    assert git(bench.repository, "show", "mine/kept:two.txt") == "by hand\n"
    assert git(bench.repository, "show", "mine/kept:three.txt") == "3\n"


def test_a_stash_is_one_that_git_applies(bench: Bench) -> None:
    view = bench.run(THREE)
    dirty(bench)
    kept = rewind(bench, view, "two", "1", How(Preserve.STASH)).outcome["preserved"]
    assert isinstance(kept, dict)
    assert kept["type"] == "stash"
    git(worktree(bench), "checkout", "-q", "-f", "--detach", str(kept["commit"]) + "^1")
    git(worktree(bench), "stash", "apply", "-q", str(kept["commit"]))
    assert (worktree(bench) / "two.txt").read_text() == "by hand\n"
    assert (worktree(bench) / "new.txt").read_text() == "new\n"


def test_what_is_discarded_is_still_in_its_checkpoint(bench: Bench) -> None:
    view = bench.run(THREE)
    with pytest.raises(UsageError, match="no branch that could have a name"):
        rewind(bench, view, "two", "1", How(Preserve.DISCARD, branch_name="mine"))
    dirty(bench)
    before = files(worktree(bench))
    done = rewind(bench, view, "two", "1", How(Preserve.DISCARD))
    assert done.outcome["preserved"] is None
    assert git(bench.repository, "branch", "--list", "holdfast*") == ""
    made = tasks.show(bench.house, task_id(view, "two")).checkpoints[0]
    assert made.kind is CheckpointKind.PRE_REWIND
    undo.undo(bench.house)
    assert files(worktree(bench)) == before


def test_commits_that_a_remote_has_are_taken_back_and_not_rewritten(bench: Bench, tmp_path: Path) -> None:
    view = bench.run(THREE)
    plans.merge(bench.house, view.plan.id)
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    git(bench.repository, "remote", "add", "origin", str(tmp_path / "remote.git"))
    git(bench.repository, "push", "-q", "origin", view.plan.branch)
    head = bench.vault().head(view.plan.branch)
    rewinds.rollback_step(bench.house, bench.project, 5, keep=False)
    vault = bench.vault()
    now = vault.head(view.plan.branch)
    assert now is not None
    assert vault.parents(now) == (head,)
    assert "three.txt" not in bench.files(view.plan.branch)
    bench.again(view.plan.id)
    plans.merge(bench.house, view.plan.id, branch="next")
    git(bench.repository, "merge-base", "--is-ancestor", f"origin/{view.plan.branch}", "next")


ONE = "title: One\nphases: [{title: a, tasks: [{key: one, title: One, run: 'echo 1 > one.txt'}]}]"


def test_a_branch_that_was_merged_is_taken_back_while_it_stands_there_and_nobody_is_on_it(bench: Bench) -> None:
    view = bench.run(ONE)
    name = plans.merge(bench.house, view.plan.id, dry_run=True)
    assert git(bench.repository, "branch", "--list", name) == ""
    for taken, code in (("main", "branch_exists"), ("a..b", "usage")):
        with pytest.raises(UserError) as refused:
            plans.merge(bench.house, view.plan.id, branch=taken, dry_run=True)
        assert refused.value.code == code
    assert plans.merge(bench.house, view.plan.id) == name
    assert plans.merge(bench.house, view.plan.id) == name  # no second deed: nothing was written
    commit = git(bench.repository, "rev-parse", name)
    assert undo.undo(bench.house).kind == "undo"
    assert git(bench.repository, "branch", "--list", name) == ""
    undo.redo(bench.house)
    assert git(bench.repository, "rev-parse", name) == commit
    git(bench.repository, "checkout", "-q", name)
    with pytest.raises(IllegalState, match="checked out"):
        undo.undo(bench.house)
    git(bench.repository, "commit", "-q", "--allow-empty", "-m", "mine")
    git(bench.repository, "checkout", "-q", "main")
    with pytest.raises(IllegalState, match="has moved since"):
        undo.undo(bench.house)
    git(bench.repository, "branch", "-q", "-D", name)
    undo.undo(bench.house)  # somebody did it by hand: that is all the same
    assert next(iter(undo.deeds(bench.house))).told.startswith("branch ")
    with pytest.raises(IllegalState, match="nothing to undo"):
        undo.undo(bench.house)


# -- refusals --------------------------------------------------------------------------------------------------------


def test_a_plan_that_runs_is_left_alone(bench: Bench) -> None:
    plan = bench.start("{title: t, phases: [{title: p, tasks: [{title: s, run: 'sleep 60'}]}]}")
    with bench.working() as worker:
        running = bench.until(worker, plan.id, lambda view: bool(view.tasks[0].head_checkpoint))
        for going in (rewind, preview):
            with pytest.raises(IllegalState, match="is running"):
                going(bench, running, running.tasks[0].key, "1", How())
        plans.cancel(bench.house, plan.id)
        bench.until(worker, plan.id)


@pytest.mark.parametrize("name", ["bad..name", "-x", "with space"])
def test_a_name_that_is_none_for_a_branch_is_refused_before_anything_moves(bench: Bench, name: str) -> None:
    view = bench.run(THREE)
    before = files(worktree(bench))
    for going in (rewind, preview):
        with pytest.raises(UsageError, match="not a name for a branch"):
            going(bench, view, "two", "1", How(branch_name=name))
    assert files(worktree(bench)) == before
    assert active(shown(bench, view)) == [1, 2, 3, 4, 5]


def test_a_branch_that_the_user_has_is_never_moved_and_all_is_put_back(bench: Bench) -> None:
    view = bench.run(THREE)
    git(bench.repository, "branch", "taken")
    taken = git(bench.repository, "rev-parse", "taken")
    before, head = files(worktree(bench)), bench.vault().head(view.plan.branch)
    for going in (rewind, preview):
        with pytest.raises(IllegalState, match="taken"):
            going(bench, view, "two", "1", How(branch_name="taken"))
    assert git(bench.repository, "rev-parse", "taken") == taken
    assert (files(worktree(bench)), bench.vault().head(view.plan.branch)) == (before, head)
    assert active(shown(bench, view)) == [1, 2, 3, 4, 5]
    rewind(bench, view, "two", "1")


def test_of_two_that_rewind_at_once_one_wins_and_the_other_is_told(bench: Bench) -> None:
    view = bench.run(THREE)
    told: list[object] = []
    barrier = threading.Barrier(2)

    def go(to: str) -> None:
        barrier.wait()
        try:
            told.append(rewind(bench, view, "two", to))
        except HoldfastError as error:
            told.append(error)

    threads = [threading.Thread(target=go, args=(to,)) for to in ("1", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in told:
        assert isinstance(each, Operation | IllegalState), each
    assert any(isinstance(each, Operation) for each in told)
    sound(bench)


TWO = """
title: Two
phases: [{title: a, tasks: [{key: one, title: One, run: "true"}, {key: two, title: Two, run: "echo 2 > two.txt"}]}]
"""


def test_who_did_not_see_that_another_went_back_is_told_where_the_heads_are(bench: Bench) -> None:
    view = bench.run(TWO)
    killed(bench, "engine.restore.saved", "task", "rewind", "two", "--to", "1", "--yes")
    assert ["a rewind of P1 by" in each for each in rewinds.under_way(bench.house)] == [True]
    with pytest.raises(IllegalState, match=r"rewind of P1 by .* came first; its tasks are at T1@\d, T2@1 now") as told:
        rewind(bench, view, "two", "2")  # which carries the other one through
    assert told.value.code == "changed_meanwhile"
    assert states(shown(bench, view))["two"] == "pending"

    def other(connection: Connection) -> Decided:
        decided = _rewind(bench.house, connection, task_id(view, "two"), named(bench, view, "2", "two"), How())
        if not seen:
            seen.append(rewind(bench, view, "one", "1"))
        return decided

    seen: list[Operation] = []
    with pytest.raises(IllegalState, match="came first; its tasks are at T1@1, "):
        _carry_out(bench.house, other)
    assert states(shown(bench, view))["one"] == "pending"
    sound(bench)


def test_what_changed_while_it_was_decided_has_it_decided_anew(
    postgres_url: str, tmp_path: Path, repository: Path
) -> None:
    """On PostgreSQL, where two reads are of two moments."""
    for bench in opened(settings(tmp_path, postgres_url), repository):
        view = bench.run(TWO)
        decided: list[Decided] = []
        _carry_out(bench.house, lambda connection: _as_it_changes(bench, view, connection, decided))  # noqa: B023
        assert len(decided) == 2
        assert states(shown(bench, view))["two"] == "pending"


def _as_it_changes(bench: Bench, view: PlanView, connection: Connection, decided: list[Decided]) -> Decided:
    decided.append(_rewind(bench.house, connection, task_id(view, "two"), named(bench, view, "1", "two"), How()))
    if len(decided) == 1:
        with bench.house.database.transaction() as other:
            plan_rows.tell(other, view.plan, "noted", "another", {})
    return decided[-1]


def test_a_worktree_that_was_deleted_comes_back(bench: Bench) -> None:
    view = bench.run(THREE)
    shutil.rmtree(worktree(bench))
    rewind(bench, view, "two", "2")
    assert {"one.txt", "two.txt"} <= set(files(worktree(bench)))
    assert "three.txt" not in files(worktree(bench))


def test_what_was_deleted_in_the_vault_is_named_by_the_check_and_by_who_wants_to_go_back(bench: Bench) -> None:
    view = bench.run(ONE)
    assert database.examine(bench.house) == ()
    with bench.house.database.read() as connection:
        lost = checkpoints.get(connection, 1, task_id=view.tasks[0].id)
    bench.vault().delete_ref(lost.ref)
    bench.vault().delete_ref(f"refs/heads/{view.plan.branch}")
    assert {(each.rule, each.subject) for each in database.examine(bench.house)} == {("vault", "T1@1"), ("vault", "P1")}
    with pytest.raises(StepError, match="somebody deleted it"):
        rewind(bench, view, "one", "1")
    bench.house.let_go()
    shutil.rmtree(bench.vault().path)
    assert [each.message for each in database.examine(bench.house) if each.subject.endswith("vault.git")]


def test_a_corrupt_object_is_named_and_everything_stays(bench: Bench) -> None:
    view = bench.run(THREE.replace("rm one.txt", "rm one.txt; rm two.txt"))
    before = files(worktree(bench))
    vault = bench.vault()
    for pack in _packs(vault.path):
        vault.git(["unpack-objects", "-q"], stdin=pack)
    oid = vault.git(["rev-parse", f"{view.plan.branch}~1:two.txt"]).decode().strip()
    _spoil(vault.path, oid)
    vault.close()
    bench.house.workspaces.close()
    with pytest.raises(Corruption, match=r"two\.txt"):
        rewind(bench, view, "two", "2", How(Preserve.DISCARD))
    assert files(worktree(bench)) == before
    assert active(shown(bench, view)) == [1, 2, 3, 4, 5]
    with bench.house.database.read() as connection:
        assert operations.open_ones(connection) == ()


BIG = """
title: Big
phases:
  - title: only
    tasks:
      - {key: one, title: One, run: "head -c 600000 /dev/urandom > big"}
      - {key: two, title: Two, run: "rm big"}
"""


def test_a_full_disk_in_the_middle_is_told_and_the_next_call_carries_it_through(
    tmp_path: Path, repository: Path
) -> None:
    disk = tmp_path / "data" / "projects"
    disk.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small filesystem")
    try:
        for bench in opened(settings(tmp_path), repository):
            view = bench.run(BIG)
            (disk / "filler").write_bytes(b"x" * (_free(disk) - 300_000))
            with pytest.raises(InfraError, match="No space left"):
                rewind(bench, view, "one", "2")
            (disk / "filler").unlink()
            with bench.house.database.read() as connection:
                (cut_off,) = operations.open_ones(connection)
            restoring.finish_open(bench.house, view.plan.id)
            assert (worktree(bench, "big") / "big").stat().st_size == 600_000
            assert states(shown(bench, view)) == {"one": "completed", "two": "pending"}
            with bench.house.database.read() as connection:
                assert operations.get(connection, cut_off.id).status is OperationStatus.DONE
            sound(bench)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def _packs(vault: Path) -> list[bytes]:
    """Moves the packs out of a vault and gives them, so that their objects can be made loose."""
    found: list[bytes] = []
    for pack in sorted((vault / "objects" / "pack").glob("*.pack")):
        found.append(pack.read_bytes())
        for part in pack.parent.glob(f"{pack.stem}.*"):
            part.unlink()
    assert found
    return found


def _spoil(vault: Path, oid: str) -> None:
    import zlib

    place = vault / "objects" / oid[:2] / oid[2:]
    place.chmod(0o644)
    place.write_bytes(zlib.compress(b"blob 2\0X\n"))


# -- kills -----------------------------------------------------------------------------------------------------------

# More of the same kind: `just test-all` runs them.
CAMPAIGN = pytest.mark.campaign
POINTS = [
    "engine.restore.saved:1",
    "vcs.restore.deleted:1",
    "engine.restore.branches_moved:1",
    pytest.param("vcs.checkpoint.ref_written:1", marks=CAMPAIGN),
    pytest.param("engine.restore.branch_kept:1", marks=CAMPAIGN),
    pytest.param("vcs.export.objects_written:1", marks=CAMPAIGN),
    pytest.param("vcs.restore.written:1", marks=CAMPAIGN),
    pytest.param("engine.restore.files_set:1", marks=CAMPAIGN),
    pytest.param("vcs.branch.moved:1", marks=CAMPAIGN),
    pytest.param("engine.restore.before_commit:1", marks=CAMPAIGN),
]


def killed(bench: Bench, point: str, *words: str) -> None:
    """Runs a command as a user would and kills it at a failpoint."""
    env = {**os.environ, "HOLDFAST_DATA": str(bench.house.settings.data), "HOLDFAST_FAILPOINT": point}
    done = forked.run(words, env=env, cwd=bench.repository)
    assert done.returncode == -9, (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("point", ["engine.handover.written", pytest.param("engine.handover.begun", marks=CAMPAIGN)])
def test_a_merge_that_is_killed_is_carried_through_and_so_is_its_undo(bench: Bench, point: str) -> None:
    view = bench.run(ONE)
    head = bench.vault().head(view.plan.branch)
    killed(bench, point, "plan", "merge", "P1")
    assert undo.undo(bench.house).told == f"branch {view.plan.branch}"
    assert git(bench.repository, "branch", "--list", "holdfast*") == ""
    killed(bench, point, "redo", "--yes")
    with bench.working():
        pass  # a worker that starts carries it through
    assert git(bench.repository, "rev-parse", view.plan.branch).strip() == head
    killed(bench, point, "undo", "--yes")
    assert [deed.kind for deed in undo.deeds(bench.house)] == ["redo", "undo", "merge"]
    undo.redo(bench.house)
    assert git(bench.repository, "rev-parse", view.plan.branch).strip() == head
    assert [deed.kind for deed in undo.deeds(bench.house)] == ["redo", "undo", "redo", "undo", "merge"]
    sound(bench)


@pytest.mark.parametrize("point", POINTS)
def test_a_rewind_that_is_killed_anywhere_is_carried_through(bench: Bench, point: str) -> None:
    view = bench.run(THREE)
    before = files(worktree(bench))
    two = next(task for task in view.tasks if task.key == "two")
    killed(bench, point, "task", "rewind", f"T{two.number}", "--to", "1", "--yes")
    with bench.house.database.read() as connection:
        (cut_off,) = operations.open_ones(connection)
    done = bench.again(view.plan.id)
    assert set(states(done).values()) == {"completed"}
    assert len(active(done)) == 5
    assert len(done.steps) == 9
    assert files(worktree(bench)) == before
    with bench.house.database.read() as connection:
        ended = operations.get(connection, cut_off.id)
    assert ended.status is OperationStatus.DONE
    sound(bench)


# -- again from somewhere --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "name", "kept"),
    [
        (From.BEGINNING, "", []),
        (From.PHASE, "apart", [1, 2]),
        pytest.param(From.PHASE, "3", [1, 2, 3, 4], marks=pytest.mark.campaign),
        (From.TASK, "two", [1]),
    ],
)
def test_a_plan_runs_again_from_there(bench: Bench, start: From, name: str, kept: list[int]) -> None:
    view = bench.run(THREE)
    before = files(worktree(bench))
    restarts.run_from(bench.house, view.plan.id, start, name=name)
    with bench.working() as worker:
        done = bench.until(worker, view.plan.id)
    assert set(states(done).values()) == {"completed"}
    assert active(done) == [*kept, *range(6, 6 + 5 - len(kept))]
    assert files(worktree(bench)) == before
    sound(bench)


def test_a_clone_begins_where_its_plan_began_or_at_a_checkpoint(bench: Bench) -> None:
    view = bench.run(THREE)
    whole = restarts.clone(bench.house, view.plan.id)
    assert states(shown_plan(bench, whole.id)) == dict.fromkeys(states(view), "pending")
    part = restarts.clone(bench.house, view.plan.id, at=named(bench, view, "2", "two"), title="The rest")
    assert set(states(shown_plan(bench, part.id))) == {"two", "left", "right", "three"}
    plans.execute(bench.house, part.id)
    with bench.working() as worker:
        done = bench.until(worker, part.id)
    assert set(states(done).values()) == {"completed"}
    assert bench.files(done.plan.branch).keys() == bench.files(view.plan.branch).keys()
    with pytest.raises(IllegalState, match="nothing of P1 was left"):
        restarts.clone(bench.house, view.plan.id, at=named(bench, view, "after_verification"))
    sound(bench)


def shown_plan(bench: Bench, plan_id: str) -> PlanView:
    return plans.show(bench.house, plan_id)
