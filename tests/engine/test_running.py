"""A plan runs to its end: order, commits, checkpoints, retries, merges, conditions."""

from __future__ import annotations

import pytest
from tests.engine.conftest import Bench, git, statuses

from holdfast.app import database, execution, history, plans, tasks
from holdfast.domain.checkpoint import StageName
from holdfast.domain.plan import PhaseMode
from holdfast.domain.step import StepState, state
from holdfast.domain.task import FailureKind
from holdfast.domain.transitions import PauseReason, PlanStage, PlanStatus
from holdfast.errors import IllegalState
from holdfast.store import checkpoints, tables

WHOLE = """
title: A whole plan
variables: {NAME: world}
verify: ["test -f end", "grep -q hello README"]
phases:
  - title: one after the other
    tasks:
      - {title: greet, run: "echo hello {{ NAME }} > greeting; echo told; echo warned >&2"}
      - {title: look, run: "grep -q world greeting"}
      - title: flaky
        run: test $HOLDFAST_ATTEMPT -ge 2 && echo $HOLDFAST_PREVIOUS_ERROR > why
        verify: ["test -s why"]
  - title: side by side
    mode: parallel
    tasks:
      - {title: slow, run: "sleep 0.4; echo s > slow"}
      - {title: quick, run: "echo q > quick"}
      - {title: after quick, depends_on: [quick], run: "cat quick > copy"}
  - title: never
    when: variables.NAME == "nobody"
    tasks: [{title: no, run: "false"}]
  - title: last
    tasks: [{title: end, run: "ls > end"}]
"""


def test_a_plan_runs_to_its_end_and_leaves_a_whole_record(either: Bench) -> None:
    view = either.run(WHOLE)
    plan = view.plan
    assert (plan.status, plan.stage, plan.error) == (PlanStatus.COMPLETED, PlanStage.COMPLETED, "")
    assert execution.exit_code(plan) == 0
    assert statuses(view) == {
        **dict.fromkeys(["greet", "look", "flaky", "slow", "quick", "after-quick", "end"], "completed"),
        "no": "skipped",
    }
    files = either.files(plan.branch)
    assert files["greeting"] == "hello world\n"
    assert files["copy"] == "q\n"
    assert "exit code 1" in files["why"]
    assert files["end"].split() == ["README", "copy", "end", "greeting", "quick", "slow", "why"]

    commits = [subject for subject in either.subjects(plan.branch) if not subject.startswith("Merge ")]
    assert sorted(commits) == ["after quick", "end", "first", "flaky", "greet", "quick", "slow"]
    assert [step.number for step in view.steps] == list(range(1, 9))
    assert [(state(step), step.attempt) for step in view.steps if step.task_id == view.tasks[2].id] == [
        (StepState.FAILED, 1),
        (StepState.COMPLETED, 2),
    ]
    greet = view.steps[0]
    assert greet.commit_after is not None
    assert either.vault().trailers(greet.commit_after) == {
        "Holdfast-Plan": f"P{plan.number} A whole plan",
        "Holdfast-Task": f"T{view.tasks[0].number} greet",
        "Holdfast-Step": "1",
    }
    assert view.steps[1].commit_before == view.steps[1].commit_after == greet.commit_after
    assert (greet.files_changed, greet.bytes_changed) == (1, 12)
    assert greet.peak_memory_bytes > 0
    output = tasks.show(either.house, view.tasks[0].id)
    assert [checkpoint.kind for checkpoint in output.checkpoints] == ["step", "initial"]
    assert output.checkpoints[0].state["variables"] == {"NAME": "world"}

    with either.house.database.read() as connection:
        stages = [
            checkpoint.name
            for checkpoint in reversed(checkpoints.list_(connection, plan_id=plan.id, limit=1000).items)
            if checkpoint.task_id is None
        ]
        every = checkpoints.list_(connection, plan_id=plan.id, limit=1000).items
    assert stages == list(StageName)
    assert either.vault().refs("refs/holdfast/checkpoints") == {each.ref: each.commit for each in every}
    assert list(database.examine(either.house)) == []
    assert git(either.repository, "status", "--short") == ""
    assert git(either.repository, "branch", "--list", "holdfast/*") == ""


