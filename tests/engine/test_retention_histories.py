"""Random histories of checkpoints: after gc, and git's own, everything that anybody needs is there byte for byte."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from tests.engine.conftest import Bench, git, opened, settings
from tests.store.world import new_phase, new_plan, new_task

from holdfast import clock
from holdfast.app import database, retention
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind
from holdfast.domain.history import EventType
from holdfast.domain.plan import Plan
from holdfast.domain.task import Task
from holdfast.engine.workspace import make_checkpoint
from holdfast.store import KeptFile, OperationStatus, blobs, checkpoints, events, operations, plans, steps
from holdfast.store.tables import checkpoints as checkpoint_rows
from holdfast.vcs import Vault
from holdfast.vcs.trees import FILE

TASKS = 2
content = st.sampled_from([b"", b"one\n", b"two\n", b"\x00\xff", b"long " * 5000])
which = st.integers(0, TASKS - 1)
OPERATIONS = st.one_of(
    st.tuples(st.just("step"), which, content),
    st.tuples(st.just("interval"), which, content),
    st.tuples(st.just("name"), which, content),
    st.tuples(st.just("stage"), which, content),
    st.tuples(st.just("rewind"), which, st.integers(0, 9)),
    st.tuples(st.just("fork"), which, st.integers(0, 9)),
    st.tuples(st.just("cut off"), which, st.integers(0, 9)),
    st.tuples(st.just("age"), which, st.integers(0, 0)),
    st.tuples(st.just("gc"), which, st.integers(0, 0)),
)

BRANCH = "b"


@dataclass
class Made:
    """A checkpoint as the test knows it."""

    row: Checkpoint
    files: dict[str, bytes]
    step_id: str | None = None
    left_behind: bool = False
    mentioned: set[datetime | None] = field(default_factory=set)


@dataclass
class Past:
    """A plan whose work is done by the test itself, and the model of what it has."""

    bench: Bench
    plan: Plan
    tasks: tuple[Task, ...]
    vault: Vault
    boundary: datetime
    made: dict[str, Made] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)
    active: dict[str, bool] = field(default_factory=dict)
    runs: int = 0
    stuck: bool = False

    # -- what is done --------------------------------------------------------------------------------------------------

    def keep(
        self, kind: CheckpointKind, task: Task | None, data: bytes, step_id: str | None = None, *, head: bool = True
    ) -> Made:
        house = self.bench.house
        name = task.key if task else "plan"
        entries = {name.encode(): (FILE, self.vault.objects.put("blob", data)), b"n": self._unique()}
        tree = self.vault.objects.put_tree(entries).hex()
        owner: dict[str, Any] = {"task_id": task.id} if task else {"plan_id": self.plan.id}
        with house.database.read() as connection:
            number = checkpoints.next_number(connection, **owner)
        row = make_checkpoint(
            self.vault,
            number,
            plan=self.plan,
            task=task,
            step_id=step_id,
            kind=kind,
            name=str(kind),
            tree=tree,
            head_commit=self.plan.base_commit,
            state={},
        )
        ignored = blobs.write(house.places.blobs, b"ignored " + data)
        with house.database.transaction() as connection:
            checkpoints.add(connection, row, actor="tester")
            blobs.attach(connection, row.id, [KeptFile("x.secret", 0o644, ignored)])
            if task and head:
                checkpoints.set_head(connection, task.id, number)
                self.heads[task.id] = row.id
        files = {name: data, "n": self.vault.objects.read(entries[b"n"][1])[1], "x.secret": b"ignored " + data}
        self.made[row.id] = Made(row, files, step_id)
        return self.made[row.id]

    def _unique(self) -> tuple[int, bytes]:
        return FILE, self.vault.objects.put("blob", f"{len(self.made)}\n".encode())

    def step(self, task: Task, data: bytes) -> None:
        self.runs += 1
        with self.bench.house.database.transaction() as connection:
            begun = steps.begin(
                connection,
                id=clock.new_id(),
                task_id=task.id,
                run=self.runs,
                attempt=1,
                branch=BRANCH,
                commit_before=self.plan.base_commit,
                actor="tester",
            )
        self.active[begun.id] = True
        made = self.keep(CheckpointKind.STEP, task, data, begun.id)
        with self.bench.house.database.transaction() as connection:
            steps.finish(connection, begun.id, actor="tester", exit_code=0, commit_after=made.row.commit)

    def rewind(self, task: Task, place: int) -> None:
        """Goes back as the restore engine does: a `pre_rewind`, the head, and what came after is left behind."""
        own = [each for each in self.made.values() if each.row.task_id == task.id]
        if not own:
            return
        target = own[place % len(own)]
        saved = self.keep(CheckpointKind.PRE_REWIND, task, b"left behind", head=False)
        later = [each for each in own if each.row.number > target.row.number]
        with self.bench.house.database.transaction() as connection:
            for each in later:
                if each.step_id and self.active[each.step_id]:
                    self.active[each.step_id] = False
                    steps.deactivate(connection, each.step_id, actor="tester")
            ids = [each.row.id for each in later]
            changed = checkpoint_rows.update().where(checkpoint_rows.c.id.in_(ids))
            connection.execute(changed.values(superseded=True))
            told = {"ids": ids}
            events.add(connection, EventType.CHECKPOINT, "superseded", "tester", plan_id=self.plan.id, data=told)
            checkpoints.set_head(connection, task.id, target.row.number)
            at = self._operate(connection, "rewind", {"restoration": {"to": target.row.tree, "saved": saved.row.id}})
        self.heads[task.id] = target.row.id
        for each in later:
            each.left_behind = True
        for each in (target, saved):
            each.mentioned.add(at)

    def fork(self, task: Task, place: int) -> None:
        own = [each for each in self.made.values() if each.row.task_id == task.id]
        if own:
            target = own[place % len(own)]
            with self.bench.house.database.transaction() as connection:
                self._operate(connection, "fork", {"checkpoint": target.row.id})
            target.mentioned.add(None)

    def _operate(self, connection: Any, kind: str, intent: dict[str, object]) -> datetime | None:
        begun = operations.begin(
            connection, id=clock.new_id(), kind=kind, actor="tester", intent=intent, plan_id=self.plan.id
        )
        return operations.finish(connection, begun.id, outcome={}).ended_at

    def cut_off(self) -> None:
        """Leaves an operation open: nothing of the plan may go until it has ended."""
        with self.bench.house.database.transaction() as connection:
            opened = operations.open_ones(connection, plan_id=self.plan.id)
            for each in opened:
                operations.finish(connection, each.id, outcome={}, status=OperationStatus.FAILED)
            if not opened:
                operations.begin(
                    connection, id=clock.new_id(), kind="rewind", actor="tester", intent={}, plan_id=self.plan.id
                )
        self.stuck = not opened

    # -- what must be --------------------------------------------------------------------------------------------------

    def needed(self, each: Made) -> bool:
        """Says by a rule of the test's own whether somebody needs a checkpoint."""
        row = each.row
        others = [other.row.number for other in self.made.values() if other.row.task_id == row.task_id]
        return (
            self.stuck
            or row.created_at >= self.boundary
            or row.number == max(others)
            or row.id in self.heads.values()
            or row.kind in ("manual", "stage")
            or any(at is None or at >= self.boundary for at in each.mentioned)
            or (row.kind == "step" and not each.left_behind and self.active[each.step_id or ""])
        )

    def check(self) -> None:
        """Asserts that just what is needed is there, after git's own gc too."""
        house = self.bench.house
        with house.database.read() as connection:
            there = {each.id for each in checkpoints.of_plan(connection, self.plan.id)}
        assert there == {id for id, each in self.made.items() if self.needed(each)}
        self.made = {id: each for id, each in self.made.items() if id in there}
        self.vault.git(["gc", "-q", "--prune=now"])
        assert database.examine(house) == ()
        for each in self.made.values():
            names = self.vault.git(["ls-tree", "-r", "--name-only", each.row.commit]).decode().split()
            found = {name: self.vault.git(["show", f"{each.row.commit}:{name}"]) for name in names}
            with house.database.read() as connection:
                kept = blobs.attached(connection, each.row.id)
            found |= {file.path: blobs.read(house.places.blobs, file.blob.digest) for file in kept}
            assert found == each.files


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    repository = folder / "repository"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    git(repository, "commit", "-q", "--allow-empty", "-m", "first")
    for bench in opened(settings(folder), repository):
        bench.vault()
    return folder


