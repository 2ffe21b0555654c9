"""Builds rows as the verbs do: through the store's own functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from holdfast import clock
from holdfast.domain.budget import Budget
from holdfast.domain.checkpoint import Checkpoint, CheckpointKind, checkpoint_ref
from holdfast.domain.plan import GateName, GateOrder, Phase, PhaseMode, Plan, Project
from holdfast.domain.step import Step
from holdfast.domain.task import Executor, Task
from holdfast.domain.transitions import PhaseStatus, PlanStage, PlanStatus, TaskStatus
from holdfast.store import plans, projects, steps, tasks, workers
from holdfast.store.database import Database
from holdfast.store.tables import WorkerKind
from holdfast.store.workers import Worker

AT = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)


@dataclass(frozen=True)
class World:
    database: Database
    project: Project
    plan: Plan
    phases: tuple[Phase, ...]
    tasks: tuple[Task, ...]

    @property
    def task(self) -> Task:
        return self.tasks[0]


def new_project(slug: str = "shop") -> Project:
    return Project(
        id=clock.new_id(),
        number=0,
        slug=slug,
        path=f"/repos/{slug}",
        home="home-1",
        default_branch="main",
        settings={"agent": "claude", "deep": {"a": [1]}},
        created_at=AT,
    )


def new_plan(project: Project, slug: str = "add-login") -> Plan:
    return Plan(
        id=clock.new_id(),
        number=0,
        project_id=project.id,
        slug=slug,
        title="Add a login ✓",
        description="line one\nline two",
        status=PlanStatus.DRAFT,
        stage=PlanStage.PENDING,
        pause_reason=None,
        stop=None,
        cancel_requested=False,
        run=0,
        branch=f"holdfast/{slug}",
        base_commit="",
        gates=(GateName.PLAN, GateName.RESULT),
        gate_order=GateOrder.REVIEW_THEN_APPROVE,
        review=True,
        verify=("make test", "make lint"),
        budget=Budget(max_seconds=12.5, max_tokens=10**10, max_cost_usd=None),
        variables={"NAME": "x", "ÄÖ": "日本"},
        spec="title: …",
        created_at=AT,
    )


def new_phase(plan: Plan, position: int) -> Phase:
    mode = PhaseMode.SEQUENTIAL if position == 0 else PhaseMode.PARALLEL
    when = 'variables.NAME == "x"' if position else ""
    return Phase(clock.new_id(), plan.id, position, f"phase {position}", mode, True, when, PhaseStatus.PENDING)


def new_task(phase: Phase, key: str, position: int = 0, depends_on: tuple[str, ...] = ()) -> Task:
    return Task(
        id=clock.new_id(),
        number=0,
        plan_id=phase.plan_id,
        phase_id=phase.id,
        key=key,
        position=position,
        title=f"task {key}",
        instructions="",
        executor=Executor.COMMAND,
        command="true",
        agent="",
        depends_on=depends_on,
        max_attempts=3,
        timeout_seconds=90.5,
        verify=("true",),
        retryable=True,
        budget=Budget(max_cost_usd=0.25),
        status=TaskStatus.PENDING,
    )


def build(database: Database, slug: str = "shop") -> World:
    with database.transaction() as connection:
        project = projects.add(connection, new_project(slug), actor="ada")
        plan = new_plan(project)
        first, second = new_phase(plan, 0), new_phase(plan, 1)
        a, b = new_task(first, "a"), new_task(second, "b")
        c = new_task(second, "c", 1, (b.id, a.id))
        # Not in the order of their places: the store sorts them.
        stored, phases, numbered = plans.add(connection, plan, (first, second), (a, b, c), actor="ada")
    return World(database, project, stored, phases, numbered)


def new_worker(database: Database) -> str:
    worker = Worker(clock.new_id(), "here", 42, WorkerKind.RUN, "home-1", "0.1", AT, AT)
    with database.transaction() as connection:
        workers.add(connection, worker)
    return worker.id


def start(world: World, task: Task, run: int = 1, claim: int | None = None, branch: str = "holdfast/x") -> Step:
    with world.database.transaction() as connection:
        return steps.begin(
            connection,
            id=clock.new_id(),
            task_id=task.id,
            run=run,
            attempt=run,
            branch=branch,
            commit_before="a" * 40,
            actor="worker:w",
            claim=claim,
        )


def end(world: World, step: Step, exit_code: int = 0, **columns: object) -> Step:
    with world.database.transaction() as connection:
        return steps.finish(connection, step.id, actor="worker:w", exit_code=exit_code, **columns)


def move(world: World, task: Task, *statuses: TaskStatus) -> Task:
    current = task
    for status in statuses:
        with world.database.transaction() as connection:
            current = tasks.set_status(connection, current, status, actor="worker:w")
    return current


def new_checkpoint(task: Task, number: int, commit: str = "c" * 40) -> Checkpoint:
    return Checkpoint(
        id=clock.new_id(),
        number=number,
        plan_id=task.plan_id,
        task_id=task.id,
        step_id=None,
        kind=CheckpointKind.MANUAL,
        name="by hand",
        ref=checkpoint_ref(task.id, number),
        commit=commit,
        tree="d" * 40,
        head_commit="e" * 40,
        message_id=None,
        state={"variables": {"NAME": "x"}, "finished": ["a"]},
        skipped=("big.bin",),
        busy=(),
        created_at=AT,
    )
