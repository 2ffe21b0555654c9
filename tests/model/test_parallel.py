"""A plan with a parallel phase under random runs, rewinds, rollbacks, undos and redos, beside a model.

Each task makes one file. The model knows which tasks are done: the plan's branch has the files of just these.
"""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.harness.postgres import PostgresServer
from tests.model.test_going_back import Played, play

from holdfast.app import plans, rewinds, tasks, undo
from holdfast.app.rewinds import How
from holdfast.domain.planfile import parse
from holdfast.domain.restore import Preserve
from holdfast.domain.transitions import PlanStatus, TaskStatus
from holdfast.errors import IllegalState
from holdfast.store import check

PLAN = """
title: model
phases:
  - title: first
    tasks: [{key: one, title: One, run: "echo one > one.txt"}]
  - title: apart
    mode: parallel
    tasks:
      - {key: left, title: Left, run: "echo left > left.txt"}
      - {key: right, title: Right, run: "echo right > right.txt"}
  - title: last
    tasks: [{key: four, title: Four, run: "echo four > four.txt"}]
"""
# What goes back with a task that goes back to its beginning.
TAKES = {
    "one": {"one", "left", "right", "four"},
    "left": {"left", "four"},
    "right": {"right", "four"},
    "four": {"four"},
}
ALL = frozenset(TAKES)


class Parallel(Played):
    """One plan; every rule is a verb that a person could have typed."""

    @initialize()
    def begin(self) -> None:
        self.open()
        self.plan = plans.create(self.bench.house, self.bench.project, parse(PLAN, source="plan")).id
        self.finished: frozenset[str] = frozenset()
        self.done: list[tuple[frozenset[str], frozenset[str]]] = []
        self.undone: list[tuple[frozenset[str], frozenset[str]]] = []
        plans.execute(self.bench.house, self.plan)
        self.ended()

    def ended(self) -> None:
        with self.bench.working() as worker:
            view = self.bench.until(worker, self.plan)
        assert view.plan.status is PlanStatus.COMPLETED, view.plan
        self.finished = ALL
        self.done.clear()
        self.undone.clear()

    @precondition(lambda self: self.finished != ALL)
    @rule()
    def run(self) -> None:
        plans.resume(self.bench.house, self.plan)
        self.ended()

    @precondition(lambda self: self.finished)
    @rule(data=st.data(), preserve=st.sampled_from(Preserve))
    def rewind(self, data: st.DataObject, preserve: Preserve) -> None:
        key = data.draw(st.sampled_from(sorted(self.finished)))
        task = self.task(key)
        first = tasks.show(self.bench.house, task.id).checkpoints[-1]
        rewinds.rewind_task(self.bench.house, task.id, first, How(preserve))
        self.moved(self.finished - TAKES[key])

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def roll_back_a_step(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.finished)))
        steps = plans.show(self.bench.house, self.plan).steps
        number = next(each.number for each in steps if each.active and each.task_id == self.task(key).id)
        rewinds.rollback_step(self.bench.house, self.bench.project, number, How(Preserve.DISCARD), keep=False)
        self.moved(self.finished - TAKES[key])

    @precondition(lambda self: self.done)
    @rule()
    def undo(self) -> None:
        undo.undo(self.bench.house)
        before, after = self.done.pop()
        self.undone.append((before, after))
        self.finished = before

    @precondition(lambda self: self.undone)
    @rule()
    def redo(self) -> None:
        undo.redo(self.bench.house)
        before, after = self.undone.pop()
        self.done.append((before, after))
        self.finished = after

    @precondition(lambda self: not self.done and self.finished == ALL)
    @rule()
    def what_has_run_again_is_not_undone(self) -> None:
        with pytest.raises(IllegalState):
            undo.undo(self.bench.house)

    def task(self, key: str):
        return next(each for each in plans.show(self.bench.house, self.plan).tasks if each.key == key)

    def moved(self, finished: frozenset[str]) -> None:
        self.done.append((self.finished, finished))
        self.undone.clear()
        self.finished = finished

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        if not hasattr(self, "plan"):
            return
        view = plans.show(self.bench.house, self.plan)
        assert {task.key for task in view.tasks if task.status is TaskStatus.COMPLETED} == self.finished
        wanted = {"base": "base\n", **{f"{key}.txt": f"{key}\n" for key in self.finished}}
        assert self.bench.files(view.plan.branch) == wanted
        worktree = self.bench.house.places.plan_worktree(view.plan)
        assert {path.name: path.read_text() for path in worktree.iterdir() if path.is_file()} == wanted

    def sound(self) -> None:
        assert list(check.check(self.bench.house.database)) == []
        assert self.bench.vault().fsck() == []


def test_a_plan_with_a_parallel_phase_is_always_where_it_should_be() -> None:
    play(Parallel, 1, 6, derandomize=True)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_such_a_plan_is_so_for_long() -> None:
    play(Parallel, 30, 15)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_such_a_plan_on_postgresql_is_always_where_it_should_be(postgres: PostgresServer) -> None:
    play(Parallel, 3, 8, server=postgres)
