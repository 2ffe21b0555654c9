"""A plan under random runs, edits, checkpoints, rewinds, rollbacks, undos, gc and kills, beside a model.

The model knows the files of the worktree, those that are committed, how many tasks are done, and own branches. Every
checkpoint is remembered with what it should hold, and has to hold it to the end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.engine.conftest import Bench, git
from tests.engine.conftest import settings as house_settings
from tests.harness import forked
from tests.harness.postgres import PostgresServer

from holdfast import clock
from holdfast.app import forks, plans, projects, retention, rewinds, tasks, undo, wire
from holdfast.app.rewinds import How
from holdfast.domain.checkpoint import CheckpointKind
from holdfast.domain.planfile import parse
from holdfast.domain.restore import Preserve
from holdfast.domain.transitions import PlanStatus, TaskStatus
from holdfast.errors import IllegalState
from holdfast.store import check

KEYS = ("one", "two", "three")
PLAN = """
title: model
phases:
  - title: first
    tasks:
      - {key: one, title: One, run: "echo one >> log; cp log one.txt"}
      - {key: two, title: Two, run: "echo two >> log; rm -f one.txt; mkdir -p deep; cp log deep/two.txt"}
  - title: second
    tasks:
      - {key: three, title: Three, run: "echo three >> log; cp log three.txt"}
