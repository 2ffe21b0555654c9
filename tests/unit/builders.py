"""Plans, phases and tasks with everything that a test does not care about filled in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from holdfast.domain.budget import Budget
from holdfast.domain.plan import GateOrder, Phase, PhaseMode, Plan
from holdfast.domain.step import Step
from holdfast.domain.task import Executor, Task
from holdfast.domain.transitions import PhaseStatus, PlanStage, PlanStatus, TaskStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_plan(**changes: Any) -> Plan:
    plan = Plan(
        id="plan",
        number=1,
        project_id="project",
        slug="plan",
        title="Plan",
        description="",
        status=PlanStatus.RUNNING,
        stage=PlanStage.IMPLEMENTING,
        pause_reason=None,
        stop=None,
        cancel_requested=False,
        run=1,
        branch="holdfast/plan",
        base_commit="",
        gates=(),
        gate_order=GateOrder.APPROVE_THEN_REVIEW,
        review=False,
        verify=(),
        budget=Budget(),
        variables={},
        spec="",
        created_at=NOW,
    )
    return replace(plan, **changes)


def make_phase(position: int = 0, mode: PhaseMode = PhaseMode.SEQUENTIAL, **changes: Any) -> Phase:
    phase = Phase(
        id=f"phase-{position}",
        plan_id="plan",
        position=position,
        title=f"Phase {position}",
        mode=mode,
        pause_after=False,
        when="",
        status=PhaseStatus.RUNNING,
    )
    return replace(phase, **changes)


def make_task(key: str, position: int = 0, *depends_on: str, phase: int = 0, **changes: Any) -> Task:
    task = Task(
        id=key,
        number=0,
        plan_id="plan",
        phase_id=f"phase-{phase}",
        key=key,
        position=position,
        title=key,
        instructions="",
        executor=Executor.COMMAND,
        command="true",
        agent="",
        depends_on=depends_on,
        max_attempts=3,
        timeout_seconds=None,
        verify=(),
        retryable=True,
        budget=Budget(),
        status=TaskStatus.PENDING,
    )
    return replace(task, **changes)


def make_step(number: int, **changes: Any) -> Step:
    step = Step(
        id=f"step-{number}",
        number=number,
        project_id="project",
        plan_id="plan",
        task_id="task",
        parent_step_id=None,
        attempt=1,
        run=1,
        active=True,
        branch="holdfast/plan",
        commit_before="a",
        commit_after=None,
        agent_config={},
        started_at=NOW,
    )
    return replace(step, **changes)
