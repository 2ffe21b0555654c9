"""A plan is edited: as a draft, while it runs, and while somebody else starts it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import Bench, statuses

from holdfast.app import approvals, database, edits, history, plans, tasks, undo
from holdfast.app.edits import Edited
from holdfast.domain.budget import Budget
from holdfast.domain.plan import PhaseMode
from holdfast.domain.planfile import parse
from holdfast.domain.transitions import PauseReason, PlanStatus, TaskStatus
from holdfast.errors import IllegalState, NotFound, UsageError

PLAN = """
title: Edited
variables: {NAME: world}
phases:
  - title: one
    tasks:
      - {key: hold, title: Hold, run: "while [ ! -e GO ]; do sleep 0.05; done"}
      - {key: next, title: Next, run: "echo old > next"}
      - {key: last, title: Last, depends_on: [next], run: "echo last > last"}
  - title: two
    mode: parallel
    tasks: [{key: end, title: End, run: "ls > end"}]
"""


def draft(bench: Bench, text: str = PLAN) -> str:
    return plans.create(bench.house, bench.project, parse(text, source="plan.yaml")).id


def held(bench: Bench, tmp_path: Path) -> tuple[str, Path]:
    """Gives a plan whose first task runs until the file is made."""
    go = tmp_path / "go"
    return bench.start(PLAN.replace("GO", str(go))).id, go


def task_id(bench: Bench, plan_id: str, key: str) -> str:
    return tasks.find(bench.house, key, plan_id=plan_id)


def told(bench: Bench, plan_id: str) -> list[str]:
    return [
        f"{event.type}.{event.subtype}"
        for event in history.everything(bench.house, plan_id=plan_id)
        if event.subtype in ("added", "edited", "removed")
    ]


def test_a_draft_changes_wholly_and_runs_as_it_was_edited(either: Bench) -> None:
    plan_id = draft(either)
    text = edits.text(either.house, plan_id)
    new = (
        text.replace("title: Hold", "title: Held no more")
        .replace("'while [ ! -e GO ]", "'while false")
        .replace('"while [ ! -e GO ]', '"while false')
        .replace("old > next", "new > next")
        .replace("title: two", 'title: three\n    when: variables.NAME == "moon"')
        .replace("NAME: world", "NAME: moon")
        .replace("    mode: parallel\n", "")
    )
    edited = edits.apply_file(either.house, plan_id, parse(new, source="edited"), since=text)
    assert [(each.subject, each.deed, each.name) for each in edited.changes] == [
        ("plan", "edited", "Edited"),
        ("phase", "edited", "three"),
        ("task", "edited", "hold"),
        ("task", "edited", "next"),
    ]
    assert edited.iteration == 1
    assert "-        run: echo old > next" in edited.difference.replace('"', "")
    assert edits.text(either.house, plan_id) == edited.after
    assert told(either, plan_id) == ["plan.edited", "phase.edited", "task.edited", "task.edited"]
    plans.execute(either.house, plan_id)
    with either.working() as worker:
        view = either.until(worker, plan_id)
    assert view.plan.status is PlanStatus.COMPLETED
    assert [phase.title for phase in view.phases] == ["one", "three"]
    assert either.files(view.plan.branch)["next"] == "new\n"
    assert list(database.examine(either.house)) == []


def test_an_edit_is_an_iteration_from_which_it_can_be_taken_back(either: Bench) -> None:
    plan_id = draft(either)
    before = edits.text(either.house, plan_id)
    edits.remove_phase(either.house, plan_id, "two")
    edits.add_phase(either.house, plan_id, {"title": "zero", "tasks": [{"title": "Nought", "run": "true"}]}, position=1)
    (newest, oldest) = edits.history(either.house, plan_id).items
    assert [(each.number, each.author, each.content["by"]) for each in (oldest, newest)] == [
        (1, "tester", "phase rm"),
        (2, "tester", "phase add"),
    ]
    assert oldest.content["before"] == before
    assert [phase.title for phase in plans.show(either.house, plan_id).phases] == ["zero", "one"]
    edits.apply_file(either.house, plan_id, parse(str(oldest.content["before"]), source="iteration 1"))
    assert edits.text(either.house, plan_id) == before
    assert list(database.examine(either.house)) == []


def test_a_task_is_added_moved_renamed_and_removed(either: Bench) -> None:
    house, plan_id = either.house, draft(either)
    added = edits.add_task(house, plan_id, {"title": "Mid", "run": "true", "timeout": "2m"}, phase="1", position=2)
    mid = task_id(either, plan_id, "mid")
    assert tasks.show(house, mid).task.timeout_seconds == 120
    assert [(each.subject, each.deed) for each in added.changes] == [("task", "added")]
    edits.edit_task(house, task_id(either, plan_id, "next"), {"key": "then", "depends_on": ["mid"]})
    view = plans.show(house, plan_id)
    assert [task.key for task in view.tasks] == ["hold", "mid", "then", "last", "end"]
    assert {task.key: task.depends_on for task in view.tasks if task.key in ("then", "last")} == {
        "then": (mid,),
        "last": (task_id(either, plan_id, "then"),),
    }
    edits.edit_task(house, task_id(either, plan_id, "last"), {"timeout": None, "depends_on": None}, phase="two")
    edits.edit_task(house, task_id(either, plan_id, "hold"), {}, position=3)
    edits.remove_task(house, task_id(either, plan_id, "end"))
    view = plans.show(house, plan_id)
    assert [task.key for task in view.tasks] == ["mid", "then", "hold", "last"]
    assert [task.position for task in view.tasks] == [0, 1, 2, 0]
    assert list(database.examine(house)) == []


@pytest.mark.parametrize(
    ("edit", "kind", "message"),
    [
        (lambda house, plan, task: edits.remove_task(house, task("next")), IllegalState, r"depend on it: T3 last"),
        (lambda house, plan, task: edits.remove_task(house, task("end")), IllegalState, "only task of the phase 'two'"),
        (
            lambda house, plan, task: edits.edit_task(house, task("next"), {"depends_on": ["last"]}),
            UsageError,
            "in a circle: next → last → next",
        ),
        (
            lambda house, plan, task: edits.edit_task(house, task("next"), {"depends_on": ["end"]}),
            UsageError,
            "in the later phase 'two'",
        ),
        (
            lambda house, plan, task: edits.edit_task(house, task("next"), {"timeout": "soon", "colour": "red"}),
            UsageError,
            r"(?s)has no key 'colour'.*`timeout` is no duration: 'soon'|`timeout` is no duration.*no key 'colour'",
        ),
        (
            lambda house, plan, task: edits.add_task(house, plan, {"title": "Next", "run": "x"}),
            UsageError,
            "the key 'next' is already that of T2",
        ),
        (
            lambda house, plan, task: edits.add_task(house, plan, {"title": "X", "run": "x"}, phase="nine"),
            NotFound,
            "no phase 'nine'",
        ),
        (
            lambda house, plan, task: edits.add_task(house, plan, {"title": "X", "run": "x"}, position=3),
            UsageError,
            "no position 3",
        ),
        (lambda house, plan, task: edits.remove_phase(house, plan, "one"), None, ""),
        (lambda house, plan, task: edits.edit_plan(house, plan, {"gates": ["door"]}), UsageError, "cannot be 'door'"),
    ],
)  # fmt: skip
def test_an_edit_that_cannot_be_is_refused_and_changes_nothing(
    bench: Bench, edit: Callable[[Any, str, Callable[[str], str]], Edited], kind: type[Exception] | None, message: str
) -> None:
    plan_id = draft(bench)
    before = edits.text(bench.house, plan_id)
    if kind is None:
        assert edit(bench.house, plan_id, lambda key: task_id(bench, plan_id, key)).iteration == 1
        return
    with pytest.raises(kind, match=message):
        edit(bench.house, plan_id, lambda key: task_id(bench, plan_id, key))
    assert edits.text(bench.house, plan_id) == before
    assert edits.history(bench.house, plan_id).items == ()
    assert told(bench, plan_id) == []


def test_a_dry_run_says_what_would_change_and_writes_nothing(bench: Bench) -> None:
    plan_id = draft(bench)
    before = edits.text(bench.house, plan_id)
    seen = edits.edit_plan(bench.house, plan_id, {"title": "Another"}, dry_run=True)
    assert [dict(change.after) for change in seen.changes] == [{"title": "Another"}]
    assert (seen.iteration, edits.text(bench.house, plan_id)) == (None, before)


def test_an_edit_of_what_somebody_else_changed_meanwhile_is_refused(bench: Bench) -> None:
    plan_id = draft(bench)
    text = edits.text(bench.house, plan_id)
    edits.edit_plan(bench.house, plan_id, {"title": "Theirs"})
    with pytest.raises(IllegalState, match="changed by somebody else"):
        edits.apply_file(bench.house, plan_id, parse(text.replace("Edited", "Mine"), source="f"), since=text)
    assert plans.show(bench.house, plan_id).plan.title == "Theirs"


def test_while_a_plan_runs_what_has_not_started_changes_and_the_rest_stays(either: Bench, tmp_path: Path) -> None:
    plan_id, go = held(either, tmp_path)
    house = either.house
    with either.working() as worker:
        either.until(worker, plan_id, lambda view: statuses(view)["hold"] == "running")
        edits.edit_task(house, task_id(either, plan_id, "next"), {"run": "echo new > next"})
        edits.add_task(house, plan_id, {"title": "More", "run": "echo more > more"}, phase="one")
        edits.add_phase(house, plan_id, {"title": "three", "tasks": [{"title": "Tail", "run": "echo t > tail"}]})
        edits.remove_task(house, task_id(either, plan_id, "last"))
        for refused in (
            lambda: edits.edit_task(house, task_id(either, plan_id, "hold"), {"run": "true"}),
            lambda: edits.edit_phase(house, plan_id, "one", {"mode": "parallel"}),
            lambda: edits.edit_task(house, task_id(either, plan_id, "next"), {}, position=1),
            lambda: edits.edit_phase(house, plan_id, "two", {}, position=1),
            lambda: edits.remove_phase(house, plan_id, "one"),
            lambda: edits.edit_plan(house, plan_id, {"variables": {"NAME": "x"}}),
        ):
            with pytest.raises(IllegalState):
                refused()
        go.touch()
        view = either.until(worker, plan_id)
    assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
    files = either.files(view.plan.branch)
    assert (files["next"], files["more"], files["tail"]) == ("new\n", "more\n", "t\n")
    assert "last" not in files
    with pytest.raises(IllegalState, match="is completed: it cannot be edited"):
        edits.edit_plan(house, plan_id, {"title": "Too late"})
    assert list(database.examine(house)) == []


def test_a_task_added_to_a_plan_that_waits_is_run_without_anyone_touching_it(bench: Bench) -> None:
    plan = bench.start("title: T\nphases: [{title: p, mode: manual, tasks: [{title: asked, run: 'false'}]}]")
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: bool(view.gates))
        (gate,) = approvals.list_(bench.house)
        plans.set_budget(bench.house, plan.id, Budget(60.0), task_id=gate.task_id)
        assert approvals.list_(bench.house) == (gate,), "a limit is not what is decided"
        edits.edit_task(bench.house, task_id(bench, plan.id, "asked"), {"run": "echo asked > asked"})
        with pytest.raises(IllegalState, match="was cancelled already"):
            approvals.decide(bench.house, gate.id, approve=True)
        bench.until(worker, plan.id, lambda view: any(each.id != gate.id for each in view.gates))
        (again,) = approvals.list_(bench.house)
        approvals.decide(bench.house, again.id, approve=True)
        assert bench.until(worker, plan.id).plan.status is PlanStatus.COMPLETED
    assert bench.files(plan.branch)["asked"] == "asked\n"


def test_a_failed_task_that_is_tried_again_may_be_edited_first(bench: Bench) -> None:
    view = bench.run("title: T\nphases: [{title: p, tasks: [{key: t, title: t, run: 'false', max_attempts: 1}]}]")
    assert view.plan.pause_reason is PauseReason.TASK_FAILED
    found = view.tasks[0]
    with pytest.raises(IllegalState, match="T1 t is failed"):
        edits.edit_task(bench.house, found.id, {"run": "true"})
    tasks.retry(bench.house, found.id)
    edits.edit_task(bench.house, found.id, {"run": "echo t > t"})
    with pytest.raises(IllegalState, match="has run"):
        edits.edit_task(bench.house, found.id, {"key": "u"})
    assert bench.again(view.plan.id).plan.status is PlanStatus.COMPLETED
    assert bench.files(view.plan.branch)["t"] == "t\n"


def test_a_budget_is_an_edit_also_of_a_task_that_has_begun_and_can_be_taken_back(bench: Bench) -> None:
    house = bench.house
    view = bench.run("title: T\nphases: [{title: p, tasks: [{key: t, title: t, run: 'false', max_attempts: 1}]}]")
    plan_id, failed = view.plan.id, view.tasks[0].id

    def budgets() -> tuple[float | None, float | None]:
        now = plans.show(house, plan_id)
        return now.plan.budget.max_seconds, now.tasks[0].budget.max_seconds

    plans.set_budget(house, plan_id, Budget(max_seconds=90))
    plans.set_budget(house, plan_id, Budget(max_seconds=60), task_id=failed)
    plans.set_budget(house, plan_id, Budget(max_seconds=60), task_id=failed)
    assert [each.content["by"] for each in edits.history(house, plan_id).items] == ["plan budget"] * 2
    assert [deed.told for deed in undo.deeds(house)] == ["task t edited", "plan T edited"]
    assert budgets() == (90, 60)
    undo.undo(house)
    assert budgets() == (90, None)
    undo.undo(house)
    assert budgets() == (None, None)
    undo.redo(house)
    assert budgets() == (90, None)
    assert list(database.examine(house)) == []
    plans.cancel(house, plan_id)
    with pytest.raises(IllegalState, match="is cancelled: it cannot be edited"):
        plans.set_budget(house, plan_id, Budget())


def test_of_edits_and_a_start_at_once_the_last_edit_that_was_taken_is_what_runs(either: Bench) -> None:
    """Each edit either comes before the task is queued, and then it runs so, or it is refused."""
    house = either.house
    ids = [
        draft(either, "title: R\nphases: [{title: p, tasks: [{key: t, title: t, run: 'echo 0 > t'}]}]") for _ in "ab"
    ]

    def edit_until_refused(plan_id: str) -> int:
        found = task_id(either, plan_id, "t")
        for number in range(1, 1_000_000):
            try:
                edits.edit_task(house, found, {"run": f"echo {number} > t"})
            except IllegalState:
                return number - 1
        raise AssertionError("it never started")

    with either.working() as worker, ThreadPoolExecutor(2) as pool:
        taken = [pool.submit(edit_until_refused, plan_id) for plan_id in ids]
        for plan_id in ids:
            plans.execute(house, plan_id)
        views = [either.until(worker, plan_id) for plan_id in ids]
        for view, last in zip(views, taken, strict=True):
            assert view.plan.status is PlanStatus.COMPLETED, view.plan.error
            assert either.files(view.plan.branch)["t"] == f"{last.result()}\n"
            assert view.steps[0].agent_config["command"] == f"echo {last.result()} > t"
    assert list(database.examine(house)) == []


def test_a_phase_added_as_the_last_one_ends_is_run_before_the_plan_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage was decided from a look before the edit: it is looked at again under the plan's lock."""
    from holdfast.engine import plan_stages

    plan = bench.start("title: T\nphases: [{title: p, tasks: [{title: t, run: 'true'}]}]")
    make = plan_stages.stage_checkpoint
    late = {"title": "late", "tasks": [{"title": "late", "run": "echo late > late"}]}

    def edited_meanwhile(runtime: Any, seen: Any, name: Any) -> Any:
        if name == "after_implementation" and len(plans.show(bench.house, plan.id).phases) == 1:
            edits.add_phase(bench.house, plan.id, late)
        return make(runtime, seen, name)

    monkeypatch.setattr(plan_stages, "stage_checkpoint", edited_meanwhile)
    with bench.working() as worker:
        view = bench.until(worker, plan.id)
    assert statuses(view) == {"t": "completed", "late": "completed"}
    assert bench.files(plan.branch)["late"] == "late\n"
    assert list(database.examine(bench.house)) == []


def test_the_gates_of_a_plan_change_until_their_place_is_passed(bench: Bench) -> None:
    plan = bench.start("title: T\ngates: [result]\nphases: [{title: p, tasks: [{title: t, run: 'true'}]}]")
    with bench.working() as worker:
        bench.until(worker, plan.id, lambda view: view.plan.status is PlanStatus.WAITING)
        with pytest.raises(IllegalState, match="passed the place of the gate `result`"):
            edits.edit_plan(bench.house, plan.id, {"gates": None})
        with pytest.raises(IllegalState, match="cannot change any more"):
            edits.add_task(bench.house, plan.id, {"title": "x", "run": "x"})
        edits.edit_plan(bench.house, plan.id, {"title": "Renamed", "verify": ["test -e README"]})
        (gate,) = approvals.list_(bench.house)
        approvals.decide(bench.house, gate.id, approve=True)
        view = bench.until(worker, plan.id)
    assert (view.plan.status, view.plan.title) == (PlanStatus.COMPLETED, "Renamed")
    assert view.phases[0].mode is PhaseMode.SEQUENTIAL
    assert view.tasks[0].status is TaskStatus.COMPLETED
