"""From a plan file to the plan, phases and tasks that are stored, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from holdfast.domain.plan import Phase, Plan
from holdfast.domain.planfile.spec import MAX_ATTEMPTS, Defaults, PhaseSpec, PlanFile, TaskSpec
from holdfast.domain.planfile.writing import render
from holdfast.domain.task import Executor, Task
from holdfast.domain.transitions import PhaseStatus, PlanStage, PlanStatus, TaskStatus
from holdfast.domain.words import slug


def to_domain(
    planfile: PlanFile, *, ids: Callable[[], str], project_id: str, created_at: datetime, base_commit: str = ""
) -> tuple[Plan, tuple[Phase, ...], tuple[Task, ...]]:
    """Gives a new draft plan; numbers are 0 until the store gives them, `Task.depends_on` holds ids of tasks.

    `base_commit` is what `planfile.base` was found to mean. The slug is a wish: the store makes it unique.
    """
    name = planfile.slug or slug(planfile.title, ascii_only=True) or "plan"
    plan = Plan(
        id=ids(),
        number=0,
        project_id=project_id,
        slug=name,
        title=planfile.title,
        description=planfile.description,
        status=PlanStatus.DRAFT,
        stage=PlanStage.PENDING,
        pause_reason=None,
        stop=None,
        cancel_requested=False,
        run=0,
        branch=f"holdfast/{name}",
        base_commit=base_commit,
        gates=planfile.gates,
        gate_order=planfile.gate_order,
        review=planfile.review,
        review_agent=planfile.review_agent,
        review_rounds=planfile.review_rounds,
        supervisor=planfile.supervisor,
        supervisor_agent=planfile.supervisor_agent,
        verify=planfile.verify,
        budget=planfile.budget,
        variables=dict(planfile.variables),
        permissions=planfile.permissions,
        spec=planfile.text or render(planfile),
        created_at=created_at,
    )
    task_ids = {task.key: ids() for phase in planfile.phases for task in phase.tasks}
    phases: list[Phase] = []
    tasks: list[Task] = []
    for position, spec in enumerate(planfile.phases):
        phase = _phase(spec, plan.id, ids(), position)
        phases.append(phase)
        tasks.extend(_task(planfile, task, phase, place, task_ids) for place, task in enumerate(spec.tasks))
    return plan, tuple(phases), tuple(tasks)


def _phase(spec: PhaseSpec, plan_id: str, phase_id: str, position: int) -> Phase:
    return Phase(
        id=phase_id,
        plan_id=plan_id,
        position=position,
        title=spec.title,
        mode=spec.mode,
        pause_after=spec.pause_after,
        when=spec.when,
        status=PhaseStatus.PENDING,
    )


def _task(planfile: PlanFile, spec: TaskSpec, phase: Phase, position: int, task_ids: dict[str, str]) -> Task:
    defaults = planfile.defaults
    retryable = defaults.retryable if spec.retryable is None else spec.retryable
    timeout = defaults.timeout_seconds if spec.timeout_seconds is None else spec.timeout_seconds
    return Task(
        id=task_ids[spec.key],
        number=0,
        plan_id=phase.plan_id,
        phase_id=phase.id,
        key=spec.key,
        position=position,
        title=spec.title,
        instructions=spec.instructions,
        executor=Executor.COMMAND if spec.run else Executor.AGENT,
        command=spec.run,
        agent="" if spec.run else spec.agent or planfile.agent,
        depends_on=tuple(task_ids[key] for key in spec.depends_on),
        max_attempts=spec.max_attempts or defaults.max_attempts or MAX_ATTEMPTS,
        timeout_seconds=timeout,
        verify=spec.verify,
        retryable=True if retryable is None else retryable,
        budget=spec.budget,
        permissions=spec.permissions,
        status=TaskStatus.PENDING,
    )


def from_domain(plan: Plan, phases: Sequence[Phase], tasks: Sequence[Task], *, base: str = "") -> PlanFile:
    """Gives the plan as a plan file that makes the same plan again; nothing of its run is part of it.

    What a task took over from `defaults:` or from the plan's agent is written at the task. `base` goes in as it is.
    """
    keys = {task.id: task.key for task in tasks}
    return PlanFile(
        title=plan.title,
        description=plan.description,
        slug=plan.slug,
        base=base,
        gates=plan.gates,
        gate_order=plan.gate_order,
        review=plan.review,
        review_agent=plan.review_agent,
        review_rounds=plan.review_rounds,
        supervisor=plan.supervisor,
        supervisor_agent=plan.supervisor_agent,
        verify=plan.verify,
        budget=plan.budget,
        variables=dict(plan.variables),
        permissions=plan.permissions,
        defaults=Defaults(),
        phases=tuple(
            PhaseSpec(
                title=phase.title,
                mode=phase.mode,
                pause_after=phase.pause_after,
                when=phase.when,
                tasks=tuple(
                    _spec(task, keys)
                    for task in sorted(tasks, key=lambda each: each.position)
                    if task.phase_id == phase.id
                ),
            )
            for phase in sorted(phases, key=lambda each: each.position)
        ),
    )


def _spec(task: Task, keys: dict[str, str]) -> TaskSpec:
    return TaskSpec(
        key=task.key,
        title=task.title,
        instructions=task.instructions if task.executor is Executor.AGENT else "",
        run=task.command,
        agent=task.agent,
        depends_on=tuple(keys[each] for each in task.depends_on),
        max_attempts=None if task.max_attempts == MAX_ATTEMPTS else task.max_attempts,
        timeout_seconds=task.timeout_seconds,
        verify=task.verify,
        retryable=None if task.retryable else False,
        budget=task.budget,
        permissions=task.permissions,
    )