def test_the_result_is_merged_into_the_repository_as_a_branch_and_nothing_else_moves(bench: Bench) -> None:
    view = bench.run("title: T\nphases: [{title: a, tasks: [{title: one, run: 'echo 1 > one'}]}]")
    head = git(bench.repository, "rev-parse", "HEAD")
    name = plans.merge(bench.house, view.plan.id)
    assert git(bench.repository, "show", f"{name}:one") == "1\n"
    assert git(bench.repository, "rev-parse", "HEAD") == head
    assert plans.merge(bench.house, view.plan.id) == name
    git(bench.repository, "branch", "taken", "HEAD")
    with pytest.raises(IllegalState, match="exists"):
        plans.merge(bench.house, view.plan.id, branch="taken")


def test_a_task_that_keeps_failing_pauses_the_plan_and_can_be_skipped_tried_again_or_put_right_by_hand(
    bench: Bench,
) -> None:
    view = bench.run(
        """
title: Fails
phases:
  - title: a
    tasks:
      - {title: fails, run: "echo partial > partial; test -f {{ SWITCH }}", max_attempts: 2}
      - {title: next, run: "ls > next"}
variables: {SWITCH: "FOLDER/switch"}
""".replace("FOLDER", str(bench.repository.parent))
    )
    plan, failed = view.plan, view.tasks[0]
    assert (plan.status, plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.TASK_FAILED)
    assert execution.exit_code(plan) == 6
    assert (failed.status, failed.attempt, failed.failure) == ("failed", 2, FailureKind.EXIT)
    assert statuses(view)["next"] == "pending"
    kept = tasks.show(bench.house, failed.id).checkpoints[0]
    assert "partial" in bench.files(kept.commit), "what a failed attempt left is in its checkpoint"

    tasks.retry(bench.house, failed.id)
    view = bench.again(plan.id)
    assert [step.attempt for step in view.steps] == [1, 2, 1, 2]

    worktree = bench.house.places.plan_worktree(plan)
    (worktree / "by-hand").write_text("fixed\n")
    step = tasks.complete(bench.house, failed.id)
    assert (step.exit_code, step.agent_config["executor"]) == (0, "hand")
    view = bench.again(plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert bench.files(plan.branch)["next"].split() == ["README", "by-hand", "next", "partial"]
    assert list(database.examine(bench.house)) == []


def test_a_merge_conflict_fails_the_task_keeps_its_branch_and_a_retry_starts_from_the_new_head(bench: Bench) -> None:
    view = bench.run(
        """
title: Conflict
phases:
  - title: p
    mode: parallel
    tasks:
      - {title: left, run: "while ! test -e BEGUN; do sleep 0.05; done; echo left > same"}
      - {title: right, run: "touch BEGUN; test -f same && echo merged >> same || echo right > same"}
""".replace("BEGUN", str(bench.repository.parent / "begun"))
    )
    right = view.tasks[1]
    assert (right.status, right.failure) == ("failed", FailureKind.MERGE_CONFLICT)
    assert "same" in right.error
    assert bench.files(right.branch)["same"] == "right\n"
    tasks.retry(bench.house, right.id)
    view = bench.again(view.plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert bench.files(view.plan.branch)["same"] == "left\nmerged\n"
    assert bench.files(right.branch)["same"] == "right\n", "the branch in conflict is kept"
    assert view.phases[0].mode is PhaseMode.PARALLEL


def test_checks_of_a_task_and_of_the_plan_decide(bench: Bench) -> None:
    view = bench.run(
        """
title: Checked
verify: ["test -f made-by-hand"]
phases:
  - title: a
    tasks: [{title: t, run: "echo x > x", verify: ["echo checking; test -f x", "true"]}]
"""
    )
    assert view.plan.status is PlanStatus.FAILED
    assert "test -f made-by-hand" in view.plan.error
    assert view.plan.stage is PlanStage.VERIFYING
    assert statuses(view) == {"t": "completed"}
    again = bench.again(view.plan.id)
    assert again.plan.status is PlanStatus.FAILED
    told = [event.subtype for event in history.everything(bench.house, plan_id=view.plan.id) if event.type == "plan"]
    assert told.count("verify_failed") == 2


def test_what_a_person_changed_in_the_worktree_between_tasks_is_kept_in_a_checkpoint(bench: Bench) -> None:
    view = bench.run(
        """
title: Edited
phases:
  - {title: a, pause_after: true, tasks: [{title: one, run: "echo 1 > one"}]}
  - {title: b, tasks: [{title: two, run: "ls > two"}]}
"""
    )
    assert view.plan.pause_reason is PauseReason.PHASE_COMPLETE
    (bench.house.places.plan_worktree(view.plan) / "mine").write_text("do not lose me\n")
    view = bench.again(view.plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert "mine" not in bench.files(view.plan.branch)
    kept = [each for each in tasks.show(bench.house, view.tasks[1].id).checkpoints if each.kind == "pre_rewind"]
    assert bench.files(kept[0].commit)["mine"] == "do not lose me\n"


def test_a_worktree_that_was_deleted_by_hand_is_made_again_for_the_next_task(bench: Bench) -> None:
    import shutil

    view = bench.run(
        """
title: Deleted
phases:
  - {title: a, pause_after: true, tasks: [{title: one, run: "echo 1 > one"}]}
  - {title: b, tasks: [{title: two, run: "ls > two"}]}
"""
    )
    shutil.rmtree(bench.house.places.plan_worktree(view.plan))
    view = bench.again(view.plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert bench.files(view.plan.branch)["two"].split() == ["README", "one", "two"]


def test_ignored_files_that_the_project_lists_are_kept_with_the_checkpoint(bench: Bench) -> None:
    from holdfast.app import projects
    from holdfast.store import blobs

    assert not projects.init(bench.house, bench.repository, include_ignored=["*.secret"]).created
    view = bench.run("title: T\nphases: [{title: a, tasks: [{title: one, run: 'echo key > a.secret; echo 1 > one'}]}]")
    assert "a.secret" not in bench.files(view.plan.branch)
    newest = tasks.show(bench.house, view.tasks[0].id).checkpoints[0]
    with bench.house.database.read() as connection:
        kept = blobs.attached(connection, newest.id)
    assert [(file.path, file.mode) for file in kept] == [("a.secret", 0o644)]
    assert blobs.read(bench.house.places.blobs, kept[0].blob.digest) == b"key\n"


def test_a_running_task_gets_checkpoints_at_intervals(bench: Bench) -> None:
    bench.house.settings.checkpoint_interval_seconds = 0.1
    plan = bench.start(
        "title: T\nphases:\n  - title: a\n    tasks:\n"
        "      - {title: one, run: 'echo 1 > one; while test ! -f go; do sleep 0.05; done'}"
    )
    with bench.working() as worker:

        def kept(view) -> bool:
            shown = tasks.show(bench.house, view.tasks[0].id)
            return any(each.kind == "interval" for each in shown.checkpoints)

        view = plans.show(bench.house, plan.id)
        while not kept(view):
            view = bench.until(worker, plan.id, lambda _: True)
        (bench.house.places.plan_worktree(plan) / "go").touch()
        view = bench.until(worker, plan.id)
    interval = next(each for each in tasks.show(bench.house, view.tasks[0].id).checkpoints if each.kind == "interval")
    assert bench.files(interval.commit)["one"] == "1\n"


def test_work_completed_by_hand_in_a_parallel_phase_is_merged_and_a_refused_completion_can_be_repeated(
    bench: Bench,
) -> None:
    import shutil

    view = bench.run(
        """
title: By hand
phases:
  - title: p
    mode: parallel
    tasks: [{title: a, run: "false", max_attempts: 1}, {title: b, run: "echo b > b"}]
"""
    )
    failed = view.tasks[0]
    worktree = bench.house.places.task_worktree(view.plan, failed)
    aside = worktree.with_name("aside")
    worktree.rename(aside)
    with pytest.raises(IllegalState):
        tasks.complete(bench.house, failed.id)
    aside.rename(worktree)
    (worktree / "by-hand").write_text("done\n")
    tasks.complete(bench.house, failed.id)
    view = bench.again(view.plan.id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert set(bench.files(view.plan.branch)) == {".gitignore", "README", "b", "by-hand"}
    assert list(database.examine(bench.house)) == []
    shutil.rmtree(worktree)


def test_a_plan_in_which_nothing_can_go_on_pauses_and_says_what_holds_what_up(bench: Bench) -> None:
    view = bench.run(
        """
title: Held up
phases:
  - {title: one, pause_after: true, tasks: [{title: first, run: "true"}]}
  - title: two
    tasks: [{title: gone, run: "true"}, {title: held, run: "true", depends_on: [gone]}]
"""
    )
    assert view.plan.pause_reason is PauseReason.PHASE_COMPLETE
    with bench.house.database.transaction() as connection:
        # No command cancels one task: this is what a mistake of ours, or of somebody's SQL, would leave.
        gone = tables.tasks.c.id == view.tasks[1].id
        connection.execute(tables.tasks.update().where(gone).values(status="cancelled"))
    view = bench.again(view.plan.id)
    assert (view.plan.status, view.plan.pause_reason) == (PlanStatus.PAUSED, PauseReason.DEADLOCK)
    assert "held up by T2 (gone: cancelled)" in view.plan.error
    assert execution.exit_code(view.plan) == 6