"""
Files = Mapping[str, bytes]
POINTS = (
    "engine.restore.saved:1",
    "engine.restore.branch_kept:1",
    "vcs.restore.file_written:1",
    "vcs.restore.written:1",
    "vcs.branch.moved:1",
    "engine.restore.branches_moved:1",
    "engine.restore.before_commit:1",
)


@dataclass(frozen=True)
class World:
    """How everything should be; `own` are the branches that stand in the worktree's own git, beside the plan's."""

    files: Files
    committed: Files
    done: int
    own: frozenset[str] = frozenset()


def worked(files: Files, key: str) -> Files:
    """Gives the files after a task has done what its command says."""
    log = files.get("log", b"") + f"{key}\n".encode()
    after = {**files, "log": log}
    match key:
        case "one":
            after["one.txt"] = log
        case "two":
            after.pop("one.txt", None)
            after["deep/two.txt"] = log
        case _:
            after["three.txt"] = log
    return MappingProxyType(after)


class Played(RuleBasedStateMachine):
    """A house with one repository, in a folder of its own that goes at the end; without a server it is on SQLite."""

    server: PostgresServer | None = None
    bench: Bench

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-model-"))
        self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def open(self, name: str = "base", content: str = "base\n", **chosen: Any) -> None:
        """Opens the house, with a repository of that one file; `chosen` are settings."""
        repository = self.folder / "repository"
        repository.mkdir()
        git(repository, "init", "-q", "-b", "main")
        (repository / name).write_text(content)
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", "first")
        url = self.stack.enter_context(self.server.database()) if self.server else ""
        own = replace(house_settings(self.folder, url), **chosen)
        house = self.stack.enter_context(wire.open_house(own, actor="tester"))
        self.bench = Bench(house, projects.init(house, repository).project, repository)

    def sound(self) -> None:
        """Looks at everything once more at the end."""

    def teardown(self) -> None:
        try:
            if hasattr(self, "bench"):
                self.sound()
        finally:
            self.stack.close()


class GoingBack(Played):
    """One plan on one repository; every rule is a verb that a person could have typed."""

    @initialize()
    def begin(self) -> None:
        self.open("log", "")
        house = self.bench.house
        self.plan = plans.create(house, self.bench.project, parse(PLAN, source="plan")).id
        self.world = World({"log": b""}, {"log": b""}, 0)
        self.known: dict[str, World] = {}
        self.done: list[tuple[World, World]] = []
        self.undone: list[tuple[World, World]] = []
        self.swept = False
        self.marked = False
        self.run()

    # -- what is there ---------------------------------------------------------------------------------------------

    @property
    def worktree(self) -> Path:
        return self.bench.house.places.project(self.bench.project.id) / "worktrees" / "model"

    def there(self, folder: Path | None = None) -> Files:
        top = folder or self.worktree
        found = (path for path in top.rglob("*") if ".git" not in path.parts and path.is_file())
        return {str(path.relative_to(top)): path.read_bytes() for path in found}

    def learn(self, world_of: Mapping[CheckpointKind, World] | None = None, **by_task: World) -> None:
        """Remembers what each new checkpoint should hold."""
        view = plans.show(self.bench.house, self.plan)
        for task in view.tasks:
            for made in tasks.show(self.bench.house, task.id).checkpoints:
                if made.id not in self.known:
                    kind = str(made.kind)
                    self.known[made.id] = (world_of or {}).get(made.kind) or by_task[f"{task.key}_{kind}"]

    # -- verbs -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.done < len(KEYS))
    @rule()
    def run(self) -> None:
        plan = plans.show(self.bench.house, self.plan).plan
        start = plans.execute if plan.status is PlanStatus.DRAFT else plans.resume
        start(self.bench.house, self.plan)
        with self.bench.working() as worker:
            view = self.bench.until(worker, self.plan)
        assert view.plan.status is PlanStatus.COMPLETED, view.plan
        self.marked = False
        expected: dict[str, World] = {}
        dropped = self.world
        files = self.world.committed
        for number in range(self.world.done, len(KEYS)):
            key = KEYS[number]
            expected[f"{key}_initial"] = World(files, files, number, self.world.own)
            expected[f"{key}_pre_rewind"] = dropped
            files = worked(files, key)
            expected[f"{key}_step"] = World(files, files, number + 1, self.world.own)
        self.world = World(files, files, len(KEYS), self.world.own)
        self.learn(**expected)

    @rule(name=st.sampled_from(["log", "new.txt", "deep/new.txt"]), content=st.binary(max_size=20))
    def edit(self, name: str, content: bytes) -> None:
        (self.worktree / name).parent.mkdir(exist_ok=True)
        (self.worktree / name).write_bytes(content)
        self.world = replace(self.world, files=MappingProxyType({**self.world.files, name: content}))

    @rule(name=st.sampled_from(["mine", "deep/mine"]))
    def branch_off(self, name: str) -> None:
        """As an agent would, in the worktree itself."""
        if not {name.split("/")[0], name} & {each.split("/")[0] for each in self.world.own}:
            git(self.worktree, "add", "-A")
            tree = git(self.worktree, "write-tree").strip()
            git(self.worktree, "branch", name, git(self.worktree, "commit-tree", tree, "-m", "mine").strip())
            self.world = replace(self.world, own=self.world.own | {name})

    @precondition(lambda self: not self.ran_since())
    @rule()
    def take_away_what_nobody_needs(self) -> None:
        assert retention.gc(self.bench.house, before=clock.now()).skipped == ()
        view = plans.show(self.bench.house, self.plan)
        left = {made.id for task in view.tasks for made in tasks.show(self.bench.house, task.id).checkpoints}
        self.known = {id: world for id, world in self.known.items() if id in left}
        self.swept = True

    @precondition(lambda self: self.world.done > 0)
    @rule()
    def checkpoint(self) -> None:
        view = plans.show(self.bench.house, self.plan)
        tasks.checkpoint(self.bench.house, view.tasks[self.world.done - 1].id, "by hand")
        self.learn({CheckpointKind.MANUAL: self.world})
        self.marked = True

    @rule(data=st.data(), preserve=st.sampled_from(Preserve))
    def rewind(self, data: st.DataObject, preserve: Preserve) -> None:
        task, made = self.choose(data)
        rewinds.rewind_task(self.bench.house, task, made, How(preserve))
        self.moved(self.known[made.id])

    @rule(data=st.data(), point=st.sampled_from(POINTS))
    def rewind_and_be_killed(self, data: st.DataObject, point: str) -> None:
        task, made = self.choose(data)
        number = tasks.show(self.bench.house, task).task.number
        env = {**os.environ, "HOLDFAST_DATA": str(self.folder / "data"), "HOLDFAST_FAILPOINT": point}
        env |= {"HOLDFAST_DB": self.bench.house.settings.db}
        words = ["task", "rewind", f"T{number}", "--to", str(made.number), "--yes"]
        ended = forked.run(words, env=env, cwd=self.bench.repository)
        assert ended.returncode in (0, -9), ended.stderr
        # Whoever goes back next carries it through first.
        from holdfast.engine import restoring

        restoring.finish_open(self.bench.house, self.plan)
        self.moved(self.known[made.id])

    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        """Runs a task again from where it was once, beside the original, which notices nothing."""
        task, made = self.choose(data)
        house = self.bench.house
        key = tasks.show(house, task).task.key
        copy = forks.fork(house, task, forks.point_at(house, task, str(made.number)))
        plans.execute(house, copy.plan_id)
        with self.bench.working() as worker:
            view = self.bench.until(worker, copy.plan_id)
        assert view.plan.status is PlanStatus.COMPLETED, view.plan
        assert self.there(house.places.task_worktree(view.plan, view.tasks[0])) == dict(
            worked(self.known[made.id].files, key)
        )
        # What is undone next would be the fork, and it has run.
        self.done.clear()
        self.undone.clear()

    @precondition(lambda self: self.world.done > 0)
    @rule(data=st.data(), keep=st.booleans())
    def roll_back_a_step(self, data: st.DataObject, keep: bool) -> None:
        view = plans.show(self.bench.house, self.plan)
        steps = [step for step in view.steps if step.active]
        step = data.draw(st.sampled_from(steps))
        number = next(place for place, task in enumerate(view.tasks) if task.id == step.task_id)
        rewinds.rollback_step(self.bench.house, self.bench.project, step.number, How(Preserve.DISCARD), keep=keep)
        files = self.of_commit(step.commit_after if keep else step.commit_before)
        self.moved(World(files, files, number + keep))

    @precondition(lambda self: self.done)
    @rule()
    def undo(self) -> None:
        before, after = self.done[-1]
        possible = (after.committed, after.done) == (self.world.committed, self.world.done)
        try:
            undo.undo(self.bench.house)
        except IllegalState:
            assert not possible or self.ran_since() or self.swept or self.marked, "nothing has happened since"
            self.done.clear()
            return
        self.done.pop()
        # What was edited since is kept with the undo, and comes back when it is put again.
        self.undone.append((before, self.world))
        self.saved(self.world)
        self.world = before

    @precondition(lambda self: self.undone)
    @rule()
    def redo(self) -> None:
        _, after = self.undone[-1]
        try:
            undo.redo(self.bench.house)
        except IllegalState:
            self.undone.clear()
            return
        self.undone.pop()
        self.done.append((self.world, after))
        self.saved(self.world)
        self.world = after

    # -- between ---------------------------------------------------------------------------------------------------

    def choose(self, data: st.DataObject):
        view = plans.show(self.bench.house, self.plan)
        found = [(task.id, made) for task in view.tasks for made in tasks.show(self.bench.house, task.id).checkpoints]
        return data.draw(st.sampled_from(found))

    def of_commit(self, commit: str | None) -> Files:
        vault = self.bench.vault()
        names = vault.git(["ls-tree", "-r", "-z", "--name-only", str(commit)]).split(b"\0")
        return {name.decode(): vault.git(["show", f"{commit}:{name.decode()}"]) for name in names if name}

    def ran_since(self) -> bool:
        return plans.show(self.bench.house, self.plan).plan.status is PlanStatus.COMPLETED

    def saved(self, world: World) -> None:
        self.learn({CheckpointKind.PRE_REWIND: world})

    def moved(self, target: World) -> None:
        self.saved(self.world)
        self.done.append((self.world, target))
        self.undone.clear()
        self.world = target

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        if not hasattr(self, "known"):
            return
        assert self.there() == dict(self.world.files)
        own = git(self.worktree, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads").split()
        assert set(own) == {*self.world.own, "holdfast/model"}
        view = plans.show(self.bench.house, self.plan)
        assert self.bench.files(view.plan.branch) == {
            name: content.decode("utf-8", "surrogateescape") for name, content in self.world.committed.items()
        } or self.of_commit(view.plan.branch) == dict(self.world.committed)
        assert [task.status is TaskStatus.COMPLETED for task in view.tasks] == [
            place < self.world.done for place in range(len(KEYS))
        ]

    def sound(self) -> None:
        for task in plans.show(self.bench.house, self.plan).tasks:
            for made in tasks.show(self.bench.house, task.id).checkpoints:
                assert self.of_commit(made.commit) == dict(self.known[made.id].files), made
        assert list(check.check(self.bench.house.database)) == []
        assert self.bench.vault().fsck() == []


def play(
    machine: type[Played],
    examples: int,
    length: int,
    *,
    server: PostgresServer | None = None,
    derandomize: bool = False,
) -> None:
    """Plays so many stories of so many moves, each in a database of its own."""
    if server is not None:
        machine = type(machine.__name__, (machine,), {"server": server})
    chosen = settings(
        max_examples=examples,
        derandomize=derandomize,
        stateful_step_count=length,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # One case takes seconds: to make a failing one smaller would take an hour.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    run_state_machine_as_test(machine, settings=chosen)


def test_a_plan_on_sqlite_is_always_where_it_should_be() -> None:
    play(GoingBack, 3, 8)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_a_plan_on_sqlite_is_so_for_long() -> None:
    play(GoingBack, 60, 25)


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_a_plan_on_postgresql_is_always_where_it_should_be(postgres: PostgresServer) -> None:
    play(GoingBack, 2, 8, server=postgres)