@profile(max_examples=12, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(st.lists(OPERATIONS, min_size=4, max_size=18))
def test_whatever_happened_what_is_needed_stays_and_the_rest_goes(start: Path, history: list[tuple[str, int, Any]]):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(start / "data", folder / "data")
        for bench in opened(settings(folder), start / "repository"):
            live(bench, history)


def live(bench: Bench, history: list[tuple[str, int, Any]]) -> None:
    base = git(bench.repository, "rev-parse", "HEAD").strip()
    plan = replace(new_plan(bench.project), base_commit=base)
    phase = new_phase(plan, 0)
    wanted = [new_task(phase, f"t{number}", number) for number in range(TASKS)]
    with bench.house.database.transaction() as connection:
        plan, _, made = plans.add(connection, plan, [phase], wanted, actor="tester")
    path = bench.house.places.vault(bench.project.id)
    with Vault.open(path) as vault:
        vault.create_branch(BRANCH, vault.fetch(bench.repository, base))
        past = Past(bench, plan, made, vault, clock.now())
    for kind, index, value in [*history, ("age", 0, 0), ("gc", 0, 0)]:
        task = past.tasks[index]
        with Vault.open(path) as past.vault:
            match kind:
                case "step":
                    past.step(task, value)
                case "interval":
                    past.keep(CheckpointKind.INTERVAL, task, value)
                case "name":
                    past.keep(CheckpointKind.MANUAL, task, value)
                case "stage":
                    past.keep(CheckpointKind.STAGE, None, value)
                case "rewind":
                    past.rewind(task, value)
                case "fork":
                    past.fork(task, value)
                case "cut off":
                    past.cut_off()
                case "age":
                    past.boundary = clock.now()
                case _:
                    pass  # wants the vault for itself
        if kind == "gc":
            assert retention.gc(bench.house, before=past.boundary).skipped == ()
            with Vault.open(path) as past.vault:
                past.check()
