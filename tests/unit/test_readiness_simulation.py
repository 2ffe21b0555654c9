"""Runs random plans to their end on `decide` alone, with random failures, crashes, stops and approvals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.builders import NOW, make_phase, make_plan, make_task

from holdfast.domain import readiness as r
from holdfast.domain.plan import PauseMode, Phase, PhaseMode
from holdfast.domain.task import Task
from holdfast.domain.transitions import (
    PHASE,
    PLAN_STATUS,
    TASK,
    TASK_DONE,
    PauseReason,
    PhaseStatus,
    PlanStatus,
    TaskStatus,
    check,
)

MAX_TURNS = 2000
# A seed and not hypothesis' own chance: drawn to its smallest, that is a person who stops the plan for ever.
SEEDS = st.integers(0, 2**32 - 1)


@dataclass
class World:
    """The rows of one plan, an engine that obeys, and workers and people who act at random."""

    random: Random
    phases: dict[str, Phase]
    tasks: dict[str, Task]
    max_parallel: int
    failures: float
    now: datetime = NOW
    status: PlanStatus = PlanStatus.RUNNING
    stop: PauseMode | None = None
    pauses: list[r.PausePlan] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    finished: bool = False

    def state(self) -> r.PlanState:
        plan = make_plan(status=self.status, stop=self.stop)
        return r.PlanState(plan, tuple(self.phases.values()), tuple(self.tasks.values()))

    def move_task(self, task_id: str, target: TaskStatus, **changes: object) -> None:
        task = self.tasks[task_id]
        check(TASK, "task", task.status, target)
        self.tasks[task_id] = replace(task, status=target, **changes)  # type: ignore[arg-type]

    def move_phase(self, phase_id: str, target: PhaseStatus) -> None:
        check(PHASE, "phase", self.phases[phase_id].status, target)
        self.phases[phase_id] = replace(self.phases[phase_id], status=target)

    def busy(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.status in r.BUSY]

    def turn(self) -> None:
        actions = r.decide(self.state(), now=self.now, max_parallel=self.max_parallel)
        assert actions, "an executing plan always has something to do or to wait for"
        assert actions == r.decide(self.state(), now=self.now, max_parallel=self.max_parallel)
        for action in actions:
            self.apply(action)

    def apply(self, action: r.Action) -> None:
        match action:
            case r.StartPhase(phase_id):
                before = [p for p in self.phases.values() if p.position < self.phases[phase_id].position]
                assert all(phase.status in r.PHASE_DONE for phase in before)
                self.move_phase(phase_id, PhaseStatus.RUNNING)
            case r.SkipPhase(phase_id, task_ids):
                assert self.phases[phase_id].when == "false"
                self.move_phase(phase_id, PhaseStatus.SKIPPED)
                for task_id in task_ids:
                    self.move_task(task_id, TaskStatus.SKIPPED)
            case r.CompletePhase(phase_id):
                assert all(t.status in TASK_DONE for t in self.tasks.values() if t.phase_id == phase_id)
                self.completed.append(phase_id)
                self.move_phase(phase_id, PhaseStatus.COMPLETED)
            case r.FailPhase(phase_id):
                self.move_phase(phase_id, PhaseStatus.FAILED)
            case r.PausePhase(phase_id):
                self.move_phase(phase_id, PhaseStatus.PAUSED)
            case r.QueueTask(task_id):
                self.queue(task_id)
            case r.OpenTaskGate(task_id):
                assert self.phases[self.tasks[task_id].phase_id].mode is PhaseMode.MANUAL
                assert not self.stop
                self.move_task(task_id, TaskStatus.AWAITING_APPROVAL)
            case r.PausePlan():
                self.pause(action)
            case r.FinishImplementation():
                assert all(task.status in TASK_DONE for task in self.tasks.values())
                assert all(phase.status in r.PHASE_DONE for phase in self.phases.values())
                self.finished = True
            case r.Wait(until, gates):
                self.wait(until, gates)

    def queue(self, task_id: str) -> None:
        task = self.tasks[task_id]
        phase = self.phases[task.phase_id]
        assert self.stop is None, "a stopping plan starts nothing"
        assert phase.status is PhaseStatus.RUNNING
        assert all(self.tasks[each].status in TASK_DONE for each in task.depends_on)
        beside = [each for each in self.busy() if each.phase_id == phase.id]
        assert len(self.busy()) == len(beside), "two phases at once"
        assert len(beside) < (self.max_parallel if phase.mode is PhaseMode.PARALLEL else 1)
        if phase.mode is PhaseMode.MANUAL:
            assert task.approved
        if task.status is TaskStatus.RETRYING:
            assert task.retry_at is not None
            assert task.retry_at <= self.now
        self.move_task(task_id, TaskStatus.QUEUED, run=task.run + 1)

    def pause(self, pause: r.PausePlan) -> None:
        assert not self.busy(), "a plan pauses only once nothing runs"
        failed = any(task.status is TaskStatus.FAILED for task in self.tasks.values())
        match pause.reason:
            case PauseReason.USER:
                assert self.stop is not None
            case PauseReason.TASK_FAILED:
                assert failed
                assert self.tasks[pause.task_ids[0]].status is TaskStatus.FAILED
            case PauseReason.PHASE_COMPLETE:
                assert self.phases[self.completed[-1]].pause_after
            case PauseReason.DEADLOCK:
                assert any(task.status is TaskStatus.CANCELLED for task in self.tasks.values())
                assert not failed
            case _:
                raise AssertionError(pause)
        check(PLAN_STATUS, "plan", self.status, PlanStatus.PAUSED)
        self.status, self.stop = PlanStatus.PAUSED, None
        self.pauses.append(pause)

    def wait(self, until: datetime | None, gates: tuple[str, ...]) -> None:
        """Lets the world move: a worker, a person, or the clock."""
        busy = self.busy()
        assert busy or until or gates, "waits for nothing: the plan would hang"
        if self.stop is None and self.random.random() < 0.05:
            self.stop = PauseMode.DRAIN
        elif busy:
            self.work(self.random.choice(busy))
        elif gates:
            self.tasks[gates[0]] = replace(self.tasks[gates[0]], approved=True)
        else:
            assert until is not None
            assert until > self.now
            self.now = until

    def work(self, task: Task) -> None:
        if task.status is TaskStatus.QUEUED:
            self.move_task(task.id, TaskStatus.RUNNING, started_at=self.now)
            return
        unmerged = [each for each in self.busy() if each.status is TaskStatus.RUNNING]
        phase = [each for each in self.tasks.values() if each.phase_id == task.phase_id]
        if self.random.random() < self.failures:
            outcome = self.random.choice(
                [TaskStatus.RETRYING, TaskStatus.FAILED, TaskStatus.INTERRUPTED, TaskStatus.CANCELLED]
            )
            if outcome is TaskStatus.CANCELLED and self.random.random() < 0.7:
                outcome = TaskStatus.RETRYING
            retry_at = self.now + timedelta(seconds=self.random.randint(0, 9)) if outcome == "retrying" else None
            self.move_task(task.id, outcome, retry_at=retry_at)
            return
        if r.may_merge(task, phase):
            self.move_task(task.id, TaskStatus.COMPLETED)
        elif not any(each.status is TaskStatus.QUEUED for each in phase):
            # All that is under way has done its work and waits to be merged: one of them must have its turn.
            assert any(r.may_merge(each, phase) for each in unmerged), "nobody's turn to merge"

    def help(self) -> None:
        """What a person does with a paused plan: try failed tasks again, skip them, or just resume."""
        for task in list(self.tasks.values()):
            if task.status is TaskStatus.FAILED and self.random.random() < 0.8:
                target = self.random.choice([TaskStatus.PENDING, TaskStatus.SKIPPED, TaskStatus.COMPLETED])
                self.move_task(task.id, target)
        check(PLAN_STATUS, "plan", self.status, PlanStatus.RUNNING)
        self.status = PlanStatus.RUNNING


def make_world(random: Random, failures: float) -> World:
    phases: dict[str, Phase] = {}
    tasks: dict[str, Task] = {}
    for position in range(random.randint(1, 3)):
        phase = make_phase(
            position,
            random.choice(list(PhaseMode)),
            status=PhaseStatus.PENDING,
            pause_after=random.random() < 0.2,
            when=random.choice(["", "", "", "true", "false"]),
        )
        phases[phase.id] = phase
        keys = [f"t{position}{index}" for index in range(random.randint(1, 6))]
        places = random.sample(range(len(keys)), len(keys))
        for index, key in enumerate(keys):
            candidates = [*tasks]
            depends_on = random.sample(candidates, min(len(candidates), random.choice([0, 0, 1, 2])))
            tasks[key] = make_task(key, places[index], *depends_on, phase=position)
    return World(random, phases, tasks, random.randint(1, 3), failures)


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 0.1, 0.5]))
def test_every_plan_ends_finished_or_paused_for_a_true_reason(seed: int, failures: float) -> None:
    world = make_world(Random(seed), failures)
    for _ in range(MAX_TURNS):
        if world.finished:
            break
        if world.status is PlanStatus.PAUSED:
            if world.pauses[-1].reason is PauseReason.DEADLOCK:
                break
            world.help()
        world.turn()
    else:
        raise AssertionError("the plan neither ends nor pauses")
    if failures == 0.0:
        assert world.finished
    by_phase = [p for p in world.pauses if p.reason is PauseReason.PHASE_COMPLETE]
    assert len(by_phase) <= sum(phase.pause_after for phase in world.phases.values()), "pause_after paused twice"


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_without_failures_every_task_of_a_phase_that_was_not_skipped_runs_once(seed: int) -> None:
    world = make_world(Random(seed), 0.0)
    while not world.finished:
        if world.status is PlanStatus.PAUSED:
            world.help()
        world.turn()
    for task in world.tasks.values():
        skipped = world.phases[task.phase_id].status is PhaseStatus.SKIPPED
        assert task.run == (0 if skipped else 1)


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_a_decision_of_which_only_a_part_was_applied_is_made_again(seed: int) -> None:
    world = make_world(random := Random(seed), 0.3)
    for phase in world.phases.values():
        # The one pair that has to be applied together: a phase that completes and the pause after it.
        world.phases[phase.id] = replace(phase, pause_after=False)
    for _ in range(MAX_TURNS):
        if world.finished or (world.pauses and world.pauses[-1].reason is PauseReason.DEADLOCK):
            break
        if world.status is PlanStatus.PAUSED:
            world.help()
        actions = r.decide(world.state(), now=world.now, max_parallel=world.max_parallel)
        for action in actions[: random.randint(1, len(actions))]:
            world.apply(action)
    else:
        raise AssertionError("the plan neither ends nor pauses")
